"""Finds the licence of a checkpoint: what its publisher says beside it, or that of its project."""

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from keras_vit.models.license import TERMS, UNKNOWN_LICENSE, License
from keras_vit.weights import open_clip
from keras_vit.weights.checkpoints import Checkpoint
from keras_vit.weights.formats import CheckpointFile

CONFIGS = ("config.json", open_clip.OPEN_CLIP_CONFIG)
MOST_TEXT = 1 << 16  # bytes of a README.md or a LICENSE that are read
# {pattern of an architecture of timm, ".", the tag of its file: the licence}; source: the pretrained_cfg of the 538
# models of timm 1.0.31 with these patterns, and for OpenAI's own files the LICENSE of openai/CLIP. The first that fits
# counts. LAION's files have several licences, and that of DFN's has changed: not here.
TIMM_LICENSES = {
    r"\.eupe_": "fair-noncommercial-research-license",
    r"dinov3.*\.": "dinov3-license",
    r"\.mae$|ijepa|\.metaclip": "cc-by-nc-4.0",
    r"\.openai$": "mit",
    r"^eva(02)?_": "mit",
    r"^(beit|flexivit|deit|vit_pe_)|siglip|tipsv2|dinov2|\.(augreg|orig_in21k)": "apache-2.0",
}
# {model_type of transformers: the licence that the project has}. Only licences that restrict: a model that somebody
# else trained has at most fewer obligations.
HF_LICENSES = {
    "dinov3_vit": "dinov3-license",
    "vit_mae": "cc-by-nc-4.0",
    "ijepa": "cc-by-nc-4.0",
}


def license_of(file: CheckpointFile, row: Checkpoint | None = None) -> License:
    """Returns the licence of a checkpoint, "unknown" where nothing states it.

    Args:
        file: the opened file.
        row: of the table of published checkpoints, if it is one of these.
    """
    if row:
        return License(row.license, f"as published with {row.name}")
    return next(_statements(file), License(UNKNOWN_LICENSE, "nothing beside the checkpoint states it"))


def _statements(file: CheckpointFile) -> Iterator[License]:
    """Yields the licences that are stated for a file, the most certain first."""
    path, config = pathlib.Path(file.path), file.config
    pretrained: Mapping[str, Any] = config.get("pretrained_cfg") or {}
    # Only in a folder as on the hub: the LICENSE beside another file can be that of something else.
    if path.suffix in (".safetensors", ".json") and any(path.with_name(name).exists() for name in CONFIGS):
        yield from _beside(path.parent)
    if name := config.get("license") or pretrained.get("license"):
        yield License(name, "config.json")
    timm = f"{config.get('architecture', '')}.{pretrained.get('tag', '')}"
    for pattern, name in TIMM_LICENSES.items():
        if pretrained.get("tag") and re.search(pattern, timm):
            yield License(name, f"that of timm's {timm}, which config.json names")
    if name := HF_LICENSES.get(config.get("model_type", "")):
        yield License(name, f"that of the project with model_type={config['model_type']}")
    if file.family and file.family.license:
        yield License(file.family.license, f"assumed, as the arrays are those of {file.family.name}")


def _beside(folder: pathlib.Path) -> Iterator[License]:
    """Yields the licences that a README.md as on the Hugging Face Hub and a LICENSE state."""
    header = re.match(r"---\s*\n(.*?)\n---", _text(folder / "README.md"), re.DOTALL)
    fields = (
        dict(re.findall(r"""^(license|license_name):\s*(?:-\s*)?["']?([\w.+-]+)""", header[1], re.M)) if header else {}
    )
    name = fields.get("license_name") if fields.get("license") == "other" else fields.get("license")
    if name and name != UNKNOWN_LICENSE:
        yield License(name, "README.md")
    for path in sorted(folder.glob("LICENSE*")):
        head = _text(path)[:500].lower()
        yield from (License(name, path.name) for name, terms in TERMS.items() if terms.title.lower() in head)


def _text(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_TEXT).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return ""
