"""The commands that make exported files and compare them; part of the command line, `keras_vit.cli`."""

import click

from keras_vit.cli_options import about_model
from keras_vit.quiet import imported

# Tables of the package, written out: to read them would import Keras. A test holds them together.
TARGETS = ("tflite", "savedmodel", "onnx", "tflite-float32", "tflite-float16", "tflite-int8", "tflite-rounded-int8")
TARGETS += ("tflite-static-int8", "tflite-int4", "web", "web-float32")
INPUTS = ("uint8", "float32", "scaled")
ALSO = ("features", "rollout")
REFUSED = 3  # exit status where a file was made and does not answer like the model, or could not be made


def agreement_words(file, bytes, pictures, logits, top1_agreement, accuracy, milliseconds, numbers=None, **_):
    """Returns a line on an exported file, from the fields of its `Agreement`."""
    if numbers:
        alike = f"numbers differ by at most {numbers['largest']:.1e} on {pictures:,} pictures"
    else:
        alike = (
            f"same class as Keras on {top1_agreement:.2%} of {pictures:,} pictures, logits differ by at most "
            f"{logits['largest']:.1e}"
        )
    correct = "" if accuracy is None else f"accuracy {accuracy:.2%}, "
    return f"  {file:<24s} {bytes / 1e6:7.2f} MB, {correct}{alike}, {max(milliseconds.items())[1]:.1f} ms"


def refused_words(file, reason):
    """Returns what is said of a file that is not kept."""
    return f"  {file} is not kept: {reason}"


def _facts(command):
    """Adds an option a fact that stands inside the file."""
    for name in ("license", "author", "version", "description", "name"):
        command = click.option(f"--{name}", help=f"The {name} that the file tells of itself.")(command)
    return command


@click.command()
@click.argument("model")
@click.option(
    "--to",
    "targets",
    multiple=True,
    type=click.Choice(TARGETS),
    help="What to make, more than once too; tflite by default.",
)
@click.option("--output", metavar="DIR", help="Folder for the files; the model's own by default.")
@click.option("--data", metavar="DATA", help="Pictures to compare on; those of the model's run by default.")
@click.option(
    "--input",
    "takes",
    default="uint8",
    show_default=True,
    type=click.Choice(INPUTS),
    help="What the files take: whole pixels 0 to 255, pixels in float32, or pixels that the client scales.",
)
@click.option(
    "--output-type",
    "gives",
    default="float32",
    show_default=True,
    type=click.Choice(("float32", "uint8")),
    help="Type of the probabilities; uint8, 255 for 1, with 8 and 4 bits alone.",
)
@click.option(
    "--picture-size",
    type=click.IntRange(1),
    nargs=2,
    metavar="ROWS COLUMNS",
    help="Pictures of this size, resized inside.",
)
@click.option("--also", multiple=True, type=click.Choice(ALSO), help="Outputs beside the probabilities.")
@click.option("--bundle", is_flag=True, help="Write a .zip to test a device with beside each .tflite file.")
@click.option("--in-float", multiple=True, metavar="LAYER", help="A layer that keeps its bits, as block_00/mlp/out.")
@click.option("--runtime", metavar="DIR", help="Where npm has put LiteRT.js, for a page; node_modules by default.")
@about_model
@_facts
def export(
    model, targets, output, data, takes, gives, picture_size, also, bundle, in_float, runtime, pixels, outputs, **facts
):
    """Exports a model to files that run elsewhere.

    MODEL is a .keras file or the folder of a run. tflite is tflite-int8: TFLite with 8-bit weights, for phones. Each
    file is run as a client does and compared with the model before it gets its name; what was found stands in
    proof.json, report.html and card.md. Files that do not answer like it are not kept, and the exit status is 3.
    """
    work = imported("run_exports")
    try:
        folder, agreements = work.export(
            model,
            targets or TARGETS[:1],
            output,
            data,
            takes=takes,
            gives=gives,
            picture_size=picture_size or None,
            also=tuple(dict.fromkeys(also)),
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


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--data", metavar="DATA", help="Pictures for the accuracy; else what the proof beside a file says.")
def bench(files, data):
    """Compares exported files.

    Latency (median of 30, one picture at a time), memory, size and accuracy of .tflite and .onnx files, SavedModels
    and pages, side by side.
    """
    rows = list(imported("run_exports").bench(files, data))
    notes = [note for row in rows if (note := row.pop("note"))]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in (dict(zip(widths, widths)), *rows):
        click.echo("  ".join(f"{row[name]:<{width}s}" for name, width in widths.items()).rstrip())
    for note in notes:
        click.echo(note)
