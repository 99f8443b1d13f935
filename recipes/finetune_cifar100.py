"""Fine-tunes ViT-B/16 on CIFAR-100 as the paper does: 10,000 steps at 384 pixels.

    keras-vit fit recipes/finetune_cifar100.py
    keras-vit fit recipes/finetune_cifar100.py --quick    # a one-minute test on synthetic images

Source: arXiv:2010.11929, section 4.1 and table 4; vit_jax configs/common.py and input_pipeline.py.
Published: 91.67 % (arXiv:2010.11929, table 5, ViT-B/16 from ImageNet-21k).
Not run at full size here: no accelerator.
"""

from keras_vit.commands.cli import run
from keras_vit.training import FINE_TUNING, Recipe

RECIPE = Recipe(
    **FINE_TUNING,
    data="cifar100",
    train_split="train[:98%]",  # the paper validates on 2 %; configs/common.py
    validation_split="train[98%:]",
    test_split="test",
    steps=10_000,  # table 4
    learning_rate=0.01,  # of 0.001, 0.003, 0.01 and 0.03 in table 4; the best of big_vision configs/transfer.py
    warmup_steps=500,  # configs/common.py
)

if __name__ == "__main__":
    run(__file__)
