"""Tables of exported files for the report and the model card: agreement, size, latency, operators."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_vit.export.targets import INPUTS, TARGETS, image_kind
from keras_vit.report.markdown import escaped, folded, table

BEGIN, END = "<!-- exports -->", "<!-- /exports -->"
_SECTION = re.compile(f"^{re.escape(BEGIN)}$.*?^{re.escape(END)}$", re.DOTALL | re.MULTILINE)


def _ties_by_target() -> str:
    """Returns the differences of probabilities that count as ties, with the names of their targets."""
    names: dict[float, list[str]] = {}
    for name, target in TARGETS.items():
        names.setdefault(target.tie, []).append(name)
    return "; ".join(f"{tie:g} ({', '.join(some)})" for tie, some in sorted(names.items()))


# Explanations of the columns.
NOTES = {
    "agreement": "Share of the images, at the same pixels, with the same predicted class as the Keras model. "
    "Of labels, share of the same decisions by the thresholds. "
    f"With ties: a class also counts whose probability in the Keras model is as high to within {_ties_by_target()}.",
    "accuracy": "Top-1 accuracy of the file on these images, or micro F1 of labels; in brackets that of the Keras "
    "model.",
    "logit difference": "Largest and mean difference between a logit of the file and of the Keras model, after the "
    "mean of each set of logits is subtracted; the same pixels for both.",
    "number difference": "Largest difference between a number of the file and of the Keras model, at the same pixels, "
    "in its own unit and in parts of the largest number.",
    "cosine": "Cosine similarity of the logits of the file and of the Keras model, over all images; 1 is no "
    "difference.",
    "agreement from JPEG": "The same from the bytes of an image file through a client's decoder and resize, against "
    "the Keras model with the decoder and resize of its training; in brackets the agreement that the client's resize "
    "alone leaves, which no export can change.",
    "latency, 1 / 2 threads": "Median of 30 runs for one image on the machine that wrote the file; an indication, not "
    "the latency of a phone.",
    "peak memory": "Of a process that runs this file only, libraries included.",
    "probability difference": "Largest and mean difference between a probability of the file and of the Keras model, "
    "at the same pixels.",
    "largest difference from JPEG": "Largest difference between two probabilities from the bytes of an image file; in "
    "brackets the parts due to the client's resize and to the exported file.",
    "pixel scaling": "How the exported model scales a pixel of 0 to 255; the file does this unless the client does.",
    "none of these": "Share of the images, with ties, that the file and the Keras model both reject as none of the "
    "classes or both do not, and the largest difference between their margins.",
    "in bfloat16": "Agreement, logit difference and latency, 1 / 2 threads, where the runtime computes in bfloat16, as "
    "OpenVINO does by default on a CPU that has this type. All other columns are of float32.",
    "in float16": "Agreement and logit difference where every tensor is rounded to float16, as a GPU does by default.",
    "not supported": "What delegates do not run, by the rules of keras-vit lint: gpu, LiteRT's GPU delegate on phones; "
    "webgpu, LiteRT.js in a browser; npu, processors that compute in integers.",
    "operators": "Operators of the file, with their numbers.",
}


def export_row(agreement: Any) -> dict[str, str]:
    """Returns an exported file's row in the main table, {heading: text}.

    Args:
        agreement: Proof of the file, a `keras_vit.export.proof.Agreement`.
    """
    jpeg = agreement.from_encoded
    return {
        "file": agreement.file,
        "size": _megabytes(agreement.bytes, 2),
        "agreement": "–"
        if agreement.numbers
        else f"{_share(agreement.top1_agreement)} of {_compared(agreement)}{_with_ties(agreement)}",
        "accuracy": ("–" if agreement.numbers else "unknown")
        if agreement.accuracy is None
        else f"{'F1 ' if agreement.labels else ''}{agreement.accuracy:.2%} ({agreement.keras_accuracy:.2%})",
        "logit difference": "–" if agreement.numbers else _difference(agreement.logits),
        "number difference": _numbers(agreement.numbers) if agreement.numbers else "–",
        "cosine": "–" if agreement.numbers or not agreement.logits else f"{agreement.logits['cosine']:.5f}",
        "agreement from JPEG": f"{_share(jpeg['top1_agreement'])} ({_share(jpeg['resize_top1_agreement'])})"
        if jpeg and not agreement.numbers
        else "–",
        "latency, 1 / 2 threads": _latencies(agreement.latency_ms),
        "peak memory": _megabytes(agreement.peak_memory, 0) if agreement.peak_memory else "–",
    }


def export_details(agreement: Any) -> dict[str, str]:
    """Returns an exported file's row in the table of details, {heading: text}.

    Args:
        agreement: Proof of the file, a `keras_vit.export.proof.Agreement`.
    """
    jpeg, operators = agreement.from_encoded, agreement.operators
    return {
        "file": agreement.file,
        "input": _input(agreement.input_type, agreement.channels),
        "pixel scaling": agreement.pixels or "–",
        "probability difference": "–" if agreement.numbers else _difference(agreement.probabilities),
        "largest difference from JPEG": (
            f"{jpeg['max_difference']:.2g} (resize {jpeg['resize_max_difference']:.2g}, file "
            f"{jpeg['file_max_difference']:.2g}), {jpeg['images']:,} images"
        )
        if jpeg
        else "–",
        "none of these": _rejects(agreement.reject),
        "in bfloat16": _in_few_bits(agreement.bfloat16),
        "in float16": _in_few_bits(agreement.float16),
        "not supported": _lint(agreement.lint),
        "operators": ", ".join(f"{count} {kind}" for kind, count in operators.items()) or "–",
    }


def _lint(findings: Mapping[str, Sequence[str]]) -> str:
    """Returns what each delegate does not support, or how many kinds of it."""
    texts = {
        delegate: "; ".join(problems) if len(problems) <= 3 else f"{len(problems)} kinds of operators"
        for delegate, problems in findings.items()
    }
    return ", ".join(f"{delegate}: {text or 'nothing'}" for delegate, text in texts.items()) or "–"


def _input(input_type: str, channels: int) -> str:
    return f"{image_kind(channels)} pixels, {INPUTS[input_type]}" if input_type in INPUTS else "–"


def _rejects(figures: Mapping[str, float]) -> str:
    return f"{figures['agreement_or_tie']:.1%}, margin to {figures['max_difference']:.2g}" if figures else "–"


def export_tables(agreements: Sequence[Any], refused: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the tables of exported files and their notes, as arguments of `keras_vit.report.run_page.Report`.

    Args:
        agreements: Proofs of the files that are kept.
        refused: {file: reason} of those that are not.
    """
    return {
        "exports": _measured([export_row(item) for item in agreements]),
        "export_details": _measured([export_details(item) for item in agreements]),
        "export_notes": NOTES if agreements else {},
        "exports_refused": _refusals(refused),
    }


def _measured(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Returns rows without the columns that have a dash in each of them."""
    return [{name: cell for name, cell in row.items() if any(one[name] != "–" for one in rows)} for row in rows]


def exports_section(agreements: Sequence[Any], refused: Mapping[str, str] | None = None) -> str:
    """Returns the model card's section on exported files, between two marks that `replace_card_exports` looks for.

    Args:
        agreements, refused: As of `export_tables`.
    """
    parts = []
    if agreements:
        tables = export_tables(agreements)
        parts = [
            "Each file was run after it was written, and is kept because its outputs agree with those of the Keras "
            "model.",
            _with_notes(tables["exports"]),
            folded("Details of each file", _with_notes(tables["export_details"])),
        ]
    if refused:
        parts += ["These files were refused and are not kept:", table(_refusals(refused))]
    body = "\n\n".join(parts or ["No exported files."])
    return f"{BEGIN}\n## Exported files\n\n{body}\n{END}"


def _refusals(refused: Mapping[str, str] | None) -> list[dict[str, str]]:
    return [{"file": file, "reason": reason} for file, reason in (refused or {}).items()]


def _with_notes(rows: Sequence[Mapping[str, str]]) -> str:
    notes = "\n".join(f"- **{escaped(heading)}**: {escaped(NOTES[heading])}" for heading in rows[0] if heading in NOTES)
    return f"{table(rows)}\n\n{notes}"


def replace_card_exports(card_text: str, agreements: Sequence[Any], refused: Mapping[str, str] | None = None) -> str:
    """Returns the text of a model card with another section on exported files.

    Args:
        card_text: The text of the card.
        agreements, refused: As of `export_tables`.

    Raises:
        ValueError: If the text has no such section.
    """
    if not _SECTION.search(card_text):
        raise ValueError(
            f"Expected a card with a section from {BEGIN} to {END}, each on its own line. Received: a card without it"
        )
    section = exports_section(agreements, refused)
    return _SECTION.sub(lambda _: section, card_text, count=1)


def _compared(agreement: Any) -> str:
    """Returns the number of images, or of decisions on labels, that were compared."""
    if agreement.labels:
        return f"{agreement.images * agreement.labels:,} decisions on labels"
    return f"{agreement.images:,}"


def _with_ties(agreement: Any) -> str:
    """Returns the agreement where near ties count, if it is higher, as text."""
    higher = agreement.top1_agreement_or_tie > agreement.top1_agreement
    return f", {_share(agreement.top1_agreement_or_tie)} with ties" if higher else ""


def _share(share: float) -> str:
    """Returns a share as a percentage, rounded down: one image in a million keeps it from 100 %."""
    return f"{math.floor(share * 1e4 + 1e-6) / 100:.2f}%"


def _difference(figures: Mapping[str, float]) -> str:
    return f"{figures['max_difference']:.2g}, mean {figures['mean_difference']:.2g}" if figures else "–"


def _numbers(figures: Mapping[str, float]) -> str:
    return f"{figures['max_difference']:.2g}, {figures['relative_difference']:.2g} of the largest"


def _in_few_bits(figures: Mapping[str, Any]) -> str:
    if not figures:
        return "–"
    numbers = figures.get("numbers")
    text = _numbers(numbers) if numbers else f"{_share(figures['top1_agreement'])}; {_difference(figures['logits'])}"
    return f"{text}; {_latencies(figures['latency_ms'])}" if "latency_ms" in figures else text


def _latencies(latency_ms: Mapping[str, float]) -> str:
    if not latency_ms:
        return "–"
    times = (latency_ms.get(threads) for threads in ("1", "2"))
    digits = ("–" if t is None else f"{t:.{0 if t >= 100 else 1 if t >= 10 else 2}f}" for t in times)
    return f"{' / '.join(digits)} ms"


def _megabytes(count: int, digits: int) -> str:
    return f"{count / 1e6:.{digits}f} MB"
