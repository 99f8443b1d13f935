"""Pre-trains ViT-B/16 on ImageNet-1k with AugReg's "strong2": RandAugment (2, 20), mixup 0.8.

    keras-vit fit recipes/augreg_strong2.py data_dir=/data/tfds precision=mixed_bfloat16
    keras-vit fit recipes/augreg_strong2.py --quick    # a one-minute test on synthetic images

The default of no model; a part of the paper's comparison.
For another model or ImageNet-21k: augreg_recipe("strong2", "ViT-S/16", data="/data/imagenet21k").

Source: arXiv:2106.10270; every number is in keras_vit/training/presets.py, from big_vision configs/vit_i1k.py.
Not run at full size here: no accelerator, and TFDS needs a manual download of imagenet2012.
"""

from keras_vit.commands.cli import run
from keras_vit.training import augreg_recipe

RECIPE = augreg_recipe("strong2", "ViT-B/16")

if __name__ == "__main__":
    run(__file__)
