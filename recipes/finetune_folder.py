"""Fine-tunes a published ViT-S/16 on a folder of one's own, with what small data asks for.

    keras-vit check images/                                      # what is in there, and what is wrong with it
    keras-vit preview recipes/finetune_folder.py data=images/    # what the model will see
    keras-vit lr recipes/finetune_folder.py data=images/         # which learning_rate to give
    keras-vit fit recipes/finetune_folder.py data=images/ learning_rate=3e-4
    keras-vit fit recipes/finetune_folder.py --quick               # all of it in a minute, on synthetic images

images/ holds a folder of images a class, or train/ and test/ with such folders; a .zip of one, or a .csv, will do.
finetune_folder.ipynb is the same for Colab.

Source: the settings are this project's own choice, for some hundred to some ten thousand images; layer_decay as in
arXiv:2111.06377, table 9.
Not run at full size here: no accelerator and no published checkpoint at hand.
"""

from keras_vit.commands.cli import run
from keras_vit.training.recipe import Recipe

RECIPE = Recipe(
    data="images",
    variant="ViT-S/16",
    image_size=224,
    weights="imagenet21k",  # or "imagenet", or a file
    epochs=20,
    batch_size=64,
    learning_rate=3e-4,  # keras-vit lr tells which
    warmup_epochs=2,
    crop="inception",
    flip=True,  # False where left and right matter: text, traffic signs
    randaugment=(2, 10),
    label_smoothing=0.1,  # part of each label spread over all classes: answers less sure of themselves
    # How much is trained: all, the lower blocks less. Freezing and LoRA need less memory, and suit few images.
    layer_decay=0.75,  # each block learns at 0.75 of the rate of the one above it, the lowest at a thirtieth
    # freeze_to="block_05",  # the lower six blocks stay as they are; "norm": all but the head, a linear probe
    # lora=8,  # only matrices of rank 8 beside the attention's kernels, and the head; merged in the end
    # Where classes differ in size:
    class_weights="balanced",
    # When to end, and with which weights:
    early_stopping=5,  # epochs without a better validation accuracy; 500 steps in any case
    # keep="best",  # the weights of the best epoch; on few images the last ones serve better
    ema=0.999,  # their running mean is what is validated and kept
    # To fit into the memory:
    accumulation=1,  # 4: a batch is worked on in four parts, with the same result
    precision="float32",  # "mixed_float16" on a T4, "mixed_bfloat16" on an A100, a TPU or a new CPU
    remat=False,  # True: slower, in far less memory
)

if __name__ == "__main__":
    run(__file__)
