"""Fine-tunes ViT-B/16 on a task of VTAB-1k as the paper does: 1,000 images, 2,500 steps at 384 pixels.

    keras-vit fit recipes/finetune_vtab.py                 # Caltech101
    keras-vit fit recipes/finetune_vtab.py data=dtd "train_split=train[:800]+validation[:200]"
    keras-vit fit recipes/finetune_vtab.py --quick         # a one-minute test on synthetic images

The 1,000 images are 800 of a task's training split and 200 of its validation split. Where TFDS has no validation split,
VTAB uses the end of the training split: with Caltech101 the last tenth, from image 2,754 of 3,060 on. Twelve of the 19
tasks have an image and a label in TFDS; the labels of clevr (two), dsprites (two), kitti and smallnorb (two) must be
computed from other features.

Source: arXiv:2010.11929, sections 4.1 and B.1.1; the splits: google-research/task_adaptation, data/caltech.py.
Published: 77.63 %, the mean of the 19 tasks (arXiv:2010.11929, table 2, ViT-H/14 from JFT-300M).
Not run at full size here: no accelerator.
"""

from keras_vit.commands.cli import run
from keras_vit.training import FINE_TUNING, Recipe

RECIPE = Recipe(
    # crop=resize and flip=False for tasks about positions or sides: svhn_cropped, dmlab
    **FINE_TUNING | {"crop": "random"},
    data="caltech101",
    train_split="train[:800]+train[2754:2954]",
    validation=0.0,  # all tasks have the same settings, so no setting is chosen by it
    test_split="test",
    steps=2_500,  # section B.1.1
    learning_rate=0.01,  # section B.1.1
    warmup_steps=500,  # vit_jax configs/common.py
)

if __name__ == "__main__":
    run(__file__)
