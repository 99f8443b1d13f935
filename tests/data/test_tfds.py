import importlib
import logging
import sys

import pytest

from keras_vit.data import listing as listing_module
from keras_vit.data.decoding import FileRange, decode, read_file
from keras_vit.data.listing import SPLITS
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")

BUILDER = """
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def encoded(number):
    pixels = np.random.default_rng(number).integers(0, 256, (7, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, ["PNG", "JPEG"][number % 2])
    return io.BytesIO(file.getvalue())


class {name}(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.3")

    def _info(self):
        features = tfds.features.FeaturesDict({features})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys={keys})

    def _split_generators(self, dl_manager):
        return {{name: self._generate_examples(*span) for name, span in {splits}.items()}}

    def _generate_examples(self, start, stop):
        for number in range(start, stop):
            example = {example}
            yield number, example
"""
PLAIN = {
    "features": '{"number": np.int64, "image": tfds.features.Image(shape=(None, None, 3)), '
    '"kind": tfds.features.ClassLabel(names=["rose", "aster", "lily"])}',
    "example": '{"number": number, "image": encoded(number), "kind": number % 3}',
    "keys": None,
    "splits": {"train": (0, 53), "test": (100, 117)},
}


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    """Writes a TFDS data set in a builder of its own; returns (name, folder of the data)."""
    root = tmp_path_factory.mktemp("tfds")
    (root / "code").mkdir()
    sys.path.insert(0, str(root / "code"))
    made = {}

    def prepare(name="TinyFlowers", file_format="tfrecord", shards=None, **changes):
        import tensorflow_datasets as tfds

        if name not in made:
            module = f"code_of_{name.lower()}"
            (root / "code" / f"{module}.py").write_text(BUILDER.format(name=name, **PLAIN | changes))
            builder = getattr(importlib.import_module(module), name)(data_dir=root / "data", file_format=file_format)
            config = tfds.download.DownloadConfig(num_shards=shards)
            builder.download_and_prepare(download_config=config)
            made[name] = builder
        return made[name].name, root / "data"

    yield prepare
    sys.path.remove(str(root / "code"))


def of_tfds(name, folder, split):
    """The examples of a split in the order of the files, as TFDS itself reads them: (id, bytes, label)."""
    import tensorflow_datasets as tfds

    data = tfds.load(
        name,
        split=split,
        data_dir=folder,
        download=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1),
    )
    return [(e["tfds_id"].decode(), e["image"], int(e["kind"])) for e in tfds.as_numpy(data)]


def ours(examples):
    rows = zip(examples.names, examples.images, examples.labels, strict=True)
    return [(name, read_file(image), label) for name, image, label in rows]


def test_images_labels_and_order_are_those_of_tfds(prepare):
    name, folder = prepare(shards=4)
    source = open_source(name, data_dir=folder, validation=0)
    assert (source.name, source.class_names) == ("tiny_flowers", ("rose", "aster", "lily"))
    assert [len(getattr(source, split).labels) for split in SPLITS] == [53, 0, 17]
    assert ours(source.train) == of_tfds(name, folder, "train")
    assert ours(source.test) == of_tfds(name, folder, "test")
    assert len({image.path for image in source.train.images}) == 4
    assert all(isinstance(image, FileRange) for image in source.train.images)
    assert decode(source.train.images[0]).shape == (7, 5, 3)
    assert source.bad == ()


@pytest.mark.parametrize(
    "train, validation, test",
    [
        ("train[:80%]", "train[80%:]", None),
        ("train[10:-9]+test[:5]", "train[:3]", "test[5:]"),
        ("train[1shard:]", "train[0shard]", "test[:16]"),
    ],
)
def test_split_arithmetic_is_that_of_tfds(prepare, train, validation, test):
    name, folder = prepare(shards=4)
    source = open_source(
        f"{name}:1.2.3", data_dir=folder, train_split=train, validation_split=validation, test_split=test
    )
    assert ours(source.train) == of_tfds(name, folder, train)
    assert ours(source.validation) == of_tfds(name, folder, validation)
    assert ours(source.test) == of_tfds(name, folder, test or "test")


def test_the_missing_split_is_drawn(prepare):
    name, folder = prepare(shards=4)
    source = open_source(f"tfds:{name}", data_dir=folder, validation=0.1)
    assert [len(getattr(source, split).labels) for split in SPLITS] == [47, 6, 17]
    assert sorted(ours(source.train) + ours(source.validation)) == sorted(of_tfds(name, folder, "train"))
    assert source.digest == open_source(name, data_dir=folder, validation=0.1).digest
    assert source.digest != open_source(name, data_dir=folder, validation=0.1, seed=1).digest


def test_it_is_read_without_the_code_that_made_it(prepare):
    import tensorflow_datasets as tfds

    name, folder = prepare(shards=4)
    registered = tfds.core.registered._DATASET_REGISTRY.pop(name)
    try:
        assert name not in tfds.list_builders()
        assert len(open_source(name, data_dir=folder).test.labels) == 17
    finally:
        tfds.core.registered._DATASET_REGISTRY[name] = registered


def test_supervised_keys_tell_which_label(prepare):
    name, folder = prepare(
        "TwoLabels",
        features=PLAIN["features"].replace('{"number"', '{"cat": tfds.features.ClassLabel(num_classes=5), "number"'),
        example=PLAIN["example"].replace('{"number"', '{"cat": number % 5, "number"'),
        keys=("image", "cat"),
    )
    source = open_source(name, data_dir=folder, validation=0)
    assert source.class_names == tuple("01234")
    assert sorted(source.train.labels) == sorted(number % 5 for number in range(53))
    name, folder = prepare(
        "TwoLabelsAndNoKeys",
        features=PLAIN["features"].replace('{"number"', '{"cat": tfds.features.ClassLabel(num_classes=5), "number"'),
        example=PLAIN["example"].replace('{"number"', '{"cat": number % 5, "number"'),
    )
    with pytest.raises(ValueError, match=r"one class each. Received: .*\['image'\].*labels \['cat', 'kind'\]"):
        open_source(name, data_dir=folder)


def test_a_test_split_without_labels(prepare, caplog):
    example = PLAIN["example"].replace("number % 3", "number % 3 if number < 100 else -1")
    splits = {"train": (0, 30), "validation": (30, 40), "test": (100, 117)}
    name, folder = prepare("HiddenLabels", example=example, splits=splits)
    with caplog.at_level(logging.INFO, "keras_vit"):
        source = open_source(name, data_dir=folder)
    assert [len(getattr(source, split).labels) for split in SPLITS] == [27, 3, 10]
    assert "the validation split is tested on" in caplog.text
    with pytest.raises(ValueError, match="17 examples of hidden_labels with a label that is none of its 3 classes"):
        open_source(name, data_dir=folder, test_split="test")


def test_images_that_are_none(prepare):
    example = (
        '{"number": number, "image": io.BytesIO(b"GIF") if number in (3, 5) else encoded(number), "kind": number % 3}'
    )
    name, folder = prepare("BadImages", example=example)
    with pytest.raises(ValueError, match="2 images in bad_images cannot be read"):
        open_source(name, data_dir=folder)
    source = open_source(name, data_dir=folder, on_bad_image="skip", validation=0)
    assert len(source.bad) == 2
    assert len(source.train.labels) == 51


def test_files_that_are_damaged_or_gone(prepare):
    name, folder = prepare("Damaged", shards=2)
    files = sorted((folder / name / "1.2.3").glob("*train*"))
    whole = files[1].read_bytes()
    for content, message in (
        (whole[:-100], "is damaged after its first"),
        (whole[:40] + b"?" + whole[41:], "is damaged after its first 0 records"),
        (b"", "ends after 0 of"),
    ):
        files[1].write_bytes(content)
        with pytest.raises(ValueError, match=message):
            open_source(name, data_dir=folder)
    files[1].unlink()
    with pytest.raises(ValueError, match="damaged lacks 1 file on this disk:\n.*train.tfrecord-00001-of-00002"):
        open_source(name, data_dir=folder)


def test_files_of_another_format(prepare):
    pytest.importorskip("array_record.python")
    name, folder = prepare("OtherFiles", file_format="array_record")
    with pytest.raises(ValueError, match="Expected tfrecord files of TFDS. Received: .*array_record"):
        open_source(name, data_dir=folder)


def test_names_and_splits_that_are_not_there(prepare):
    name, folder = prepare(shards=4)
    for data, message in (
        ("tfds:no_such_flowers", "no data set"),
        (f"{name}:9.9.9", "no data set 'tiny_flowers:9.9.9'"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(data, data_dir=folder)
    for split in ("trane", "train[:", "train[:999]"):
        with pytest.raises(ValueError, match="tiny_flowers has no split '.*', it has: train, test"):
            open_source(name, data_dir=folder, train_split=split)


def test_what_is_not_there_is_downloaded(tmp_path, monkeypatch, caplog):
    import tensorflow_datasets as tfds

    def download(builder, **_):
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download)
    with (
        caplog.at_level(logging.INFO, "keras_vit"),
        pytest.raises(ValueError, match="downloaded: no network. Prepare it"),
    ):
        open_source("cifar10", data_dir=tmp_path)
    assert "cifar10 is not in" in caplog.text


def test_long_readings_are_announced(prepare, monkeypatch, caplog):
    name, folder = prepare(shards=4)
    monkeypatch.setattr(listing_module, "_SECONDS_BETWEEN_NEWS", 0.0)
    with caplog.at_level(logging.INFO, "keras_vit"):
        open_source(name, data_dir=folder)
    assert "70 of 70 images read" in caplog.text


def test_lists_of_labels(prepare):
    changes = {
        "features": '{"image": tfds.features.Image(shape=(None, None, 3)), '
        '"kinds": tfds.features.Sequence(tfds.features.ClassLabel(names=["rose", "aster", "lily"]))}',
        "example": '{"image": encoded(number), "kinds": [k for k in range(3) if number % (k + 2) == 0]}',
        "splits": {"train": (0, 24), "test": (24, 36)},
    }
    name, folder = prepare("ListedFlowers", **changes)
    source = open_source(name, data_dir=folder, learns="labels", validation=0)
    assert (source.learns, source.class_names) == ("labels", ("rose", "aster", "lily"))
    assert source.test.labels.sum(axis=0).tolist() == [6, 4, 3] and len(source.train.labels) == 24
    with pytest.raises(ValueError, match="objective=labels for the lists of labels in kinds"):
        open_source(name, data_dir=folder)
