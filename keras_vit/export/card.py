"""The model card: what a file takes and gives, and how well."""

from importlib import resources
from string import Template

from keras_vit.atomic import write_text
from keras_vit.export.targets import INPUTS


def write_card(path, *, exports, takes, bad, **facts):
    """Writes card.md, from the template of that name.

    Args:
        path: the file.
        exports: the `Agreement`s.
        takes: what the exported files take, out of `INPUTS`.
        bad: number of pictures left out because they could not be read.
        facts: the other values of the template.
    """
    rows = [
        "| file | size | largest difference | same first class | accuracy | time a picture |",
        "|---|---|---|---|---|---|",
    ]
    for item in exports:
        cells = export_row(item).values()
        rows.append(f"| {' | '.join(cells)} |")
    template = Template(resources.files("keras_vit").joinpath("export/card.md").read_text("utf-8"))
    text = template.substitute(
        facts,
        exports="\n".join(rows) if exports else "Nothing was exported.",
        takes=INPUTS[takes],
        dtype="uint8" if takes == "uint8" else "float32",
        bad=f"\n{bad} pictures could not be read and were left out." if bad else "",
    )
    write_text(path, text)


def export_row(agreement):
    """Returns what tables say of an exported file, {heading: words}."""
    accuracy = "unknown" if agreement.accuracy is None else f"{agreement.accuracy:.2%}"
    return {
        "file": agreement.file,
        "size": f"{agreement.bytes / 1e6:.2f} MB",
        "largest difference": f"{agreement.largest_difference:.1e}",
        "same first class": f"{agreement.top1_agreement:.2%} of {agreement.pictures}",
        "accuracy": accuracy,
        "time a picture": f"{agreement.milliseconds:.2f} ms",
    }
