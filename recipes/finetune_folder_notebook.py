# ---
# jupyter:
#   jupytext:
#     formats: ipynb,_notebook.py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Fine-tune a Vision Transformer on your own images
#
# From a folder of images to a report and a file for a phone. Choose a GPU first: *Runtime, Change runtime type*.
# This is `recipes/finetune_folder.py` step by step.

# %% tags=["parameters"]
PACKAGE = None  # the package: "git+https://..." with its repository's address, or an uploaded wheel
IMAGES = None  # a folder with one folder of images for each class, a .zip of it, or a .csv; None asks for an upload
RUN = "run"  # folder of all results; an interrupted run resumes from it
NEW_IMAGES = []  # images to classify at the end
SETTINGS = {}  # fields of the recipe to change, such as {"epochs": 5, "precision": "mixed_float16"}

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("keras_vit") is None:
    # Not "keras-vit": the package of that name in the package index is another project.
    if PACKAGE is None:
        raise SystemExit("Set PACKAGE above to the address or the wheel of the package.")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", PACKAGE], check=True)

# %% [markdown]
# ## Your images
#
# Put the images of each class into one folder, and zip the folder that contains these. For images on Google Drive, run
# `from google.colab import drive; drive.mount("/content/drive")` and set IMAGES to the path.

# %%
if IMAGES is None:
    from google.colab import files

    IMAGES = next(iter(files.upload()))

from keras_vit.data.check import check_folder

print(check_folder(IMAGES).text())

# %% [markdown]
# ## The settings
#
# `help(Recipe)` describes every field.

# %%
import dataclasses
import html
import pathlib

from keras_vit.commands.fit import fit
from keras_vit.commands.lr import find_learning_rate
from keras_vit.commands.predict import predict
from keras_vit.commands.preview import preview
from keras_vit.training import Recipe

recipe = Recipe(
    data=str(IMAGES),
    variant="ViT-S/16",
    image_size=224,
    weights="imagenet21k",
    epochs=20,
    batch_size=64,
    learning_rate=3e-4,
    warmup_epochs=2,
    crop="inception",
    flip=True,  # False where left and right matter: text, traffic signs
    randaugment=(2, 10),
    label_smoothing=0.1,
    layer_decay=0.75,  # lower learning rates for lower blocks; or freeze_to="block_05", or lora=8
    class_weights="balanced",
    early_stopping=5,
    ema=0.999,
    accumulation=1,  # 4 needs less memory
    precision="float32",  # "mixed_float16" on a T4, "mixed_bfloat16" on an A100
)
recipe = dataclasses.replace(recipe, **SETTINGS)

# %% [markdown]
# The augmented images:


# %%
def show(page):
    """Shows a page in the notebook, or prints its path."""
    if "IPython" not in sys.modules:
        return print(f"Open {page}")
    from IPython.display import HTML, display

    # The frame contains the page itself: the browser cannot open files of Colab's machine.
    text = html.escape(pathlib.Path(page).read_text("utf-8"))
    return display(HTML(f'<div><iframe srcdoc="{text}" width="100%" height="600"></iframe></div>'))


show(preview(recipe, f"{RUN}-preview.html"))

# %% [markdown]
# ## The learning rate
#
# A short search: the learning rate grows from step to step until the loss explodes. Its model is not kept.

# %%
learning_rate = find_learning_rate(recipe).suggestion
recipe = dataclasses.replace(recipe, learning_rate=learning_rate)
print(f"learning_rate={learning_rate:.2g}")

# %% [markdown]
# ## Training
#
# If Colab ends the session, run all cells again: with `RUN` on Google Drive the training resumes.

# %%
metrics = fit(recipe, RUN)
print(f"{metrics['test_accuracy']:.1%} of {metrics['test_images']} test images are classified correctly")

# %%
show(f"{RUN}/report.html")

# %% [markdown]
# ## New images

# %%
for image, classes in zip(NEW_IMAGES, predict(RUN, NEW_IMAGES, top=3) if NEW_IMAGES else []):
    print(image, *(f"{name} {probability:.1%}" for name, probability in classes))

# %% [markdown]
# ## To the phone

# %%
if "google.colab" in sys.modules:
    from google.colab import files

    files.download(f"{RUN}/model_int8.tflite")
    files.download(f"{RUN}/labels.txt")
