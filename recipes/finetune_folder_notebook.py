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
# You get a report and a file for a phone from a folder of images. This is `recipes/finetune_folder.py` step by step. In
# Colab, choose a GPU first: *Runtime, Change runtime type*.
#
# The stored outputs are of scikit-learn's scanned digits and a small model, on two shared CPU cores.

# %% tags=["parameters"]
PACKAGE = "keras-vit-kit"  # or "git+https://..." with the repository's address, or the path of a wheel
IMAGES = None  # a folder with one folder of images for each class, a .zip of it, or a .csv
RUN = "run"  # folder of all results; an interrupted run resumes from it
NEW_IMAGES = []  # images to classify at the end
SETTINGS = {}  # fields of the recipe to change, such as {"epochs": 5, "precision": "mixed_float16"}

# %% [markdown]
# ## Installation
#
# The first time, this takes about two minutes and 2.6 GB, most of it for TensorFlow. The package is called
# `keras-vit-kit`; `keras-vit` in the package index is another project. TensorFlow writes a few lines about the machine
# when it is imported; they are no errors.

# %%
import importlib.util
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides TensorFlow's notes on its own work

needed = {"keras_vit": PACKAGE}
missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
if missing:
    print("Installing", *missing, "...", flush=True)
    if subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing]).returncode:
        raise RuntimeError(
            f"pip could not install {' '.join(missing)}; its message is above. keras-vit-kit may not be in the package "
            "index yet: set PACKAGE to the address of the repository, git+https://..., or to the path of a wheel."
        )
importlib.invalidate_caches()
print("keras_vit", importlib.import_module("keras_vit").__version__)

# %% [markdown]
# ## Your images
#
# Put the images of each class into one folder, and zip the folder that contains these. With `IMAGES = None`, Colab asks
# for this .zip file. For images on Google Drive, run `from google.colab import drive; drive.mount("/content/drive")`
# and set IMAGES to the path.
#
# Outside of Colab, `IMAGES = None` writes scikit-learn's digits, 1,797 scans of 8 x 8 pixels, into a folder, to show
# how the notebook runs. These are too small for a checkpoint of photographs: a small model is trained from random
# weights.

# %%
import pathlib

if IMAGES is None and "google.colab" in sys.modules:
    from google.colab import files

    IMAGES = next(iter(files.upload()))

if IMAGES is None:
    from PIL import Image
    from sklearn.datasets import load_digits

    from keras_vit import Variant

    scans, IMAGES = load_digits(), "digit_images"
    for i, (scan, digit) in enumerate(zip(scans.images, scans.target)):
        new = i >= len(scans.target) - 5  # the last five are left out of the training, and classified at the end
        path = pathlib.Path("new_images" if new else IMAGES, "" if new else str(digit), f"{digit}_{i:04d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((scan * 255 / 16).astype("uint8")).save(path)  # the scans have levels from 0 to 16
    NEW_IMAGES = NEW_IMAGES or sorted(pathlib.Path("new_images").glob("*.png"))
    small = Variant(patch_size=4, hidden_size=64, num_layers=6, num_heads=4, mlp_dim=128)
    settings = {"variant": small, "image_size": 16, "weights": None, "head": "new", "epochs": 30, "batch_size": 32}
    # No flip, no crop: both can make another digit.
    settings |= {"layer_decay": 1.0, "ema": 0.0, "crop": "resize", "flip": False, "randaugment": None}
    SETTINGS = settings | {"rotate": 10.0, "shift": 0.06, "zoom": 0.1, "shear": 0.1} | SETTINGS

# %%
from keras_vit.data.check import check_folder

print(check_folder(IMAGES).text())

# %% [markdown]
# ## The settings
#
# `help(Recipe)` describes every field.

# %%
import dataclasses
import html

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
    head="probe",  # starts from a linear classifier on the checkpoint's features
    epochs=20,  # for 300 to 1,500 images; 40 for fewer, 8 for up to 10,000
    batch_size=32,
    learning_rate=3e-4,
    shift=0.1,
    zoom=0.1,
    flip=True,  # False where left and right matter: text, traffic signs
    label_smoothing=0.1,
    layer_decay=0.75,  # lower learning rates for lower blocks; or freeze_to="block_05", or lora=8
    class_weights="equal",  # "balanced" gives each class the same weight in the loss
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
    frame = f'<iframe srcdoc="{text}" width="100%" height="600"></iframe>'
    return display(HTML(f"<p>{page}, shown here in Jupyter and Colab, but not on GitHub:</p>{frame}"))


show(preview(recipe, f"{RUN}-preview.html"))

# %% [markdown]
# ## The learning rate
#
# A short search: the learning rate grows from step to step until the loss explodes. Its model is not kept. Each line
# has a learning rate and the loss. The suggestion is at the upper end of what trains well: a fifth of it is used here.

# %%
search = find_learning_rate(recipe)
print(search.text())
recipe = dataclasses.replace(recipe, learning_rate=search.suggestion / 5)
print(f"used: {recipe.learning_rate:.1e}")

# %% [markdown]
# ## Training
#
# One line shows the step, and each epoch adds a line. Then the model is evaluated and exported, and each exported file
# is compared with the model. If Colab ends the session, run all cells again: with `RUN` on Google Drive the training
# resumes.

# %%
metrics = fit(recipe, RUN)
print(f"{metrics['test_accuracy']:.1%} of {metrics['test_images']} test images are classified correctly")

# %% [markdown]
# ## The report
#
# It has the curves, the confusion matrix, the most confident mistakes and attention maps, in one file.

# %%
show(f"{RUN}/report.html")

# %% [markdown]
# ## New images

# %%
for image, classes in zip(NEW_IMAGES, predict(RUN, NEW_IMAGES, top=3) if NEW_IMAGES else []):
    print(image, *(f"{name} {probability:.1%}" for name, probability in classes))

# %% [markdown]
# ## To the phone
#
# `model_int8.tflite` has the class names inside. `export_and_run.ipynb` shows how to run it.

# %%
for name in ("model_int8.tflite", "labels.txt"):
    print(f"{RUN}/{name}: {pathlib.Path(RUN, name).stat().st_size:,} bytes")
    if "google.colab" in sys.modules:
        from google.colab import files

        files.download(f"{RUN}/{name}")
