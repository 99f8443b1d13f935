"""The command line as a user types it; what each command does is tested in the file of its name."""

import json
import os
import pathlib
import re
import signal
import time
import types

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_vit
from keras_vit.commands import cli
from keras_vit.commands.recipes import find_recipe
from keras_vit.evaluation.perturbations import FAMILIES
from keras_vit.export.writing import ExportsRefused
from keras_vit.models.config import VARIANTS
from keras_vit.runtime.lint import DELEGATES
from keras_vit.weights.checkpoints import families
from keras_vit.weights.save import WRITTEN_FORMATS

RECIPE = pathlib.Path(__file__).parents[2] / "recipes" / "digits.py"
SMALL = ["epochs=1", "warmup_epochs=0", "exports=tflite-int8", "batch_size=256"]


def keras_vit_command(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def refused(*arguments):
    """Returns the message of a command that must end with status 2 and no traceback."""
    result = keras_vit_command(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert len(result.output.splitlines()) < 40  # one screen
    return result.output


@pytest.fixture(scope="module")
def one_block(tmp_path_factory):
    """The recipe for the digits, with one block in place of six."""
    path = tmp_path_factory.mktemp("recipes") / "digits.py"
    text = RECIPE.read_text("utf-8").replace("num_layers=6", "num_layers=1")
    assert text != RECIPE.read_text("utf-8")
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(scope="module")
def run(one_block, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    result = keras_vit_command("fit", one_block, *SMALL, "--output", folder)
    assert result.exit_code == 0, result.output
    return folder, result.output


@pytest.mark.parametrize("command", sorted(cli.main.commands))
def test_every_command_has_help_with_a_first_line_that_is_not_cut(command):
    help_page = keras_vit_command(command, "--help")
    assert help_page.exit_code == 0 and "Usage: " in help_page.output
    short = next(line for line in keras_vit_command("--help").output.splitlines() if line.startswith(f"  {command} "))
    assert not short.endswith("...")


def test_the_version_is_the_packages():
    assert keras_vit_command("--version").output == f"keras-vit {keras_vit.__version__}\n"


def test_the_choices_are_those_of_the_tables():
    """The command line names them itself, so that --help does not wait for TensorFlow."""
    assert ExportsRefused.exit_status == cli.REFUSED == 3
    assert tuple(FAMILIES) == cli._FAMILIES
    assert tuple(DELEGATES) == cli._DELEGATES
    assert tuple(WRITTEN_FORMATS) == cli._FORMATS


def test_list_shows_every_variant_with_its_parameters_and_every_checkpoint():
    lines = keras_vit_command("list").output.splitlines()
    variants = [f"{name}, {row.parameters:,} parameters" for name, row in VARIANTS.items()]
    heads = [line for line in lines if not line.startswith(" ")]
    assert heads[: len(variants)] == variants
    assert [line.split(", licence ")[0] for line in heads[len(variants) :]] == [*families()]
    listed = [line.split() for line in lines if line.startswith(" ")]
    rows = [row for name in (*VARIANTS, *families()) for row in keras_vit.checkpoints(name)]
    assert [(words[0], int(words[1])) for words in listed] == [(row.name, row.image_size) for row in rows]
    assert all(row.license in words for words, row in zip(listed, rows, strict=True))
    assert len(rows) == len(keras_vit.checkpoints())
    shown = next(line for line in lines if "vit_b16_augreg_in21k_in1k_384 " in line)
    assert "86.01 %, timm results-imagenet.csv" in shown


def test_list_shows_one_variant():
    lines = keras_vit_command("list", "ViT-H/14").output.splitlines()
    assert [line.split()[0] for line in lines] == ["ViT-H/14,", "vit_h14_in21k"]
    assert "Nearest names: ViT-H/14" in refused("list", "ViT-H14")
    lines = keras_vit_command("list", "MAE").output.splitlines()
    assert lines[0] == "MAE, licence cc-by-nc-4.0" and lines[1].split()[:5] == [
        "mae_b16",
        "224",
        "imagenet2012",
        "86",
        "M",
    ]


def test_fit_says_how_it_went_and_where_everything_lies(run):
    folder, output = run
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"test accuracy {metrics['test_accuracy']:.2%} on 360 images" in output
    assert "epoch 1/1: loss" in output and "model_int8.tflite" in output and str(folder) in output
    assert all(f"  {line}\n" in output for line in metrics["verdict"])


def test_fit_again_reports_the_finished_run(run, one_block):
    folder, _ = run
    result = keras_vit_command("fit", one_block, *SMALL, "--output", folder)
    assert result.exit_code == 0 and "finished" in result.output and "test accuracy" in result.output
    assert "epochs: 1 there, 2 here" in refused("fit", one_block, *SMALL, "epochs=2", "--output", folder)


def test_predict_names_the_classes_of_each_image(run, tmp_path):
    for name in ("one.png", "two.png"):
        Image.fromarray(np.zeros((9, 5), np.uint8)).save(tmp_path / name)
    result = keras_vit_command("predict", run[0], tmp_path / "one.png", tmp_path / "two.png", "--top", 3)
    assert result.exit_code == 0
    one, two = result.stdout.splitlines()
    assert "-1 to 1" in result.stderr
    assert one.replace("one.png", "two.png") == two
    assert len(re.findall(r"\d [\d.]+%", one)) == 3
    assert "missing.png" in refused("predict", run[0], tmp_path / "missing.png")


def test_names_cannot_control_the_terminal(run, tmp_path):
    for name in ("cat\x1b[31m", "dog\u202e"):
        (tmp_path / name).mkdir()
        for i in range(4):
            pixels = np.full((3, 3), 40 * i + ord(name[0]) - 96, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}\x1b[2J.png")
    image = tmp_path / "cat\x1b[31m" / "0\x1b[2J.png"
    (tmp_path / "cat\x1b[31m" / "\x9b.png").write_text("none")
    for arguments in (
        ("predict", run[0], image),
        ("predict", run[0], tmp_path / "cat\x1b[31m" / "\x9b.png"),
        ("check", tmp_path),
        ("fit", tmp_path, *SMALL, "--output", tmp_path / "run"),
        ("analyze", run[0], tmp_path / "\x1b[2J.png"),
    ):
        result = keras_vit_command(*arguments)
        output = result.stdout + result.stderr
        assert r"\x1b[" in output
        assert all(c == "\n" or c.isprintable() for c in output), ascii(output)


def test_evaluate_gives_the_accuracy_of_the_run(run):
    folder, _ = run
    result = keras_vit_command("evaluate", folder)
    accuracy = json.loads((folder / "metrics.json").read_text())["test_accuracy"]
    assert f"accuracy {accuracy:.2%} on 360 images" in result.output
    assert len(re.findall(r"^\d  ", result.output, re.M)) == 10


def test_export_makes_what_is_asked_for(run, tmp_path):
    result = keras_vit_command(
        "export", run[0], "--to", "tflite-float32", "--input-type", "scaled", "--output", tmp_path
    )
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        *("model_float32.tflite", "labels.txt", "proof.json", "report.html", "card.md"),
    }
    assert "top-1 agreement with Keras 100.00%" in result.output
    result = keras_vit_command("bench", tmp_path / "model_float32.tflite", run[0] / "model_int8.tflite")
    assert result.exit_code == 0, result.output
    heading, *rows = [line for line in result.output.splitlines() if not line.startswith("model_")]
    notes = [line for line in result.output.splitlines() if line.startswith("model_")]
    assert ["--input-size HEIGHT WIDTH" in note for note in notes] == [True] * 2  # scans of 8 pixels, files of 16
    assert heading.split() == ["file", "size", "1", "threads", "2", "threads", "memory", "accuracy"]
    assert [row.split()[0] for row in rows] == [
        str(tmp_path / "model_float32.tflite"),
        str(run[0] / "model_int8.tflite"),
    ]
    assert "is not a TFLite file" in refused("bench", write(tmp_path / "other.tflite", "text"))


def write(path, text):
    path.write_text(text)
    return path


def test_check_says_what_is_in_a_folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(np.full((3, 3), 40 * i + ord(name[0]) - 96, np.uint8)).save(tmp_path / name / f"{i}.png")
    result = keras_vit_command("check", tmp_path)
    assert result.exit_code == 0 and "cat" in result.output
    assert result.output.endswith(f"as it is\nkeras-vit fit {tmp_path}\n")


def test_check_ends_with_status_2_where_fit_would_refuse(tmp_path):
    for name in ("north/cat", "north/dog", "south/cat", "south/dog"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.full((3, 3), 40 * i + sum(map(ord, name)) % 40, np.uint8)).save(
                tmp_path / name / f"{i}.png"
            )
    assert "set class_depth=2 (keras-vit check --class-depth 2)" in refused("check", tmp_path)
    result = keras_vit_command("check", tmp_path, "--class-depth", 2)
    assert result.exit_code == 0 and result.output.endswith(f"keras-vit fit {tmp_path} class_depth=2\n")
    assert "image_size=224 is larger than 16 of 16 images" in result.output
    result = keras_vit_command("check", tmp_path, "--class-depth", 2, "--groups", "(.)")
    assert result.exit_code == 0 and result.output.endswith(f"fit {tmp_path} class_depth=2 'groups=(.)'\n")
    assert "groups, each in one split: 4" in result.output
    assert "set class_depth=2" in refused("fit", tmp_path, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name, other", [("digits", "work in another folder"), ("cifar10", "tfds:cifar10")])
def test_a_name_that_is_a_folder_too_is_refused(tmp_path, monkeypatch, run, name, other):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    for command in ("check", "fit", "preview", "lr"):
        message = refused(command, name)
        assert f"Write ./{name} for the folder" in message and other in message
    assert "Write ./" in refused("evaluate", run[0], name)
    assert "Write ./" in refused("export", run[0], "--data", name, "--output", tmp_path / "files")
    for path in (f"./{name}", f"{name}/"):
        assert "there is no image in it" in refused("check", path)
        assert "there is no image in it" in refused("fit", path)


def test_the_folder_of_a_run_is_no_data(tmp_path, monkeypatch):
    """`keras-vit fit digits --output digits` can be given again."""
    monkeypatch.chdir(tmp_path)
    write((tmp_path / "digits").mkdir() or tmp_path / "digits" / "run.json", "{}")
    recipe, name, _ = find_recipe("digits")
    assert (recipe.data, name) == ("digits", "digits")


def test_what_is_neither_recipe_nor_folder_is_refused(tmp_path):
    assert "the name of a TFDS data set" in refused("fit", tmp_path / "none")
    assert "none.py, which does not exist" in refused("fit", tmp_path / "none.py")
    assert "RECIPE or DATA, or --resume" in refused("fit")
    assert "without run.json" in refused("fit", "--resume", tmp_path)
    (tmp_path / "empty.py").write_text("x = 1\n")
    assert "to define RECIPE" in refused("fit", tmp_path / "empty.py")


def test_faulty_settings_are_refused_with_the_nearest_names(tmp_path):
    output = refused("fit", RECIPE, "epoch=3", "batchsize=2", "--output", tmp_path / "run")
    assert "epochs" in output and "batch_size" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "setting, words",
    [
        ("variant=ViT-B16", "ViT-B/16"),
        ("exports=tflite-int3", "tflite-int8"),
        ("data=nowhere", "does not exist"),
        ("image_size=18", "16 x 16 and 20 x 20"),
        ("pooling=mean", "gap"),
        ("weights=none.npz", "none.npz"),
    ],
)
def test_settings_that_cannot_work_are_refused_and_leave_nothing(tmp_path, setting, words):
    assert words in refused("fit", RECIPE, setting, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_does_not_fit_is_refused_with_all_faults(tmp_path):
    block = "Transformer/encoderblock_0/MlpBlock_3/Dense_0/bias"
    np.savez(tmp_path / "w.npz", **{"cls": np.zeros((1, 1, 32)), "other": np.zeros(3), block: np.zeros(5)})
    output = CliRunner().invoke(
        cli.main, ["fit", str(RECIPE), f"weights={tmp_path}/w.npz", "--output", f"{tmp_path}/run"]
    )
    assert output.exit_code == 2
    for words in ("misfit:  cls", "missing: embedding/kernel", "unused:  other"):
        assert words in output.output
    assert not (tmp_path / "run").exists()


def test_traceback_before_the_command():
    result = CliRunner().invoke(cli.main, ["--traceback", "fit", "none"])
    assert isinstance(result.exception, ValueError)


def test_list_verifies_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path))
    result = keras_vit_command("list", "--verify")
    assert (result.exit_code, result.output) == (0, f"0 files in {tmp_path}, 0 wrong\n")
    (tmp_path / "right.txt").write_text("a\n")
    (tmp_path / "page.npz").write_text("<html><title>Log in</title>")
    result = keras_vit_command("list", "--verify")
    first, *fault, last = result.output.splitlines()
    assert result.exit_code == 1
    assert (
        first == f"wrong  {tmp_path / 'page.npz'}"
        and "'Log in'" in fault[0]
        and fault[-1] == f"right  {tmp_path / 'right.txt'}"
    )
    assert last == f"2 files in {tmp_path}, 1 wrong"
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path / "none"))
    assert f"{tmp_path / 'none'}, which does not exist" in refused("list", "--verify")
    assert "VARIANT, --recipes and --verify" in refused("list", "--recipes", "--verify")


@pytest.mark.parametrize("command", ["fit", "list"])
def test_traceback_after_the_command(command):
    result = CliRunner().invoke(cli.main, [command, "nothing of that name", "--traceback"])
    assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize("fault", [TypeError, AttributeError, KeyError])
def test_an_internal_error_asks_for_a_report(fault, monkeypatch):
    def broken(*_):
        raise fault("of ours")

    monkeypatch.setattr("keras_vit.commands.list.checkpoints", broken)
    result = keras_vit_command("list", "ViT-S/16")
    assert result.exit_code == 1
    assert f"internal error of keras_vit: {fault.__name__}: " in result.output and "--traceback" in result.output
    assert isinstance(keras_vit_command("--traceback", "list", "ViT-S/16").exception, fault)


def test_a_recipe_that_cannot_be_run_is_the_users(tmp_path):
    recipe = write(tmp_path / "recipe.py", "from keras_vit.training.recipe import Recipe\nRECIPE = Recipe(epoch=3)\n")
    assert "recipe.py cannot be run: TypeError" in refused("fit", recipe)
    assert "recipe.py cannot be run: SystemExit" in refused("fit", write(recipe, "import sys\nsys.exit(0)\n"))


REGISTERED = """
import json, sys
import keras_vit_command
from keras_vit.commands import cli
assert "keras" not in sys.modules
cli._import_with_keras("commands.export")
import keras
names = ("VisionModel", "PatchEncoder", "TransformerBlock", "StdConv", "GroupNorm")
print(json.dumps([keras.saving.get_registered_object(f"keras_vit>{name}") is not None for name in names]))
"""


@pytest.mark.soak
def test_a_command_of_its_own_knows_the_layers_of_a_saved_model(run_python):
    """`keras-vit export` in a fresh process imports less than the other commands do."""
    assert all(run_python("-c", REGISTERED, PYTHONPATH=str(RECIPE.parents[1])))


def test_analyze_robustness_and_cost_of_a_run(run, tmp_path):
    folder, _ = run
    image = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)).save(image)
    analysis = keras_vit_command("analyze", folder, image, "--output", tmp_path / "a.html")
    assert analysis.exit_code == 0 and f"wrote {tmp_path / 'a.html'}" in analysis.output
    assert "attention maps and features" in (tmp_path / "a.html").read_text("utf-8")
    arguments = ("--family", "shift", "--images", 20, "--output", tmp_path / "r.html")
    robustness = keras_vit_command("robustness", folder, *arguments)
    assert robustness.exit_code == 0, robustness.output
    assert re.search(r"^clean +0 +\d+\.\d%$", robustness.output, re.M)
    assert "accuracy on perturbed and corrupted images" in (tmp_path / "r.html").read_text("utf-8")
    cost = keras_vit_command("cost", folder)
    assert cost.exit_code == 0 and re.search(r"^total .* M ", cost.output, re.M)
    assert "Images cannot be read" in refused("analyze", folder, folder / "labels.txt", "--output", tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()


# ---- signals


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("wrapped", [False, True], ids=["raised", "wrapped by a library"])
@pytest.mark.parametrize("command, action", [("fit", "continues it"), ("export", "starts it again")])
def test_a_signal_at_any_moment_ends_with_what_to_do(monkeypatch, number, status, wrapped, command, action):
    def work(*_, **__):
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except KeyboardInterrupt as error:
            if wrapped:
                raise RuntimeError("KeyboardInterrupt: ") from error
            raise

    monkeypatch.setattr(cli, "_import_with_keras", lambda _: types.SimpleNamespace(fit=work, export=work))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = keras_vit_command(command, RECIPE)
    assert result.exit_code == status
    assert f"Stopped by {number.name}. The same command {action}." in result.output
    assert "Error" not in result.output
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_end_of_the_training_at_a_signal_is_told_too(monkeypatch):
    def work(*_):
        raise SystemExit(143)  # as after the step that saved a checkpoint

    monkeypatch.setattr(cli, "_import_with_keras", lambda _: types.SimpleNamespace(fit=work))
    result = keras_vit_command("fit", RECIPE)
    assert result.exit_code == 143 and "Stopped by SIGTERM. The same command continues it." in result.output
