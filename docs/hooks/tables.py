"""The tables of docs/architectures.md and docs/checkpoints.md, from the tables of the package, and measured ones.

Each function returns Markdown. They need neither Keras nor TensorFlow.
"""

import pathlib
from collections.abc import Iterable

import keras_vit_command  # noqa: F401  first: `import keras_vit` then does not import Keras
from keras_vit.models.config import VARIANTS, Variant
from keras_vit.weights import checkpoints as published

# Billions of multiply-accumulates of an image of 224 x 224 pixels, of all tokens, as benchmarks/table6.py counts them.
GMACS = {
    "ViT-Ti/16": 1.25,
    "ViT-S/8": 22.41,
    "ViT-S/14": 6.12,
    "ViT-S/16": 4.60,
    "ViT-S/32": 1.14,
    "ViT-B/8": 78.15,
    "ViT-B/16": 17.56,
    "ViT-B/32": 4.41,
    "ViT-L/14": 81.01,
    "ViT-L/16": 61.55,
    "ViT-L/32": 15.38,
    "ViT-H/14": 167.30,
    "ViT-g/14": 267.03,
    "ViT-G/14": 483.75,
    "R+ViT-Ti/16": 0.43,
    "R26+ViT-S/32": 3.46,
    "R26+ViT-B/32": 6.71,
    "R50+ViT-B/16": 21.54,
    "R50+ViT-B/32": 8.46,
    "R50+ViT-L/16": 65.54,
    "R50+ViT-L/32": 19.41,
    "BiT-R50x1": 4.09,
    "BiT-R50x2": 16.12,
    "BiT-R50x3": 36.08,
    "BiT-R101x1": 7.80,
    "BiT-R101x3": 69.49,
    "BiT-R152x1": 11.51,
    "BiT-R152x2": 45.81,
    "BiT-R152x4": 182.78,
    "BiT-R200x3": 134.35,
}

CHOOSE_IT = {
    "ViT-Ti/16": "for a phone or a CPU",
    "ViT-S/8": "for fine details with few parameters",
    "ViT-S/14": "for DINOv2-small",
    "ViT-S/16": "first, to fine-tune on your own images",
    "ViT-S/32": "for speed: a quarter of ViT-S/16's computation",
    "ViT-B/8": "for fine details; 4.5 times ViT-B/16's computation",
    "ViT-B/16": "for higher accuracy, on a GPU or a server",
    "ViT-B/32": "for four times ViT-S/16's parameters at the same computation",
    "ViT-L/14": "for DINOv2-large",
    "ViT-L/16": "for the highest published accuracy of this table",
    "ViT-L/32": "to compare with the paper; ViT-B/16 is more accurate",
    "ViT-H/14": "for features, or to fine-tune the largest published file",
    "ViT-g/14": "to pre-train on many devices",
    "ViT-G/14": "to pre-train on many devices",
    "R+ViT-Ti/16": "for the least computation",
    "R26+ViT-S/32": "in place of ViT-S/16: a quarter less computation, more parameters",
    "R26+ViT-B/32": "for features, or to fine-tune",
    "R50+ViT-B/16": "to compare with the paper",
    "R50+ViT-B/32": "to repeat the paper's table 6",
    "R50+ViT-L/16": "to repeat the paper's table 6",
    "R50+ViT-L/32": "in place of ViT-L/16: a third of its computation",
    "BiT-R50x1": "for images of any size; its distilled file has 82.8 %",
    "BiT-R50x2": "to repeat the paper's table 6",
    "BiT-R50x3": "for higher accuracy than BiT-R50x1 at 448 pixels",
    "BiT-R101x1": "between BiT-R50x1 and BiT-R50x3, at 448 pixels",
    "BiT-R101x3": "for higher accuracy than BiT-R50x3 at 448 pixels",
    "BiT-R152x1": "to repeat the paper's table 6",
    "BiT-R152x2": "as the teacher of BiT-R50x1's distilled file",
    "BiT-R152x4": "for the highest published accuracy of a BiT",
    "BiT-R200x3": "to repeat the paper's table 6",
}

TRAINED_ON = {
    "imagenet21k": "ImageNet-21k",
    "imagenet12k": "ImageNet-12k",
    "imagenet2012": "ImageNet-1k",
    "webli": "WebLI",
    "wit400m": "WIT-400M",
    "laion2b": "LAION-2B",
    "lvd1689m": "LVD-1689M",
    "sat493m": "SAT-493M",
    "merged38m": "Merged-38M",
    "unnamed": "",
}


def variants() -> str:
    """Returns the sizes of the Vision Transformers, then the variants of each kind, a row each."""
    parts = ["### Sizes", "", _sizes()]
    for title, names in _by_kind(VARIANTS):
        rows = [(f"`{name}`", CHOOSE_IT[name], *_facts(name)) for name in names]
        head = ("variant", "choose it", ">parameters", ">GMACs", ">top-1, % (pixels)")
        parts += ["", f"### {title}", "", _table(head, rows)]
    without = [f"`{name}`" for name in VARIANTS if not published.checkpoints(name)]
    parts += ["", f"No official checkpoint exists of {', '.join(without[:-1])} and {without[-1]}."]
    return "\n".join(parts)


def _facts(name: str) -> tuple[str, str, str]:
    """Returns the parameters, the multiply-accumulates and the best published accuracy of a variant."""
    best = max((row for row in published.checkpoints(name) if row.top1), key=lambda row: row.top1 or 0, default=None)
    accuracy = f"{best.top1:.1f} ({best.image_size})" if best else ""
    return f"{(VARIANTS[name].parameters or 0) / 1e6:,.1f} M", f"{GMACS[name]:.2f}", accuracy


def _sizes() -> str:
    """Returns the table of the letters in the names of Vision Transformers."""
    rows = {}
    for name, row in VARIANTS.items():
        if isinstance(row, Variant):
            letter = name.partition("ViT-")[2].partition("/")[0]
            rows[letter] = (f"`{letter}`", row.num_layers, row.hidden_size, row.num_heads, row.mlp_dim)
    return _table(("size", ">num_layers", ">hidden_size", ">num_heads", ">mlp_dim"), rows.values())


def families() -> str:
    """Returns the tables of differences from other projects that benchmarks/families.py measured."""
    return (pathlib.Path(__file__).parents[1] / "results" / "families.md").read_text("utf-8")


def checkpoints() -> str:
    """Returns the published checkpoints of each kind of architecture, a row each."""
    rows = published.checkpoints()
    licenses = ", ".join(sorted({row.license for row in rows if row.variant}))
    parts = [f"{len(rows)} checkpoints. Licence of those with a variant: {licenses}; of a family, see there."]
    for title, names in _by_kind(VARIANTS):
        cells = []
        for row in rows:
            if row.variant in names:
                data = _data(row) + ("; head of zeros" if row.head == "zero" else "")
                cells.append((f"`{row.name}`", row.image_size, data, _accuracy(row)))
        parts += ["", f"### {title}", "", _table(("name", ">pixels", "trained on", ">top-1, %"), cells)]
    for family in published.families():
        cells = [
            (f"`{row.name}`", row.image_size, f"{(row.parameters or 0) / 1e6:,.0f} M", _data(row), _accuracy(row))
            for row in published.checkpoints(family)
        ]
        names = ", ".join(dict.fromkeys(row.license for row in published.checkpoints(family)))
        head = ("name", ">pixels", ">parameters", "trained on", ">top-1, %")
        parts += ["", f"### {family}", "", f"Licence: {names}.", "", _table(head, cells)]
    return "\n".join(parts)


def _data(row: published.Checkpoint) -> str:
    """Returns in words what a checkpoint was trained on, first and last."""
    return ", then ".join(TRAINED_ON[name] for name in row.trained_on.split("+")).replace("then ImageNet-1k", "then 1k")


def _accuracy(row: published.Checkpoint) -> str:
    if row.top1 is None:
        return ""
    source = "" if (row.published or "").startswith("timm") else f" ({row.published})"
    return f"{row.top1:.2f}{source}"


def _by_kind(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Returns the names of variants under the title of their kind."""
    kinds: dict[str, list[str]] = {"Vision Transformers": [], "Hybrids": [], "BiT": []}
    for name in names:
        kinds["BiT" if name.startswith("BiT") else "Hybrids" if "+" in name else "Vision Transformers"].append(name)
    return list(kinds.items())


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Returns a Markdown table; a column whose title starts with ">" is aligned to the right."""
    head = list(head)
    lines = [
        " | ".join(title.removeprefix(">") for title in head),
        " | ".join("--:" if title.startswith(">") else "---" for title in head),
        *(" | ".join(map(str, row)) for row in rows),
    ]
    return "\n".join(f"| {line} |" for line in lines)
