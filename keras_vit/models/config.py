"""The architectures of the paper, a row each.

To add a size, add a row to `VARIANTS` and a line to `builders.py`. Sizes: arXiv:2010.11929 table 1 and the official
`configs/models.py`; Ti and S: arXiv:2106.10270; g and G: arXiv:2106.04560; BiT: arXiv:1912.11370.
"""

import dataclasses
import difflib

from keras_vit import _arguments as checked

POOLINGS = ("token", "gap", "map", "none", "token+gap", "token+distillation")
_POSITIONS = ("learned", "learned-2d", "sincos-2d", "relative", "none")


@dataclasses.dataclass(frozen=True)
class Numerics:
    """Describes what two files of one architecture can differ in: the form of the GELU and the epsilons.

    The defaults are those of the official code for plain and hybrid Vision Transformers.

    Args:
        gelu: "tanh" (approximate) or "erf" (exact).
        norm_epsilon: of the layer norms.
        group_norm_epsilon: of the group norms.
        conv_epsilon: of the weight standardization.
        conv_epsilon_inside: whether it is added to the variance or to the standard deviation.
    """

    gelu: str = "tanh"
    norm_epsilon: float = 1e-6
    group_norm_epsilon: float = 1e-6
    conv_epsilon: float = 1e-5
    conv_epsilon_inside: bool = False

    @property
    def of_convolutions(self):
        """The arguments of the layers `Stem` and `Bottleneck`."""
        names = ("group_norm_epsilon", "conv_epsilon", "conv_epsilon_inside")
        return {name: getattr(self, name) for name in names}


# What a model's outputs are.
OUTPUT_KINDS = {
    "probabilities": "of classes, together 1",
    "logits": "of classes, before a softmax",
    "scores": "each the probability of a class by itself, from 0 to 1",
    "numbers": "as they are: no classes",
}

OFFICIAL_VIT = Numerics()
OFFICIAL_BIT = Numerics(group_norm_epsilon=1e-5, conv_epsilon=1e-10, conv_epsilon_inside=True)


@dataclasses.dataclass(frozen=True)
class ResNet:
    """Describes a ResNet of bottleneck units: a BiT, or the stem of a hybrid.

    The two compute in another order (see `keras_vit.layers.Bottleneck`), so a row is never both.

    Args:
        units: bottleneck units of each stage; none is the stem alone. The first unit of each stage but the first
            halves the map.
        widths: channels that each stage gives.
        root_width: channels of the first convolution.
        parameters: number of weights with 1,000 classes, where it is known.

    Raises:
        ValueError: if a size is not a positive whole number, a width not a multiple of 4 * 32 (a quarter of it is
            normalized in 32 groups), the root's not of 32, or `units` and `widths` are not of one length.
    """

    units: tuple[int, ...]
    widths: tuple[int, ...]
    root_width: int = 64
    parameters: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        for name in ("units", "widths", "root_width"):  # lists come from JSON
            object.__setattr__(self, name, checked.plain(getattr(self, name)))
        fits = isinstance(self.units, tuple) and isinstance(self.widths, tuple) and len(self.units) == len(self.widths)
        fits = fits and all(map(_is_size, (*self.units, *self.widths, self.root_width))) and not self.root_width % 32
        if not fits or any(width % 128 for width in self.widths):
            raise ValueError(
                "Expected as many widths as stages with units, tuples of whole numbers, widths multiples of 128, "
                f"root_width of 32. Received: units={self.units}, widths={self.widths}, root_width={self.root_width}"
            )

    @property
    def stride(self):
        """Pixels of the image that one of the last map stands for, to either side."""
        return 4 * 2 ** max(len(self.units) - 1, 0)


@dataclasses.dataclass(frozen=True)
class Variant:
    """Describes one Vision Transformer architecture.

    Args:
        patch_size: side of a patch, in pixels of the image or, with a stem, of its last map.
        hidden_size: width of a token; a multiple of `num_heads`.
        num_layers: transformer blocks.
        num_heads: attention heads a block.
        mlp_dim: hidden width of a block's MLP.
        stem: the `ResNet` whose map is cut into patches, in a hybrid; None cuts the image.
        pooling: what the head reads: "token" (the class token), "gap" (the mean of the patch tokens), "map" (attention
            pooling), "none" (every token), "token+gap" (the first two side by side, as DINOv2's linear classifiers) or
            "token+distillation" (DeiT's two tokens, a head each). There is a class token where its name says so.
        distillation_token: whether DeiT's second token follows the class token.
        register_tokens: tokens between the class token and the patches that stand for no place and are never read.
        layer_scale: what the factors on each branch of a block start from (LayerScale); None for no factors.
        swiglu: whether the MLP is gated: one half of its hidden layer, of mlp_dim each, multiplies the other.
        positions: "learned" (a row a token), "learned-2d" (a table for rows and one for columns), "sincos-2d" (fixed),
            "relative" (learned, in the attention, by distance along the sequence) or "none".
        positions_at: where those that are added to tokens are: at the "stem", before each block from a table of its
            own ("layers") or from one for all ("shared").
        attention: "full", or "axial": each block is two, one along the rows and one along the columns.
        attention_window: side of the square windows of patches that attend to each other; None for all patches. Tokens
            in front of the patches see all and are seen by all.
        dropout: the rate that the official configuration trains with.
        parameters: number of weights at 224 x 224 pixels with 1,000 classes, where it is known.

    Raises:
        ValueError: if a size is not a positive whole number, `hidden_size` is not a multiple of `num_heads`,
            a choice is unknown, options do not go together, or `dropout` is outside [0, 1).

    Source: register tokens: arXiv:2309.16588; LayerScale: arXiv:2103.17239; SwiGLU: arXiv:2002.05202; positions and
    axial attention: arXiv:2010.11929, appendices D.4 and D.6.
    """

    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    stem: ResNet | None = None
    pooling: str = "token"
    distillation_token: bool = False
    register_tokens: int = 0
    layer_scale: float | None = None
    swiglu: bool = False
    positions: str = "learned"
    positions_at: str = "stem"
    attention: str = "full"
    attention_window: int | None = None
    dropout: float = 0.0
    parameters: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked.plain(getattr(self, field.name)))
        if isinstance(self.stem, dict):  # as JSON holds it
            object.__setattr__(self, "stem", ResNet(**self.stem))
        sizes = ("patch_size", "hidden_size", "num_layers", "num_heads", "mlp_dim")
        wrong = {name: value for name in sizes if not _is_size(value := getattr(self, name))}
        if wrong:
            received = ", ".join(f"{name}={value!r}" for name, value in wrong.items())
            raise ValueError(f"Expected positive whole numbers. Received: {received}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                "Expected hidden_size to be a multiple of num_heads, each head takes an equal part. "
                f"Received: hidden_size={self.hidden_size}, num_heads={self.num_heads}"
            )
        for rules in (_KINDS, _RULES):
            if faults := [text for text, holds in rules if not holds(self)]:
                raise ValueError("Expected of a Variant: " + "; ".join(faults) + f". Received: {self}")

    @property
    def has_class_token(self):
        """Whether there is one."""
        return self.pooling in POOLINGS and self.pooling.startswith("token")

    @property
    def stride(self):
        """Pixels of the image that a token stands for, to either side."""
        return self.patch_size * (self.stem.stride if self.stem else 1)

    def grid(self, rows, columns):
        """Returns the (rows, columns) of patches of an image of so many pixels."""
        for _ in range(self.stem.stride.bit_length() - 1 if self.stem else 0):
            rows, columns = -(-rows // 2), -(-columns // 2)  # padding makes an odd side whole
        return rows // self.patch_size, columns // self.patch_size


_PLACES, _ATTENTIONS = ("stem", "layers", "shared"), ("full", "axial")
_CHOICES = {"pooling": POOLINGS, "positions": _POSITIONS, "positions_at": _PLACES, "attention": _ATTENTIONS}
_KINDS = (
    *(
        (f"{name} one of {known}", lambda row, name=name, known=known: getattr(row, name) in known)
        for name, known in _CHOICES.items()
    ),
    *(
        (f"{name} True or False", lambda row, name=name: isinstance(getattr(row, name), bool))
        for name in ("distillation_token", "swiglu")
    ),
    ("stem None or a ResNet", lambda row: row.stem is None or isinstance(row.stem, ResNet)),
    ("0 <= dropout < 1", lambda row: checked.is_number(row.dropout) and 0 <= row.dropout < 1),
    (
        "layer_scale None or a number",
        lambda row: row.layer_scale is None or checked.is_number(row.layer_scale),
    ),
)
_RULES = (
    ("register_tokens 0 or more", lambda row: row.register_tokens == 0 or _is_size(row.register_tokens)),
    ("layer_scale None or a number other than 0", lambda row: row.layer_scale != 0),
    ("attention_window None or 1 or more", lambda row: row.attention_window is None or _is_size(row.attention_window)),
    (
        "a distillation token or registers only beside a class token, pooling 'token' or 'token+...'",
        lambda row: row.has_class_token or not (row.distillation_token or row.register_tokens),
    ),
    (
        "distillation_token=True for pooling='token+distillation'",
        lambda row: row.distillation_token or row.pooling != "token+distillation",
    ),
    (
        "positions_at='stem' with positions 'none' and 'relative', which are not added to tokens",
        lambda row: row.positions_at == "stem" or row.positions not in ("none", "relative"),
    ),
    (
        "a hidden_size that is a multiple of 4 with positions in two dimensions",
        lambda row: not row.positions.endswith("2d") or row.hidden_size % 4 == 0,
    ),
    (
        "one of axial attention, attention_window and relative positions",
        lambda row: (row.attention == "axial") + (row.attention_window is not None) + (row.positions == "relative") < 2,
    ),
)


def _is_size(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _bit(units, factor=1, parameters=None):
    """Returns the row of a ResNet whose widths double from stage to stage, times a factor."""
    return ResNet(units, tuple(256 * factor * 2**stage for stage in range(len(units))), 64 * factor, parameters)


# R50+/16 has no stage 4: its three units went to stage 3, which has six, so that the map keeps 14 x 14 pixels.
_R50_16 = _bit((3, 4, 9))
_R50_32 = _bit((3, 4, 6, 3))
_R26 = _bit((2, 2, 2, 2))

VARIANTS = {
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
    # Patches of 8 x 8 on the stem's map, whose stride is 4: a token is 32 pixels wide, whatever the name says.
    "R+ViT-Ti/16": Variant(8, 192, 12, 3, 768, _bit(()), parameters=6_337_704),
    "R26+ViT-S/32": Variant(1, 384, 12, 6, 1536, _R26, parameters=36_431_912),
    "R26+ViT-B/32": Variant(1, 768, 12, 12, 3072, _R26, parameters=101_383_976),
    "R50+ViT-B/16": Variant(1, 768, 12, 12, 3072, _R50_16, dropout=0.1, parameters=98_659_112),
    # Of the paper, tables 5 and 6; there is no official configuration and no checkpoint.
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
    # Of the paper, without a public file; it does not print the units, these are ResNet-200's.
    "BiT-R200x3": _bit((3, 24, 36, 3), 3, 568_633_000),
}


def get_variant(variant):
    """Returns the row of a name, or the row itself.

    Raises:
        ValueError: if there is no variant of that name; the nearest names are offered.
    """
    if isinstance(variant, (Variant, ResNet)):
        return variant
    if isinstance(variant, str) and variant in VARIANTS:
        return VARIANTS[variant]
    near = difflib.get_close_matches(str(variant), VARIANTS, n=3, cutoff=0.4) or list(VARIANTS)
    raise ValueError(
        "Expected a Variant, a ResNet or the name of one. "
        f"Received: variant={variant!r}. Nearest names: {', '.join(near)}"
    )


def with_options(row, options):
    """Returns a row with fields changed, {name: value}; raises ValueError if the values do not go together."""
    return dataclasses.replace(row, **options) if options else row


def name_of(row):
    """Returns the name of the published row of the same sizes, or None; tokens, LayerScale and dropout may differ."""
    return next((name for name, published in VARIANTS.items() if _sizes(published) == _sizes(row)), None)


def _sizes(row):
    if isinstance(row, Variant):
        plain = {"pooling": "token", "distillation_token": False, "register_tokens": 0, "layer_scale": None}
        return dataclasses.replace(row, **plain, dropout=0.0)
    return row
