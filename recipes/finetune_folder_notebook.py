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
# This is `recipes/finetune_folder.py` in steps.

# %% tags=["parameters"]
PACKAGE = None  # where the package is: "git+https://..." and its repository's address, or a wheel you uploaded
IMAGES = None  # a folder with a folder of images a class, a .zip of one, or a .csv; None asks for an upload
RUN = "run"  # all results go here; the same name again goes on with a run that was cut off
NEW_IMAGES = []  # images to name at the end
SETTINGS = {}  # fields of the recipe to change, such as {"epochs": 5, "precision": "mixed_float16"}

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("keras_vit") is None:
    # The "keras-vit" of the package index is another project, so there is no name to install this one by.
    if PACKAGE is None:
        raise SystemExit("Say above where the package is: PACKAGE = ...")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", PACKAGE], check=True)

# %% [markdown]
# ## Your images
#
# Put the images of each class into a folder of its own, and zip the folder that holds these. From Google Drive:
# `from google.colab import drive; drive.mount("/content/drive")`, and the path above.

# %%
if IMAGES is None:
    from google.colab import files

    IMAGES = next(iter(files.upload()))

from keras_vit.data.check import check

print(check(IMAGES).text())

# %% [markdown]
# ## The settings
#
# Every field, and what it does: `help(Recipe)`.

# %%
import dataclasses
import html
import pathlib

from keras_vit.commands.fit import fit
from keras_vit.commands.lr import find_learning_rate
from keras_vit.commands.predict import predict
from keras_vit.commands.preview import preview
from keras_vit.training.recipe import Recipe

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
    layer_decay=0.75,  # the lower blocks learn more slowly; or freeze_to="block_05", or lora=8
    class_weights="balanced",
    early_stopping=5,
    ema=0.999,
    accumulation=1,  # 4, if the memory does not do
    precision="float32",  # "mixed_float16" on a T4, "mixed_bfloat16" on an A100
)
recipe = dataclasses.replace(recipe, **SETTINGS)

# %% [markdown]
# What the model will see, with all random changes:


# %%
def show(page):
    """Shows a page in the notebook, or says where it is."""
    if "IPython" not in sys.modules:
        return print(f"Open {page}")
    from IPython.display import HTML, display

    # The page itself goes into the frame: Colab's browser cannot open a file of the machine that runs this.
    text = html.escape(pathlib.Path(page).read_text("utf-8"))
    return display(HTML(f'<div><iframe srcdoc="{text}" width="100%" height="600"></iframe></div>'))


show(preview(recipe, f"{RUN}-preview.html"))

# %% [markdown]
# ## The learning rate
#
# A short trial: the rate grows from step to step until the loss does, too. Nothing is kept of it.

# %%
learning_rate = find_learning_rate(recipe).suggestion
recipe = dataclasses.replace(recipe, learning_rate=learning_rate)
print(f"learning_rate={learning_rate:.2g}")

# %% [markdown]
# ## Training
#
# If Colab ends the session, run all cells again: with `RUN` on Google Drive it goes on where it was.

# %%
metrics = fit(recipe, RUN)
print(f"{metrics['test_accuracy']:.1%} of {metrics['test_images']} test images are named right")

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
