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
# # Look into a checkpoint
#
# You see what a Vision Transformer predicts, where it looks and what it has learned: attention maps by block and head,
# attention rollout, relevance, attention distance, position embeddings, patch filters and the accuracy of its features.
#
# The stored outputs are of a small model that the notebook trains on scikit-learn's scanned digits, on two shared CPU
# cores.

# %% tags=["parameters"]
PACKAGE = "keras-vit-kit"  # or "git+https://..." with the repository's address, or the path of a wheel
CHECKPOINT = None  # "ViT-S_16.npz", a name of `keras-vit list`, a .keras file, the folder of a run; None: digits
PHOTOS = []  # images to look at; none: six digits, or two photographs that scikit-learn contains
IMAGE_SIZE = None  # (height, width) in pixels to resize the model to; None: its own
PIXELS = None  # "-1..1", "0..1", "raw" or "imagenet", if the checkpoint does not store its pixel range
EPOCHS = 20  # of the model that is trained on the digits

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

needed = {"keras_vit": PACKAGE, "matplotlib": "matplotlib"}
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
# ## The model
#
# `open_model` reads a checkpoint of the official code, big_vision, Hugging Face or timm, a Keras file, or the folder of
# a run, with its pixel range and class names. With `CHECKPOINT = None`, a small model is trained on the digits first,
# with 16 x 16 pixels in 4 x 4 patches.

# %%
import logging

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_digits, load_sample_images

import keras_vit
from keras_vit import analysis
from keras_vit.commands.image_model import open_model

plt.rcParams["figure.dpi"] = 75
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each analysis compiles a new function

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
labels = digits.target[order]
training, test = slice(0, 1400), slice(1400, None)


def scans(size):
    """Returns the digits as RGB images from 0 to 255 of a (height, width)."""
    levels = np.repeat(digits.images[order, ..., None] * 255 / 16, 3, axis=-1)
    return np.asarray(keras.ops.image.resize(levels, size, interpolation="nearest")).astype("uint8")


is_small = CHECKPOINT is None
if is_small:
    keras.utils.set_random_seed(0)
    small = keras_vit.Variant(patch_size=4, hidden_size=64, num_layers=4, num_heads=4, mlp_dim=128)
    model = keras_vit.build(small, input_shape=(16, 16, 3), classes=10)
    rate = keras.optimizers.schedules.CosineDecay(0.0, 22 * EPOCHS, warmup_target=2e-3, warmup_steps=2 * EPOCHS)
    model.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = model.preprocess_input(scans((16, 16)))
    unseen = images[test], labels[test]
    model.fit(images[training], labels[training], 64, EPOCHS, validation_data=unseen, verbose=2)
    model.class_names = [str(digit) for digit in digits.target_names]
    CHECKPOINT = "digits.keras"
    model.save(CHECKPOINT)

opened = open_model(CHECKPOINT, IMAGE_SIZE, pixels=PIXELS)
model = opened.model
has_head = bool(opened.class_names)

# %%
grid = analysis.position_similarity(model).shape[:2]
blocks = analysis.attention_maps(model, np.zeros((1, *opened.image_size, 3), "float32"))
print(f"{CHECKPOINT}: {model.count_params():,} parameters")
print(f"reads {opened.image_size[0]} x {opened.image_size[1]} pixels as {opened.pixels.description}")
print(f"{grid[0]} x {grid[1]} patches, {len(blocks)} blocks, {blocks[0].shape[1]} heads each")
print(f"{len(opened.class_names)} classes" if has_head else "no head: it returns features")

# %% [markdown]
# ## Predictions

# %%
if PHOTOS:
    pixels = np.stack([opened.read(photo) for photo in PHOTOS])
elif is_small:
    pixels = scans(opened.image_size)[test][:6]  # not among those that it was trained on
else:
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    squares = [ImageOps.fit(photo, (min(photo.size),) * 2) for photo in photos]
    pixels = np.stack([np.asarray(square.resize(opened.image_size[::-1])) for square in squares])

inputs = opened.preprocess(pixels)
titles = [f"image {i + 1}" for i in range(len(pixels))]
if has_head:
    probabilities = opened.predict(pixels)["probabilities"]
    best = probabilities.argsort(axis=1)[:, ::-1][:, :3]
    for image, (row, classes) in enumerate(zip(probabilities, best)):
        titles[image] = "\n".join(f"{opened.class_names[i]} {row[i]:.1%}" for i in classes)


def draw(rows, names, titles=None, size=1.6, **options):
    """Draws rows of images, with a name for each row and a title for each column."""
    shape = len(rows), len(rows[0])
    inches = size * shape[1] + 0.5, size * shape[0] + 0.3
    figure, axes = plt.subplots(*shape, figsize=inches, squeeze=False, layout="constrained")
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            axes[i, j].imshow(image, **options)
            axes[i, j].set(xticks=[], yticks=[])
        axes[i, 0].set_ylabel(names[i])
    for axis, title in zip(axes[0], titles or []):
        axis.set_title(title)


draw([pixels], ["three most\nprobable classes" if has_head else ""], titles)

# %% [markdown]
# ## Attention maps by block and head
#
# The attention of the class token, which the head reads, to each patch of the first image; of a model without a class
# token, the mean attention of all patches. Each map has its own range: bright is its largest value.

# %%
try:
    maps = analysis.class_attention(model, inputs)
except ValueError:  # no class token
    maps = analysis.mean_attention(model, inputs)
shown = np.unique(np.linspace(0, maps.shape[1] - 1, 12).round().astype(int))  # at most twelve blocks
heads = range(min(maps.shape[2], 12))
rows = [[maps[0, block, head] for head in heads] for block in shown]
names, columns = [f"block {block + 1}" for block in shown], [f"head {head + 1}" for head in heads]
draw(rows, names, columns, size=0.9, cmap="inferno")

# %% [markdown]
# ## Attention rollout and relevance
#
# Rollout multiplies the attention of all blocks. It is the same for every class. Relevance weights attention by the
# gradient of one class, here the most probable and the second most probable one.


# %%
def over(image, values):
    """Returns an image under a map: bright yellow is high, dark purple is low."""
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    colours = Image.fromarray((plt.get_cmap("inferno")(values)[..., :3] * 255).astype("uint8"))
    times = max(1, 64 // len(image))  # a small image is enlarged, so that the map is smooth
    image = np.kron(image, np.ones((times, times, 1)))
    large = np.asarray(colours.resize(image.shape[1::-1], Image.Resampling.BICUBIC))
    return (0.4 * image + 0.6 * large).astype("uint8")


rows, names = [pixels], ["image"]
rollout = analysis.attention_rollout(model, inputs)
rows.append([over(image, values) for image, values in zip(pixels, rollout)])
names.append("rollout")
for place in range(2 if has_head else 0):
    relevance = analysis.attention_relevance(model, inputs, best[:, place])
    rows.append([over(image, values) for image, values in zip(pixels, relevance)])
    names.append(f"relevance,\nclass {place + 1}")
draw(rows, names, titles)

# %% [markdown]
# ## Tokens as colours
#
# The tokens of the last block, each patch in the colours of their first three principal components: patches of one
# colour have similar tokens.

# %%
draw([pixels, analysis.token_colours(analysis.patch_tokens(model, inputs))], ["image", "tokens"])

# %% [markdown]
# ## Attention distance and entropy
#
# Each dot is a head, the line is the mean of a block. A head with a short distance looks at its neighbours, one with a
# long distance at the whole image. A head with a high entropy spreads its attention over many patches.

# %%
many = opened.preprocess(scans(opened.image_size)[test][:128]) if is_small else inputs
analysis.plots.distance_by_depth(analysis.attention_distance(model, many))

# %%
analysis.plots.entropy_by_depth(analysis.attention_entropy(model, many), blocks[0].shape[-1])

# %% [markdown]
# ## Position embeddings
#
# Each small map belongs to the patch at its place: it has the cosine similarity of this patch's position embedding with
# those of all patches, from -1, dark blue, to 1, yellow.

# %%
analysis.plots.positions(analysis.position_similarity(model))

# %% [markdown]
# ## Patch filters
#
# The first principal components of the filters of the patch embedding, those with most variance first; grey is 0.

# %%
components, shares = analysis.filter_components(model)
print(f"The first {len(shares)} components have {shares.sum():.0%} of the variance.")
analysis.plots.filters(components)

# %% [markdown]
# ## Features and few-shot accuracy
#
# `representation` is the model without its head. A linear classifier is trained on the features of a few digits of each
# class and evaluated on others; the last row is the same classifier on the pixels themselves.

# %%
from keras_vit.evaluation import few_shot

some, classes = scans(opened.image_size)[1000:], labels[1000:]
features = keras_vit.representation(model).predict(opened.preprocess(some), verbose=0)
few, others = slice(0, 400), slice(400, None)  # the small model has not seen the others
print(f"{'images a class':16}      1       2       5")
for name, values in ("features", features), ("pixels", some.reshape(len(some), -1) / 255):
    result = few_shot(values[few], classes[few], values[others], classes[others], shots=(1, 2, 5))
    print(f"{name:16}", *(f"{result.at(shots):7.1%}" for shots in (1, 2, 5)))

# %% [markdown]
# The nearest neighbours of the first digits, by the cosine similarity of the features:

# %%
near, cosines = analysis.nearest_neighbours(features, count=5)
rows = [[some[i], *some[near[i]]] for i in range(3)]
titles = ["image", *(f"{i}." for i in range(1, 6))]
draw(rows, [f"a {classes[i]}" for i in range(3)], titles, size=1.0)

# %% [markdown]
# `keras-vit analyze` writes most of these figures to a page, with sliders for block and head.
