"""The command line, `keras-vit`; says what is wanted and shows what came, the work is done in `workflow`.

Keras and its backend take seconds to import, so they are imported inside the commands, where they are used.
"""

import logging
import os
import sys

import click

import keras_vit
from keras_vit.cli_analysis import analyze, cost, robustness
from keras_vit.cli_evaluations import evaluate
from keras_vit.cli_exports import REFUSED, agreement_words, bench, export, refused_words
from keras_vit.cli_options import about_model
from keras_vit.quiet import imported

LAYOUTS = ("npz", "bit", "hf", "timm")


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
    """Trains Vision Transformers on your own pictures and makes files that a phone runs."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("keras_vit")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


@main.command()
@click.argument("folder")
@click.option("--class-depth", type=click.IntRange(1), metavar="N", help="How many folders down the classes lie.")
@click.pass_context
def check(context, folder, class_depth):
    """Says what is in a folder of pictures.

    FOLDER holds a folder of pictures a class, or train/ and test/ with such folders; a .zip of one and a .csv will do.
    Tells classes and counts, imbalance, unreadable pictures, odd formats, rotated ones, exact duplicates, and whether
    fit would take the folder; ends with the command to type next, or with status 2. Nothing is written.
    """
    from keras_vit.data.check import check
    from keras_vit.run_recipe import FOLDER_RECIPE

    found = check(folder, class_depth=class_depth, image_size=FOLDER_RECIPE["image_size"])
    click.echo(found.text())
    if found.problems:
        context.exit(2)


for command in (export, bench, evaluate, analyze, robustness, cost):
    main.add_command(command)


def _recipe(target, settings, quick):
    """Returns the recipe that a command names, with the settings that follow it, and a name for its runs."""
    from keras_vit.run_recipe import find_recipe
    from keras_vit.training.quick import quick as made_small
    from keras_vit.training.recipe import change

    recipe, name = find_recipe(target)
    recipe = change(recipe, settings)
    return (made_small(recipe), f"{name}-quick") if quick else (recipe, name)


@main.command()
@click.argument("recipe_or_data", metavar="RECIPE|DATA", required=False)
@click.argument("settings", nargs=-1, metavar="[field=value]...")
@click.option("--output", metavar="DIR", help="Folder of the run; runs/NAME by default.")
@click.option("--quick", is_flag=True, help="Run the recipe whole in a minute's size, to see that it works.")
@click.option("--resume", metavar="FOLDER", help="Go on with the run in a folder, with its own recipe.")
def fit(recipe_or_data, settings, output, quick, resume):
    """Trains a model and exports it.

    Evaluates it on the test pictures, and writes a report and a card too.

    RECIPE is a .py file that defines RECIPE, such as recipes/digits.py. DATA is a folder with a folder of pictures a
    class, or train/ and test/ with such folders; a .zip of one; a .csv of path,label; digits, fashion_mnist,
    hf:NAME, or a name of TensorFlow Datasets. Any field of the recipe can be set: epochs=3 learning_rate=1e-4
    variant=ViT-S/16 image_size=224 weights=S_16.npz on_bad_image=skip.

    A run that was cut off goes on when the same command is given again, or with --resume. An export that does not
    answer like the model is not kept; all else is made, and the exit status is 3.
    """
    if bool(resume) == bool(recipe_or_data) or (resume and (output or quick)):
        raise click.UsageError("Expected a RECIPE or DATA, or --resume FOLDER alone.")
    workflow = imported()
    if resume:
        recipe, output = imported("run_folder").recipe_in(resume), resume
    else:
        recipe, name = _recipe(recipe_or_data, settings, quick)
        output = output or os.path.join("runs", name)
    metrics = workflow.fit(recipe, output)
    if metrics is None:
        click.echo("this worker is done; the chief writes the files")
        return
    click.echo(f"\n{workflow.words_of(metrics)}")
    for item in metrics["exports"]:
        click.echo(agreement_words(**item))
    refused = metrics.get("refused", [])  # not in the metrics of older runs
    for item in refused:
        click.echo(refused_words(**item))
    click.echo(f"\nEverything lies in {output}: open report.html first.")
    if refused:
        click.get_current_context().exit(REFUSED)


@main.command()
@click.argument("recipe_or_data", metavar="RECIPE|DATA")
@click.argument("settings", nargs=-1, metavar="[field=value]...")
@click.option("--output", metavar="FILE", help="The page; runs/NAME-preview.html by default.")
def preview(recipe_or_data, settings, output):
    """Shows pictures as the training sees them.

    Writes a page of augmented pictures with their labels, out of the very batches that fit would train on.
    """
    workflow = imported()
    recipe, name = _recipe(recipe_or_data, settings, quick=False)
    click.echo(f"wrote {workflow.preview(recipe, output or os.path.join('runs', f'{name}-preview.html'))}")


@main.command()
@click.argument("recipe_or_data", metavar="RECIPE|DATA")
@click.argument("settings", nargs=-1, metavar="[field=value]...")
@click.option("--steps", default=100, show_default=True, type=click.IntRange(10), help="Most steps to try.")
def lr(recipe_or_data, settings, steps):
    """Looks for a learning rate.

    Trains under a rate that grows from step to step, and shows the loss. Nothing of it is kept.
    """
    workflow = imported()
    recipe, _ = _recipe(recipe_or_data, settings, quick=False)
    click.echo(workflow.find_learning_rate(recipe, steps).text())


def run(file):
    """Trains the recipe of a file that is run itself: `python recipes/digits.py [--output DIR] [field=value ...]`."""
    main(["fit", file, *sys.argv[1:]])


@main.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Classes an image.")
@about_model
def predict(model, images, top, pixels, outputs):
    """Names what is on images.

    MODEL is a .keras file, the folder of a run, a checkpoint, or an exported file: a .tflite is run as a phone does,
    with what is in it alone. A model that returns numbers gives those.
    """
    workflow = imported()
    for handler in logging.getLogger("keras_vit").handlers:
        handler.setStream(sys.stderr)  # what is read from stdout is the answers alone
    subject = workflow.open_subject(model, pixels, outputs)
    for image, found in workflow.predictions(subject, images, top):
        click.echo(f"{image}: " + ", ".join(_said(name, value, subject.class_names) for name, value in found))


def _said(name, value, class_names):
    if class_names:
        return f"{name} {value:.1%}"
    return f"{value:.6g}" if name == "numbers" else f"{name} {value:.6g}"


@main.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--to", "layout", type=click.Choice(LAYOUTS), help="Whose layout; told from the name where it can be.")
@click.option(
    "--num-heads", type=int, help="Attention heads, where the file does not tell: 64 numbers each by default."
)
@click.option("--image-size", type=int, nargs=2, metavar="ROWS COLUMNS", help="Resizes the positions, in pixels.")
def convert(source, target, layout, num_heads, image_size):
    """Writes a checkpoint in another project's layout.

    FROM is what `weights=` takes: a file, an address or a published name. TO is a file: .npz (the official code's, or
    BiT's), .safetensors (with --to timm or --to hf), .keras, .weights.h5; or a folder, with --to timm or --to hf.
    """
    imported()
    import keras_vit

    arguments = {"num_heads": num_heads, "input_shape": (*image_size, 3) if image_size else None}
    keras_vit.convert(source, target, layout, **arguments)
    click.echo(f"wrote {target}")


@main.command(name="list")
@click.argument("variant", required=False)
def list_checkpoints(variant):
    """Lists architectures and published checkpoints.

    Parameters are for 224 x 224 pixels and 1,000 classes; the resolution is in pixels, the accuracy the published top-1
    on ImageNet-1k. With VARIANT, those of that one alone.
    """
    from keras_vit.variants import VARIANTS, get_variant
    from keras_vit.weights.checkpoints import checkpoints

    if variant:
        get_variant(variant)
    for name, row in VARIANTS.items():
        if variant in (None, name):
            click.echo(f"{name}, {row.parameters:,} parameters")
            for item in checkpoints(name):
                accuracy = f"{item.top1:.2f} %, {item.published}" if item.top1 else ""
                click.echo(f"  {item.name:<40s} {item.image_size:4d}  {item.trained_on:<26s} {accuracy}".rstrip())


if __name__ == "__main__":
    main()
