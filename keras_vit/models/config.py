"""The architectures: `Variant` and `ResNet`, and the table `VARIANTS` with one row for each published size.

To add a size, add a row to `VARIANTS` and a line to `builders.py`. Sizes: arXiv:2010.11929 table 1 and the official
`configs/models.py`; Ti and S: arXiv:2106.10270; g and G: arXiv:2106.04560; BiT: arXiv:1912.11370.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypedDict, get_args

from keras_vit import _arguments as checked

Gelu = Literal["tanh", "erf", "quick"]
Pooling = Literal["token", "gap", "map", "none", "token+gap", "token+distillation"]
PositionKind = Literal["learned", "learned-2d", "sincos-2d", "relative", "none"]
PositionPlace = Literal["stem", "layers", "shared"]
AttentionKind = Literal["full", "axial"]
QkvBias = Literal["qkv", "qv", "none"]
NormPlace = Literal["tokens", "pooled", "none"]
Dtype = Literal["float32", "bfloat16", "float16"]  # of a loaded model's weights and of what it computes

POOLINGS: tuple[str, ...] = get_args(Pooling)
DTYPES: tuple[str, ...] = get_args(Dtype)


@dataclasses.dataclass(frozen=True)
class Numerics:
    """The numerical details in which checkpoints of one architecture differ: the form of the GELU, and epsilons.

    The defaults are those of the official code for plain and hybrid Vision Transformers.

    Args:
        gelu: "tanh" (approximate), "erf" (exact) or "quick" (OpenAI CLIP's).
        norm_epsilon: epsilon of the layer norms.
        group_norm_epsilon: epsilon of the group norms.
        conv_epsilon: epsilon of the weight standardization.
        conv_epsilon_inside: whether `conv_epsilon` is added to the variance (True) or to the standard deviation.

    Raises:
        ValueError: if a value has another type, or an epsilon is below 0 or not finite.
    """

    gelu: str = "tanh"
    norm_epsilon: float = 1e-6
    group_norm_epsilon: float = 1e-6
    conv_epsilon: float = 1e-5
    conv_epsilon_inside: bool = False

    def __post_init__(self) -> None:
        checked.choice("gelu", self.gelu, get_args(Gelu))
        for name in ("norm_epsilon", "group_norm_epsilon", "conv_epsilon"):
            checked.number(name, getattr(self, name), "0 or more", lambda value: value >= 0)
        checked.flag("conv_epsilon_inside", self.conv_epsilon_inside)

    @property
    def of_convolutions(self) -> dict[str, Any]:
        """The arguments of the layers `Stem` and `Bottleneck`."""
        names = ("group_norm_epsilon", "conv_epsilon", "conv_epsilon_inside")
        return {name: getattr(self, name) for name in names}


# The kinds of a model's outputs.
OUTPUT_KINDS = {
    "probabilities": "of classes, with the sum 1",
    "logits": "of classes, before a softmax",
    "scores": "each the probability of one class, from 0 to 1",
    "numbers": "as they are: no classes",
}

OFFICIAL_VIT = Numerics()
OFFICIAL_BIT = Numerics(group_norm_epsilon=1e-5, conv_epsilon=1e-10, conv_epsilon_inside=True)


@dataclasses.dataclass(frozen=True)
class ResNet:
    """A ResNet of bottleneck units: a BiT, or the stem of a hybrid.

    The two order their layers differently (see `keras_vit.layers.Bottleneck`), and no row is used for both.

    Args:
        units: number of bottleneck units of each stage; () is the stem alone. The first unit of every stage but the
            first halves height and width.
        widths: output channels of each stage, multiples of 128: a quarter of them is normalized in 32 groups.
        root_width: channels of the first convolution, a multiple of 32.
        parameters: number of parameters with 1,000 classes, if known.

    Raises:
        ValueError: if a size is not a positive integer, a width is not such a multiple, or `units` and `widths` have
            different lengths.

    Example:
        ```python
        resnet = keras_vit.ResNet(units=(1, 1), widths=(128, 256), root_width=32)
        model = keras_vit.build(resnet, input_shape=(64, 64, 3), classes=3)
        assert resnet.stride == 8 and model.output_shape == (None, 3)
        ```

    Source: arXiv:1912.11370; arXiv:2010.11929, section 3.1.
    """

    units: tuple[int, ...]
    widths: tuple[int, ...]
    root_width: int = 64
    parameters: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("units", "widths", "root_width", "parameters"):  # lists come from JSON
            object.__setattr__(self, name, checked.plain(getattr(self, name)))
        fits = isinstance(self.units, tuple) and isinstance(self.widths, tuple) and len(self.units) == len(self.widths)
        fits = (
            fits
            and all(map(checked.is_size, (*self.units, *self.widths, self.root_width)))
            and not self.root_width % 32
        )
        if not fits or any(width % 128 for width in self.widths):
            raise ValueError(
                "Expected units and widths to be tuples of positive integers, one for each stage, every width a "
                "multiple of 128 and root_width a multiple of 32. "
                f"Received: units={self.units!r:.200}, widths={self.widths!r:.200}, "
                f"root_width={self.root_width!r:.200}"
            )
        _check_parameters(self)

    @property
    def stride(self) -> int:
        """Side of the image region of one point of the last feature map, in pixels."""
        return 4 * 2 ** max(len(self.units) - 1, 0)


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Rotary positions, as `keras_vit.layers.RotaryAttention` has them.

    Args:
        theta: the longest period over the shortest.
        reference: (rows, columns) of the grid on which positions are counted, whatever the grid; None counts from -1
            to 1 along each side.
        offset: the position of the first row and column, where there is a reference.
        columns_first: whether the first half of the channels turns with the column, not with the row.

    Raises:
        ValueError: if a value has another type or is out of range.

    Example:
        ```python
        eva02 = keras_vit.Rotary(theta=10_000, reference=(16, 16))
        variant = keras_vit.Variant(8, 32, num_layers=1, num_heads=2, mlp_dim=64, rotary=eva02)
        assert keras_vit.build(variant, input_shape=(32, 48, 3), classes=3).output_shape == (None, 3)
        ```

    Source: arXiv:2104.09864; arXiv:2303.11331; arXiv:2508.10104.
    """

    theta: float = 100.0
    reference: tuple[int, int] | None = None
    offset: int = 0
    columns_first: bool = False

    def __post_init__(self) -> None:
        for name in ("theta", "reference", "offset", "columns_first"):  # lists come from JSON
            object.__setattr__(self, name, checked.plain(getattr(self, name)))
        checked.number("theta", self.theta, "above 0", lambda value: value > 0)
        if self.reference is not None:
            object.__setattr__(self, "reference", checked.size("reference", self.reference))
        checked.integer("offset", self.offset, 0)
        checked.flag("columns_first", self.columns_first)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A Vision Transformer architecture: its sizes and options.

    Args:
        patch_size: side of a patch, in pixels of the image or, with a stem, in points of the stem's feature map.
        hidden_size: length of a token; a multiple of `num_heads`.
        num_layers: number of transformer blocks.
        num_heads: attention heads of each block.
        mlp_dim: hidden size of each block's MLP.
        stem: the `ResNet` whose feature map is cut into patches, in a hybrid; None cuts the image.
        pooling: input of the head: "token" (the class token), "gap" (the mean of the patch tokens), "map" (attention
            pooling), "none" (every token), "token+gap" (the first two concatenated, as in DINOv2's linear classifiers)
            or "token+distillation" (DeiT's two tokens, with a head each).
        distillation_token: whether DeiT's distillation token follows the class token.
        register_tokens: number of register tokens between the class token and the patches; the head does not read them.
        layer_scale: initial value of LayerScale's factors on both branches of a block; None for no LayerScale.
        swiglu: whether the MLP is a SwiGLU: its hidden layer has two halves of `mlp_dim`, one of which gates the other.
        positions: position embedding: "learned" (one table), "learned-2d" (a table for rows and one for columns),
            "sincos-2d" (fixed), "relative" (learned, in the attention, by distance along the sequence) or "none".
        positions_at: where positions are added to the tokens: at the "stem", before each block from a table of its
            own ("layers"), or before each block from one table ("shared").
        attention: "full", or "axial": each block is two, one along the rows and one along the columns of patches.
        attention_window: side of the square windows of patches that attend to each other; None for all patches. Tokens
            in front of the patches attend to all tokens, and all tokens attend to them.
        dropout: dropout rate of the official training configuration.
        class_token: whether there is a class token; None for one where `pooling` reads it.
        norm_at: where the last norm is: on the "tokens", on what is "pooled" from them (BEiT, EVA-02), or "none".
        pre_norm: whether a norm precedes the first block, as in CLIP.
        patch_bias: whether the patch embedding has a bias.
        qkv_bias: which projections of the attention have a bias: "qkv" (all), "qv" (queries and values) or "none".
        rotary: the `Rotary` positions in the attention; None for none.
        relative_bias: whether the attention has a bias by the distance of two patches in rows and columns, as in BEiT.
        swiglu_norm: whether the SwiGLU has a norm inside, as in EVA-02.
        pooling_heads: attention heads of the pooling "map"; None for `num_heads`.
        pooling_mlp_dim: hidden size of the MLP of the pooling "map"; None for `mlp_dim`.
        projection_size: length of the embedding that the pooled token is projected to, in a model without a head, as in
            CLIP; None for no projection.
        unit_embedding: whether the head reads this embedding, or without a projection what is pooled, scaled to the
            length 1, as in a classifier from words; its weights are embeddings of texts.
        parameters: number of parameters at 224 x 224 pixels with 1,000 classes, if known.

    Raises:
        ValueError: if a size is not a positive integer, `hidden_size` is not a multiple of `num_heads`,
            a choice is unknown, options exclude each other, or `dropout` is outside [0, 1).

    Example:
        ```python
        variant = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=2, num_heads=2, mlp_dim=64, pooling="gap")
        model = keras_vit.build(variant, input_shape=(32, 48, 3), classes=3)
        assert variant.grid(32, 48) == (4, 6) and model.output_shape == (None, 3)
        ```

    Source: register tokens: arXiv:2309.16588; LayerScale: arXiv:2103.17239; SwiGLU: arXiv:2002.05202; positions and
    axial attention: arXiv:2010.11929, appendices D.4 and D.6.
    """

    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    stem: ResNet | None = None
    pooling: Pooling = "token"
    distillation_token: bool = False
    register_tokens: int = 0
    layer_scale: float | None = None
    swiglu: bool = False
    positions: PositionKind = "learned"
    positions_at: PositionPlace = "stem"
    attention: AttentionKind = "full"
    attention_window: int | None = None
    dropout: float = 0.0
    class_token: bool | None = None
    norm_at: NormPlace = "tokens"
    pre_norm: bool = False
    patch_bias: bool = True
    qkv_bias: QkvBias = "qkv"
    rotary: Rotary | None = None
    relative_bias: bool = False
    swiglu_norm: bool = False
    pooling_heads: int | None = None
    pooling_mlp_dim: int | None = None
    projection_size: int | None = None
    unit_embedding: bool = False
    parameters: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked.plain(getattr(self, field.name)))
        for name, row in (("stem", ResNet), ("rotary", Rotary)):
            if not isinstance(fields := getattr(self, name), dict):
                continue
            try:  # as JSON holds it
                object.__setattr__(self, name, row(**fields))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Expected {name} to be the fields of a {row.__name__}. Received: {error!s:.1000}"
                ) from error
        sizes = ("patch_size", "hidden_size", "num_layers", "num_heads", "mlp_dim")
        wrong = {name: value for name in sizes if not checked.is_size(value := getattr(self, name))}
        if wrong:
            received = ", ".join(f"{name}={value!r:.80}" for name, value in wrong.items())
            raise ValueError(f"Expected {', '.join(wrong)} to be positive integers. Received: {received}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                "Expected hidden_size to be a multiple of num_heads, as all heads have the same size. "
                f"Received: hidden_size={self.hidden_size}, num_heads={self.num_heads}"
            )
        for rules in (_KINDS, _RULES):
            if faults := [text for text, holds in rules if not holds(self)]:
                raise ValueError("Expected a valid Variant: " + "; ".join(faults) + f". Received: {self!s:.800}")
        _check_parameters(self)

    @property
    def has_class_token(self) -> bool:
        """Whether the model has a class token."""
        if self.class_token is not None:
            return self.class_token
        return self.pooling in POOLINGS and self.pooling.startswith("token")

    @property
    def stride(self) -> int:
        """Side of the image region of one token, in pixels."""
        return self.patch_size * (self.stem.stride if self.stem else 1)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Returns the (rows, columns) of patches of an image of a height and a width in pixels."""
        for _ in range(self.stem.stride.bit_length() - 1 if self.stem else 0):
            height, width = -(-height // 2), -(-width // 2)  # padding rounds an odd side up
        return height // self.patch_size, width // self.patch_size


@dataclasses.dataclass(frozen=True)
class TextTower:
    """The architecture of a text tower.

    Args:
        vocabulary: number of token ids.
        length: number of tokens of a text, padding included.
        hidden_size, num_layers, num_heads, mlp_dim: as in `Variant`.
        embedding_size: length of the embedding.
        end: id of the token that ends a text, which makes the embedding, in a tower whose tokens attend to those before
            them alone (CLIP); None for the last token, in a tower whose tokens attend to all (SigLIP).
    """

    stem: ClassVar[None] = None

    vocabulary: int
    length: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    embedding_size: int
    end: int | None = None


def _check_parameters(row: Variant | ResNet) -> None:
    if not (row.parameters is None or checked.is_integer(row.parameters) and row.parameters >= 0):
        raise ValueError(
            f"Expected parameters to be None or a number of weights. Received: parameters={row.parameters!r:.80}"
        )


class VariantFields(TypedDict, total=False):
    """The fields of a `Variant` or a `ResNet` that a builder accepts as additional arguments."""

    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    stem: ResNet | None
    distillation_token: bool
    register_tokens: int
    layer_scale: float | None
    swiglu: bool
    positions: PositionKind
    positions_at: PositionPlace
    attention: AttentionKind
    attention_window: int | None
    class_token: bool | None
    norm_at: NormPlace
    pre_norm: bool
    patch_bias: bool
    qkv_bias: QkvBias
    rotary: Rotary | None
    relative_bias: bool
    swiglu_norm: bool
    pooling_heads: int | None
    pooling_mlp_dim: int | None
    projection_size: int | None
    unit_embedding: bool
    units: Sequence[int]
    widths: Sequence[int]
    root_width: int


_CHOICES = {
    "pooling": POOLINGS,
    "positions": get_args(PositionKind),
    "positions_at": get_args(PositionPlace),
    "attention": get_args(AttentionKind),
    "qkv_bias": get_args(QkvBias),
    "norm_at": get_args(NormPlace),
}
# (what is expected, whether a row is so): first the kinds of the values, then how they go together.
_KINDS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    *(
        (f"{name} one of {known}", lambda row, name=name, known=known: getattr(row, name) in known)
        for name, known in _CHOICES.items()
    ),
    *(
        (f"{name} True or False", lambda row, name=name: isinstance(getattr(row, name), bool))
        for name in (
            "distillation_token",
            "swiglu",
            "pre_norm",
            "patch_bias",
            "relative_bias",
            "swiglu_norm",
            "unit_embedding",
        )
    ),
    *(
        (
            f"{name} None or a positive integer",
            lambda row, name=name: (value := getattr(row, name)) is None or checked.is_size(value),
        )
        for name in ("pooling_heads", "pooling_mlp_dim", "projection_size")
    ),
    ("class_token None, True or False", lambda row: row.class_token is None or isinstance(row.class_token, bool)),
    ("rotary None or a Rotary", lambda row: row.rotary is None or isinstance(row.rotary, Rotary)),
    ("stem None or a ResNet", lambda row: row.stem is None or isinstance(row.stem, ResNet)),
    ("0 <= dropout < 1", lambda row: checked.is_number(row.dropout) and 0 <= row.dropout < 1),
    (
        "layer_scale None or a number",
        lambda row: row.layer_scale is None or checked.is_number(row.layer_scale),
    ),
)
_RULES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("register_tokens 0 or more", lambda row: row.register_tokens == 0 or checked.is_size(row.register_tokens)),
    ("layer_scale None or a number other than 0", lambda row: row.layer_scale != 0),
    (
        "attention_window None or 1 or more",
        lambda row: row.attention_window is None or checked.is_size(row.attention_window),
    ),
    (
        "distillation_token and register_tokens only with a class token, pooling='token' or 'token+...'",
        lambda row: row.has_class_token or not (row.distillation_token or row.register_tokens),
    ),
    (
        "distillation_token=True for pooling='token+distillation'",
        lambda row: row.distillation_token or row.pooling != "token+distillation",
    ),
    (
        "positions_at='stem' for positions='none' and 'relative', which are not added to tokens",
        lambda row: row.positions_at == "stem" or row.positions not in ("none", "relative"),
    ),
    (
        "hidden_size a multiple of 4 for positions in two dimensions",
        lambda row: not row.positions.endswith("2d") or row.hidden_size % 4 == 0,
    ),
    (
        "only one of attention='axial', attention_window, positions='relative', rotary and relative_bias",
        lambda row: (
            (row.attention == "axial")
            + (row.attention_window is not None)
            + (row.positions == "relative")
            + (row.rotary is not None)
            + row.relative_bias
            < 2
        ),
    ),
    (
        "a class token for a pooling that reads it, pooling='token' or 'token+...'",
        lambda row: row.class_token is not False or not row.pooling.startswith("token"),
    ),
    ("swiglu=True for swiglu_norm", lambda row: row.swiglu or not row.swiglu_norm),
    (
        "relative_bias with a class token alone in front of the patches",
        lambda row: (
            not row.relative_bias or row.has_class_token and not (row.distillation_token or row.register_tokens)
        ),
    ),
    (
        "pooling_heads only with pooling='map', a divisor of hidden_size",
        lambda row: row.pooling_heads is None or row.pooling == "map" and row.hidden_size % row.pooling_heads == 0,
    ),
    ("pooling_mlp_dim only with pooling='map'", lambda row: row.pooling_mlp_dim is None or row.pooling == "map"),
    (
        "hidden_size / num_heads a multiple of 4 with rotary",
        lambda row: row.rotary is None or row.hidden_size // row.num_heads % 4 == 0,
    ),
)


def _bit(units: tuple[int, ...], factor: int = 1, parameters: int | None = None) -> ResNet:
    """Returns a ResNet whose widths double from stage to stage, times a factor."""
    return ResNet(units, tuple(256 * factor * 2**stage for stage in range(len(units))), 64 * factor, parameters)


# R50+/16 has no stage 4: its three units are in stage 3, after its own six, so that the feature map stays 14 x 14.
_R50_16 = _bit((3, 4, 9))
_R50_32 = _bit((3, 4, 6, 3))
_R26 = _bit((2, 2, 2, 2))

VARIANTS: dict[str, Variant | ResNet] = {
    "ViT-Ti/16": Variant(16, 192, 12, 3, 768, parameters=5_717_416),
    "ViT-S/8": Variant(8, 384, 12, 6, 1536, parameters=22_055_272),
    "ViT-S/14": Variant(14, 384, 12, 6, 1536, parameters=22_004_584),
    "ViT-S/16": Variant(16, 384, 12, 6, 1536, parameters=22_050_664),
    "ViT-S/32": Variant(32, 384, 12, 6, 1536, parameters=22_878_952),
    "ViT-B/8": Variant(8, 768, 12, 12, 3072, parameters=86_576_872),
    "ViT-B/16": Variant(16, 768, 12, 12, 3072, parameters=86_567_656),
    "ViT-B/32": Variant(32, 768, 12, 12, 3072, parameters=88_224_232),
    "ViT-L/14": Variant(14, 1024, 24, 16, 4096, dropout=0.1, parameters=304_203_752),
    "ViT-L/16": Variant(16, 1024, 24, 16, 4096, dropout=0.1, parameters=304_326_632),
    "ViT-L/32": Variant(32, 1024, 24, 16, 4096, parameters=306_535_400),
    "ViT-H/14": Variant(14, 1280, 32, 16, 5120, dropout=0.1, parameters=632_045_800),
    "ViT-g/14": Variant(14, 1408, 40, 16, 6144, parameters=1_012_611_432),
    "ViT-G/14": Variant(14, 1664, 48, 16, 8192, parameters=1_844_440_680),
    # Patches of 8 x 8 on the stem's map, whose stride is 4: a token covers 32 x 32 pixels, despite the name.
    "R+ViT-Ti/16": Variant(8, 192, 12, 3, 768, _bit(()), parameters=6_337_704),
    "R26+ViT-S/32": Variant(1, 384, 12, 6, 1536, _R26, parameters=36_431_912),
    "R26+ViT-B/32": Variant(1, 768, 12, 12, 3072, _R26, parameters=101_383_976),
    "R50+ViT-B/16": Variant(1, 768, 12, 12, 3072, _R50_16, dropout=0.1, parameters=98_659_112),
    # From the paper's tables 5 and 6; there is no official configuration and no checkpoint.
    "R50+ViT-B/32": Variant(1, 768, 12, 12, 3072, _R50_32, dropout=0.1, parameters=110_945_832),
    "R50+ViT-L/16": Variant(1, 1024, 24, 16, 4096, _R50_16, dropout=0.1, parameters=316_483_624),
    "R50+ViT-L/32": Variant(1, 1024, 24, 16, 4096, _R50_32, dropout=0.1, parameters=328_994_856),
    "BiT-R50x1": _bit((3, 4, 6, 3), 1, 25_549_352),
    "BiT-R50x2": _bit((3, 4, 6, 3), 2, 97_988_712),
    "BiT-R50x3": _bit((3, 4, 6, 3), 3, 217_319_080),
    "BiT-R101x1": _bit((3, 4, 23, 3), 1, 44_541_480),
    "BiT-R101x3": _bit((3, 4, 23, 3), 3, 387_934_888),
    "BiT-R152x1": _bit((3, 8, 36, 3), 1, 60_185_128),
    "BiT-R152x2": _bit((3, 8, 36, 3), 2, 236_335_208),
    "BiT-R152x4": _bit((3, 8, 36, 3), 4, 936_533_224),
    # From the paper, without a checkpoint; it does not print the units, these are ResNet-200's.
    "BiT-R200x3": _bit((3, 24, 36, 3), 3, 568_633_000),
}


def get_variant(variant: str | Variant | ResNet) -> Variant | ResNet:
    """Returns the architecture of a name; a `Variant` or a `ResNet` is returned as it is.

    Raises:
        ValueError: if the name is unknown; the message lists the nearest names.
    """
    if isinstance(variant, (Variant, ResNet)):
        return variant
    if isinstance(variant, str) and variant in VARIANTS:
        return VARIANTS[variant]
    near = difflib.get_close_matches(str(variant), VARIANTS, n=3, cutoff=0.4) or list(VARIANTS)
    raise ValueError(
        "Expected variant to be a Variant, a ResNet or the name of one. "
        f"Received: variant={variant!r}. Nearest names: {', '.join(near)}"
    )


def with_options(row: Variant | ResNet, options: Mapping[str, Any]) -> Variant | ResNet:
    """Returns an architecture with fields changed, {name: value}; raises a ValueError if they exclude each other."""
    return dataclasses.replace(row, **options) if options else row


def name_of(row: Variant | ResNet) -> str | None:
    """Returns the name of the published architecture of the same sizes, or None.

    The tokens in front of the patches, LayerScale and dropout may differ.
    """
    return next((name for name, published in VARIANTS.items() if _sizes(published) == _sizes(row)), None)


def _sizes(row: Variant | ResNet) -> Variant | ResNet:
    if isinstance(row, ResNet):
        return row
    return dataclasses.replace(
        row,
        pooling="token",
        distillation_token=False,
        register_tokens=0,
        layer_scale=None,
        dropout=0.0,
        class_token=None,
        pooling_heads=None,
        pooling_mlp_dim=None,
        projection_size=None,
    )
