import gzip
import struct

import numpy as np
import pytest

from keras_vit.data import built_in
from keras_vit.data.decoding import decode
from keras_vit.data.listing import SPLITS
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")
COUNTS = {"train": 60, "t10k": 23}


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def files(compress: bool = True) -> dict[str, bytes]:
    random, result = np.random.default_rng(0), {}
    for start, count in COUNTS.items():
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        result[f"{start}-images-idx3-ubyte"] = idx(images)
        result[f"{start}-labels-idx1-ubyte"] = idx(np.arange(count, dtype=np.uint8) % 10)
    return {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in result.items()} if compress else result


def write_all(folder, files):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("compress", [True, False])
def test_fashion_mnist(tmp_path, compress):
    source = open_source("fashion_mnist", data_dir=write_all(tmp_path, files(compress)), validation=0.2)
    assert source.name == "fashion_mnist"
    assert source.class_names[::9] == ("T-shirt/top", "Ankle boot")
    assert [len(getattr(source, split).labels) for split in SPLITS] == [50, 10, 23]
    assert source.test.names[::22] == ("test 00000", "test 00022")
    assert source.test.labels.tolist() == [index % 10 for index in range(23)]
    pixels = np.frombuffer(files(False)["t10k-images-idx3-ubyte"], np.uint8, offset=16).reshape(23, 28, 28)
    for image, grey in zip(source.test.images, pixels, strict=True):
        assert (decode(image) == grey[..., None]).all()
        assert decode(image).shape == (28, 28, 3)


def test_fashion_mnist_where_debian_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(built_in, "_DEBIAN", str(write_all(tmp_path, files())))
    assert len(open_source("fashion_mnist").test.labels) == 23


def test_fashion_mnist_of_tfds_where_there_are_no_files(tmp_path, monkeypatch):
    from keras_vit.data import sources

    seen = []
    monkeypatch.setattr(sources, "list_prepared", lambda *arguments: seen.append(arguments) or built_in.list_digits())
    open_source("fashion_mnist", data_dir=tmp_path, train_split="train[:98%]")
    wanted = {"train": "train[:98%]", "validation": None, "test": None}
    assert seen == [("fashion_mnist", tmp_path, wanted, None)]


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("t10k-labels-idx1-ubyte.gz", None, "there is no .*t10k-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte.gz", lambda data: data[: len(data) // 2], "damaged or cut short"),
        ("train-images-idx3-ubyte.gz", lambda data: b"<html>", "damaged or cut short"),
        (
            "t10k-labels-idx1-ubyte.gz",
            lambda data: gzip.compress(gzip.decompress(data)[:-3]),
            "23 bytes, and it has 20",
        ),
        ("t10k-labels-idx1-ubyte.gz", lambda data: gzip.compress(gzip.decompress(data) + b"0"), "and it has 24"),
        ("t10k-labels-idx1-ubyte.gz", lambda _: gzip.compress(idx(np.full(23, 10, np.uint8))), "labels up to 10"),
        (
            "t10k-labels-idx1-ubyte.gz",
            lambda _: gzip.compress(idx(np.zeros(22, np.uint8))),
            "23 images and 22 labels",
        ),
        ("t10k-labels-idx1-ubyte.gz", lambda _: gzip.compress(idx(np.zeros((23, 1), np.uint8))), "with 1 axes"),
        (
            "t10k-images-idx3-ubyte.gz",
            lambda _: gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", *[2**31] * 3)),
            "promises",
        ),
    ],
)
def test_fashion_mnist_that_is_damaged(tmp_path, name, change, message):
    everything = files()
    data = everything.pop(name)
    write_all(tmp_path, everything | ({name: change(data)} if change else {}))
    with pytest.raises(ValueError, match=message):
        open_source("fashion_mnist", data_dir=tmp_path)


def test_synthetic():
    source = open_source("synthetic:3x20", seed=5)
    assert source.class_names == ("class 0", "class 1", "class 2")
    assert [len(getattr(source, split).labels) for split in SPLITS] == [42, 6, 12]
    assert decode(source.train.images[0]).shape == (48, 64, 3)
    assert source.train.names[0].startswith("class 0/")
    assert len(set(source.train.images + source.validation.images + source.test.images)) == 60
    again, other = open_source("synthetic:3x20", seed=5), open_source("synthetic:3x20", seed=6)
    assert source.digest == again.digest != other.digest
    assert source.train.images == again.train.images


def test_synthetic_classes_can_be_learned_and_are_not_all_alike():
    source = open_source("synthetic")
    assert len(source.class_names) == 10
    train, test = (
        np.stack([decode(image).astype(np.float32) for image in examples.images])
        for examples in (source.train, source.test)
    )
    means = np.stack([train[source.train.labels == label].mean(0) for label in range(10)])
    distances = ((test[:, None] - means) ** 2).mean((2, 3, 4))  # (images, classes)
    assert (distances.argmin(1) == source.test.labels).mean() > 0.95
    assert distances.min(1).mean() > 100  # squared grey levels: each image has a pattern and noise of its own


@pytest.mark.parametrize("text", ["synthetic:1x64", "synthetic:3x0", "synthetic:99999x9999"])
def test_synthetic_out_of_range(text):
    with pytest.raises(ValueError, match=f"Expected two classes or more.*Received: {text}"):
        open_source(text)
