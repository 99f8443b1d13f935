"""The card is read back: its header with a YAML parser, its tables cell by cell."""

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from keras_vit.evaluation.accuracy import Scores
from keras_vit.evaluation.brightness import Brightness
from keras_vit.evaluation.verdict import Baseline, Verdict
from keras_vit.export.proof import Agreement
from keras_vit.report.markdown import escaped
from keras_vit.report.model_card import ModelCard, card_header, render_model_card, write_model_card
from keras_vit.report.proof_tables import NOTES, export_details, export_row, exports_section, replace_card_exports

# Eleven images of three classes, by hand: confusion [[3, 1, 0], [0, 2, 1], [1, 0, 3]], 8 of 11 right.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 0])
CONFIDENCE = np.array([0.9, 0.9, 0.9, 0.5, 0.7, 0.7, 0.5, 0.9, 0.9, 0.7, 0.7])
BASELINE = Baseline(
    "logistic regression", Scores(LABELS, np.eye(3)[np.where(np.arange(11) < 6, LABELS, (LABELS + 1) % 3)]), 16, 1237
)
FIGURES = {"accuracy": 0.5, "balanced_accuracy": 0.4, "macro_f1": 0.3, "ece": 0.1}


def agreement(**other):
    figures = {
        "file": "model_int8.tflite",
        "target": "tflite-int8",
        "bytes": 23_456_789,
        "images": 1024,
        "logits": {"max_difference": 0.1234, "mean_difference": 0.0171, "cosine": 0.999731},
        "probabilities": {"max_difference": 0.0312, "mean_difference": 0.00047},
        "extra_outputs": {},
        "top1_agreement": 1023 / 1024,
        "top1_agreement_or_tie": 1.0,
        "accuracy": 0.9717,
        "keras_accuracy": 0.9727,
        "from_encoded": {
            "images": 613,
            "top1_agreement": 0.9918,
            "max_difference": 0.19,
            "resize_top1_agreement": 0.9935,
            "resize_max_difference": 0.17,
            "file_max_difference": 0.0213,
        },
        "operators": {"FULLY_CONNECTED": 73, "GELU": 12},
        "lint": {"gpu": ["GATHER: its indices are int64", "CAST: a tensor of int64"], "npu": ["a"] * 4, "webgpu": []},
        "input_type": "uint8",
        "latency_ms": {"1": 61.73, "2": 34.28},
        "peak_memory": 91_300_000,
    }
    return Agreement(**(figures | other))


def card(names=("wren", "tit", "owl"), labels=LABELS, predicted=PREDICTED, confidence=CONFIDENCE, **other):
    probabilities = np.full((len(labels), len(names)), 0.0)
    probabilities += ((1 - confidence) / (len(names) - 1))[:, None]
    probabilities[np.arange(len(labels)), predicted] = confidence
    facts = {
        "name": "birds",
        "variant": "ViT-S/16",
        "parameters": 21_666_049,
        "class_names": names,
        "image_size": (192, 224),
        "pixel_scaling": "(pixel / 255 - 0.5) / 0.5",
        "verdict": Verdict(Scores(labels, probabilities), names, BASELINE, ("none", "The curves are level.")),
        "counts": {"train": 1237, "validation": 139, "test": len(labels)},
        "digest": "c0ffee" * 10 + "abcd",
        "bad_images": 5,
        "settings": {"epochs": 7, "randaugment": (2, 15)},
        "environment": {"devices": "one device", "keras": "3.15.1"},
        "version": "0.4.0",
        "agreements": [agreement()],
        "base": "vit_s16_augreg_in21k (gs://vit_models/augreg/S_16.npz)",
        "license": "Apache-2.0",
    }
    return ModelCard(**(facts | other))


def read(text):
    """Returns a card's header, parsed, and the rest, as the Hub takes them apart."""
    _, head, body = re.split(r"^---$\n?", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(head), body


def rows(text, heading):
    """Returns the cells of the table with this first heading."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    block = lines[at : next((i for i in range(at, len(lines)) if not lines[i].startswith("|")), len(lines))]
    table = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block]
    assert len({len(row) for row in table}) == 1 and set("".join(table[1])) <= set("-:")
    return [table[0], *table[2:]]


def test_the_header_is_what_the_hub_reads():
    head, _ = read(render_model_card(card()))
    assert head["license"] == "apache-2.0" and "license_name" not in head
    assert (head["library_name"], head["pipeline_tag"], head["metrics"]) == (
        "keras",
        "image-classification",
        ["accuracy", "f1"],
    )
    assert "image-classification" in head["tags"]
    assert "datasets" not in head and "base_model" not in head
    ((model,),) = [head["model-index"]]
    (result,) = model["results"]
    assert model["name"] == "birds" and result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"type": "imagefolder", "name": "birds", "split": "test"}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    # Of 0.5: 2, both wrong; of 0.7: 4, three right; of 0.9: 5, all right.
    ece = (2 * 0.5 + 4 * 0.05 + 5 * 0.1) / 11
    assert values == {
        "accuracy": pytest.approx(8 / 11, abs=1e-6),
        "balanced_accuracy": pytest.approx((3 / 4 + 2 / 3 + 3 / 4) / 3, abs=1e-6),
        "f1": pytest.approx((3 / 4 + 2 / 3 + 3 / 4) / 3, abs=1e-6),
        "expected_calibration_error": pytest.approx(ece, abs=1e-6),
    }


def test_names_of_the_hub_are_in_the_header():
    head, _ = read(render_model_card(card(hub_data="org/birds-525", base_model="org/vit-base", license=None)))
    assert head["datasets"] == ["org/birds-525"] and head["base_model"] == "org/vit-base"
    assert head["model-index"][0]["results"][0]["dataset"]["type"] == "org/birds-525"
    assert head["license"] == "unknown"


@pytest.mark.parametrize(
    "license, fields",
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("Bird Club License: 1.0", {"license": "other", "license_name": "bird-club-license-1.0"}),
        ("日本", {"license": "other", "license_name": "unnamed"}),
        ("", {"license": "unknown"}),
    ],
)
def test_a_license_is_one_that_the_hub_takes(license, fields):
    head = yaml.safe_load(card_header(name="a", data="b", **FIGURES, license=license).strip("-"))
    assert {key: head[key] for key in head if "license" in key} == fields


@pytest.mark.parametrize(
    "name",
    [
        "a: b",
        'said "so" \\ there',
        "- x",
        "no",
        "Null",
        "1e5",
        "日本 🦉",
        "tab\there\nline\x07\x85",
        "#1 & *2",
        "",
        "@x",
        "---",
    ],
)
def test_any_name_comes_back_out_of_the_header(name):
    head, _ = read(card_header(name=name, data=name, **FIGURES) + "\n")
    assert head["model-index"][0]["name"] == name
    assert head["model-index"][0]["results"][0]["dataset"]["name"] == name


def test_every_number_is_measured_and_in_its_place():
    _, text = read(render_model_card(card()))
    assert "**72.73%** on 11 images" in text and "21,666,049 parameters" in text
    assert rows(text, "true ↓ predicted →")[1:] == [
        ["wren", "3", "1", "0"],
        ["tit", "0", "2", "1"],
        ["owl", "1", "0", "3"],
    ]
    assert rows(text, "class") == [
        ["class", "images", "recall", "precision", "F1"],
        ["wren", "4", "75.0%", "75.0%", "75.0%"],
        ["tit", "3", "66.7%", "66.7%", "66.7%"],
        ["owl", "4", "75.0%", "75.0%", "75.0%"],
    ]
    assert rows(text, "confidence")[1:] == [
        ["0.47 to 0.53", "2", "0.500", "0.000"],
        ["0.67 to 0.73", "4", "0.700", "0.750"],
        ["0.87 to 0.93", "5", "0.900", "1.000"],
    ]
    assert "**0.1545**" in text and "largest gap of a bin 0.5000" in text
    assert rows(text, "split")[1:] == [["train", "1,237"], ["validation", "139"], ["test", "11"]]
    assert "c0ffee" in text and "Left out: 5 images" in text
    assert rows(text, "setting")[1:] == [["epochs", "7"], ["randaugment", "(2, 15)"]]
    assert "- devices: one device" in text and "vit\\_s16" not in text and "vit_s16_augreg_in21k" in text
    assert "Lowest recall: 66.7% of 3 images, class tit." in text
    assert not re.search(r"\$\w", text)


def test_the_training_images_are_described():
    facts = {"images": 256, "mean": 0.314, "border": 0.071, "centre": 0.552}
    seen = Brightness(**facts, darker_border=0.996, brighter_border=0.004)
    text = render_model_card(
        card(
            origin="scans of birds",
            brightness=seen,
            original_sizes=((8, 9), (8, 9)),
            inverted=(0.1139, 0.9917, 360),
        )
    )
    data = text.split("## Data")[1].split("## Recipe")[0]
    assert "birds: scans of birds. SHA-256" in data and "height x width in the file 8 x 9 pixels" in data
    assert "of 256 training images" in data.lower()
    assert "mean brightness 0.31, at the border 0.07, in the centre 0.55" in data
    assert "**Bright on dark**: the border is darker than the centre in 100% of them" in data
    assert "accuracy is 99.17%, and 11.39% if the same images are inverted" in data and "360 test images" in data
    mixed = Brightness(**facts, darker_border=0.4, brighter_border=0.6)
    text = render_model_card(card(brightness=mixed, original_sizes=((8, 9), (300, 200))))
    assert "from 8 x 9 to 300 x 200 pixels" in text and "darker than the centre in 40% of them." in text
    assert "on dark" not in text and "on bright" not in text
    assert "brightness" not in render_model_card(card())


def test_an_exported_file_is_listed_with_all_its_figures():
    row, details = export_row(agreement()), export_details(agreement())
    assert row == {
        "file": "model_int8.tflite",
        "size": "23.46 MB",
        "agreement": "99.90% of 1,024, 100.00% with ties",
        "accuracy": "97.17% (97.27%)",
        "logit difference": "0.12, mean 0.017",
        "number difference": "–",
        "cosine": "0.99973",
        "agreement from JPEG": "99.18% (99.35%)",
        "latency, 1 / 2 threads": "61.7 / 34.3 ms",
        "peak memory": "91 MB",
    }
    assert details == {
        "file": "model_int8.tflite",
        "input": "RGB pixels, integers from 0 to 255",
        "pixel scaling": "–",
        "probability difference": "0.031, mean 0.00047",
        "largest difference from JPEG": "0.19 (resize 0.17, file 0.021), 613 images",
        "none of these": "–",
        "in bfloat16": "–",
        "in float16": "–",
        "not supported": "gpu: GATHER: its indices are int64; CAST: a tensor of int64, npu: 4 kinds of operators, "
        "webgpu: nothing",
        "operators": "73 FULLY_CONNECTED, 12 GELU",
    }
    assert export_details(agreement(channels=1, input_type="scaled"))["input"] == "grey pixels, scaled by the client"
    assert export_details(agreement(channels=5))["input"] == "5-band pixels, integers from 0 to 255"
    assert set(NOTES) == {*row, *details} - {"file", "size", "input"}
    _, text = read(render_model_card(card()))
    assert rows(text, "file")[1][0] == "model.keras"
    section = exports_section([agreement()])
    assert section in text and "integers from 0 to 255" in section
    assert rows(section, "file")[1] == [cell for cell in row.values() if cell != "–"]
    assert "in bfloat16" not in section and "number difference" not in section


def test_one_image_of_many_keeps_an_agreement_from_being_whole():
    assert export_row(agreement(top1_agreement=99_999 / 100_000))["agreement"].startswith("99.99%")
    assert export_row(agreement(top1_agreement=1.0))["agreement"].startswith("100.00%")
    assert export_row(agreement(top1_agreement=0.57))["agreement"].startswith("57.00%")


def test_what_was_not_measured_is_a_dash():
    bare = agreement(accuracy=None, keras_accuracy=None, from_encoded={}, operators={}, lint={}, latency_ms={})
    row, details = export_row(bare), export_details(bare)
    assert row["accuracy"] == "unknown" and row["agreement from JPEG"] == row["latency, 1 / 2 threads"] == "–"
    assert details["not supported"] == details["operators"] == "–"
    assert export_details(agreement(lint={"gpu": []}))["not supported"] == "gpu: nothing"
    assert export_row(agreement(latency_ms={"2": 5.234}))["latency, 1 / 2 threads"] == "– / 5.23 ms"
    assert export_row(agreement(peak_memory=None))["peak memory"] == "–"


def test_the_figures_in_bfloat16_are_in_a_column():
    numbers = {"numbers": {"max_difference": 0.25, "relative_difference": 0.002}}
    figures = {"top1_agreement": 0.9971, "logits": {"max_difference": 0.0412, "mean_difference": 0.0063}}
    latency = {"latency_ms": {"1": 5.234, "2": 3.101}}
    shown = [export_details(agreement(bfloat16=more | latency))["in bfloat16"] for more in (figures, numbers)]
    assert shown == [
        "99.71%; 0.041, mean 0.0063; 5.23 / 3.10 ms",
        "0.25, 0.002 of the largest; 5.23 / 3.10 ms",
    ]


def test_numbers_have_a_difference_and_no_figures_of_classes():
    nothing = dict.fromkeys(("max_difference", "mean_difference", "cosine"))
    numbers = {"numbers": {"max_difference": 0.25, "relative_difference": 0.002}}
    exported = agreement(**numbers, logits=nothing, probabilities=nothing, accuracy=None, keras_accuracy=None)
    heading, row = rows(exports_section([exported]), "file")[:2]
    shown = dict(zip(heading, row))
    assert shown["number difference"] == "0.25, 0.002 of the largest"
    assert not {*shown} & {"agreement", "accuracy", "logit difference", "cosine", "agreement from JPEG"}


def test_the_exports_of_a_card_are_replaced_alone():
    text = render_model_card(card())
    other = [agreement(file="a.tflite", input_type="scaled"), agreement(file="b|c\n.tflite")]
    changed = replace_card_exports(text, other)
    assert [row[0] for row in rows(changed.partition("Exported files")[2], "file")[1:3]] == [
        "a.tflite",
        "b\\|c .tflite",
    ]
    assert "scaled by the client" in changed and "model_int8" not in changed
    assert replace_card_exports(changed, [agreement()]) == text
    assert "No exported files." in replace_card_exports(text, [])
    with pytest.raises(ValueError, match="<!-- exports -->"):
        replace_card_exports("# A card of another kind", other)


def test_a_class_named_like_a_mark_moves_no_mark():
    names = ("<!-- exports -->", "<!-- /exports -->", "## Exported files")
    text = render_model_card(card(names=names, name="<!-- exports -->"))
    assert replace_card_exports(replace_card_exports(text, []), [agreement()]) == text


def test_names_are_no_markup():
    names = ("a|b", "x\ny", "*bold* [l](u) <b>")
    text = render_model_card(card(names=names))
    table = rows(text, "class")
    assert [row[0] for row in table[1:]] == ["a\\|b", "x y", "\\*bold\\* \\[l\\](u) \\<b>"]
    assert escaped("white_stork _x_") == "white_stork \\_x\\_"


def test_many_classes_are_pairs_and_folded():
    names = tuple(f"class {k}" for k in range(21))
    labels = np.repeat(np.arange(20), 3)  # none of the last class
    predicted = labels.copy()
    predicted[:2], predicted[5] = 7, 4
    text = render_model_card(card(names=names, labels=labels, predicted=predicted, confidence=np.full(60, 0.8)))
    assert rows(text, "true class")[1:] == [
        ["class 0", "class 7", "2", "66.7%"],
        ["class 1", "class 4", "1", "33.3%"],
    ]
    assert "<summary>All 21 classes</summary>" in text and rows(text, "class")[-1] == ["class 20", "0", "–", "–", "–"]
    assert (
        "Lowest recall: 33.3% of 3 images, class class 0. Unknown recall, because of no test images: 1 class." in text
    )
    right = render_model_card(card(names=names, labels=labels, predicted=labels, confidence=np.full(60, 0.8)))
    assert "All test images are classified correctly." in right


def test_a_name_of_broken_bytes_can_be_written(tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    write_model_card(tmp_path / "card.md", card(names=(name, "tit", "owl"), name=name))
    text = (tmp_path / "card.md").read_text("utf-8")
    assert "caf\\udce9" in text and read(text)[0]["model-index"][0]["name"] == "caf?"
    assert [path.name for path in tmp_path.iterdir()] == ["card.md"]


def test_the_verdict_is_the_first_section():
    text = render_model_card(card(names=("wr*n", "tit", "owl")))
    assert text.index("## Verdict") < text.index("## Input and output")
    assert rows(text, "model") == [
        ["model", "test accuracy", "95% interval"],
        ["this model", "72.7%", "43.4% to 90.3%"],
        ["logistic regression, 16 x 16 pixels", "54.5%", "28.0% to 78.7%"],
        ["always wr\\*n", "36.4%", "–"],
    ]
    assert "The curves are level." in text and "11 test images prove little" in text
    assert "balanced accuracy **72.22%**, macro F1\n**72.22%**" in text
    start = "The training began with random weights."
    warned = render_model_card(card(verdict=replace(card().verdict, start=start)))
    assert warned.index("## Verdict") < warned.index(start) < warned.index("this model") and start not in text


def test_the_range_of_numbers_is_stated():
    assert "KERAS_VIT_VALUE_RANGE" not in render_model_card(card())
    text = render_model_card(card(value_range=[-0.5, 4095.0]))
    assert "-0.5 was black and 4095 white" in text and "`KERAS_VIT_VALUE_RANGE=-0.5,4095`" in text
