"""The command that counts what a model costs; part of the command line, `keras_vit.cli`."""

import click

from keras_vit.quiet import imported


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
