"""What tables say of exported files, the same in the card and in the report."""

import math
import re

from keras_vit.export.targets import INPUTS
from keras_vit.report.markdown import escaped, folded, table

BEGIN, END = "<!-- exports -->", "<!-- /exports -->"
_SECTION = re.compile(f"^{re.escape(BEGIN)}$.*?^{re.escape(END)}$", re.DOTALL | re.MULTILINE)

# What the columns hold that do not speak for themselves.
NOTES = {
    "same first class": "Part of the images, at the same pixels, whose most probable class is the Keras model's; but "
    "for ties: or one that the model gives as much as that, to 0.05 with 8 and 4 bits, 0.01 with 16, 0.0001 with 32.",
    "accuracy": "Part of them that the file puts into the true class; in brackets the Keras model.",
    "logits differ by": "Largest and mean difference between a logit of the file and of the Keras model, each set of "
    "logits centred; the same pixels for both.",
    "cosine": "Of the angle between the two sets of logits, over all images; 1 is no difference.",
    "from JPEG": "Same first class, from the bytes of a file through a client's decoder and resize to the answer, "
    "against the Keras model behind the decoder and resize of its training; in brackets the part that is the client's "
    "resize alone, which no export can change.",
    "time, 1 / 2 threads": "Median of 30 runs for one image on the machine that wrote it; a first idea, not a "
    "phone's figure.",
    "memory": "The most that a process held which ran the file and nothing else, its libraries included.",
    "probabilities differ by": "Largest and mean difference between a probability of the file and of the Keras model, "
    "at the same pixels.",
    "from JPEG, at most": "Largest difference between two probabilities on the way from JPEG bytes; in brackets "
    "what is due to the client's resize, and what to the file.",
    "reads": "How the exported model reads a pixel of 0 to 255; the file scales unless the client does.",
    "a GPU refuses": "What LiteRT's GPU delegate would leave to the processor, as far as it was seen to in a browser.",
    "operators": "What the file is made of.",
}


def export_row(agreement):
    """Returns what the first table says of an exported file, {heading: words}."""
    jpeg = agreement.from_bytes
    return {
        "file": agreement.file,
        "size": _megabytes(agreement.bytes, 2),
        "same first class": "–"
        if agreement.numbers
        else f"{_share(agreement.top1_agreement)} of {agreement.images:,}{_ties(agreement)}",
        "accuracy": "unknown"
        if agreement.accuracy is None
        else f"{agreement.accuracy:.2%} ({agreement.keras_accuracy:.2%})",
        "logits differ by": _numbers(agreement.numbers) if agreement.numbers else _difference(agreement.logits),
        "cosine": "–" if agreement.numbers or not agreement.logits else f"{agreement.logits['cosine']:.5f}",
        "from JPEG": f"{_share(jpeg['top1_agreement'])} ({_share(jpeg['resize_top1_agreement'])})"
        if jpeg and not agreement.numbers
        else "–",
        "time, 1 / 2 threads": _times(agreement.milliseconds),
        "memory": _megabytes(agreement.peak_memory, 0) if agreement.peak_memory else "–",
    }


def export_details(agreement):
    """Returns what the second table says of an exported file, {heading: words}."""
    jpeg, operators = agreement.from_bytes, agreement.operators
    return {
        "file": agreement.file,
        "input": INPUTS.get(agreement.input_type, "–"),
        "reads": agreement.pixels or "–",
        "probabilities differ by": "–" if agreement.numbers else _difference(agreement.probabilities),
        "from JPEG, at most": f"{jpeg['largest']:.2g} (resize {jpeg['resize_largest']:.2g}, file "
        f"{jpeg['file_largest']:.2g}), {jpeg['images']:,} images"
        if jpeg
        else "–",
        "a GPU refuses": "; ".join(agreement.gpu_refused) or ("nothing" if operators else "–"),
        "operators": ", ".join(f"{count} {kind}" for kind, count in operators.items()) or "–",
    }


def export_tables(agreements, refused=None):
    """Returns the tables and the notes on them, as `keras_vit.report.page.Report` takes them.

    Args:
        agreements: of the files that are kept.
        refused: {file: reason} of those that are not.
    """
    return {
        "exports": [export_row(item) for item in agreements],
        "export_details": [export_details(item) for item in agreements],
        "export_notes": NOTES if agreements else {},
        "exports_refused": _refusals(refused),
    }


def exports_section(agreements, refused=None):
    """Returns the card's section on exported files, between two marks that `replace_exports` finds again.

    Args:
        agreements, refused: as of `export_tables`.
    """
    parts = []
    if agreements:
        tables = export_tables(agreements)
        parts = [
            "Each file was run again after it was written, and is here because it answered like the Keras model.",
            _with_notes(tables["exports"]),
            folded("What each file is made of", _with_notes(tables["export_details"])),
        ]
    if refused:
        parts += ["These files were refused and are not here:", table(_refusals(refused))]
    body = "\n\n".join(parts or ["Nothing was exported."])
    return f"{BEGIN}\n## Exported files\n\n{body}\n{END}"


def _refusals(refused):
    return [{"file": file, "reason": reason} for file, reason in (refused or {}).items()]


def _with_notes(rows):
    notes = "\n".join(f"- **{escaped(heading)}**: {escaped(NOTES[heading])}" for heading in rows[0] if heading in NOTES)
    return f"{table(rows)}\n\n{notes}"


def replace_card_exports(card_text, agreements, refused=None):
    """Returns the text of a card with the section on exported files made anew.

    Args:
        card_text: the text.
        agreements, refused: as of `export_tables`.

    Raises:
        ValueError: if the text has no such section.
    """
    if not _SECTION.search(card_text):
        raise ValueError(f"Expected a card with a section from {BEGIN} to {END}, each on a line. Received one without.")
    section = exports_section(agreements, refused)
    return _SECTION.sub(lambda _: section, card_text, count=1)


def _ties(agreement):
    """Returns what the agreement is where near ties count, if that is more, in words."""
    more = agreement.top1_or_tie > agreement.top1_agreement
    return f", {_share(agreement.top1_or_tie)} but for ties" if more else ""


def _share(share):
    """Returns a share in per cent, rounded down: one image in a million keeps it from 100."""
    return f"{math.floor(share * 1e4 + 1e-6) / 100:.2f}%"


def _difference(figures):
    return f"{figures['largest']:.2g}, mean {figures['mean']:.2g}" if figures else "–"


def _numbers(figures):
    return f"numbers: {figures['largest']:.2g}, {figures['relative']:.2g} of the largest"


def _times(milliseconds):
    if not milliseconds:
        return "–"
    times = (milliseconds.get(threads) for threads in ("1", "2"))
    digits = ("–" if t is None else f"{t:.{0 if t >= 100 else 1 if t >= 10 else 2}f}" for t in times)
    return f"{' / '.join(digits)} ms"


def _megabytes(count, digits):
    return f"{count / 1e6:.{digits}f} MB"
