"""The command line, `keras-vit`: what each command reads and prints; the module of that name does its work.

Keras and its backend take seconds to import, so they are imported inside the commands, where they are used.
"""

import importlib
import logging
import os
import sys

import click

import keras_vit
from keras_vit._quiet import quiet
from keras_vit.export.targets import ALIASES, DEFAULT_TARGET, EXTRA_OUTPUTS, INPUTS, TARGETS
from keras_vit.models.config import OUTPUT_KINDS

# A table of the package, written out: to read it would import Keras. A test holds them together.
_FAMILIES = ("drop", "shuffle", "texture", "shift", "corruptions")
LAYOUTS = ("npz", "bit", "hf", "timm")
REFUSED = 3  # exit status where a file was made and does not answer like the model, or could not be made


class _Group(click.Group):
    """Shows what a user can mend as one message, with status 2 or the error's own; a fault of ours as one to report."""

    def add_command(self, command, name=None):
        super().add_command(command, name)
        command.params.append(_traceback(hidden=True, expose_value=False, callback=_noted))

    def invoke(self, context):
        try:
            return super().invoke(context)
        except (BrokenPipeError, click.ClickException, click.exceptions.Exit):  # `| head` has seen enough
            raise
        except KeyboardInterrupt:
            context.exit(130)
        except Exception as error:
            if context.params["traceback"]:
                raise
            if isinstance(error, (ValueError, OSError, ImportError)):
                click.echo(f"Error: {error}", err=True)
                context.exit(getattr(error, "exit_status", 2))
            click.echo(
                f"Error: this is a fault of keras_vit, not of yours: {type(error).__name__}: {error}\n"
                "Please report it, with what the same command shows after `keras-vit --traceback`.",
                err=True,
            )
            context.exit(1)


def _traceback(**options):
    return click.Option(["--traceback"], is_flag=True, help="Show where an error comes from.", **options)


def _noted(context, option, value):
    """Takes --traceback behind the name of a command for the one before it."""
    if value:
        context.find_root().params["traceback"] = True


@click.group(
    cls=_Group,
    params=[_traceback()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(keras_vit.__version__, message="keras-vit %(version)s")
def main(traceback):
    """Trains Vision Transformers on your own images and makes files that a phone runs."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("keras_vit")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


def _work(name):
    """Imports the module that does the work of a command; with Keras and its backend, this takes seconds.

    The public names come first, which registers the layers of saved models with Keras.
    """
    # TensorFlow's notes on CPUs and missing GPUs, the ones at its import and the later ones.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Each look into a model is a function of its own, of which there may be many: no fault of the user's.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with quiet():
        keras_vit._import_names()
        return importlib.import_module(f"keras_vit.{name}")


def about_model(command):
    """Adds the options that say of a Keras model what it cannot tell itself."""
    command = click.option(
        "--outputs",
        type=click.Choice(OUTPUT_KINDS),
        help="What a Keras model returns, where its last layers do not tell.",
    )(command)
    return click.option(
        "--pixels",
        metavar="RANGE",
        help="The pixels that a Keras model was trained on, where it does not tell: raw (0 to 255), 0..1, -1..1, "
        "imagenet, or MEAN/STD as parts of 255, such as 0.5/0.5.",
    )(command)


@main.command("check")
@click.argument("folder")
@click.option("--class-depth", type=click.IntRange(1), metavar="N", help="How many folders down the classes lie.")
@click.pass_context
def check_command(context, folder, class_depth):
    """Says what is in a folder of images.

    FOLDER holds a folder of images a class, or train/ and test/ with such folders; a .zip of one and a .csv will do.
    Tells classes and counts, imbalance, unreadable images, odd formats, rotated ones, exact duplicates, and whether
    fit would take the folder; ends with the command to type next, or with status 2. Nothing is written.
    """
    from keras_vit.commands.recipes import FOLDER_RECIPE
    from keras_vit.data.check import check_folder

    found = check_folder(folder, class_depth=class_depth, image_size=FOLDER_RECIPE["image_size"])
    click.echo(found.text())
    if found.problems:
        context.exit(2)


def _recipe(target, settings, quick):
    """Returns the recipe that a command names, with the settings that follow it, and a name for its runs."""
    from keras_vit.commands.recipes import find_recipe
    from keras_vit.training.quick import quick_recipe
    from keras_vit.training.recipe import change

    recipe, name = find_recipe(target)
    recipe = change(recipe, settings)
    return (quick_recipe(recipe), f"{name}-quick") if quick else (recipe, name)


@main.command("fit")
@click.argument("recipe_or_data", metavar="RECIPE|DATA", required=False)
@click.argument("settings", nargs=-1, metavar="[field=value]...")
@click.option("--output", metavar="DIR", help="Folder of the run; runs/NAME by default.")
@click.option("--quick", is_flag=True, help="Run the recipe whole in a minute's size, to see that it works.")
@click.option("--resume", metavar="FOLDER", help="Go on with the run in a folder, with its own recipe.")
def fit_command(recipe_or_data, settings, output, quick, resume):
    """Trains a model and exports it.

    Evaluates it on the test images, and writes a report and a card too.

    RECIPE is a .py file that defines RECIPE, such as recipes/digits.py. DATA is a folder with a folder of images a
    class, or train/ and test/ with such folders; a .zip of one; a .csv of path,label; digits, fashion_mnist,
    hf:NAME, or a name of TensorFlow Datasets. Any field of the recipe can be set: epochs=3 learning_rate=1e-4
    variant=ViT-S/16 image_size=224 weights=S_16.npz on_bad_image=skip.

    A run that was cut off goes on when the same command is given again, or with --resume. An export that does not
    answer like the model is not kept; all else is made, and the exit status is 3.
    """
    if bool(resume) == bool(recipe_or_data) or (resume and (output or quick)):
        raise click.UsageError("Expected a RECIPE or DATA, or --resume FOLDER alone.")
    work = _work("commands.fit")
    if resume:
        recipe, output = _work("commands.run_folder").recipe_in(resume), resume
    else:
        recipe, name = _recipe(recipe_or_data, settings, quick)
        output = output or os.path.join("runs", name)
    metrics = work.fit(recipe, output)
    if metrics is None:
        click.echo("this worker is done; the chief writes the files")
        return
    click.echo(f"\n{work.words_of(metrics)}")
    for item in metrics["exports"]:
        click.echo(agreement_words(**item))
    refused = metrics.get("refused", [])  # not in the metrics of older runs
    for item in refused:
        click.echo(refused_words(**item))
    click.echo(f"\nEverything lies in {output}: open report.html first.")
    if refused:
        click.get_current_context().exit(REFUSED)


def run(file):
    """Trains the recipe of a file that is run itself: `python recipes/digits.py [--output DIR] [field=value ...]`."""
    main(["fit", file, *sys.argv[1:]])


@main.command("preview")
@click.argument("recipe_or_data", metavar="RECIPE|DATA")
@click.argument("settings", nargs=-1, metavar="[field=value]...")
@click.option("--output", metavar="FILE", help="The page; runs/NAME-preview.html by default.")
def preview_command(recipe_or_data, settings, output):
    """Shows images as the training sees them.

    Writes a page of augmented images with their labels, out of the very batches that fit would train on.
    """
    work = _work("commands.preview")
    recipe, name = _recipe(recipe_or_data, settings, quick=False)
    click.echo(f"wrote {work.preview(recipe, output or os.path.join('runs', f'{name}-preview.html'))}")


@main.command("lr")
@click.argument("recipe_or_data", metavar="RECIPE|DATA")
@click.argument("settings", nargs=-1, metavar="[field=value]...")
@click.option("--steps", default=100, show_default=True, type=click.IntRange(10), help="Most steps to try.")
def lr_command(recipe_or_data, settings, steps):
    """Looks for a learning rate.

    Trains under a rate that grows from step to step, and shows the loss. Nothing of it is kept.
    """
    work = _work("commands.lr")
    recipe, _ = _recipe(recipe_or_data, settings, quick=False)
    click.echo(work.find_learning_rate(recipe, steps).text())


@main.command("predict")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Classes an image.")
@about_model
def predict_command(model, images, top, pixels, outputs):
    """Names what is on images.

    MODEL is a .keras file, the folder of a run, a checkpoint, or an exported file: a .tflite is run as a phone does,
    with what is in it alone. A model that returns numbers gives those.
    """
    work = _work("commands.predict")
    for handler in logging.getLogger("keras_vit").handlers:
        handler.setStream(sys.stderr)  # what is read from stdout is the answers alone
    subject = work.open_subject(model, pixels, outputs)
    for image, found in work.predictions(subject, images, top):
        click.echo(f"{image}: " + ", ".join(_said(name, value, subject.class_names) for name, value in found))


def _said(name, value, class_names):
    if class_names:
        return f"{name} {value:.1%}"
    return f"{value:.6g}" if name == "numbers" else f"{name} {value:.6g}"


@main.command("evaluate")
@click.argument("model")
@click.argument("folder", required=False)
@click.option("--flips", is_flag=True, help="Judge each image together with its mirror image.")
@click.option(
    "--classes", metavar="FILE", help="A list of the classes to choose from, by name, number or wnid, one a line."
)
@click.option("--real", metavar="FILE", help="The published ReaL labels, real.json, for ImageNet's validation set.")
@click.option(
    "--few-shot",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    help="Judge a linear classifier that learns from N images a class; more than once too.",
)
@click.option("--knn", is_flag=True, help="Judge the 20 nearest neighbours among the training images.")
@click.option("--linear-probe", is_flag=True, help="Judge a logistic regression that learns from the training images.")
@click.option(
    "--image-size", type=click.IntRange(1), nargs=2, metavar="ROWS COLUMNS", help="Resizes the model, in pixels."
)
@click.option(
    "--class-depth", type=click.IntRange(1), default=1, metavar="N", help="How many folders down the classes lie."
)
@click.option("--output", metavar="FILE", help="A page with it all, confusions and a reliability plot.")
@about_model
def evaluate_command(model, folder, image_size, output, **options):
    """Scores a model on images.

    MODEL is a .keras file, the folder of a run, an exported file, or a checkpoint as convert takes it. FOLDER holds a
    folder of images a class; of one with test/ that part is used, else val/, else all of it. Without FOLDER, the test
    images of the run are. A model of the ImageNet classes takes folders named by wnid or number, too.

    --few-shot, --knn and --linear-probe say what the model's features are good for, those of a model without a head
    too: they learn from train/, or from four fifths of a folder without parts, whatever its classes are. Features
    are kept for the next time.
    """
    found = _work("commands.evaluate").evaluate(model, folder, image_size=image_size or None, **options)
    click.echo(found.text())
    if output:
        found.write_page(output, f"{model} on {folder or 'the test images of its run'}")
        click.echo(f"wrote {output}")


def _facts(command):
    """Adds an option a fact that stands inside the file."""
    for name in ("license", "author", "version", "description", "name"):
        command = click.option(f"--{name}", help=f"The {name} that the file tells of itself.")(command)
    return command


def _target_list():
    """Returns the kinds of exported files with their descriptions, a line each, as click prints them unwrapped."""
    lines = [f"{name:<21s}{target.description}" for name, target in TARGETS.items()]
    return "\n".join(["\b", "Kinds of files (--to):", *lines])


@main.command("export", epilog=_target_list())
@click.argument("model")
@click.option(
    "--to",
    "targets",
    multiple=True,
    type=click.Choice([*ALIASES, *TARGETS]),
    help=f"Kind of file, more than once too; {DEFAULT_TARGET} by default.",
)
@click.option("--output", metavar="DIR", help="Folder for the files; the model's own by default.")
@click.option("--data", metavar="DATA", help="Images to compare on; those of the model's run by default.")
@click.option(
    "--input",
    "input_type",
    default="uint8",
    show_default=True,
    type=click.Choice(INPUTS),
    help="What the files take: whole pixels 0 to 255, pixels in float32, or pixels that the client scales.",
)
@click.option(
    "--output-type",
    "output_type",
    default="float32",
    show_default=True,
    type=click.Choice(("float32", "uint8")),
    help="Type of the probabilities; uint8, 255 for 1, with 8 and 4 bits alone.",
)
@click.option(
    "--input-size",
    type=click.IntRange(1),
    nargs=2,
    metavar="ROWS COLUMNS",
    help="Images of this size, resized inside.",
)
@click.option(
    "--extra-output",
    "extra_outputs",
    multiple=True,
    type=click.Choice(EXTRA_OUTPUTS),
    help="An output in addition to the probabilities.",
)
@click.option("--bundle", is_flag=True, help="Write a .zip to test a device with beside each .tflite file.")
@click.option("--in-float", multiple=True, metavar="LAYER", help="A layer that keeps its bits, as block_00/mlp/out.")
@click.option("--runtime", metavar="DIR", help="Where npm has put LiteRT.js, for a page; node_modules by default.")
@about_model
@_facts
def export_command(
    model,
    targets,
    output,
    data,
    input_type,
    output_type,
    input_size,
    extra_outputs,
    bundle,
    in_float,
    runtime,
    pixels,
    outputs,
    **facts,
):
    """Exports a model to files that run elsewhere.

    MODEL is a .keras file or the folder of a run. tflite is tflite-int8: TFLite with 8-bit weights, for phones. Each
    file is run as a client does and compared with the model before it gets its name; what was found stands in
    proof.json, report.html and card.md. Files that do not answer like it are not kept, and the exit status is 3.
    """
    work = _work("commands.export")
    try:
        folder, agreements = work.export(
            model,
            targets or (DEFAULT_TARGET,),
            output,
            data,
            input_type=input_type,
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
        _say(error.agreements)
        raise
    _say(agreements)
    click.echo(f"in {folder}")


def _say(agreements):
    for item in agreements:
        click.echo(agreement_words(**vars(item)))
        if note := item.note:
            click.echo(f"    {note}")


def agreement_words(file, bytes, images, logits, top1_agreement, accuracy, latency_ms, numbers=None, **_):
    """Returns a line on an exported file, from the fields of its `Agreement`."""
    if numbers:
        alike = f"numbers differ by at most {numbers['max_difference']:.1e} on {images:,} images"
    else:
        alike = (
            f"same class as Keras on {top1_agreement:.2%} of {images:,} images, logits differ by at most "
            f"{logits['max_difference']:.1e}"
        )
    correct = "" if accuracy is None else f"accuracy {accuracy:.2%}, "
    return f"  {file:<24s} {bytes / 1e6:7.2f} MB, {correct}{alike}, {max(latency_ms.items())[1]:.1f} ms"


def refused_words(file, reason):
    """Returns what is said of a file that is not kept."""
    return f"  {file} is not kept: {reason}"


@main.command("bench")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--data", metavar="DATA", help="Images for the accuracy; else what the proof beside a file says.")
def bench_command(files, data):
    """Compares exported files.

    Latency (median of 30, one image at a time), memory, size and accuracy of .tflite and .onnx files, SavedModels
    and pages, side by side.
    """
    rows = list(_work("commands.bench").bench(files, data))
    notes = [note for row in rows if (note := row.pop("note"))]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in (dict(zip(widths, widths)), *rows):
        click.echo("  ".join(f"{row[name]:<{width}s}" for name, width in widths.items()).rstrip())
    for note in notes:
        click.echo(note)


@main.command("analyze")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--output", default="analysis.html", show_default=True, metavar="FILE", help="The page.")
@click.option(
    "--image-size", type=click.IntRange(1), nargs=2, metavar="ROWS COLUMNS", help="Resizes the model, in pixels."
)
@about_model
def analyze_command(model, images, output, image_size, **said):
    """Shows what a model looks at.

    Writes a page: attention over the images by block and head, rollout, relevance for the class that it chose, tokens
    as colours, how far its heads look, its filters and positions, what the stages of a hybrid find, and which images
    it finds alike. MODEL is a .keras file, the folder of a run, or a checkpoint as convert takes it. The first 12
    images are shown; all count for the heads and for what is alike.
    """
    _work("commands.analyze").analyze(model, images, output, image_size or None, **said)
    click.echo(f"wrote {output}")


@main.command("robustness")
@click.argument("model")
@click.argument("folder", required=False)
@click.option("--baseline", metavar="MODEL", help="Another model of the same classes, whose curves stand beside.")
@click.option(
    "--family",
    "families",
    multiple=True,
    type=click.Choice(_FAMILIES),
    help="What to do to the images; all by default.",
)
@click.option("--images", default=500, show_default=True, type=click.IntRange(1), help="How many at most.")
@click.option("--output", default="robustness.html", show_default=True, metavar="FILE", help="The page.")
@about_model
@click.option("--baseline-pixels", metavar="RANGE", help="The same as --pixels, of the baseline.")
@click.option("--baseline-outputs", type=click.Choice(OUTPUT_KINDS), help="The same as --outputs, of the baseline.")
def robustness_command(model, folder, baseline, families, images, output, **said):
    """Shows how a model bears spoilt images.

    Scores it with patches left out, squares in disorder, texture removed, images shifted, and under fourteen common
    corruptions, and writes the curves as a page. MODEL and the baseline are .keras files or folders of runs; FOLDER is
    as for evaluate. All of it runs the model 121 times over the images.
    """
    work = _work("commands.robustness")
    work.plots.require_matplotlib()  # before hours of work
    found, rows = work.robustness(model, folder, baseline, images=images, families=families or None, **said)
    widths = [max(len(row.get(name, "")) for row in [*rows, dict(zip(rows[0], rows[0]))]) for name in rows[0]]
    for row in [dict(zip(rows[0], rows[0])), *rows]:
        click.echo("  ".join(f"{row.get(name, ''):<{width}s}" for name, width in zip(rows[0], widths)).rstrip())
    work.write_page(output, found)
    click.echo(f"wrote {output}")


@main.command("cost")
@click.argument("target", metavar="MODEL|VARIANT|RECIPE")
@click.argument("settings", nargs=-1, metavar="[field=value]...")
@click.option("--image-size", type=click.IntRange(1), nargs=2, metavar="ROWS COLUMNS", help="Of the images, pixels.")
@click.option("--images", type=int, metavar="N", help="Images of the recipe's training set; else they are counted.")
def cost_command(target, settings, image_size, images):
    """Counts what an image costs.

    Parameters, multiply-accumulates and memory for activations, by kind of layer. MODEL is a .keras file, the folder of
    a run, or a checkpoint; VARIANT a name such as ViT-B/16, with a head of 1,000 classes; RECIPE a .py file, of which
    the floating-point operations of its training are told, too: of as many images as it sees in all epochs. Any field
    of the recipe can be set, as for fit.
    """
    found = _work("commands.cost").cost_of(target, image_size or None, settings, images)
    shape = " x ".join(map(str, found.cost.input_shape))
    click.echo(f"{found.name}, one image of {shape}, {found.cost.multiply_accumulates / 1e9:,.4g} GMACs")
    click.echo(found.cost.text())
    if found.images:
        click.echo(f"training: {found.exaflops:,.4g} exaFLOPs, 2 x 3 x multiply-accumulates x {found.images:,} images")
    elif str(target).endswith(".py"):
        click.echo("training: give --images, the images of an epoch, which are not on this machine to be counted")


@main.command("convert")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--to", "layout", type=click.Choice(LAYOUTS), help="Whose layout; told from the name where it can be.")
@click.option(
    "--num-heads", type=int, help="Attention heads, where the file does not tell: 64 numbers each by default."
)
@click.option("--image-size", type=int, nargs=2, metavar="ROWS COLUMNS", help="Resizes the positions, in pixels.")
def convert_command(source, target, layout, num_heads, image_size):
    """Writes a checkpoint in another project's layout.

    FROM is what `weights=` takes: a file, an address or a published name. TO is a file: .npz (the official code's, or
    BiT's), .safetensors (with --to timm or --to hf), .keras, .weights.h5; or a folder, with --to timm or --to hf.
    """
    arguments = {"num_heads": num_heads, "input_shape": (*image_size, 3) if image_size else None}
    _work("conversion").convert(source, target, layout, **arguments)
    click.echo(f"wrote {target}")


@main.command("list")
@click.argument("variant", required=False)
def list_command(variant):
    """Lists architectures and published checkpoints.

    Parameters are for 224 x 224 pixels and 1,000 classes; the resolution is in pixels, the accuracy the published top-1
    on ImageNet-1k. With VARIANT, those of that one alone.
    """
    from keras_vit.models.config import VARIANTS, get_variant
    from keras_vit.weights.checkpoints import checkpoints

    if variant:
        get_variant(variant)
    for name, row in VARIANTS.items():
        if variant in (None, name):
            click.echo(f"{name}, {row.parameters:,} parameters")
            for item in checkpoints(name):
                accuracy = f"{item.top1:.2f} %, {item.published}" if item.top1 else ""
                click.echo(f"  {item.name:<40s} {item.image_size:4d}  {item.trained_on:<26s} {accuracy}".rstrip())
