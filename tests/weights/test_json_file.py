"""JSON that others wrote."""

import pytest

from keras_vit.weights.json_file import COUNT, NUMBER_LIST, SIDES, TEXT, parse_json, read_json, refuse_other_types


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{", "[" * 10**5, '{"a":' * 201 + "1" + "}" * 201, b"\xff", b"\xff\xfe{\x00}\x00"], ids=len
)
def test_texts_that_are_refused(tmp_path, text):
    with pytest.raises(ValueError):
        parse_json(text)
    path = tmp_path / "some.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"some\.json") as error:
        read_json(path)
    assert len(str(error.value)) < 2000


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_vit.weights.json_file.LARGEST", 100)
    (tmp_path / "large.json").write_text('{"a": "' + "x" * 100 + '"}')
    with pytest.raises(ValueError, match=r"large\.json.*at most 100 bytes"):
        read_json(tmp_path / "large.json")


def test_fields_of_other_types_stand_in_one_message():
    kinds = {"a": COUNT, "b": TEXT, "c": {"d": NUMBER_LIST}, "e": {"f": SIDES}, "g": SIDES}
    refuse_other_types("x.json", {"a": 1, "b": None, "c": {"d": [1, 0.5]}, "e": {"f": [2, 3]}, "h": {}}, kinds)
    wrong = {"a": True, "b": ["x"], "c": {"d": [1, "2"]}, "e": 5, "g": [0, 3]}
    with pytest.raises(ValueError, match=r"x\.json") as error:
        refuse_other_types("x.json", wrong, kinds)
    names = [line.strip().partition("=")[0] for line in str(error.value).splitlines()[1:]]
    assert names == ["a", "b", "d", "e", "g"]
