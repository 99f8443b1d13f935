"""Images of other channels than RGB: grey, RGBA, and the bands of .tif and .npy files."""

import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_vit
from keras_vit.data.augmentation import Augmentation
from keras_vit.data.crop import PROTOCOLS
from keras_vit.data.decoding import ImageError, decode, decode_with_info, notes_of, read_for_clients
from keras_vit.data.listing import ListedImage, Listing, read_listing
from keras_vit.data.perceptual_hash import perceptual_hash
from keras_vit.data.pipeline import evaluation_batches, read_all, training_batches
from keras_vit.data.randaugment import OPERATIONS, color, randaugment
from keras_vit.data.sources import Examples
from keras_vit.preprocessing import OFFICIAL_PIXELS
from keras_vit.runtime.images import upright, upright_size

BANDS = np.random.default_rng(0).integers(0, 256, (11, 7, 5), dtype=np.uint8)
BANDS[:3, :4, 3] = 0  # transparent
RGB, RGBA = BANDS[..., :3], BANDS[..., :4]
SEEN = RGBA * (RGBA[..., 3:] > 0)  # without the colours of transparent pixels


def png(pixels, form="PNG", **settings):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **settings)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def tiff(array, **settings):
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **{"photometric": "minisblack", "planarconfig": "contig"} | settings)
    return stream.getvalue()


def infrared():
    return tiff(RGBA, photometric="rgb", extrasamples=["unspecified"])


def grey_of(rgb):
    return np.asarray(Image.fromarray(rgb).convert("L"))[..., None]


def on_white(rgba):
    image = Image.fromarray(rgba)
    return np.asarray(Image.composite(image.convert("RGB"), Image.new("RGB", image.size, "white"), image.getchannel(3)))


OPAQUE = np.full((11, 7, 1), 255, np.uint8)
# name: (its bytes, {channels: the pixels that are read, within a level where a transparency is blended}); every other
# number of channels is refused.
FILES = {
    "grey": (
        lambda: png(RGB[..., 0]),
        {1: RGB[..., :1], 3: RGB[..., [0, 0, 0]], 4: np.dstack([RGB[..., [0] * 3], OPAQUE])},
    ),
    "RGB": (lambda: png(RGB), {1: grey_of(RGB), 3: RGB, 4: np.dstack([RGB, OPAQUE])}),
    "RGBA": (lambda: png(RGBA), {1: grey_of(on_white(RGBA)), 3: on_white(RGBA), 4: SEEN}),
    "array of grey": (
        lambda: npy(RGB[..., 0]),
        {1: RGB[..., :1], 3: RGB[..., [0] * 3], 4: np.dstack([RGB[..., [0] * 3], OPAQUE])},
    ),
    "array of RGB": (lambda: npy(RGB), {1: grey_of(RGB), 3: RGB, 4: np.dstack([RGB, OPAQUE])}),
    "array of 2": (lambda: npy(BANDS[..., :2]), {2: BANDS[..., :2]}),
    "array of 4": (lambda: npy(RGBA), {4: RGBA}),
    "array of 5": (lambda: npy(BANDS), {5: BANDS}),
    "array of 16 bits": (lambda: npy(BANDS * np.uint16(257)), {5: BANDS}),
    "array by columns": (lambda: npy(np.asfortranarray(BANDS)), {5: BANDS}),
    "TIFF of 5": (lambda: tiff(BANDS), {5: BANDS}),
    "TIFF of 5 planes": (lambda: tiff(np.moveaxis(BANDS, -1, 0), planarconfig="separate"), {5: BANDS}),
    "TIFF of 5 on its side": (lambda: tiff(BANDS, extratags=[(274, "H", 1, 6, True)]), {5: np.rot90(BANDS, -1)}),
    "TIFF of 3 without colours": (lambda: tiff(RGB), {}),
    "TIFF of RGB and infrared": (lambda: infrared(), {1: grey_of(RGB), 3: RGB, 4: RGBA}),
    "TIFF of RGBA": (
        lambda: tiff(RGBA, photometric="rgb", extrasamples=["unassalpha"]),
        {1: grey_of(on_white(RGBA)), 3: on_white(RGBA), 4: SEEN},
    ),
    "TIFF of RGBA and infrared": (
        lambda: tiff(BANDS, photometric="rgb", extrasamples=["unassalpha", "unspecified"]),
        {1: grey_of(on_white(RGBA)), 3: on_white(RGBA), 4: SEEN, 5: BANDS},
    ),
}


@pytest.mark.parametrize("name, channels", list(itertools.product(FILES, (1, 2, 3, 4, 5))))
def test_an_image_has_the_channels_that_are_asked_for_or_is_refused(name, channels):
    """So it is in training and in the runtime of exported files, which share no code."""
    make, expected = FILES[name]
    data = make()
    if channels not in expected:
        with pytest.raises(ImageError, match=f"channels={channels}|expected {channels}|bands|of the shape"):
            decode(data, channels)
        with pytest.raises(ValueError, match="Received: .* bytes"):
            upright(data, channels)
        return
    for read in (decode, upright):
        pixels = read(data, channels)
        assert pixels.dtype == np.uint8 and pixels.shape == expected[channels].shape
        assert np.abs(pixels.astype(int) - expected[channels]).max() <= 1
    assert upright_size(data) == expected[channels].shape[:2]
    np.testing.assert_array_equal(decode(read_for_clients(data, channels), channels), decode(data, channels))


def test_a_refusal_names_the_file_and_what_to_set(tmp_path):
    (tmp_path / "field.npy").write_bytes(npy(BANDS))
    for channels in (1, 3, 4):
        with pytest.raises(ImageError, match=rf"field\.npy: an array of the shape \(11, 7, 5\).*=5.*={channels}$"):
            decode(tmp_path / "field.npy", channels)
    with pytest.raises(ImageError, match=r"TIFF of 5 bands.*channels=5"):
        decode(tiff(BANDS))
    with pytest.raises(ImageError, match=r"has 3 channels, expected 5; .* files of 5 bands"):
        decode(png(RGB), 5)
    pages = tiff(np.moveaxis(BANDS.astype(np.uint16), -1, 0), planarconfig=None)  # an image for each band
    with pytest.raises(ImageError, match=r"has 1 channel in the first of its 5 images.*, expected 5; save them"):
        decode(pages, 5)


def test_the_bands_of_a_file_are_described():
    dark = npy(BANDS.astype(np.uint16))
    assert decode_with_info(dark, 5)[1].mode == "16-bit 5 bands (0 to 65535)"
    (note,) = decode_with_info(dark, 5)[1].notes
    assert "lowest quarter" in note
    assert "not read" in notes_of(infrared())[0] and not notes_of(infrared(), 4)


def test_a_stated_range_holds_for_all_bands(monkeypatch):
    monkeypatch.setenv("KERAS_VIT_VALUE_RANGE", "0,10000")
    data = npy(np.array([[[0, 10000, 20000, 2000, 1]]], np.uint16))
    assert decode(data, 5).tolist() == upright(data, 5).tolist() == [[[0, 255, 255, 51, 0]]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_every_channel_is_resized_alike(protocol, channels):
    image = np.random.default_rng(1).integers(0, 256, (41, 67, 5), dtype=np.uint8)
    resized = PROTOCOLS[protocol](image[..., :channels], (17, 23))
    assert resized.shape == (17, 23, channels)
    for channel in range(channels):
        colours = np.repeat(image[..., channel : channel + 1], 3, axis=-1)
        np.testing.assert_array_equal(resized[..., channel], PROTOCOLS[protocol](colours, (17, 23))[..., 0])


def examples(make, channels, count=6, side=(40, 56)):
    images = np.random.default_rng(2).integers(0, 256, (count, *side, channels), dtype=np.uint8)
    data = tuple(make(image) for image in images)
    return images, Examples(data, np.arange(count) % 2, tuple(map(str, range(count))))


@pytest.mark.parametrize("channels", [1, 5])
def test_batches_have_the_channels_of_their_contract(channels):
    images, some = examples(npy, channels)
    contract = OFFICIAL_PIXELS.for_channels(channels)
    batch, _ = next(iter(evaluation_batches(some, (40, 56), 6, contract)))
    np.testing.assert_allclose(batch, images / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(read_all(some.images, (40, 56), "official", channels), images)


@pytest.mark.parametrize("crop", ["resize", "inception", "random"])
@pytest.mark.parametrize("channels", [1, 4, 5])
def test_every_augmentation_works_on_every_number_of_channels(crop, channels):
    _, some = examples(npy, channels)
    options = {"rotate": 9.0, "flip": True, "mixup": 0.2, "cutmix": 1.0, "randaugment": (2, 10)}
    augmentation = Augmentation(crop=crop, crop_from=(20, 28) if crop == "random" else None, **options)
    contract = OFFICIAL_PIXELS.for_channels(channels)
    batches = training_batches(some, (17, 23), 2, batch_size=3, steps=2, augmentation=augmentation, contract=contract)
    for images, _, _ in batches:
        assert images.shape == (3, 17, 23, channels) and np.isfinite(images).all()


@pytest.mark.parametrize("crop", ["inception", "random"])
def test_a_crop_of_a_jpeg_in_grey_is_that_of_its_grey_levels(crop):
    """A JPEG's own brightness differs from the grey of its colours by some levels."""
    images, _ = examples(npy, 3, count=2)
    jpeg = tuple(png(image, "JPEG", quality=95) for image in images)
    grey = tuple(npy(decode(data, 1)) for data in jpeg)
    contract, augmentation = OFFICIAL_PIXELS.for_channels(1), Augmentation(crop=crop)
    first, second = (
        next(
            iter(
                training_batches(
                    Examples(data, np.array([0, 1]), ("a", "b")),
                    (16, 16),
                    2,
                    batch_size=2,
                    steps=1,
                    augmentation=augmentation,
                    contract=contract,
                )
            )
        )[0]
        for data in (jpeg, grey)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "Color"])
def test_an_operation_changes_a_grey_image_as_grey_colours(name):
    grey = np.random.default_rng(3).integers(0, 256, (19, 23, 1), dtype=np.uint8)
    draws = tf.constant([0.3, 0.6, 0.2])
    one, three = (OPERATIONS[name](tf.constant(image), 1.2, draws) for image in (grey, np.repeat(grey, 3, axis=-1)))
    np.testing.assert_array_equal(np.repeat(one, 3, axis=-1), three)


@pytest.mark.parametrize("channels, has_colour", [(1, False), (3, True), (5, False)])
def test_saturation_is_for_colours_alone(channels, has_colour, monkeypatch):
    drawn = []
    operations = {
        name: lambda image, level, draws, act=act: drawn.append(act) or image for name, act in OPERATIONS.items()
    }
    operations["Color"] = color
    monkeypatch.setattr("keras_vit.data.randaugment.OPERATIONS", operations)
    monkeypatch.setattr("keras_vit.data.randaugment.color", color)
    image = np.full((9, 9, channels), 7, np.uint8)
    made = [randaugment(image, 1, 30, (seed, 0)) for seed in range(60)]
    assert len(made) == 60 and (len(drawn) < 60) == has_colour


def test_hashes_of_grey_and_of_four_channels_are_those_of_their_colours():
    y, x = np.mgrid[:64, :64]
    rgb = np.dstack([2 * x, 3 * y, x + y]).astype(np.uint8)
    assert perceptual_hash(np.dstack([rgb, 255 - rgb])) == perceptual_hash(rgb) is not None
    assert perceptual_hash(rgb[..., :1]) == perceptual_hash(rgb[..., [0, 0, 0]])
    assert perceptual_hash(rgb[..., :2]) == perceptual_hash(rgb[..., :1])


def test_a_reading_counts_for_its_own_number_of_channels(tmp_path, monkeypatch):
    """An image that can be decoded with one number may not be with another."""
    monkeypatch.setattr("keras_vit.data.listing.WORTH_SECONDS", -1)
    monkeypatch.setattr("keras_vit.data.reading_cache._COARSE", -(10**15))
    monkeypatch.setenv("KERAS_VIT_IMAGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "field.npy"
    path.write_bytes(npy(BANDS))
    listing = Listing(
        str(path.parent), "fields", (), ("field",), (ListedImage(str(path), "field.npy", "field", "train"),)
    )
    for _ in range(2):
        assert [bool(read_listing(listing, channels).images[0].reason) for channels in (5, 3, 5)] == [
            False,
            True,
            False,
        ]
    assert sum(file.stem.endswith("-5") for file in (tmp_path / "cache").iterdir()) == 1


def test_a_contract_has_a_mean_for_each_channel_of_the_model():
    tiny = keras_vit.Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=8)
    model = keras_vit.build(tiny, input_shape=(8, 12, 5), classes=2)
    assert (
        model.pixels.channels == 5
        and keras_vit.pixels_of(model, "imagenet").mean == (pytest.approx(0.449, abs=1e-3),) * 5
    )
    assert keras_vit.pixels_of(model, "0.1,0.2,0.3,0.4,0.5/1").mean == (0.1, 0.2, 0.3, 0.4, 0.5)
    with pytest.raises(ValueError, match="Expected pixels of 5 channels"):
        keras_vit.pixels_of(model, "0.1,0.2,0.3,0.4/1")
