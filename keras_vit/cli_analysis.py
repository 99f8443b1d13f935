"""The commands that look into a model: what it sees, bears and costs; part of the command line, `keras_vit.cli`."""

import click

from keras_vit.cli_options import KINDS, about_model
from keras_vit.quiet import imported

# A table of the package, written out: to read it would import Keras. A test holds them together.
FAMILIES = ("drop", "shuffle", "texture", "shift", "corruptions")


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--output", default="analysis.html", show_default=True, metavar="FILE", help="The page.")
@click.option(
    "--image-size", type=click.IntRange(1), nargs=2, metavar="ROWS COLUMNS", help="Resizes the model, in pixels."
)
@about_model
def analyze(model, images, output, image_size, **said):
    """Shows what a model looks at.

    Writes a page: attention over the pictures by block and head, rollout, relevance for the class that it chose, tokens
    as colours, how far its heads look, its filters and positions, what the stages of a hybrid find, and which pictures
    it finds alike. MODEL is a .keras file, the folder of a run, or a checkpoint as convert takes it. The first 12
    pictures are shown; all count for the heads and for what is alike.
    """
    imported("run_analysis").analyze(model, images, output, image_size or None, **said)
    click.echo(f"wrote {output}")


@click.command()
@click.argument("model")
@click.argument("folder", required=False)
@click.option("--baseline", metavar="MODEL", help="Another model of the same classes, whose curves stand beside.")
@click.option(
    "--family",
    "families",
    multiple=True,
    type=click.Choice(FAMILIES),
    help="What to do to the pictures; all by default.",
)
@click.option("--pictures", default=500, show_default=True, type=click.IntRange(1), help="How many at most.")
@click.option("--output", default="robustness.html", show_default=True, metavar="FILE", help="The page.")
@about_model
@click.option("--baseline-pixels", metavar="RANGE", help="The same as --pixels, of the baseline.")
@click.option("--baseline-outputs", type=click.Choice(KINDS), help="The same as --outputs, of the baseline.")
def robustness(model, folder, baseline, families, pictures, output, **said):
    """Shows how a model bears spoilt pictures.

    Scores it with patches left out, squares in disorder, texture removed, pictures shifted, and under fourteen common
    corruptions, and writes the curves as a page. MODEL and the baseline are .keras files or folders of runs; FOLDER is
    as for evaluate. All of it runs the model 121 times over the pictures.
    """
    imported("analysis.plots").require_matplotlib()  # before hours of work
    work = imported("run_robustness")
    found, rows = work.robustness(model, folder, baseline, pictures=pictures, families=families or None, **said)
    widths = [max(len(row.get(name, "")) for row in [*rows, dict(zip(rows[0], rows[0]))]) for name in rows[0]]
    for row in [dict(zip(rows[0], rows[0])), *rows]:
        click.echo("  ".join(f"{row.get(name, ''):<{width}s}" for name, width in zip(rows[0], widths)).rstrip())
    work.write_page(output, found)
    click.echo(f"wrote {output}")


@click.command()
@click.argument("target", metavar="MODEL|VARIANT|RECIPE")
@click.argument("settings", nargs=-1, metavar="[field=value]...")
@click.option("--image-size", type=click.IntRange(1), nargs=2, metavar="ROWS COLUMNS", help="Of the pictures, pixels.")
@click.option("--images", type=int, metavar="N", help="Pictures of the recipe's training set; else they are counted.")
def cost(target, settings, image_size, images):
    """Counts what a picture costs.

    Parameters, multiply-accumulates and memory for activations, by kind of layer. MODEL is a .keras file, the folder of
    a run, or a checkpoint; VARIANT a name such as ViT-B/16, with a head of 1,000 classes; RECIPE a .py file, of which
    the floating-point operations of its training are told, too: of as many images as it sees in all epochs. Any field
    of the recipe can be set, as for fit.
    """
    found = imported("run_cost").cost_of(target, image_size or None, settings, images)
    shape = " x ".join(map(str, found.cost.input_shape))
    click.echo(f"{found.name}, one picture of {shape}, {found.cost.multiply_accumulates / 1e9:,.4g} GMACs")
    click.echo(found.cost.text())
    if found.images:
        click.echo(f"training: {found.exaflops:,.4g} exaFLOPs, 2 x 3 x multiply-accumulates x {found.images:,} images")
    elif str(target).endswith(".py"):
        click.echo("training: give --images, the pictures of an epoch, which are not on this machine to be counted")
