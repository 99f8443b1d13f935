import builtins

import pytest

from keras_vit.data.decoding import FileRange, read_file
from keras_vit.data.listing import SPLITS
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")
NAMES = ["rose", "aster", "lily"]


def test_datasets_is_asked_for(monkeypatch):
    known = builtins.__import__

    def without_datasets(name, *arguments, **options):
        if name == "datasets":
            raise ImportError(name)
        return known(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_datasets)
    with pytest.raises(ImportError, match='the extra "datasets": pip install datasets'):
        open_source("hf:anyone/flowers")


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets")


@pytest.fixture
def make(datasets, image):
    """Makes a split of numbered images."""

    def make(count, start=0, encode=image, kind=lambda number: number % 3, column="img", **columns):
        numbers = range(start, start + count)
        features = {column: datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)}
        features |= {name: feature for name, (feature, _) in columns.items()}
        rows = {
            column: [{"bytes": encode(number), "path": None} for number in numbers],
            "kind": list(map(kind, numbers)),
        }
        rows |= {name: list(map(value, numbers)) for name, (_, value) in columns.items()}
        return datasets.Dataset.from_dict(rows, features=datasets.Features(features))

    return make


@pytest.fixture
def save(datasets, tmp_path):
    def save(splits, **options):
        datasets.DatasetDict(splits).save_to_disk(tmp_path / "flowers", **options)
        return tmp_path / "flowers"

    return save


def check(examples, numbers, image):
    """The examples are the images of these numbers, in this order."""
    assert [read_file(place) for place in examples.images] == [image(number) for number in numbers]
    assert examples.labels.tolist() == [number % 3 for number in numbers]


def test_a_saved_folder(make, save, image):
    root = save({"train": make(41), "test": make(13, 100)}, num_shards={"train": 3, "test": 1})
    source = open_source(root, validation=0)
    assert (source.name, source.class_names) == ("flowers", tuple(NAMES))
    check(source.train, range(41), image)
    check(source.test, range(100, 113), image)
    assert source.train.names[:2] == ("train 0", "train 1")
    assert all(isinstance(place, FileRange) for place in source.train.images)
    assert len({place.path for place in source.train.images}) == 3
    assert [len(getattr(open_source(root), split).labels) for split in SPLITS] == [38, 3, 13]
    assert open_source(f"hf:{root}", validation=0).digest == source.digest != open_source(root).digest


def test_split_arithmetic(make, save, image):
    root = save({"train": make(41), "test": make(13, 100)}, num_shards={"train": 3, "test": 1})
    source = open_source(root, train_split="train[:50%]+test[:2]", validation_split="train[-7:]", test_split="test[2:]")
    check(source.train, [*range(20), 100, 101], image)
    check(source.validation, range(34, 41), image)
    check(source.test, range(102, 113), image)
    for split in ("trane", "train[:", "train[3]"):
        with pytest.raises(ValueError, match="flowers has no split '.*', it has: train, test"):
            open_source(root, train_split=split)


def test_one_split_alone(make, tmp_path, image):
    made = make(20)
    made.save_to_disk(tmp_path / "flowers")
    source = open_source(tmp_path / "flowers", validation=0, test=0)
    check(source.train, range(20), image)


def test_rows_in_another_order_and_rows_in_memory(make, datasets, monkeypatch, image):
    made = make(20)
    for split, numbers in ((made, range(20)), (made.select([7, 3, 11, 5]), [7, 3, 11, 5])):
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, split=split, **__: datasets.DatasetDict(train=split))
        source = open_source("hf:anyone/flowers", validation=0, test=0)
        check(source.train, numbers, image)
        assert source.name == "flowers"


def test_names_of_owner_and_config(make, datasets, monkeypatch):
    seen = []

    def load(*arguments, **options):
        seen.append((*arguments, options))
        return datasets.DatasetDict(train=make(20))

    monkeypatch.setattr(datasets, "load_dataset", load)
    for name in ("flowers", "anyone/flowers", "anyone/flowers/small"):
        open_source(f"hf:{name}", data_dir="here")
    cache = {"cache_dir": "here"}
    assert seen == [("flowers", None, cache), ("anyone/flowers", None, cache), ("anyone/flowers", "small", cache)]


def test_images_in_files_of_their_own(datasets, monkeypatch, write, image):
    root = write({f"{number}.png": number for number in range(20)})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    rows = {"image": [str(root / f"{n}.png") for n in range(20)], "label": [n % 3 for n in range(20)]}
    made = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(train=made))
    source = open_source("hf:anyone/flowers", validation=0, test=0)
    check(source.train, range(20), image)
    assert source.train.images[0] == str(root / "0.png")


def test_images_that_are_none(make, save, image):
    root = save({"train": make(20, encode=lambda number: b"" if number == 4 else image(number))})
    with pytest.raises(ValueError, match="1 image in .*\n  train 4: an empty file"):
        open_source(root)
    assert open_source(root, on_bad_image="skip").bad == (("train 4", "an empty file"),)


def test_labels_that_are_hidden(make, save):
    root = save({"train": make(20), "validation": make(7, 50), "test": make(13, 100, kind=lambda _: None)})
    source = open_source(root)
    assert [len(getattr(source, split).labels) for split in SPLITS] == [17, 3, 7]
    with pytest.raises(ValueError, match="13 examples of .*flowers with a label that is none of its 3 classes"):
        open_source(root, test_split="test")


def test_which_of_several_columns(make, datasets, monkeypatch):
    parity = datasets.ClassLabel(names=["even", "odd"])
    for name in ("label", "parity"):
        made = make(20, column="photo", **{name: (parity, lambda number: number % 2)})
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, made=made, **__: datasets.DatasetDict(train=made))
        if name == "label":
            assert open_source("hf:anyone/flowers").class_names == ("even", "odd")
        else:
            with pytest.raises(ValueError, match="Received: anyone/flowers, its ClassLabel columns are kind, parity"):
                open_source("hf:anyone/flowers")


def test_what_cannot_be_loaded(datasets, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ValueError, match="datasets cannot load 'anyone/flowers': no network"):
        open_source("hf:anyone/flowers")
