"""Computes the pre-training cost of every row of the paper's table 6: python benchmarks/table6.py

With one formula for all rows: the multiply-accumulates of an image of 224 x 224 pixels, with a head of 1,000 classes,
x 2 x 3 x the images of all epochs, 303 million per epoch. No weights are created. With --write, updates the table of
docs/cost.md; with --json, prints the numbers as JSON.

Exits with status 1 and prints the row if it misses its target: 3 % of the paper's number for a ViT or a hybrid, 5 % for
a ResNet.

Source: arXiv:2010.11929v2, table 6, column exaFLOPs.
"""

import argparse
import dataclasses
import json
import pathlib

import keras

from keras_vit._atomic import write_text
from keras_vit.builders import build
from keras_vit.evaluation.cost import cost, pretraining_exaflops
from keras_vit.layers import GroupNorm, StdConv
from keras_vit.layers.initializers import weights_to_come
from keras_vit.models.hooks import around_calls, layers_of

DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "cost.md"
BEGIN, END = "<!-- table 6 -->\n", "<!-- end of table 6 -->\n"
JFT = 303_000_000  # images
PAPER = (  # variant, epochs, exaFLOPs
    ("ViT-B/32", 7, 55),
    ("ViT-B/16", 7, 224),
    ("ViT-L/32", 7, 196),
    ("ViT-L/16", 7, 783),
    ("ViT-L/16", 14, 1567),
    ("ViT-H/14", 14, 4262),
    ("BiT-R50x1", 7, 50),
    ("BiT-R50x2", 7, 199),
    ("BiT-R101x1", 7, 96),
    ("BiT-R152x1", 7, 141),
    ("BiT-R152x2", 7, 563),
    ("BiT-R152x2", 14, 1126),
    ("BiT-R200x3", 14, 3306),
    ("R50+ViT-B/32", 7, 106),
    ("R50+ViT-B/16", 7, 274),
    ("R50+ViT-L/32", 7, 246),
    ("R50+ViT-L/16", 7, 859),
    ("R50+ViT-L/16", 14, 1668),
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of the table; `off` is the difference of our number from the paper's, percent."""

    variant: str
    epochs: int
    multiply_accumulates: int
    exaflops: float
    paper: int
    off: float


def lines():
    """Returns a `Line` for each row of the paper's table."""
    counted = {variant: multiply_accumulates(variant) for variant in dict.fromkeys(row[0] for row in PAPER)}
    found = []
    for variant, epochs, paper in PAPER:
        exaflops = pretraining_exaflops(counted[variant], epochs * JFT)
        found.append(Line(variant, epochs, counted[variant], exaflops, paper, 100 * (exaflops / paper - 1)))
    return found


def multiply_accumulates(variant):
    """Returns the multiply-accumulates of one image, without creating the weights; needs its own process.

    As in published counts, the last block computes all tokens, which a plain `keras.Model` does.
    """
    with keras.StatelessScope(initialize_variables=False), weights_to_come():
        model = build(variant)
        # Standardization and normalization have no products, and tracing them takes most of the time.
        for layer in layers_of(model, StdConv):
            layer.folded = True
        with around_calls(layers_of(model, GroupNorm), lambda layer, call, x: x):
            return cost(keras.Model(model.input, model.output)).multiply_accumulates


def table(found):
    """Returns the lines as a Markdown table."""
    rows = ["| variant | epochs | GMACs | exaFLOPs | the paper's | difference |", "|---|--:|--:|--:|--:|--:|"]
    for it in found:
        gmacs, off = it.multiply_accumulates / 1e9, round(it.off, 1) + 0  # no -0.0
        rows.append(f"| {it.variant} | {it.epochs} | {gmacs:.2f} | {it.exaflops:.1f} | {it.paper} | {off:+.1f} % |")
    return "\n".join(rows) + "\n"


def written(document, text):
    """Returns the document with its table replaced."""
    before, rest = document.split(BEGIN)
    return before + BEGIN + text + END + rest.split(END)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table of docs/cost.md")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    arguments = parser.parse_args()
    found = lines()
    text = table(found)
    print(json.dumps({"lines": [*map(dataclasses.asdict, found)], "table": text}) if arguments.json else text)
    if arguments.write:
        write_text(DOCUMENT, written(DOCUMENT.read_text("utf-8"), text))
    missed = [it for it in found if abs(it.off) > (5 if it.variant.startswith("BiT") else 3)]
    if missed:
        raise SystemExit("\n".join(f"{it.variant}, {it.epochs} epochs: {it.off:+.1f} %" for it in missed))


if __name__ == "__main__":
    main()
