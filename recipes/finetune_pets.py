"""Fine-tunes ViT-B/16 on Oxford-IIIT Pets as the paper does: 500 steps at 384 pixels.

    keras-vit fit recipes/finetune_pets.py
    keras-vit fit recipes/finetune_pets.py --quick    # a one-minute test on synthetic images

Source: arXiv:2010.11929, section 4.1 and table 4; vit_jax configs/common.py, configs/augreg.py and input_pipeline.py.
Published: 94.43 % (arXiv:2010.11929, table 5, ViT-B/16 from ImageNet-21k).
Not run at full size here: no accelerator.
"""

from keras_vit.commands.cli import run
from keras_vit.training import FINE_TUNING, Recipe

RECIPE = Recipe(
    **FINE_TUNING,
    data="oxford_iiit_pet",
    train_split="train[:90%]",  # the paper validates on 10 %; configs/augreg.py
    validation_split="train[90%:]",
    test_split="test",
    steps=500,  # table 4
    learning_rate=0.003,  # of 0.001, 0.003, 0.01 and 0.03 in table 4; the best of big_vision configs/transfer.py
    warmup_steps=100,  # configs/augreg.py, for 500 steps
)

if __name__ == "__main__":
    run(__file__)
