"""Fine-tunes ViT-B/16 on a task of VTAB-1k as the paper does: 1,000 images, 2,500 steps at 384 pixels.

    keras-vit fit recipes/finetune_vtab.py                 # Caltech101
    keras-vit fit recipes/finetune_vtab.py data=dtd "train_split=train[:800]+validation[:200]"
    keras-vit fit recipes/finetune_vtab.py --quick         # all of it in a minute, on synthetic images

The 1,000 are 800 of a task's training and 200 of its validation images. Where TFDS has no validation images, VTAB
takes the end of the training images for them: with Caltech101 the last tenth, from image 2,754 of 3,060 on. Twelve
of the 19 tasks are an image and a label in TFDS; the labels of clevr (two), dsprites (two), kitti and smallnorb (two)
have to be made from other features first.

Source: arXiv:2010.11929, sections 4.1 and B.1.1; the splits: google-research/task_adaptation, data/caltech.py.
Published: 77.63 %, the mean of the 19 tasks (arXiv:2010.11929, table 2, ViT-H/14 from JFT-300M).
Not run at full size here: no accelerator.
"""

from keras_vit.commands.cli import run
from keras_vit.training.presets import FINE_TUNING
from keras_vit.training.recipe import Recipe

RECIPE = Recipe(
    # crop=resize and flip=False where places or sides are what is asked for: svhn_cropped, dmlab
    **FINE_TUNING | {"crop": "random"},
    data="caltech101",
    train_split="train[:800]+train[2754:2954]",
    validation=0.0,  # all settings are the same for all tasks, so there is nothing to choose by it
    test_split="test",
    steps=2_500,  # section B.1.1
    learning_rate=0.01,  # section B.1.1
    warmup_steps=500,  # vit_jax configs/common.py
)

if __name__ == "__main__":
    run(__file__)
