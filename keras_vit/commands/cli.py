"""The command line `keras-vit`: declares each command and prints its result; the module of its name does the work.

Keras and its backend take seconds to import, so they are imported inside the commands that need them.
"""

import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any, get_args

import click

import keras_vit
from keras_vit._arguments import counted
from keras_vit._quiet import quiet
from keras_vit.data.messages import without_controls
from keras_vit.export.targets import ALIASES, CHOSEN_OUTPUTS, DEFAULT_TARGET, INPUTS, PURPOSES, TARGETS
from keras_vit.models.config import DTYPES, OUTPUT_KINDS, Gelu
from keras_vit.runtime.files import is_exported, is_saved_model

# Copies of tables whose modules import Keras. Tests compare them with the tables.
_FAMILIES = ("drop", "shuffle", "texture", "shift", "corruptions")
_FORMATS = ("npz", "bit", "hf", "timm")
_DELEGATES = ("gpu", "webgpu", "npu")
REFUSED = 3  # exit status if an export could not be made or failed its comparison with the model, or an image be read


def _echo(text: str, err: bool = False) -> None:
    """Prints a text; names from files and folders cannot control the terminal."""
    click.echo(without_controls(text), err=err)


def _echo_exactly(text: str) -> None:
    """Prints a text with names as they are, also those that are not UTF-8; on a terminal as `_echo` does."""
    if sys.stdout.isatty():
        _echo(text)
    else:
        click.echo(text.encode("utf-8", "surrogateescape"))


class _Formatter(logging.Formatter):
    """Formats a message as `_echo` does."""

    def format(self, record: logging.LogRecord) -> str:
        return without_controls(super().format(record))


class _Group(click.Group):
    """Reports a user's error in one message with status 2 or the error's own, and an internal error with status 1."""

    def add_command(self, command: click.Command, name: str | None = None) -> None:
        super().add_command(command, name)
        command.params.append(_traceback_option(hidden=True, expose_value=False, callback=_set_traceback))

    def invoke(self, context: click.Context) -> Any:
        with _Stops() as stops:
            try:
                return super().invoke(context)
            except (BrokenPipeError, click.ClickException, click.exceptions.Exit):  # a broken pipe: `| head` has ended
                raise
            except BaseException as error:
                if number := stops.number_of(error):
                    action = "continues it" if context.invoked_subcommand in ("fit", "search") else "starts it again"
                    _echo(f"\nStopped by {number.name}. The same command {action}.", err=True)
                    context.exit(128 + number)
                self._report(context, error)

    def _report(self, context: click.Context, error: BaseException) -> None:
        if context.params["traceback"] or not isinstance(error, Exception):
            raise error
        if isinstance(error, (ValueError, OSError, ImportError)):
            _echo(f"Error: {error}", err=True)
            context.exit(getattr(error, "exit_status", 2))
        _echo(
            f"Error: an internal error of keras_vit: {type(error).__name__}: {error}\n"
            "Please report it with the output of the same command after `keras-vit --traceback`.",
            err=True,
        )
        context.exit(1)


class _Stops:
    """Raises KeyboardInterrupt on SIGTERM as on SIGINT within a `with` block, so that a command cleans up.

    `keras_vit.training.signals` has its own handlers during the training.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_Stops":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._received = signal.Signals(number)
        raise KeyboardInterrupt

    def number_of(self, error: BaseException) -> signal.Signals | None:
        """Returns the signal that an error comes from, if any: TensorFlow wraps what is raised inside its calls."""
        if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:  # after the training's last step
            return signal.SIGTERM
        return self._received or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)


def _traceback_option(**options: Any) -> click.Option:
    return click.Option(["--traceback"], is_flag=True, help="Show the traceback of an error.", **options)


def _set_traceback(context: click.Context, option: click.Parameter, value: bool) -> None:
    """Accepts --traceback after the name of a command as well as before it."""
    if value:
        context.find_root().params["traceback"] = True


@click.group(
    cls=_Group,
    params=[_traceback_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(keras_vit.__version__, message="keras-vit %(version)s")
def main(traceback: bool) -> None:
    """Trains, evaluates and exports Vision Transformers for your own images."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter("%(message)s"))
    logger = logging.getLogger("keras_vit")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


def _import_with_keras(name: str) -> Any:
    """Imports a module of the package that needs Keras and its backend, which takes seconds.

    The public names are imported first: that registers the layers of saved models with Keras.
    """
    # Silences TensorFlow's notes on CPUs and missing GPUs, those at its import and the later ones.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow warns of retracing, as each analysis traces functions of its own. A user cannot change that.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with quiet():
        keras_vit._import_names()
        return importlib.import_module(f"keras_vit.{name}")


def _log_to_stderr() -> None:
    """Leaves the standard output to the results."""
    for handler in logging.getLogger("keras_vit").handlers:
        handler.setStream(sys.stderr)  # type: ignore[attr-defined]  # `main` adds stream handlers


def _model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that describe a Keras model where its own layers do not."""
    command = click.option(
        "--outputs",
        type=click.Choice(OUTPUT_KINDS),
        help="The kind of outputs of a Keras model; read from its last layers by default.",
    )(command)
    return click.option(
        "--pixels",
        metavar="RANGE",
        help="The pixel values that a Keras model was trained on; read from its layers by default. One of raw (0 to "
        "255), 0..1, -1..1, imagenet, or MEAN/STD as fractions of 255, such as 0.5/0.5.",
    )(command)


_dtype_option = click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="The dtype that a Keras model stores its weights and computes in; its own by default. bfloat16 takes half the "
    "memory and, on a processor with such instructions, less time.",
)


_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".npy")


def _page_name(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Refuses a name that is not that of an HTML page, which could be an image of the user's."""
    if name and os.path.splitext(name)[1].lower() not in (".html", ".htm"):
        raise click.BadParameter(f"Expected the name of an HTML page, which ends in .html. Received: {name}")
    return name


def _table_name(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Refuses the name of an image, which would be replaced by text."""
    if name and os.path.splitext(name)[1].lower() in _IMAGES:
        raise click.BadParameter(f"Expected the name of a text file, such as predictions.csv. Received: {name}")
    return name


def _image_size_option(help: str) -> Callable[..., Any]:
    return click.option("--image-size", type=click.IntRange(1), nargs=2, metavar="HEIGHT WIDTH", help=help)


_recipe_argument = click.argument("recipe_or_data", metavar="RECIPE|DATA")
_settings_argument = click.argument("settings", nargs=-1, metavar="[FIELD=VALUE]...")


def _recipe(target: str, settings: Iterable[str], quick: bool = False, run: Callable[[str], str] | None = None) -> Any:
    """Returns what `find_recipe` does for a command line, reduced to a quick run if asked for."""
    from keras_vit.commands.recipes import find_recipe
    from keras_vit.training.quick import quick_recipe

    found = find_recipe(target, settings, fetch=not quick, run=run)
    return (
        found._replace(recipe=quick_recipe(found.recipe), name=f"{found.name}-quick", source=None) if quick else found
    )


@main.command("check")
@click.argument("folder")
@click.option("--class-depth", type=click.IntRange(1), metavar="N", help="Folder levels down to the class folders.")
@click.option("--groups", metavar="PATTERN", help="Regular expression: its parentheses match the group in a name.")
@click.option("--objective", type=click.Choice(("classes", "labels")), help="Whether an image has one class or labels.")
@click.option("--target", metavar="COLUMN", multiple=True, help="A column of numbers to learn. Can be repeated.")
@click.option("--corrections", metavar="FILE", help="A .csv file with other labels for some images, as of --labels.")
@click.option("--labels", metavar="MODEL", help="List images whose label may be wrong, by the features of this model.")
@_image_size_option("Image size of the model, in pixels; that of --labels is resized to it.")
@click.option("--pixels", metavar="RANGE", help="The pixel values of the model of --labels, as for keras-vit evaluate.")
@click.option(
    "--output",
    callback=_page_name,
    metavar="FILE",
    help="The HTML page of --labels; the table, a .csv file, is beside it.  [default: labels.html]",
)
@click.option(
    "--gelu", type=click.Choice(get_args(Gelu)), help="The GELU of the checkpoint of --labels, if its file lacks it."
)
@click.option("--channels", type=click.IntRange(1), default=3, show_default=True, help="Channels of the images.")
@click.pass_context
def check_command(
    context: click.Context,
    folder: str,
    class_depth: int | None,
    groups: str | None,
    objective: Any,
    target: tuple[str, ...],
    corrections: str | None,
    labels: str | None,
    image_size: tuple[int, int] | None,
    pixels: str | None,
    output: str | None,
    gelu: Any,
    channels: int,
) -> None:
    """Checks a folder of images before training.

    FOLDER contains one folder of images per class, or train/ and test/ with such folders. It can also be a .zip file
    of such a folder, or a .csv file.

    Prints the classes with their counts, class imbalance, unreadable images, unusual formats, rotated images, exact
    and near duplicates, and the next command to run. The exit status is 2 if `keras-vit fit` would refuse the folder
    even with on_bad_image=skip. Nothing is written but a cache of what the reading has shown.

    --labels also writes a page and a table of the images whose label may be wrong, by a classifier of the
    features of other images. Correct labels in the table; `keras-vit fit FOLDER corrections=labels.csv` then uses
    it. FOLDER can be any data here that fit reads. MODEL is a checkpoint, a .keras file or the folder of a run. If the
    run was trained on these images, the checkpoint that it started from is used: a model fits wrong labels that it is
    trained on.
    """
    from keras_vit.commands.check import check_images
    from keras_vit.data.sources import is_other_source, names_data_set

    if not labels and (pixels or output or gelu):
        raise click.UsageError("Expected --labels MODEL with --pixels, --gelu and --output.")
    if not labels or not (names_data_set(folder) or is_other_source(folder)):
        report = check_images(folder, class_depth, groups, objective, target, corrections, image_size or None, channels)
        _echo(report.text())
        if report.problems:
            context.exit(2)
    if labels:
        work = _import_with_keras("commands.label_check")
        page, table = work.output_files(output or "labels.html")  # first: the features take minutes
        learns = "numbers" if target else objective
        options = {"class_depth": class_depth, "groups": groups, "learns": learns, "corrections": corrections}
        options |= {"pixels": pixels, "gelu": gelu, "channels": None if channels == 3 else channels}
        checked = work.check_labels_of(folder, labels, image_size or None, **options)
        checked.write_page(page, f"Labels of {folder}")
        checked.write_table(table)
        _echo(f"\n{checked.text()}\nwrote {page}\nwrote {table}\ncorrect labels in it, then: {checked.command(table)}")


@main.command("fit")
@click.argument("recipe_or_data", metavar="[RECIPE|DATA]", required=False)
@_settings_argument
@click.option("--output", metavar="DIR", help="Folder of the run.  [default: runs/NAME]")
@click.option("--quick", is_flag=True, help="Run the whole recipe at a small size, in about a minute, to test it.")
@click.option("--resume", metavar="DIR", help="Continue the run in this folder with its own recipe.")
def fit_command(
    recipe_or_data: str | None, settings: tuple[str, ...], output: str | None, quick: bool, resume: str | None
) -> None:
    """Trains a model on images, evaluates it and exports it.

    Writes the model, its exports, a report and a model card into the folder of the run.

    RECIPE is the name of a recipe of keras_vit, such as finetune_folder (see keras-vit list --recipes), a .py file that
    defines RECIPE, or the run.json of a run, for the same settings again. DATA is a folder with one folder of images
    per class, or with train/ and test/ that contain such folders; a .zip file of one; a .csv file of path,label;
    digits, fashion_mnist, hf:NAME, or the name of a TensorFlow Datasets data set.

    Without a RECIPE, it fine-tunes a published ViT-S/16 with settings for that many images. model=NAME fine-tunes
    another variant, published checkpoint or file, and weights=none trains a small model from random weights.

    FIELD=VALUE sets any field of the recipe: epochs=3 learning_rate=1e-4 image_size=224 on_bad_image=skip.

    The same command, or --resume, continues an interrupted run. An export that does not agree with the model is not
    kept; all other files are written, and the exit status is 3.
    """
    if bool(resume) == bool(recipe_or_data) or (resume and (output or quick)):
        raise click.UsageError("Expected RECIPE or DATA, or --resume DIR alone.")
    from keras_vit.commands.recipes import default_folder

    work = _import_with_keras("commands.fit")
    if recipe_or_data:
        recipe, name, source = _recipe(recipe_or_data, settings, quick, lambda name: output or default_folder(name))
        folder = output or default_folder(name)
    else:
        folder, source = str(resume), None
        recipe = _import_with_keras("commands.run_folder").read_recipe(folder)
    metrics = work.fit(recipe, folder, source)
    if metrics is None:
        _echo("This worker has finished. The chief worker writes the files.")
        return
    lines = _import_with_keras("commands.export")
    for item in metrics["exports"]:
        _echo(lines.agreement_line(item))
    refused = metrics.get("refused", [])  # missing in the metrics of runs of older versions
    for item in refused:
        _echo(lines.refusal_line(**item))
    _echo("\n" + "\n".join(work.result_lines(metrics)))
    if quick:
        _echo("\n--quick tests that the run works; the accuracy of its small model says nothing.")
    _echo(f"\nAll files are in {folder}. Open report.html first.")
    if refused:
        click.get_current_context().exit(REFUSED)


def run(file: str) -> None:
    """Trains the recipe of a file that is run as a script: `python recipes/digits.py [--output DIR] [FIELD=VALUE ...]`.

    Args:
        file: the script, `__file__`.
    """
    main(["fit", file, *sys.argv[1:]])


@main.command("preview")
@_recipe_argument
@_settings_argument
@click.option("--output", callback=_page_name, metavar="FILE", help="The HTML page.  [default: runs/NAME-preview.html]")
def preview_command(recipe_or_data: str, settings: tuple[str, ...], output: str | None) -> None:
    """Writes a page of augmented training images.

    The images and labels are the first batches that `keras-vit fit` would train on. RECIPE, DATA and FIELD=VALUE are
    as in `keras-vit fit`.
    """
    work = _import_with_keras("commands.preview")
    recipe, name, source = _recipe(recipe_or_data, settings)
    _echo(f"wrote {work.preview(recipe, output or os.path.join('runs', f'{name}-preview.html'), source)}")


@main.command("lr")
@_recipe_argument
@_settings_argument
@click.option("--steps", default=100, show_default=True, type=click.IntRange(10), help="Maximum number of steps.")
def lr_command(recipe_or_data: str, settings: tuple[str, ...], steps: int) -> None:
    """Searches for a learning rate.

    Trains with a learning rate that grows in each step, and prints the loss of each and a suggestion. No file is
    written. RECIPE, DATA and FIELD=VALUE are as in `keras-vit fit`.
    """
    work = _import_with_keras("commands.lr")
    recipe, _, source = _recipe(recipe_or_data, settings)
    _echo(work.find_learning_rate(recipe, steps, source).text())


@main.command("predict")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGES...")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Number of classes per image.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object per image, one a line.")
@click.option(
    "--csv", "as_csv", is_flag=True, help="Write a CSV table with a row per image, and the same columns for all."
)
@click.option(
    "--output",
    callback=_table_name,
    metavar="FILE",
    help="Write to a file, in UTF-8, which appears when it is complete.  [default: standard output]",
)
@click.option(
    "--features",
    metavar="FILE",
    help="Also write the features of the images, the input of the model's head, to an .npz file with the arrays "
    "'images' (paths) and 'features'. An exported file returns them if it was exported with --extra-output features.",
)
@_model_options
@_dtype_option
def predict_command(
    model: str,
    images: tuple[str, ...],
    top: int,
    as_json: bool,
    as_csv: bool,
    output: str | None,
    features: str | None,
    **options: Any,
) -> None:
    """Predicts the classes of images.

    MODEL is a .keras file, the folder of a run, a checkpoint, or an exported file. A .tflite file is run with its own
    metadata alone, as on a phone. For a model that returns numbers, prints these numbers. For one of
    several labels an image, prints the labels whose score reaches their threshold.

    IMAGES are files; folders, for all images in them and in the folders inside; patterns such as "photos/**/*.jpg";
    @FILE, a list of files and folders, one a line; or -, such a list from the standard input. There can be any number
    of images: two batches of 64 are in memory.

    Images that cannot be read are named on the standard error, and all others are predicted, in order. The exit status
    is then 3, or 2 if no image can be read.
    """
    if as_json and as_csv:
        raise click.UsageError("Expected one of --json and --csv.")
    if not is_exported(model) or is_saved_model(model):
        _import_with_keras("commands.image_model")
    from keras_vit.commands import predict as work
    from keras_vit.commands.prediction_lines import lines_to

    _log_to_stderr()
    predictor = work.open_predictor(model, **options, features=features is not None)
    style = "json" if as_json else "csv" if as_csv else "text"
    with lines_to(output, _echo_exactly if as_csv else _echo) as write:
        read, unread = work.write_predictions(predictor, images, write, top=top, style=style, features=features)
    for file in filter(None, (output, features)):
        _echo(f"wrote {file}", err=True)
    if unread:
        _echo(f"Error: {unread:,} of {read + unread:,} images could not be read.", err=True)
        click.get_current_context().exit(REFUSED)


@main.command("evaluate")
@click.argument("model")
@click.argument("folder", required=False)
@click.option("--flips", is_flag=True, help="Average the predictions for each image and its mirror image.")
@click.option(
    "--classes",
    metavar="FILE",
    help="Evaluate on a subset of the classes: a text file with one class name, number or WordNet ID per line.",
)
@click.option("--real", metavar="FILE", help="The published ReaL labels, real.json, for ImageNet's validation set.")
@click.option(
    "--few-shot",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    help="Evaluate a linear classifier fitted on the features of N training images per class. Can be repeated.",
)
@click.option("--knn", is_flag=True, help="Evaluate a 20-nearest-neighbour classifier on the features.")
@click.option("--linear-probe", is_flag=True, help="Evaluate a logistic regression fitted on the features.")
@_image_size_option("Resize the model to this image size, in pixels.")
@click.option(
    "--class-depth",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Folder levels down to the class folders.",
)
@click.option(
    "--objective",
    type=click.Choice(("labels",)),
    help="Fit --few-shot and --linear-probe on images with any number of labels.",
)
@click.option(
    "--output",
    callback=_page_name,
    metavar="FILE",
    help="Write an HTML page with the scores, confusion matrix and reliability diagram.",
)
@_model_options
@_dtype_option
def evaluate_command(
    model: str, folder: str | None, image_size: tuple[int, int] | None, output: str | None, **options: Any
) -> None:
    """Evaluates a model on labelled images.

    Prints per-class accuracy, top-1 and top-5 accuracy and the expected calibration error.

    MODEL is a .keras file, the folder of a run, an exported file, or a checkpoint as for `keras-vit convert`. FOLDER
    contains one folder of images per class; its test/ is used if there is one, else its val/, else all images. The
    default is the test split of the model's run. For a model of the ImageNet classes, folders can also be named by
    WordNet ID or class number.

    --few-shot, --knn and --linear-probe evaluate the features of a model, with or without a head. They are fitted on
    train/, or on 80 % of a folder without splits; its classes can be any. Features are cached.
    """
    work = _import_with_keras("commands.evaluate")
    with _import_with_keras("commands.run_folder").page_in_run(output):
        evaluation = work.evaluate(model, folder, image_size=image_size or None, **options)
        _echo(evaluation.text())
        if output:
            evaluation.write_page(output, f"{model} on {folder or 'the test images of its run'}")
            _echo(f"wrote {output}")


def _metadata_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds an option for each fact in the metadata of an exported file."""
    for name in ("license", "author", "version", "description", "name"):
        command = click.option(f"--{name}", metavar="TEXT", help=f"The {name} in the file's metadata.")(command)
    return command


def _target_list() -> str:
    """Returns the export formats with their descriptions, one per line, as click prints them without wrapping."""
    lines = [f"{name:<21s}{target.description}" for name, target in TARGETS.items()]
    return "\n".join(["\b", "Formats (--to):", *lines])


@main.command("export", epilog=_target_list())
@click.argument("model")
@click.option(
    "--to",
    "targets",
    multiple=True,
    type=click.Choice([*ALIASES, *TARGETS]),
    help=f"The format to export to. Can be repeated.  [default: {DEFAULT_TARGET}]",
)
@click.option(
    "--for",
    "delegate",
    type=click.Choice([*PURPOSES]),
    help="Keep only files that this delegate runs whole, see `keras-vit lint`. Without --to, "
    + ", ".join(f"{name} exports {purpose.target}" for name, purpose in PURPOSES.items())
    + ".",
)
@click.option("--output", metavar="DIR", help="Folder for the files.  [default: the model's folder]")
@click.option("--data", metavar="DATA", help="Images to compare the files on.  [default: the data of the model's run]")
@click.option(
    "--input-type",
    type=click.Choice(INPUTS),
    help="Input of the files: uint8 pixels from 0 to 255, the same in float32, or pixels that the client scales.  "
    "[default: uint8, or float32 for gpu]",
)
@click.option(
    "--output-type",
    default="float32",
    show_default=True,
    type=click.Choice(("float32", "uint8")),
    help="Type of the probabilities. uint8 (255 is 1.0) is for 8-bit and 4-bit files only.",
)
@click.option(
    "--input-size",
    type=click.IntRange(1),
    nargs=2,
    metavar="HEIGHT WIDTH",
    help="Size of the input images in pixels; the file resizes them.  [default: the model's size]",
)
@click.option(
    "--extra-output",
    "extra_outputs",
    multiple=True,
    type=click.Choice(CHOSEN_OUTPUTS),
    help="Add an output to the file. Can be repeated.",
)
@click.option(
    "--bundle",
    is_flag=True,
    help="Also write a .zip file for each .tflite file, with Kotlin code for it and images to test a device with.",
)
@click.option(
    "--in-float",
    multiple=True,
    metavar="LAYER",
    help="A layer to keep in float32, such as block_00/mlp/out. Can be repeated.",
)
@click.option(
    "--runtime", metavar="DIR", help="Folder with LiteRT.js, installed by npm, for a web page.  [default: node_modules]"
)
@_model_options
@_metadata_options
def export_command(
    model: str,
    targets: tuple[str, ...],
    output: str | None,
    data: str | None,
    delegate: str | None,
    input_type: str | None,
    output_type: str,
    input_size: tuple[int, int] | None,
    extra_outputs: tuple[str, ...],
    bundle: bool,
    in_float: tuple[str, ...],
    runtime: str | None,
    pixels: str | None,
    outputs: str | None,
    **facts: str | None,
) -> None:
    """Exports a model to a file for a phone, server or browser.

    The formats are those of TFLite, SavedModel, ONNX and OpenVINO, and a web page.

    MODEL is a .keras file or the folder of a run. The format tflite is tflite-int8: TFLite with 8-bit weights, for
    phones.

    Each file is run as a client runs it and compared with the model before it gets its final name. proof.json,
    report.html and card.md contain the results. Files that do not agree with the model are not kept, and the exit
    status is 3.
    """
    work = _import_with_keras("commands.export")
    try:
        folder, agreements = work.export(
            model,
            targets or (PURPOSES[delegate].target if delegate else DEFAULT_TARGET,),
            output,
            data,
            delegate=delegate,
            input_type=input_type or (PURPOSES[delegate].input_type if delegate else "uint8"),
            output_type=output_type,
            input_size=input_size or None,
            extra_outputs=tuple(dict.fromkeys(extra_outputs)),
            pixels=pixels,
            outputs=outputs,
            bundle=bundle,
            in_float=in_float,
            runtime=runtime,
            facts=facts,
        )
    except work.ExportsRefused as error:
        _print_agreements(work, error.agreements)
        raise
    _print_agreements(work, agreements)
    _echo(f"in {folder}")


def _print_agreements(work: Any, agreements: Iterable[Any]) -> None:
    for item in agreements:
        _echo(work.agreement_line(vars(item)))
        if item.note:
            _echo(f"    {item.note}")


@main.command("zero-shot")
@click.argument("checkpoint")
@click.option("--label", "labels", multiple=True, required=True, metavar="TEXT", help="A class. Can be repeated.")
@click.option("--reject", multiple=True, metavar="TEXT", help="A class of images of no label. Can be repeated.")
@click.option("--templates", type=click.Choice(("imagenet",)), help="Average ten general templates.")
@click.option(
    "--template",
    "own_templates",
    multiple=True,
    metavar="TEXT",
    help="A text with {} in place of a label. Can be repeated.  "
    '[default: "a photo of a {}." for CLIP, "This is a photo of {}." for SigLIP]',
)
@click.option(
    "--to",
    "targets",
    multiple=True,
    type=click.Choice([*ALIASES, *TARGETS]),
    help="A format to export to, as of keras-vit export. Can be repeated.",
)
@click.option("--output", default="zero_shot", show_default=True, metavar="DIR", help="Folder for the files.")
@_image_size_option("Resize the model to this image size, in pixels.")
@click.option("--data", metavar="DATA", help="Images to compare the exported files on.  [default: synthetic images]")
@click.option(
    "--license", metavar="TEXT", help="The license of the files, beside the checkpoint's, for their metadata."
)
def zero_shot_command(
    checkpoint: str,
    labels: tuple[str, ...],
    reject: tuple[str, ...],
    templates: str | None,
    own_templates: tuple[str, ...],
    targets: tuple[str, ...],
    image_size: tuple[int, int] | None,
    **options: Any,
) -> None:
    """Makes a classifier from words, without training.

    CHECKPOINT is a SigLIP, SigLIP 2 or CLIP of transformers, OpenCLIP or big_vision: a folder with its weights, its
    configuration and tokenizer.json, or hf://OWNER/NAME; or an .npz with tokenizer.json beside it. Its text tower turns
    each label into an embedding, and the classifier compares that of an image with them. The text tower is not in the
    files.

    Writes model.keras, which every command reads, and the files of --to, as `keras-vit export` does.
    """
    if templates and own_templates:
        raise click.UsageError("Expected --templates or --template, not both.")
    export, work = _import_with_keras("commands.export"), _import_with_keras("commands.zero_shot")
    try:
        written = work.write_zero_shot(
            checkpoint,
            labels,
            templates or own_templates,
            reject,
            targets=targets,
            image_size=image_size or None,
            **options,
        )
    except export.ExportsRefused as error:
        _print_agreements(export, error.agreements)
        raise
    _print_agreements(export, written.agreements)
    _echo(f"wrote {written.path}: {', '.join(written.class_names)}; {written.added:.2%} larger than the image tower")


@main.command("search")
@click.argument("folder")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--image", "images", multiple=True, metavar="FILE", help="Search for images like this. Can be repeated.")
@click.option(
    "--model",
    metavar="MODEL",
    help="The model of the embeddings.  [default: that of the index, or hf://google/siglip2-base-patch16-224]",
)
@click.option(
    "--index",
    metavar="FILE",
    help="The .npz file of the embeddings.  [default: runs/NAME-search/index.npz, for a folder NAME]",
)
@click.option("--top", default=20, show_default=True, type=click.IntRange(1), help="Number of images for each query.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per image, one a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a CSV table with a row per image.")
@click.option(
    "--output", callback=_page_name, metavar="FILE", help="The HTML page.  [default: search.html beside the index]"
)
@_image_size_option("Resize the model to this image size, in pixels.")
@click.option("--pixels", metavar="RANGE", help="The pixel values of the model, as for keras-vit evaluate.")
@click.option("--gelu", type=click.Choice(get_args(Gelu)), help="The GELU of the checkpoint, if its file lacks it.")
def search_command(
    folder: str,
    texts: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    output: str | None,
    image_size: tuple[int, int] | None,
    **options: Any,
) -> None:
    """Searches a folder of images by words, or by an image.

    Prints the images of FOLDER, and of the folders inside, that are nearest to each TEXT and each --image, with the
    cosine similarity of their embeddings; and writes a page of them.

    The first search embeds all images into the index. Later ones embed new and changed images alone, and need no
    --model. An interrupted search keeps what it has embedded, and the same command continues it.

    MODEL is, for words, a SigLIP, SigLIP 2 or CLIP with its text tower, as for `keras-vit zero-shot`; for images, any
    .keras file, folder of a run or checkpoint, whose features are compared.

    Images that cannot be read are left out and named on the standard error, and the exit status is 3.
    """
    if as_json and as_csv:
        raise click.UsageError("Expected one of --json and --csv.")
    if not texts and not options["images"]:
        raise click.UsageError("Expected words or --image FILE to search by.")
    if files := [text for text in texts if os.path.isfile(text)]:
        raise click.UsageError(
            f"Expected words. Received: {files[0]}, a file; to search by it, write --image before it."
        )
    work = _import_with_keras("commands.search")
    _log_to_stderr()
    result = work.search(folder, texts, image_size=image_size or None, **options)
    if as_json or as_csv:
        for line in result.lines("json" if as_json else "csv"):
            (_echo_exactly if as_csv else _echo)(line)
    else:
        for heading, rows in result.tables():
            _echo(heading)
            _print_table(rows or [{"no other image": ""}])
    page = output or result.index.with_name(work.PAGE)
    result.write_page(page)
    _echo(f"wrote {page}", err=True)
    if result.faults:
        _echo(f"Error: {counted(len(result.faults), 'image')} could not be read.", err=True)
        click.get_current_context().exit(REFUSED)


@main.command("push")
@click.argument("run", metavar="RUN")
@click.argument("repository", metavar="hf:OWNER/NAME[@BRANCH]")
@click.option("--private", is_flag=True, help="Make the repository private; refused if it exists and is public.")
@click.option("--dry-run", is_flag=True, help="List the files and their sizes, and send nothing.")
def push_command(run: str, repository: str, private: bool, dry_run: bool) -> None:
    """Uploads a finished run to the Hugging Face Hub.

    RUN is the folder of the run. Its model card, model, labels and .tflite files are sent in one commit; no image, no
    report and no path of this machine is. The repository is made if there is none.

    keras_vit.load("hf://OWNER/NAME") and weights=hf://OWNER/NAME read the model back, with its class names.

    The token is that of huggingface_hub: log in with `hf auth login`, or set HF_TOKEN. HF_ENDPOINT names another Hub.
    """
    commit = _import_with_keras("commands.push").push(run, repository, private=private, dry_run=dry_run)
    if commit:
        _echo(f"wrote {commit}")


@main.command("bench")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--data", metavar="DATA", help="Images for the accuracy.  [default: the accuracy in proof.json]")
def bench_command(files: tuple[str, ...], data: str | None) -> None:
    """Compares speed, memory, size and accuracy of exports.

    FILE is a .tflite or .onnx file, the .xml file of an OpenVINO model, or the folder of an OpenVINO model, a
    SavedModel or a web page. Latency is the median of 30 runs on one image, in milliseconds. An OpenVINO model has a
    second line for bfloat16 on a CPU that has this type.
    """
    rows = list(_import_with_keras("commands.bench").bench(files, data))
    notes = [note for row in rows if (note := row.pop("note"))]
    _print_table(rows)
    for note in notes:
        _echo(note)


def _print_table(rows: list[Mapping[str, str]]) -> None:
    """Prints rows of {heading: text} in columns; the first row has all headings."""
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in rows[0]}
    for row in (dict(zip(widths, widths)), *rows):
        _echo("  ".join(f"{row.get(name, ''):<{width}s}" for name, width in widths.items()).rstrip())


@main.command("lint")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--for",
    "delegates",
    multiple=True,
    type=click.Choice(_DELEGATES),
    help="The delegate to check for. Can be repeated.  [default: all]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all fields of each finding.")
@click.pass_context
def lint_command(context: click.Context, files: tuple[str, ...], delegates: tuple[str, ...], as_json: bool) -> None:
    """Checks .tflite files for what delegates do not support.

    FILE is a .tflite file of any tool. The delegates are gpu, LiteRT's GPU delegate on phones; webgpu, LiteRT.js in a
    browser; and npu, processors that compute in integers. Each finding names an operator, what is wrong with it, what
    to do, and where the rule is written down. If there are any, the exit status is 3.
    """
    results = _import_with_keras("commands.lint").lint_files(files, delegates or _DELEGATES)
    if as_json:
        _echo(json.dumps([result.as_json() for result in results], indent=1))
    else:
        for line in (line for result in results for line in result.lines()):
            _echo(line)
    if any(result.count for result in results):
        context.exit(REFUSED)


@main.command("analyze")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--output", default="analysis.html", show_default=True, callback=_page_name, metavar="FILE", help="The HTML page."
)
@_image_size_option("Resize the model to this image size, in pixels.")
@_model_options
def analyze_command(
    model: str, images: tuple[str, ...], output: str, image_size: tuple[int, int] | None, **options: Any
) -> None:
    """Writes a page of attention maps and other figures.

    The page shows attention by block and head, attention rollout, relevance for the predicted class, tokens as
    colours, attention distance and entropy of each head, patch filters, position embeddings, feature maps of a
    hybrid's stages, and nearest images by cosine similarity of the features.

    MODEL is a .keras file, the folder of a run, or a checkpoint as for `keras-vit convert`. The page shows the first
    12 images; the figures of the heads and the nearest images are computed from all.
    """
    if is_exported(model):
        raise ValueError(
            f"Expected a Keras model, whose layers can be looked into. Received: {model}, an exported file. Analyze "
            "the run or the .keras file that it comes from"
        )
    _import_with_keras("commands.analyze").analyze(model, images, output, image_size or None, **options)
    _echo(f"wrote {output}")


@main.command("robustness")
@click.argument("model")
@click.argument("folder", required=False)
@click.option("--baseline", metavar="MODEL", help="Another model of the same classes to compare with.")
@click.option(
    "--family",
    "families",
    multiple=True,
    type=click.Choice(_FAMILIES),
    help="A family of perturbations. Can be repeated.  [default: all]",
)
@click.option("--images", default=500, show_default=True, type=click.IntRange(1), help="Maximum number of images.")
@click.option(
    "--output", default="robustness.html", show_default=True, callback=_page_name, metavar="FILE", help="The HTML page."
)
@_model_options
@click.option("--baseline-pixels", metavar="RANGE", help="As --pixels, for the baseline.")
@click.option("--baseline-outputs", type=click.Choice(OUTPUT_KINDS), help="As --outputs, for the baseline.")
def robustness_command(
    model: str,
    folder: str | None,
    baseline: str | None,
    families: tuple[str, ...],
    images: int,
    output: str,
    **options: Any,
) -> None:
    """Measures accuracy on perturbed and corrupted images.

    Evaluates the model with patches dropped, squares shuffled, texture removed, images shifted, and under fourteen
    common corruptions, and writes the accuracy curves as a page. MODEL and the baseline are .keras files or folders of
    runs; FOLDER is as for `keras-vit evaluate`. All families together run the model 121 times on each image.
    """
    work = _import_with_keras("commands.robustness")
    _import_with_keras("analysis.plots").require_matplotlib()  # first: the evaluation can take hours
    result, rows = work.robustness(model, folder, baseline, images=images, families=families or None, **options)
    _print_table(rows)
    work.write_robustness_page(output, result)
    _echo(f"wrote {output}")


@main.command("cost")
@click.argument("target", metavar="MODEL|VARIANT|RECIPE")
@_settings_argument
@_image_size_option("Image size in pixels.  [default: the model's or the recipe's size, 224 224 for a variant]")
@click.option(
    "--images",
    type=int,
    metavar="N",
    help="Number of training images, for a recipe.  [default: counted in its data, if that is on this machine]",
)
def cost_command(
    target: str, settings: tuple[str, ...], image_size: tuple[int, int] | None, images: int | None
) -> None:
    """Counts parameters, multiply-accumulates and memory.

    Prints parameters, multiply-accumulates per image and memory of the activations by kind of layer.

    MODEL is a .keras file, the folder of a run, or a checkpoint. VARIANT is a name such as ViT-B/16; its head has
    1,000 classes. RECIPE and FIELD=VALUE are as for `keras-vit fit`; the floating-point operations of the training are
    printed too.
    """
    result = _import_with_keras("commands.cost").cost_of(target, image_size or None, settings, images)
    shape = " x ".join(map(str, result.cost.input_shape))
    _echo(f"{result.name}, one image of {shape}, {result.cost.multiply_accumulates / 1e9:,.4g} GMACs")
    _echo(result.cost.text())
    if result.images:
        _echo(f"training: {result.exaflops:,.4g} exaFLOPs, 2 x 3 x multiply-accumulates x {result.images:,} images")
    elif str(target).endswith(".py"):
        _echo("training: unknown number of images, as the data is not on this machine; set it with --images N")


@main.command("convert")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--to",
    "format",
    type=click.Choice(_FORMATS),
    help="Format of the file.  [default: npz, or bit for a BiT, if TO ends in .npz]",
)
@click.option(
    "--num-heads",
    type=int,
    help="Number of attention heads, if the file does not store it.  [default: hidden size / 64]",
)
@_image_size_option("Resize the model to this image size, in pixels.")
@click.option("--patch-size", type=click.IntRange(1), help="Resize the patch embedding to this patch size, in pixels.")
@click.option("--gelu", type=click.Choice(get_args(Gelu)), help="The GELU of the checkpoint, if its file lacks it.")
def convert_command(source: str, target: str, format: str | None, image_size: tuple[int, int], **options: Any) -> None:
    """Converts a checkpoint to another format.

    FROM is a checkpoint as for the argument `weights`: a file, an address or a published name. TO is a file that ends
    in .npz (format npz or bit), .safetensors (with --to timm or --to hf), .keras or .weights.h5; or a folder, with
    --to timm or --to hf.
    """
    _import_with_keras("commands.convert").convert_checkpoint(source, target, format, image_size or None, **options)
    _echo(f"wrote {target}")


@main.command("list")
@click.argument("variant", required=False)
@click.option(
    "--recipes", is_flag=True, help="List the recipes of keras_vit: the name for `keras-vit fit`, and its run."
)
@click.option(
    "--verify",
    is_flag=True,
    help="Verify the downloaded files in the cache: compare each with its recorded SHA-256, and open it. The exit "
    "status is 1 if one is wrong.",
)
@click.pass_context
def list_command(context: click.Context, variant: str | None, recipes: bool, verify: bool) -> None:
    """Lists checkpoints or recipes, or verifies downloads.

    Prints each variant with its parameters (for 224 x 224 pixels and 1,000 classes), each family such as DINOv3, and
    each of their published checkpoints with the image size in pixels, the training data, the licence and the published
    top-1 accuracy on ImageNet-1k. VARIANT limits the list to one architecture or family.
    """
    from keras_vit.commands.list import cached_file_line, variant_lines
    from keras_vit.commands.recipes import recipe_lines
    from keras_vit.weights.download import cache_folder, verify_cache

    if bool(variant) + recipes + verify > 1:
        raise click.UsageError("Expected one of VARIANT, --recipes and --verify.")
    if verify:
        if not cache_folder().is_dir():
            raise ValueError(f"Expected the folder of a cache. Received: {cache_folder()}, which does not exist.")
        faults = []
        for file in verify_cache():
            _echo(cached_file_line(file))
            faults.append(file.fault is not None)
        _echo(f"{counted(len(faults), 'file')} in {cache_folder()}, {sum(faults):,} wrong")
        context.exit(any(faults))
    for line in recipe_lines() if recipes else variant_lines(variant):
        _echo(line)
