"""Class names: which ones are accepted, and that they stay with a model when it is saved and converted."""

import json

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.commands.image_model import open_model
from keras_vit.models.class_names import name_faults, names_for, read_names, usable_names, write_names
from keras_vit.runtime.files import open_exported

NAMES = ("cat", "Möwe", "a, b")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = keras_vit.build(keras_vit.Variant(4, 8, 1, 2, 11), input_shape=(8, 8, 3), classes=3)
    model.get_layer("head").set_weights([np.random.default_rng(0).normal(size=(8, 3)), np.zeros(3)])
    return model


@pytest.mark.parametrize(
    "name",
    ["", " ", "a\nb", "a\rb", "a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x0cb", "a\x1cb", "a\0b", " a", "a "],
)
def test_names_that_no_labels_file_holds(name, tmp_path):
    (fault,) = name_faults(["fine", name])
    assert repr(name) in fault or "numbers 1" in fault
    write_names(tmp_path / "labels.txt", ["fine", name])
    assert name.strip() != name or (tmp_path / "labels.txt").read_bytes() == f"fine\n{name}\n".encode()
    if "\n" not in name:
        with pytest.raises(ValueError, match="labels.txt"):
            read_names(tmp_path / "labels.txt")


def test_names_are_written_and_read(tmp_path):
    write_names(tmp_path / "labels.txt", NAMES)
    assert read_names(tmp_path / "labels.txt") == NAMES
    (tmp_path / "labels.txt").write_bytes(b"cat\r\ndog\r\n")  # as an editor on Windows writes it
    assert read_names(tmp_path / "labels.txt") == ("cat", "dog")
    (tmp_path / "labels.txt").write_bytes("Möwe\n".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        read_names(tmp_path / "labels.txt")


def test_all_faults_are_in_one_message_and_long_lists_are_cut():
    faults = name_faults(["a", "a", *(f"{i}\n" for i in range(9))])
    assert len(faults) == 2 and "and 4 more" in faults[0] and "'a'" in faults[1]


def test_published_names_that_stand_for_two_classes_get_their_numbers():
    assert usable_names(["crane", "cat", "crane"]) == ("crane (0)", "cat", "crane (2)")
    assert usable_names(["a\nb"]) is None


def test_the_models_own_names_and_those_of_its_folder(tmp_path):
    file = tmp_path / "run" / "model.keras"
    file.parent.mkdir()
    assert names_for(file, NAMES) == NAMES and names_for(file) is None
    write_names(tmp_path / "labels.txt", ["of", "something", "else"])  # beside the folder, not in it
    assert names_for(file, NAMES) == NAMES and names_for(file.parent) is None
    write_names(file.parent / "labels.txt", NAMES)
    assert names_for(file, NAMES) == names_for(file) == names_for(file.parent) == NAMES
    with pytest.raises(ValueError, match="'Möwe' in labels.txt, 'dog' in the model"):
        names_for(file, ("cat", "dog", "a, b"))


@pytest.mark.parametrize("source", ["hf", "timm"])
def test_hubs_files_keep_them(source, model, tmp_path):
    keras_vit.save_checkpoint(model, tmp_path / "a", format=source, class_names=NAMES)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    expected = {"id2label": {"0": "cat", "1": "Möwe", "2": "a, b"}} if source == "hf" else {"label_names": list(NAMES)}
    assert expected.items() <= config.items()
    loaded = keras_vit.load(tmp_path / "a")
    assert loaded.class_names == NAMES
    assert open_model(tmp_path / "a").class_names == NAMES
    keras_vit.save_checkpoint(loaded, tmp_path / "b", format={"hf": "timm", "timm": "hf"}[source])
    assert keras_vit.load(tmp_path / "b").class_names == NAMES
    assert keras_vit.build(keras_vit.Variant(4, 8, 1, 2, 11), weights=tmp_path / "a", new_head=True).class_names is None


def test_stand_ins_and_names_of_another_number_are_no_names(model, tmp_path):
    keras_vit.save_checkpoint(model, tmp_path / "a", format="hf")
    assert keras_vit.load(tmp_path / "a").class_names is None
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps(config | {"id2label": {"0": "cat", "1": "dog"}}))
    with pytest.raises(ValueError, match="of another model:\n  id2label: 2, in the arrays 3"):
        keras_vit.load(tmp_path / "a")
    with pytest.raises(ValueError, match="Expected 3 class names"):
        keras_vit.save_checkpoint(model, tmp_path / "b", format="hf", class_names=NAMES[:2])


def test_convert_keeps_the_class_names_of_a_run(model, tmp_path):
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "model.keras")
    write_names(tmp_path / "run" / "labels.txt", NAMES)
    keras_vit.convert(tmp_path / "run" / "model.keras", tmp_path / "hf", format="hf")
    keras_vit.convert(tmp_path / "hf", tmp_path / "again.keras")
    assert keras.saving.load_model(tmp_path / "again.keras").class_names == NAMES


@pytest.mark.parametrize("target", ["tflite-float32", "savedmodel", "onnx", "openvino"])
def test_exported_files_have_the_names_of_the_model(target, model, tmp_path):
    named = keras_vit.VisionModel(model.input, model.output, class_names=NAMES)
    keras_vit.export.export_model(named, tmp_path, [target])
    (path,) = (path for path in tmp_path.iterdir() if path.name.startswith(("model", "saved_model", "openvino_model")))
    assert open_exported(path).class_names == NAMES == read_names(tmp_path / "labels.txt")
