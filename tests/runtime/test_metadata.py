import importlib.util
import io
import pathlib
import tracemalloc
import zipfile

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_vit.export.tflite import metadata
from keras_vit.export.tflite.conversion import converted
from keras_vit.runtime.metadata import LABELS_BYTES, read_description
from keras_vit.runtime.tflite import TFLiteFile

CLASSES = ("Möwe, groß", "fox, red", "鹿", 'it\'s a "bee"', " yak ")
FACTS = {
    "name": "Tiere",
    "description": "five animals, ßmall",
    "version": "1.2.3",
    "author": "Zoë",
    "license": "Apache-2.0",
}
MEAN, STD = (0.485, 0.456, 0.306), (0.229, 0.324, 0.275)
GREY_MEAN, GREY_STD = (np.float32(values) * 255 for values in (MEAN, STD))
OUTPUTS = ("probabilities", "features")
SIZE = (2, 3)


@pytest.fixture(scope="module")
def plain():
    """A file without metadata; its outputs come in another order than is asked for."""
    images = keras.Input((*SIZE, 3), name="images")
    features = keras.layers.Dense(7, name="features")(keras.layers.Flatten()(images))
    outputs = keras.layers.Dense(len(CLASSES), activation="softmax")(features)
    return converted(keras.Model(images, {"features": features, "probabilities": outputs}))


@pytest.fixture(scope="module")
def described(plain):
    return with_metadata(plain)


def with_metadata(file, class_names=CLASSES, input_type="scaled"):
    options = {
        "image_size": SIZE,
        "facts": FACTS,
        "input_type": input_type,
        "mean": MEAN,
        "std": STD,
        "outputs": OUTPUTS,
    }
    return metadata.add_metadata(file, class_names, **options)


def block(file):
    """Returns where the metadata begin in a file, and their bytes."""
    model = schema.Model.GetRootAsModel(file, 0)
    (note,) = (note for note in map(model.Metadata, range(model.MetadataLength())) if note.Name() == metadata.METADATA)
    data = model.Buffers(note.Buffer()).DataAsNumpy().tobytes()
    return file.index(data), data


def labels_start(file):
    """Returns where the labels begin behind the model."""
    return file.rindex(b"PK\x03\x04")


@pytest.fixture(scope="module")
def mediapipe_schema():
    """MediaPipe's own reader of metadata; the package around it is not imported, which takes seconds."""
    spec = importlib.util.find_spec("mediapipe")
    if spec is None:
        pytest.skip("mediapipe is not installed")
    path = pathlib.Path(spec.submodule_search_locations[0], "tasks/metadata/metadata_schema_py_generated.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_was_written_is_read(described):
    description = read_description(described)
    assert description.facts == FACTS
    assert description.class_names == CLASSES
    assert (description.outputs, description.scores_index) == (OUTPUTS, 0)
    np.testing.assert_array_equal(np.float32(description.mean), GREY_MEAN)
    np.testing.assert_array_equal(np.float32(description.std), GREY_STD)


def test_mediapipes_reader_finds_the_same(described, mediapipe_schema):
    _, data = block(described)
    assert mediapipe_schema.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)
    root = mediapipe_schema.ModelMetadata.GetRootAs(data, 0)
    texts = (root.Name(), root.Description(), root.Version(), root.Author(), root.License())
    assert dict(zip(FACTS, (words.decode() for words in texts))) == FACTS == read_description(described).facts
    assert root.MinParserVersion() == b"1.0.0" and root.SubgraphMetadataLength() == 1
    graph = root.SubgraphMetadata(0)

    assert graph.InputTensorMetadataLength() == 1
    entry = graph.InputTensorMetadata(0)
    assert entry.Name() == b"images" and entry.ProcessUnitsLength() == 1
    assert entry.Content().ContentPropertiesType() == mediapipe_schema.ContentProperties.ImageProperties
    image = mediapipe_schema.ImageProperties()
    image.Init(entry.Content().ContentProperties().Bytes, entry.Content().ContentProperties().Pos)
    assert image.ColorSpace() == mediapipe_schema.ColorSpaceType.RGB
    assert (image.DefaultSize().Height(), image.DefaultSize().Width()) == SIZE
    assert entry.ProcessUnits(0).OptionsType() == mediapipe_schema.ProcessUnitOptions.NormalizationOptions
    scaling = mediapipe_schema.NormalizationOptions()
    scaling.Init(entry.ProcessUnits(0).Options().Bytes, entry.ProcessUnits(0).Options().Pos)
    np.testing.assert_array_equal(scaling.MeanAsNumpy(), read_description(described).mean)
    np.testing.assert_array_equal(scaling.StdAsNumpy(), read_description(described).std)
    np.testing.assert_allclose(entry.Stats().MinAsNumpy(), (0 - GREY_MEAN) / GREY_STD, rtol=1e-6)
    np.testing.assert_allclose(entry.Stats().MaxAsNumpy(), (255 - GREY_MEAN) / GREY_STD, rtol=1e-6)

    ends = [graph.OutputTensorMetadata(i) for i in range(graph.OutputTensorMetadataLength())]
    assert tuple(end.Name().decode() for end in ends) == OUTPUTS
    assert [end.AssociatedFilesLength() for end in ends] == [1, 0]
    labels = ends[0].AssociatedFiles(0)
    assert labels.Name() == b"labels.txt"
    assert labels.Type() == mediapipe_schema.AssociatedFileType.TENSOR_AXIS_LABELS


@pytest.mark.parametrize("input_type, mean, std", [("uint8", None, None), ("float32", (0, 0, 0), (1, 1, 1))])
def test_a_file_of_pixels_is_not_scaled(plain, input_type, mean, std):
    description = read_description(with_metadata(plain, input_type=input_type))
    assert (description.mean, description.std) == (mean, std)


def test_labels_lie_behind_the_model_as_they_are(described, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(described)
    with zipfile.ZipFile(path) as behind:
        (item,) = behind.infolist()
        assert item.compress_type == zipfile.ZIP_STORED  # a phone maps them and unpacks nothing
        assert behind.read("labels.txt").decode("utf-8") == "".join(f"{name}\n" for name in CLASSES)


def test_outputs_come_in_the_order_that_is_told(described, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(described)
    outputs = TFLiteFile(path).predict(np.zeros((1, *SIZE, 3), np.uint8))
    assert {name: values.shape for name, values in outputs.items()} == {"probabilities": (1, 5), "features": (1, 7)}
    assert outputs["probabilities"].sum() == pytest.approx(1)


def test_every_buffer_begins_at_a_multiple_of_16_bytes(described):
    """LiteRT maps them as they lie; ARM and the schema ask for it."""
    model = schema.Model.GetRootAsModel(described, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert len(starts) >= 4 and [start % 16 for start in starts] == [0] * len(starts)


def test_metadata_are_replaced_not_added_to(described):
    description = read_description(with_metadata(described, class_names=CLASSES[::-1]))
    assert description.class_names == CLASSES[::-1]
    block(with_metadata(described))  # there is one


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\x03\x04" + bytes(30), bytes(100)])
def test_what_is_no_tflite_file_is_said(content):
    with pytest.raises(ValueError, match="is not a TFLite file"):
        read_description(content)


def test_a_file_without_metadata_is_said(plain):
    with pytest.raises(ValueError, match="carries no TFLite metadata"):
        read_description(plain)


def test_a_file_cut_short_is_said(described):
    for length in range(8, described.rindex(b"sha256:"), 97):
        with pytest.raises(ValueError, match="carries"):
            read_description(described[:length])


def test_labels_that_are_missing_are_said(plain, described, monkeypatch):
    with pytest.raises(ValueError, match="carries TFLite metadata that cannot be read"):
        read_description(described[: labels_start(described)])
    monkeypatch.setattr(metadata, "TENSOR_AXIS_LABELS", 1)  # a description, of which no client reads classes
    with pytest.raises(ValueError, match="names no classes"):
        read_description(with_metadata(plain))


def test_no_damage_goes_unsaid_or_breaks_the_reader(described):
    """A byte is changed at a time, of the metadata and of what lies behind: it is read, or refused in words."""
    start, data = block(described)
    places = [*range(start, start + len(data)), *range(labels_start(described), len(described))]
    refused = 0
    for place in places:
        damaged = bytearray(described)
        damaged[place] ^= 0xFF
        try:
            read_description(bytes(damaged))
        except ValueError as error:
            refused += 1
            assert str(error).startswith(("is ", "carries ", "names ")), str(error)
    assert refused > 100


def with_labels(described, text, count=1, method=zipfile.ZIP_DEFLATED):
    """Returns the file with other members in place of its labels."""
    file = io.BytesIO()
    file.write(described[: labels_start(described)])
    with zipfile.ZipFile(file, "a", method) as behind:
        behind.writestr("labels.txt", text)
        for index in range(count - 1):
            behind.writestr(str(index), "")
    return file.getvalue()


def test_labels_that_expand_to_too_much_are_refused(described):
    assert read_description(with_labels(described, "a\nb\n")).class_names == ("a", "b")
    file = with_labels(described, bytes(LABELS_BYTES + 1))
    lying = bytearray(file)
    at = file.rindex(b"PK\1\2") + 24
    lying[at : at + 4] = (9).to_bytes(4, "little")
    tracemalloc.start()
    with pytest.raises(ValueError, match="carries labels of 16,777,217 bytes, of which 16,777,216 are read"):
        read_description(file)
    with pytest.raises(ValueError, match="metadata that cannot be read"):
        read_description(bytes(lying))
    with pytest.raises(ValueError, match="a directory of more than 65,536 bytes"):
        read_description(with_labels(described, "a\n", count=1500))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_lists_in_metadata_that_are_too_long_are_refused(described):
    start, data = block(described)
    place = start + data.index(FACTS["author"].encode()) - 4
    long = bytearray(described)
    long[place : place + 4] = (2**16 + 1).to_bytes(4, "little")
    with pytest.raises(ValueError, match="a list of 65,537 items, of which 65,536 are read"):
        read_description(bytes(long))
