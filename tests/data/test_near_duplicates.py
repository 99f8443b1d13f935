import io
import itertools
import logging

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from keras_vit.data.check import check_folder
from keras_vit.data.listing import SPLITS, ListedImage
from keras_vit.data.near_duplicates import DISTANCE, connected, mark_near_duplicates, near_pairs
from keras_vit.data.perceptual_hash import LEAST_CONTRAST, SMALLEST_SIDE, perceptual_hash
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")


def photo(number, size=(97, 73)):
    """A smooth image of its own for every number, as photos are: (height, width, 3) uint8."""
    waves = np.random.default_rng(number).normal(size=(3, 12, 12)) / (1 + np.add.outer(np.arange(12), np.arange(12)))
    y, x = (np.cos(np.pi * np.arange(12)[:, None] * (np.arange(side) + 0.5) / side) for side in size)
    return np.clip(110 + 35 * np.moveaxis(y.T @ waves @ x, 0, -1), 0, 255).astype(np.uint8)


def encoded(image, format="JPEG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def cropped(image):
    width, height = image.size
    return image.crop((1, 1, width - 1, height - 1))


CHANGES = {
    "encoded anew": lambda image: encoded(image, quality=40),
    "smaller": lambda image: encoded(image.resize((40, 53)), "PNG"),
    "larger": lambda image: encoded(image.resize((123, 150)), "WEBP"),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.1)),
    "cropped": lambda image: encoded(cropped(image), quality=95),
}


def distance(one, other):
    """The larger of the distances between the two hashes."""
    return max(part.bit_count() for part in divmod(perceptual_hash(one) ^ perceptual_hash(other), 2**64))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_hashes_of_a_changed_image_are_near_and_those_of_another_are_not(change):
    for number in range(10):
        pixels = photo(number)
        changed = np.asarray(Image.open(io.BytesIO(change(Image.fromarray(pixels)))).convert("RGB"))
        assert distance(pixels, changed) <= DISTANCE < distance(pixels, photo(number + 1))


def test_a_hash_has_63_and_64_bits():
    for number in range(10):
        frequencies, differences = divmod(perceptual_hash(photo(number)), 2**64)
        assert frequencies.bit_count() == 31 and frequencies % 2 == 0 and frequencies < 2**64
    rising = np.repeat(np.arange(0, 250, 5, dtype=np.uint8)[None, :, None], 40, 0).repeat(3, 2)
    assert perceptual_hash(rising) % 2**64 == 2**64 - 1


def test_tiny_and_flat_images_have_no_hash():
    assert perceptual_hash(photo(1, (SMALLEST_SIDE - 1, 99))) is None
    assert perceptual_hash(photo(1, (SMALLEST_SIDE, SMALLEST_SIDE))) is not None
    flat = photo(1).astype(float)
    grey = np.asarray(Image.fromarray(photo(1)).convert("L").resize((32, 32)), float)
    flat = 127 + (flat - flat.mean()) * 0.5 * LEAST_CONTRAST / grey.std()
    assert perceptual_hash(flat.astype(np.uint8)) is None


def test_all_near_pairs_are_found():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**62, (300, 2)).astype(np.uint64) * np.uint64(2)
    for index in range(0, 300, 3):  # of three, two differ from the first in up to two more bits than near ones
        for other, kind in itertools.product((index + 1, index + 2), (0, 1)):
            bits = random.choice(np.arange(1, 64), random.integers(0, DISTANCE + 3), replace=False).astype(np.uint64)
            hashes[other, kind] = hashes[index, kind] ^ np.bitwise_or.reduce(np.uint64(1) << bits)
    near = (np.bitwise_count(hashes[:, None] ^ hashes) <= DISTANCE).all(-1)
    expected = np.argwhere(np.triu(near, 1))
    assert len(expected) > 100
    np.testing.assert_array_equal(near_pairs(hashes), expected)


def test_connected():
    roots = connected(7, [(0, 4), (5, 6), (4, 2), (6, 5)])
    assert roots[0] == roots[2] == roots[4] and roots[5] == roots[6]
    assert len(set(roots)) == 4


def listed(looks):
    return [ListedImage(b"", str(n), "a", "train", digest=f"{n:064}", look=look) for n, look in enumerate(looks)]


def test_a_set_is_marked_by_its_least_digest():
    marked, unclear = mark_near_duplicates(listed([None, 0b1110 << 64, 0, None, 2**60 - 1, 0xFFFF << 64]))
    assert [image.near for image in marked] == ["", f"{1:064}", f"{1:064}", "", "", ""] and not unclear


@pytest.mark.parametrize("step", [0, 1], ids=["one look", "a chain"])
def test_where_many_look_alike_the_hash_tells_nothing(step):
    chain = [2 ** (n * step) - 1 << 64 for n in range(1, 52)]  # each one bit from the next, or all the same
    random = np.random.default_rng(0).integers(0, 2**62, 30).tolist()
    other = [2 * number << 64 | last for number in random for last in (0, 1)]  # pairs that are far from each other
    marked, unclear = mark_near_duplicates(listed([*chain, *other]))
    assert unclear == 51
    assert [bool(image.near) for image in marked] == [False] * 51 + [True] * 60
    marked, unclear = mark_near_duplicates(listed([*chain, *other[:50]]))
    assert unclear == 101 and not any(image.near for image in marked)


@pytest.fixture
def doubled(write):
    """A folder of 30 photos of two classes, each followed by one of its changes."""
    changes = CHANGES["encoded anew"], CHANGES["larger"], CHANGES["brighter"]
    files = {}
    for number in range(30):
        image = Image.fromarray(photo(number))
        files[f"{'ab'[number % 2]}/{number}.png"] = encoded(image, "PNG")
        files[f"{'ab'[number % 2]}/{number} again.jpg"] = changes[number % len(changes)](image)
    return write(files)


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_lie_in_one_split(doubled, seed, caplog):
    with caplog.at_level(logging.INFO, "keras_vit"):
        source = open_source(doubled, seed=seed, validation=0.2)
    numbers = [{name.split("/")[1].split(".")[0].split()[0] for name in getattr(source, s).names} for s in SPLITS]
    assert sum(map(len, numbers)) == 30 and all(numbers)
    assert abs(len(source.test.names) - 12) <= 2 and abs(len(source.validation.names) - 12) <= 2
    assert "30 sets of near duplicates" in caplog.text and "a/0 again.jpg ~ a/0.png" in caplog.text


def test_check_lists_near_duplicates(doubled):
    report = check_folder(doubled)
    assert len(report.near) == 30 and ("a/0 again.jpg", "a/0.png") in report.near
    assert report.near_leaks == report.near_conflicts == report.copies == ()
    assert "near duplicates, kept in one split: 30" in report.text()


def test_near_duplicates_in_two_classes_lie_in_one_split(doubled):
    (doubled / "a/0 again.jpg").rename(doubled / "b/other.jpg")
    splits = [open_source(doubled, seed=seed) for seed in range(8)]
    together = [
        [{"a/0.png", "b/other.jpg"} <= {*getattr(source, split).names} for split in SPLITS] for source in splits
    ]
    assert all(sum(places) == 1 for places in together) and len({*map(tuple, together)}) > 1
    assert check_folder(doubled).near_conflicts == (("a/0.png", "b/other.jpg"),)


def test_near_duplicates_in_the_splits_of_the_data_are_reported_and_not_moved(write, caplog):
    names = [f"{split}/{name}/{index}.png" for split in SPLITS for name in "ab" for index in range(4)]
    root = write({name: encoded(Image.fromarray(photo(number)), "PNG") for number, name in enumerate(names)})
    (root / "test/a/near.jpg").write_bytes(encoded(Image.open(root / "train/a/3.png"), quality=60))
    with caplog.at_level(logging.WARNING, "keras_vit"):
        source = open_source(root)
    assert "test/a/near.jpg" in source.test.names and "train/a/3.png" in source.train.names
    assert "1 set of images in two splits of the data, or nearly" in caplog.text
    assert check_folder(root).near_leaks == (("train/a/3.png", "test/a/near.jpg"),)
