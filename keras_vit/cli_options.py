"""Options that several commands share; part of the command line, `keras_vit.cli`."""

import click

# A table of the package, written out: to read it would import Keras. A test holds them together.
KINDS = ("probabilities", "logits", "scores", "numbers")


def about_model(command):
    """Adds the options that say of a Keras model what it cannot tell itself."""
    command = click.option(
        "--outputs",
        type=click.Choice(KINDS),
        help="What a Keras model returns, where its last layers do not tell.",
    )(command)
    return click.option(
        "--pixels",
        metavar="RANGE",
        help="The pixels that a Keras model was trained on, where it does not tell: raw (0 to 255), 0..1, -1..1, "
        "imagenet, or MEAN/STD as parts of 255, such as 0.5/0.5.",
    )(command)
