"""The header of a model card: what the Hugging Face Hub reads of a model.

Source: the Hub's documentation, "Model Cards" and the annotated example (hub-docs, modelcard.md).
"""

import re

# The identifiers that the Hub takes for `license`, as it names them in its refusal of any other (May 2026).
LICENSES = frozenset(
    """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr
    mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
    grok2-community gemma unknown""".split()
)
_PLAIN = re.compile(r"[A-Za-z][\w./+-]*", re.ASCII)
_NOT_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # words that YAML reads as something else


def header(*, name, data, accuracy, ece, license=None, hub_data=None, base_model=None):
    """Returns the YAML header of a card, with its two lines of dashes.

    Args:
        name: of the model.
        data: name of the data set, for people.
        accuracy: on the test pictures, 0 to 1.
        ece: expected calibration error on them, 0 to 1.
        license: its name, such as "Apache-2.0"; None where nobody said.
        hub_data: the data set's name on the Hub, "owner/name", or None.
        base_model: the same of the checkpoint it was made from.
    """
    metrics = [
        {"type": "accuracy", "name": "Test accuracy", "value": round(accuracy, 6)},
        {"type": "expected_calibration_error", "name": "Expected calibration error", "value": round(ece, 6)},
    ]
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        # The Hub wants a type; "imagefolder" is what its own tools put for pictures that are not on it.
        "dataset": {"type": hub_data or "imagefolder", "name": data, "split": "test"},
        "metrics": metrics,
    }
    fields = {
        **_license(license),
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "vision-transformer", "keras-vit"],
        "datasets": [hub_data] if hub_data else None,
        "metrics": ["accuracy"],
        "base_model": base_model,
        "model-index": [{"name": name, "results": [result]}],
    }
    return "\n".join(["---", *_block({key: value for key, value in fields.items() if value}), "---"])


def _license(license):
    name = re.sub(r"[^a-z0-9.+-]+", "-", (license or "unknown").lower()).strip("-")
    return {"license": name} if name in LICENSES else {"license": "other", "license_name": name or "unnamed"}


def _block(value, indent=""):
    """Returns lists, dicts and scalars as lines of YAML."""
    lines = []
    marked = [("-", item) for item in value] if isinstance(value, list) else [(f"{k}:", v) for k, v in value.items()]
    for mark, item in marked:
        if not isinstance(item, list | dict):
            lines.append(f"{indent}{mark} {_scalar(item)}")
        elif mark == "-":
            first, *others = _block(item, indent + "  ")
            lines += [f"{indent}- {first.strip()}", *others]
        else:
            lines += [f"{indent}{mark}", *_block(item, indent + "  ")]
    return lines


def _scalar(value):
    if not isinstance(value, str):
        return repr(value)
    return value if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT else _quoted(value)


def _quoted(text):
    """Returns a double-quoted scalar; what cannot be printed, or is half a character, is written as its number."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no character
    escaped = (f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(escaped)}"'
