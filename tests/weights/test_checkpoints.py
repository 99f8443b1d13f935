import csv
import dataclasses
import logging
import urllib.parse

import pytest

from keras_vit.models.config import VARIANTS
from keras_vit.models.license import TERMS, License
from keras_vit.weights import checkpoints as module
from keras_vit.weights.checkpoints import augreg, checkpoints, families, find_checkpoint
from keras_vit.weights.download import hub_repository

ROWS = [row for row in checkpoints() if row.variant]
OF_FAMILIES = [row for row in checkpoints() if row.family]

# The file lists of the two projects, by folder.
OFFICIAL = {
    "vit_models/imagenet21k": (
        "ViT-B_8 ViT-B_16 ViT-B_32 ViT-L_16 ViT-L_32 ViT-H_14 R26+ViT-B_32 R50+ViT-B_16 R50+ViT-L_32"
    ),
    "vit_models/imagenet21k+imagenet2012": (
        "ViT-B_8 ViT-B_16 ViT-B_16-224 ViT-B_32 ViT-L_16 ViT-L_16-224 ViT-L_32 R50+ViT-B_16"
    ),
    "vit_models/sam": "ViT-B_16 ViT-B_32 ViT-L_16 ViT-L_32 ViT-S_16",
    "bit_models": " ".join(
        f"BiT-M-{arch} BiT-M-{arch}-ILSVRC2012 BiT-S-{arch}"
        for arch in ("R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4")
    ),
    "bit_models/distill": "R50x1_224 R50x1_160 R152x2_T_224 R152x2_T_384",
}


def test_every_official_file_is_a_row():
    expected = {f"gs://{folder}/{name}.npz" for folder, names in OFFICIAL.items() for name in names.split()}
    assert {row.address for row in ROWS if "/augreg/" not in row.address} == expected


def test_names_and_addresses_are_unique():
    assert len(ROWS) == 79 and [*ROWS, *OF_FAMILIES] == [*checkpoints()]
    assert len({row.name for row in checkpoints()}) == len({row.address for row in checkpoints()}) == len(checkpoints())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_plausible(row):
    assert row.parameters == VARIANTS[row.variant].parameters > 5_000_000
    assert row.format == ("bit" if row.variant.startswith("BiT") else "npz")
    assert urllib.parse.urlsplit(row.address).netloc == f"{row.format.replace('npz', 'vit')}_models"
    assert row.name == row.name.lower() and row.name.isidentifier()
    assert row.classes == {"imagenet21k": 21843}.get(row.trained_on, 1000)
    assert row.image_size in (160, 224, 384, 448, 480)
    assert row.head == ("zero" if "/imagenet21k/" in row.address else "real")
    assert row.representation == (row.head == "zero")
    assert row.interpolation in ("bicubic", "bilinear") and 0.5 < row.crop <= 1
    assert (row.top1 is None) == (row.published is None)
    assert row.top1 is None or (row.classes == 1000 and 70 < row.top1 < 90)
    if row.classes == 1000:
        assert row.name.endswith(f"_{row.image_size}")
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.name = "other"


@pytest.mark.parametrize("row", OF_FAMILIES, ids=lambda row: row.name)
def test_a_row_of_a_family_is_plausible(row):
    assert row.variant is None and row.format in ("hf", "timm", "open_clip") and row.name.isidentifier()
    assert hub_repository(row.address).name.startswith("timm/") == (row.format != "hf")
    assert row.classes in (0, 1000, 21841, 21843) and (row.head == "none") == (row.classes == 0)
    assert 1e6 < row.parameters < 7e9 and License(row.license, "").name in TERMS
    assert (row.top1 is None) == (row.published is None)
    assert row.top1 is None or (row.classes == 1000 and 80 < row.top1 < 91) or "zero-shot" in row.published
    if row.classes == 1000:
        assert row.name.endswith(f"_{row.image_size}")


def test_the_rows_of_a_family():
    assert [row.name for row in checkpoints("MAE")] == ["mae_b16", "mae_l16", "mae_h14"]
    assert {row.family for row in OF_FAMILIES} == {*families()} and not {*families()} & {*VARIANTS}
    assert {row.license for row in checkpoints("DINOv3")} == {"dinov3-license"}
    assert {row.license for name in ("MAE", "I-JEPA") for row in checkpoints(name)} == {"cc-by-nc-4.0"}
    assert find_checkpoint("mae_b16", "ViT-B/16") is find_checkpoint("mae_b16") is checkpoints("MAE")[0]
    assert checkpoints("dinov3") == checkpoints("DINOv3")
    with pytest.raises(ValueError, match="Received: variant='dinov9'.*Families: DINOv3, "):
        checkpoints("dinov9")


@pytest.mark.parametrize("row", [row for row in ROWS if "/augreg/" in row.address], ids=lambda row: row.name)
def test_an_augreg_row_is_what_its_files_name_says(row):
    stem = row.address.rpartition("/")[2]
    result = find_checkpoint(stem, row.variant)
    assert dataclasses.replace(result, name=row.name, top1=row.top1, published=row.published) == row


def test_the_rows_of_a_variant():
    assert [row.name for row in checkpoints("ViT-H/14")] == ["vit_h14_in21k"]
    assert checkpoints("ViT-G/14") == ()


@pytest.mark.parametrize(
    "weights, variant, image_size, expected",
    [
        ("imagenet", "ViT-B/16", 224, "vit_b16_augreg_in21k_in1k_224"),
        ("imagenet", "ViT-B/16", 384, "vit_b16_augreg_in21k_in1k_384"),
        ("imagenet", "ViT-B/16", 256, "vit_b16_augreg_in21k_in1k_384"),
        ("imagenet", "ViT-L/32", 224, "vit_l32_in21k_in1k_384"),
        ("imagenet", "R50+ViT-B/16", 224, "r50_vit_b16_in21k_in1k_384"),
        ("imagenet", "BiT-R50x1", 224, "bit_r50x1_distilled_in1k_224"),
        ("imagenet", "BiT-R50x1", 448, "bit_m_r50x1_in21k_in1k_448"),
        ("imagenet", "BiT-R50x3", 224, "bit_m_r50x3_in21k_in1k_448"),
        ("imagenet21k", "ViT-B/16", 224, "vit_b16_augreg_in21k"),
        ("imagenet21k", "BiT-R101x3", 224, "bit_m_r101x3_in21k"),
    ],
)
def test_the_best_file(weights, variant, image_size, expected):
    assert find_checkpoint(weights, variant, image_size).name == expected


def test_another_size_is_said(caplog):
    with caplog.at_level(logging.INFO, "keras_vit"):
        find_checkpoint("imagenet", "ViT-B/16", 224)
        assert not caplog.records
        find_checkpoint("imagenet", "ViT-B/16", 240)
    assert "vit_b16_augreg_in21k_in1k_384 was trained at 384 pixels, not 240; its positions are resized" in caplog.text


def test_a_head_of_zeros_is_not_given_out_as_a_head():
    assert find_checkpoint("imagenet21k", "ViT-H/14", include_top=False).name == "vit_h14_in21k"
    with pytest.raises(ValueError, match="ViT-H/14 with a real head.*nearest.*is ViT-L/16(.|\n)*include_top=False"):
        find_checkpoint("imagenet21k", "ViT-H/14")


@pytest.mark.parametrize(
    "variant, nearest",
    [
        ("ViT-S/8", "ViT-S/16"),
        ("ViT-S/14", "ViT-S/16"),
        ("ViT-L/14", "ViT-L/16"),
        ("ViT-H/14", "ViT-L/16"),
        ("ViT-g/14", "ViT-L/16"),
        ("ViT-G/14", "ViT-L/16"),
        ("R50+ViT-B/32", "R50+ViT-B/16"),
        ("R50+ViT-L/16", "R50+ViT-L/32"),
        ("R26+ViT-B/32", "R50+ViT-B/16"),
    ],
)
def test_a_variant_without_a_file_names_the_nearest(variant, nearest):
    with pytest.raises(
        ValueError, match=f"no public imagenet file of {variant}.*that has one is {nearest}.".replace("+", r"\+")
    ):
        find_checkpoint("imagenet", variant)


def test_every_variant_has_a_file_or_an_error_that_helps():
    without = set()
    for variant in VARIANTS:
        try:
            assert find_checkpoint("imagenet", variant).variant == variant
        except ValueError as error:
            assert "nearest variant" in str(error)
            without.add(variant)
    assert without == set(VARIANTS) - {row.variant for row in ROWS if row.classes == 1000}


def test_the_name_of_a_row():
    row = find_checkpoint("vit_b16_sam_in1k_224", "ViT-B/16")
    assert row.address == "gs://vit_models/sam/ViT-B_16.npz"
    assert find_checkpoint("vit_b16_sam_in1k_224") is row
    with pytest.raises(ValueError, match="Expected a checkpoint of ViT-Ti/16 .vit_ti16.*of ViT-B/16"):
        find_checkpoint("vit_b16_sam_in1k_224", "ViT-Ti/16")


def test_the_name_of_an_augreg_file():
    stem = "R26_S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0--cifar100-steps_2500-lr_0.003-res_384"
    result = find_checkpoint(stem, "R26+ViT-S/32")
    assert result == find_checkpoint(f"{stem}.npz")
    assert (result.address, result.classes, result.image_size) == (f"gs://vit_models/augreg/{stem}.npz", 100, 384)
    assert (result.trained_on, result.top1) == ("imagenet21k+cifar100", None)
    scratch = find_checkpoint("Ti_16-i1k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0")
    assert (scratch.variant, scratch.trained_on, scratch.classes) == ("ViT-Ti/16", "imagenet2012", 1000)


@pytest.mark.parametrize(
    "weights, near",
    [
        ("vit_b16_augreg_in21k_in1k_223", "vit_b16_augreg_in21k_in1k_224"),
        ("imagnet", "imagenet"),
        ("Ti_17-i1k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0", "imagenet"),
        (7, "imagenet"),
    ],
)
def test_an_unknown_name_names_the_nearest(weights, near):
    with pytest.raises(
        ValueError, match=rf"Received: weights={weights!r}. Nearest names: [^;]*\b{near}\b.*keras-vit list"
    ):
        find_checkpoint(weights, "ViT-B/16")


@pytest.mark.parametrize("variant", [None, "ViT-B/17"])
def test_the_best_of_no_variant(variant):
    with pytest.raises(ValueError, match=f"Received: variant={variant!r}"):
        find_checkpoint("imagenet", variant)


PRE = "{}-{}-300ep-lr_0.001-aug_{}-wd_0.1-do_0.0-sd_0.0"
MODELS = {"Ti/16": 5_717_416, "S/16": 22_050_664, "R+Ti/16": 6_337_704}
COLUMNS = "name ds epochs adapt_ds adapt_resolution params final_val final_test adapt_final_val adapt_final_test"


@pytest.fixture
def index(tmp_path):
    """A small index with the published columns; more augmentation is better in tests, worse in validation."""
    rows = []
    for model, params in MODELS.items():
        for ds in ("i21k", "i1k"):
            for strength, aug in enumerate(("none", "light1", "strong2")):
                for data in ("imagenet2012", "cifar100"):
                    for size in (224, 384):
                        pre = PRE.format(model.replace("+", "_").replace("/", "_"), ds, aug)
                        test = 0.7 + strength / 100 + size / 10_000
                        final_test = "" if ds == "i21k" else 0.5 + strength / 100
                        cells = [model, ds, 300, data, size, params, 0.6 - strength / 100, final_test, 1 - test, test]
                        rows.append([*cells, pre, f"{pre}--{data}-steps_20k-lr_0.03-res_{size}"])
    path = tmp_path / "index.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[*COLUMNS.split(), "filename", "adapt_filename"], *rows])
    return path


def test_the_best_of_augreg(index):
    result = augreg("S/16", index=index)
    assert result.name == PRE.format("S_16", "i21k", "strong2") + "--imagenet2012-steps_20k-lr_0.03-res_384"
    assert result.address == f"gs://vit_models/augreg/{result.name}.npz"
    assert (result.variant, result.image_size, result.classes, result.format) == ("ViT-S/16", 384, 1000, "npz")
    assert (result.top1, result.published) == (75.84, "augreg/index.csv, adapt_final_test")
    assert augreg("ViT-S/16", index=index) == result


def test_a_query_of_augreg(index):
    result = augreg("R+ViT-Ti/16", data="cifar100", resolution=224, best="final_val", pretrained_on="i1k", index=index)
    assert result.name == PRE.format("R_Ti_16", "i1k", "none") + "--cifar100-steps_20k-lr_0.03-res_224"
    assert (result.variant, result.classes, result.trained_on) == ("R+ViT-Ti/16", 100, "imagenet2012+cifar100")
    assert result.top1 is None
    assert augreg(most_parameters=6_000_000, index=index).variant == "ViT-Ti/16"


def test_the_pre_trained_file_of_augreg(index):
    result = augreg("S/16", data=None, index=index)
    assert result.name == PRE.format("S_16", "i21k", "none")  # the official code's pick, by validation
    assert (result.classes, result.image_size, result.trained_on) == (21843, 224, "imagenet21k")
    result = augreg("S/16", data=None, best="final_test", pretrained_on="i1k", index=index)
    assert result.name == PRE.format("S_16", "i1k", "strong2")


@pytest.mark.parametrize(
    "query, message",
    [
        ({"variant": "S/17"}, r"variant to be one of: R\+Ti/16, S/16, Ti/16. Received: variant='S/17'"),
        ({"data": "cifar10"}, "data to be one of: cifar100, imagenet2012. Received: data='cifar10'"),
        ({"resolution": 512}, "resolution to be one of: 224, 384. Received: resolution=512"),
        ({"pretrained_on": "jft"}, "pretrained_on to be one of: i1k, i21k. Received: pretrained_on='jft'"),
        ({"most_parameters": 1000}, "most_parameters of 5,717,416 or more.*Received: most_parameters=1000"),
        ({"best": "luck"}, r"columns \['adapt_luck'\]"),
        ({"data": None, "best": "final_test"}, "no final_test for these files. Received: best='final_test'"),
    ],
)
def test_a_query_that_nothing_fits_lists_what_there_is(index, query, message):
    with pytest.raises(ValueError, match=message):
        augreg(**query, index=index)


def test_the_index_is_downloaded(index, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "fetch", lambda address: asked.append(address) or index)
    assert augreg("Ti/16").variant == "ViT-Ti/16"
    assert asked == ["gs://vit_models/augreg/index.csv"]
