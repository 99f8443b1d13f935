import pytest

from keras_vit.evaluation.class_subsets import find_classes, read_classes

NAMES = ("tench", "crane", "zebra", "crane")
WNIDS = ("n01440764", "n02012849", "n02391049", "n03126707")
NUMBERS = ("0", "1", "2", "3")


def test_classes_are_found_by_any_of_their_names():
    assert find_classes(["zebra", "n01440764", "3", "n03126707"], NAMES, WNIDS, NUMBERS) == [2, 0, 3, 3]


def test_the_first_way_to_name_them_goes_first():
    assert find_classes(["1", "0"], ("1", "0"), ("0", "1")) == [0, 1]


def test_unknown_ones_are_all_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown classes: zebras \(nearest: zebra\), qqqq, n014407"):
        find_classes(["zebras", "tench", "qqqq", "n0144076", "qqqq"], NAMES, WNIDS)


def test_of_very_many_some_are_named():
    names = [f"a{i}" for i in range(1000)]
    with pytest.raises(ValueError, match="a9 and 990 more") as caught:
        find_classes([f"q{i}" for i in range(500)], names)
    assert "and 480 more" in str(caught.value) and len(str(caught.value)) < 900


def test_a_name_of_two_classes_raises():
    with pytest.raises(ValueError, match="Received: crane for 1 and 3"):
        find_classes(["crane", "tench"], NAMES, WNIDS)


def test_a_list_is_read_in_the_order_of_the_classes(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("zebra\n\n  n01440764 \nzebra\n2\n")
    assert read_classes(path, NAMES, WNIDS, NUMBERS) == [0, 2]


@pytest.mark.parametrize(
    "content, words", [(None, "cannot be read"), ("\n \n", "which is empty"), ("ox\n", "unknown classes: ox")]
)
def test_what_is_no_list_raises(tmp_path, content, words):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=words):
        read_classes(path, NAMES)
