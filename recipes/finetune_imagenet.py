"""Fine-tunes ViT-B/16 on ImageNet-1k as the paper does: 20,000 steps at 384 pixels.

    keras-vit fit recipes/finetune_imagenet.py data_dir=/data/tfds
    keras-vit fit recipes/finetune_imagenet.py --quick    # a one-minute test on synthetic images

Source: arXiv:2010.11929, section 4.1 and table 4; vit_jax configs/common.py and input_pipeline.py.
Published: 83.97 % (arXiv:2010.11929, table 5, ViT-B/16 from ImageNet-21k).
Not run at full size here: no accelerator, and TFDS needs a manual download of imagenet2012.
"""

from keras_vit.commands.cli import run
from keras_vit.training import FINE_TUNING, Recipe

RECIPE = Recipe(
    **FINE_TUNING,
    data="imagenet2012",
    train_split="train[:99%]",  # the paper validates on 1 %; configs/common.py
    validation_split="train[99%:]",
    test_split="validation",
    steps=20_000,  # table 4
    learning_rate=0.03,  # of 0.003, 0.01, 0.03 and 0.06 in table 4; the default of configs/common.py
    warmup_steps=500,  # configs/common.py
)

if __name__ == "__main__":
    run(__file__)
