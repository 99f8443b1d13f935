import numpy as np
import pytest

from keras_vit.data import messages
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def table(write):
    """Writes numbered images and a table of them; returns the table's path."""

    def table(text: str | bytes, count: int = 0, folder: str = "photos"):
        root = write({f"{folder}/{index}.png": index for index in range(count)})
        path = root / "flowers.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return table


def rows(count, label=lambda index: "ab"[index % 2], end=""):
    return "".join(f"photos/{index}.png,{label(index)}{end}\n" for index in range(count))


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_paths_and_labels(table, start, newline):
    text = ("path,label\n" + rows(20, label=lambda index: ["Märzveilchen", '"lily, white"'][index % 2])).replace(
        "\n", newline
    )
    path = table(start + text.encode(), 20)
    source = open_source(path)
    assert source.name == "flowers"
    assert source.class_names == ("Märzveilchen", "lily, white")
    assert [len(split.labels) for split in (source.train, source.validation, source.test)] == [14, 2, 4]
    assert source.train.weights is None
    for split in (source.train, source.validation, source.test):
        for image, label, name in zip(split.images, split.labels, split.names, strict=True):
            assert image == str(path.parent / name)
            assert int(name.removeprefix("photos/").removesuffix(".png")) % 2 == label


def test_splits_and_weights_in_any_order_of_columns(table):
    lines = [
        f"{w},{split},{'ab'[i % 2]},photos/{i}.png"
        for i, (w, split) in enumerate(
            zip([1, 2, 0.5, 3] * 3, ["train"] * 8 + ["val", "dev", "Test", "test"], strict=True)
        )
    ]
    source = open_source(table("\n".join(["weight,split,label,path", *lines]), 12))
    assert [len(split.labels) for split in (source.train, source.validation, source.test)] == [8, 2, 2]
    assert source.train.weights.dtype == np.float32
    assert source.train.weights.tolist() == [1, 2, 0.5, 3] * 2
    assert source.test.names == ("photos/10.png", "photos/11.png")


def test_the_digest_tells_labels_weights_and_splits_apart(table):
    ends = {"plain": ",train,1", "weight": ",train,2", "split": ",test,1"}
    digests = set()
    for end in ends.values():
        text = "path,label,split,weight\n" + rows(10, end=",train,1") + "photos/10.png,a" + end
        digests.add(open_source(table(text, 11), validation=0).digest)
    text = "path,label,split,weight\n" + rows(10, end=",train,1") + "photos/10.png,b,train,1"
    digests.add(open_source(table(text, 11), validation=0).digest)
    assert len(digests) == 4


def test_a_column_without_a_name_is_passed_over(table):
    text = ",path,label\n" + "".join(f"{i},photos/{i}.png,{'ab'[i % 2]}\n" for i in range(4))
    assert len(open_source(table(text, 4), test=0, validation=0).train.labels) == 4


def test_all_faults_are_named_with_their_lines(table, monkeypatch):
    monkeypatch.setattr(messages, "_LISTED", 20)
    text = (
        "path,label,split,weight\n"
        "photos/0.png,a,train,1\n"
        "photos/1.png,,train,1\n"
        ",b,train,1\n"
        "\n"
        "photos/0.png,b,train,1\n"
        "photos/4.png,b,later,1\n"
        "photos/5.png,b,train,-1\n"
        "photos/6.png,b,train,nan\n"
        "photos/7.png,b,train,much\n"
        "photos/8.png,b,train\n"
    )
    with pytest.raises(ValueError, match="flowers.csv cannot be trained on") as caught:
        open_source(table(text))
    for line in (
        "line 3: no label",
        "line 4: no path",
        "line 6: photos/0.png again, as in line 2",
        "line 7: expected split to be train, validation or test. Received: 'later'",
        "line 8: expected weight to be 0, or from 1e-06 to 1e+06. Received: '-1'",
        "line 9: expected weight to be 0, or from 1e-06 to 1e+06. Received: 'nan'",
        "line 10: expected weight to be 0, or from 1e-06 to 1e+06. Received: 'much'",
        "line 11: 3 cells in place of 4",
    ):
        assert line in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no column 'path', no column 'label'"),
        ("photos/0.png,a\n", "no column 'path'.*an unknown column 'photos/0.png'.* put a line of names above it"),
        ("path;label\n", "separated by semicolons: save it anew with commas. The first line is then: path,label$"),
        (
            "path\tlabel\tsplit\n",
            "separated by tabs: save it anew with commas. The first line is then: path,label,split$",
        ),
        ("image;class\n", "semicolons.*Change 'image' to 'path', 'class' to 'label'. .* then: path,label$"),
        ("filename,category\n", "Change 'filename' to 'path', 'category' to 'label'. .* then: path,label$"),
        ("file_name,Label,subset\n", "'file_name' to 'path', 'Label' to 'label', 'subset' to 'split'"),
        ("Image Path,species,author\n", "'species' to 'label'. Remove 'author'. The first line is then: path,label$"),
        ("path,label,author\n", r"columns path \(required\), .*has an unknown column 'author'"),
        ("path,label,path\n", "column 'path' twice"),
        ("path,label\n", "it names no image"),
        ("path,label\nphotos\\0.png,a\nphotos\\1.png,b\n", r"2 paths with backslashes.*line 2: photos\\0.png; write"),
        ("path,label\nphotos/\0.png,a\n", "line 2: a path with a NUL character"),
        ('path,label\nphotos/0.png,"a\nb"\nphotos/1.png,c\n', r"with a line break: 'a\\nb'"),
        ("path,label\nphotos/0.png,a\n", "one class alone, 'a'"),
        ("path,label,split\nphotos/0.png,a,train\nphotos/1.png,b,test\n", "without an image to train on: b"),
        (b"path,label\n\xff\xfe,a\n", "not UTF-8 text"),
        ('path,label\n"photos/0.png,a\n', "is not a CSV file"),
    ],
)
def test_tables_that_are_not_as_described(table, text, message):
    with pytest.raises(ValueError, match=message):
        open_source(table(text, 2))


@pytest.mark.parametrize("weight", ["1e-40", "1e38", "1e-7", "2e6", "inf"])
def test_weights_out_of_range(table, weight):
    with pytest.raises(
        ValueError, match=f"line 2: expected weight to be 0, or from 1e-06 to 1e.06. Received: '{weight}'"
    ):
        open_source(table(f"path,label,weight\nphotos/0.png,a,{weight}\nphotos/1.png,b,1e-6\nphotos/2.png,b,1e6\n", 3))


def test_weights_of_0_alone(table):
    path = table(
        "path,label,split,weight\n" + rows(4, end=",train,0") + "photos/4.png,a,test,1\nphotos/5.png,b,test,1\n", 6
    )
    with pytest.raises(ValueError, match="cannot be trained on:\n  - no image to train on has a weight above 0"):
        open_source(path)


@pytest.mark.parametrize(
    "text",
    [
        "path,label\n" + "photos/\x1b[31m0.png,a,b\n" * 99,
        "path,label\n" + "".join(f"{'x' * 9999}\\{i}\x1b,a\n" for i in range(99)),
        "path,label\n" + "".join(f"{i}.png,\x1b[31m{i}{'y' * 999}\n" for i in range(99)),
        "path,label,split\n" + "".join(f"{i}.png,\x1b[31m{i}{'y' * 999},test\n" for i in range(99)),
        "path," + ",".join(f"\x1b[31m{i}" for i in range(9999)) + "\n",
        f"{'x' * 99999}\x07;path;label\n",
        f"path,label\n{'x' * 200_000},a\n",
    ],
)
def test_messages_are_short_and_printable_whatever_the_cells_hold(table, text):
    path = table(text)
    with pytest.raises(ValueError) as caught:
        open_source(path)
    message = str(caught.value)
    assert message.replace("\n", "").isprintable()
    assert str(path) in message and len(message) <= 2000


def test_images_that_are_not_there(table):
    path = table("path,label\n" + rows(9), 8)
    with pytest.raises(ValueError, match=r"1 image in .*\n  photos/8.png: no such file"):
        open_source(path)
    source = open_source(path, on_bad_image="skip")
    assert source.bad == (("photos/8.png", "no such file"),)


def test_options_of_other_sources_are_refused(table):
    with pytest.raises(ValueError, match="elsewhere.*data_dir='x', test_split='test'"):
        open_source(table("path,label\n" + rows(4), 4), data_dir="x", test_split="test")


def test_a_backslash_in_the_name_of_a_file_is_read(table):
    path = table("path,label\n" + rows(6) + "photos/a\\b.png,a\n", 6)
    (path.parent / "photos/a\\b.png").write_bytes((path.parent / "photos/0.png").read_bytes() + b"x")
    assert "photos/a\\b.png" in open_source(path, test=0, validation=0).train.names


def test_classes_of_a_table_have_no_depth(table):
    with pytest.raises(ValueError, match="class_depth is for folders and .zip files. Received: class_depth=2"):
        open_source(table("path,label\n" + rows(6), 6), class_depth=2)
