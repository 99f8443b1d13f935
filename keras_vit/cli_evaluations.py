"""The command that judges a model; part of the command line, `keras_vit.cli`."""

import click

from keras_vit.cli_options import about_model
from keras_vit.quiet import imported


@click.command()
@click.argument("model")
@click.argument("folder", required=False)
@click.option("--flips", is_flag=True, help="Judge each picture together with its mirror image.")
@click.option(
    "--classes", metavar="FILE", help="A list of the classes to choose from, by name, number or wnid, one a line."
)
@click.option("--real", metavar="FILE", help="The published ReaL labels, real.json, for ImageNet's validation set.")
@click.option(
    "--few-shot",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    help="Judge a linear classifier that learns from N pictures a class; more than once too.",
)
@click.option("--knn", is_flag=True, help="Judge the 20 nearest neighbours among the training pictures.")
@click.option(
    "--linear-probe", is_flag=True, help="Judge a logistic regression that learns from the training pictures."
)
@click.option(
    "--image-size", type=click.IntRange(1), nargs=2, metavar="ROWS COLUMNS", help="Resizes the model, in pixels."
)
@click.option(
    "--class-depth", type=click.IntRange(1), default=1, metavar="N", help="How many folders down the classes lie."
)
@click.option("--output", metavar="FILE", help="A page with it all, confusions and a reliability plot.")
@about_model
def evaluate(model, folder, image_size, output, **options):
    """Scores a model on pictures.

    MODEL is a .keras file, the folder of a run, an exported file, or a checkpoint as convert takes it. FOLDER holds a
    folder of pictures a class; of one with test/ that part is used, else val/, else all of it. Without FOLDER, the test
    pictures of the run are. A model of the ImageNet classes takes folders named by wnid or number, too.

    --few-shot, --knn and --linear-probe say what the model's features are good for, those of a model without a head
    too: they learn from train/, or from four fifths of a folder without parts, whatever its classes are. Features
    are kept for the next time.
    """
    found = imported("run_evaluations").evaluate(model, folder, image_size=image_size or None, **options)
    click.echo(found.text())
    if output:
        found.write_page(output, f"{model} on {folder or 'the test pictures of its run'}")
        click.echo(f"wrote {output}")
