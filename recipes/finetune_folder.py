"""Fine-tunes a published ViT-S/16 on your own folder of images: the settings of `keras-vit fit images/`, to change.

    keras-vit check images/                                      # describes the images and their faults
    keras-vit preview recipes/finetune_folder.py data=images/    # shows the augmented images
    keras-vit lr recipes/finetune_folder.py data=images/         # suggests a learning_rate
    keras-vit fit recipes/finetune_folder.py data=images/ epochs=40
    keras-vit fit recipes/finetune_folder.py --quick               # a one-minute test on synthetic images

images/ has one folder of images for each class, or train/ and test/ with such
folders. A .zip of it or a .csv also works.
finetune_folder.ipynb is the same recipe for Colab.

Source: this project's own measurements, in docs/fine_tuning.md; the head as in arXiv:2202.10054, layer_decay as in
arXiv:2111.06377, table 9.
Not run at full size here: no accelerator and no published checkpoint at hand.
"""

from keras_vit.commands.cli import run
from keras_vit.training import Recipe

RECIPE = Recipe(
    data="images",
    variant="ViT-S/16",
    image_size=224,
    weights="imagenet21k",  # or "imagenet", or a file
    head="probe",  # starts from a linear classifier on the checkpoint's features
    epochs=20,  # for 300 to 1,500 images; 40 for fewer, 8 for up to 10,000
    batch_size=32,
    learning_rate=3e-4,
    warmup_epochs=1,
    crop="resize",  # the whole image; "inception" crops at random
    shift=0.1,
    zoom=0.1,
    flip=True,  # False where left and right matter: text, traffic signs
    # randaugment=(2, 10),  # no better within 20 epochs
    label_smoothing=0.1,  # less confident predictions
    # All weights are trained, lower blocks at lower rates. Freezing and LoRA need less memory, and suit few images.
    layer_decay=0.75,  # each block has 0.75 of the learning rate of the block above it, the lowest a thirtieth
    # freeze_to="block_05",  # freezes the lower six blocks; "norm" freezes all but the head, a linear probe
    # lora=8,  # LoRA: trains matrices of rank 8 added to the attention's kernels, and the head
    # For classes of different size:
    class_weights="equal",  # "balanced" gives each class the same weight in the loss
    # When to stop, and which weights to keep:
    # early_stopping=5,  # epochs without a better validation accuracy, and at least 500 steps
    # keep="best",  # the weights of the best epoch; with few images the last ones are better
    # ema=0.999,  # the moving average of the weights is validated and kept
    # To reduce memory:
    accumulation=1,  # 4 computes a batch in four parts, with the same result
    precision="float32",  # "mixed_float16" on a T4, "mixed_bfloat16" on an A100, a TPU or a new CPU
    remat=False,  # True recomputes activations: slower, in far less memory
)

if __name__ == "__main__":
    run(__file__)
