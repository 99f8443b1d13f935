"""The families of published Vision Transformers whose files need more than the shapes of their arrays."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from keras_vit.models.config import Rotary

Config = Mapping[str, Any]


class Shown(NamedTuple):
    """What the arrays of a file show of it.

    Args:
        hidden_size: as in `Variant`.
        is_gated: whether its MLPs are SwiGLU.
        grid: (rows, columns) of its positions, or None.
    """

    hidden_size: int
    is_gated: bool
    grid: tuple[int, int] | None


class Family(NamedTuple):
    """A family of published checkpoints.

    Args:
        name: of the family.
        formats: keys of `names.FORMATS`, in which its files are.
        has, lacks: names of arrays that all its files have, and that none has.
        norm_epsilon: of the layer norms, where no configuration says it.
        gelu: form of the GELU, likewise.
        fields: function of a configuration and of what the arrays show: fields of the `Variant` that these do not.
        mean, std: of pixels from 0 to 1, where no configuration says them; None for the official code's, -1 to 1.
        projects: function of a configuration: whether what stands where a head would is the projection to the
            embedding, not a classifier.
        optional: parts that some of its files lack: "positions", "biases" of queries, keys and values.
        returns_token: whether a model without a head returns the class token, even if a configuration says the mean.
        heads: {(hidden_size, mlp_dim): attention heads} of its sizes with heads of another width than 64; None for
            those of plain Vision Transformers.
        license: of the project, where it restricts.
    """

    name: str
    formats: tuple[str, ...]
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    norm_epsilon: float = 1e-6
    gelu: str = "erf"
    fields: Callable[[Config, Shown], dict[str, Any]] = lambda config, shown: {}
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    projects: Callable[[Config], bool] = lambda config: False
    optional: tuple[str, ...] = ()
    returns_token: bool = False
    heads: Mapping[tuple[int, int], int] | None = None
    license: str | None = None


def _dinov3(config: Config, shown: Shown) -> dict[str, Any]:
    nested = config.get("rope_parameters") or {}
    theta = config.get("rope_theta") or nested.get("rope_theta") or 100.0
    return {"positions": "none", "rotary": Rotary(float(theta))}


def _eva(config: Config, shown: Shown) -> dict[str, Any]:
    """Returns the fields of EVA-02, and of EVA, whose MLPs are plain and whose positions are not rotary."""
    name = config.get("architecture") or ""
    if "enormous" in name or shown.hidden_size == 1792:
        raise ValueError(
            f"Expected an EVA with norms before its branches. Received: {name or 'a hidden_size of 1792'}, EVA-02 E, "
            "which has them after its branches; no other published file does"
        )
    return {"rotary": Rotary(10_000.0, (16, 16))} if shown.is_gated else {}


# Rows and columns of the grid that PE's rotary positions are counted on, in the names of timm's architectures.
_PE_GRIDS = {r"core_(tiny|small|large)": 24, r"core_base": 14, r"core_gigantic|spatial|lang": 32}


def _pe(config: Config, shown: Shown) -> dict[str, Any]:
    name = config.get("architecture") or ""
    side = next((side for pattern, side in _PE_GRIDS.items() if re.search(pattern, name)), None)
    reference = (side, side) if side else shown.grid or (24, 24)
    # Without a class token, as in G, the offset does not show: the scores depend on differences alone.
    return {"rotary": Rotary(10_000.0, reference, 1, columns_first=True)}


def _pe_core(config: Config, shown: Shown) -> dict[str, Any]:
    return {**_pe(config, shown), "pooling": "map", "pooling_heads": 8}


def _pe_other(config: Config, shown: Shown) -> dict[str, Any]:
    return {**_pe(config, shown), "pooling": "gap", "norm_at": "none"}


def _clip_classifier(config: Config, shown: Shown) -> dict[str, Any]:
    """Returns the fields of transformers' classifier, which reads the mean of the patches after the last block."""
    return {"pooling": "gap", "class_token": True, "norm_at": "none"}


def _clip_projects(config: Config) -> bool:
    """Returns whether timm's CLIP has a projection, no classifier: it is not fine-tuned, nor another architecture."""
    name, tag = config.get("architecture", ""), (config.get("pretrained_cfg") or {}).get("tag", "")
    return "_ft_" not in tag and (not name or "clip" in name)


_IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_CLIP: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
_DINOV3: dict[str, Any] = {
    **{"norm_epsilon": 1e-5, "fields": _dinov3, "optional": ("positions", "biases"), "returns_token": True},
    **{"heads": {(4096, 8192): 32}, "license": "dinov3-license", **_IMAGENET},
}
_BEIT: dict[str, Any] = {"optional": ("positions", "biases")}
_EVA = ("timm_gamma", "timm_eva", "timm_eva_gated", "timm_eva_split")
# The first row that fits counts.
FAMILIES = (
    Family("DINOv3", ("hf_dinov3", "hf_dinov3_gated"), **_DINOV3),
    # The tag of timm's file tells them apart; where it is missing, the license is said to be assumed.
    Family("DINOv3 or EUPE", _EVA, has=("reg_token",), lacks=("pos_embed",), **_DINOV3),
    Family("BEiT", ("hf_beit", "hf_beit_shared"), norm_epsilon=1e-12, **_BEIT),
    Family("BEiT", _EVA, has=("blocks.0.attn.relative_position_bias_table",), **_BEIT),
    Family("PE", _EVA, has=("norm_pre.weight",), lacks=("norm.weight",), norm_epsilon=1e-5, fields=_pe_other),
    Family(
        "EVA-02",
        _EVA,
        has=("pos_embed",),
        fields=_eva,
        projects=lambda config: "_clip_" in config.get("architecture", ""),
        optional=("biases",),
        **_CLIP,
    ),
    Family(
        "PE",
        ("timm",),
        has=("norm_pre.weight", "attn_pool.latent"),
        norm_epsilon=1e-5,
        fields=_pe_core,
        projects=lambda config: True,
    ),
    Family("PE", ("timm",), has=("norm_pre.weight",), lacks=("norm.weight",), norm_epsilon=1e-5, fields=_pe_other),
    Family("CLIP", ("timm",), has=("norm_pre.weight",), norm_epsilon=1e-5, projects=_clip_projects, **_CLIP),
    Family(
        "CLIP",
        ("hf_tower",),
        has=("pre_layrnorm.weight", "classifier.weight"),
        norm_epsilon=1e-5,
        gelu="quick",
        fields=_clip_classifier,
        **_CLIP,
    ),
    Family("CLIP", ("hf_tower",), has=("pre_layrnorm.weight",), norm_epsilon=1e-5, gelu="quick", **_CLIP),
    Family("CLIP", ("open_clip",), norm_epsilon=1e-5, **_CLIP),
    Family("SigLIP", ("hf_tower",), gelu="tanh"),
    Family("SigLIP", ("timm",), has=("attn_pool.latent",)),
)


def family_of(format: str | None, names: Collection[str]) -> Family | None:
    """Returns the family of a file, or None for a plain Vision Transformer, a hybrid or a BiT.

    Args:
        format: a key of `names.FORMATS`.
        names: of the file's arrays, without prefixes.
    """
    return next(
        (
            family
            for family in FAMILIES
            if format in family.formats and {*family.has} <= {*names} and not {*family.lacks} & {*names}
        ),
        None,
    )
