"""Pre-trains ViT-B/16 on ImageNet-1k with AugReg's "none": no RandAugment and no mixup.

    keras-vit fit recipes/augreg_none.py data_dir=/data/tfds precision=mixed_bfloat16
    keras-vit fit recipes/augreg_none.py --quick    # a one-minute test on synthetic images

The default of ViT-Ti/16 and S/32 on ImageNet-21k.
For another model or ImageNet-21k: augreg_recipe("none", "ViT-S/16", data="/data/imagenet21k").

Source: arXiv:2106.10270; every number is in keras_vit/training/presets.py, from big_vision configs/vit_i1k.py.
Not run at full size here: no accelerator, and TFDS needs a manual download of imagenet2012.
"""

from keras_vit.commands.cli import run
from keras_vit.training import augreg_recipe

RECIPE = augreg_recipe("none", "ViT-B/16")

if __name__ == "__main__":
    run(__file__)
