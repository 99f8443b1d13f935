"""The architectures of the paper, a row each.

To add a size, add a row to `VARIANTS` and a line to `builders.py`. Sizes: arXiv:2010.11929 table 1 and the official
`configs/models.py`; Ti and S: arXiv:2106.10270; g and G: arXiv:2106.04560.
"""

import dataclasses
import difflib

POOLINGS = ("token", "gap", "map", "none")


@dataclasses.dataclass(frozen=True)
class Variant:
    """Describes one Vision Transformer architecture.

    Args:
        patch_size: side of a patch, in pixels.
        hidden_size: width of a token; a multiple of `num_heads`.
        num_layers: transformer blocks.
        num_heads: attention heads a block.
        mlp_dim: hidden width of a block's MLP.
        pooling: what the head reads: "token" (the class token), "gap" (the mean of the patch tokens), "map" (attention
            pooling) or "none" (every token). Only "token" has a class token.
        dropout: the rate that the official configuration trains with.
        parameters: number of weights at 224 x 224 pixels with 1,000 classes, where it is known.

    Raises:
        ValueError: if a size is not a positive whole number, `hidden_size` is not a multiple of `num_heads`,
            `pooling` is unknown, or `dropout` is outside [0, 1).
    """

    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    pooling: str = "token"
    dropout: float = 0.0
    parameters: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
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
        if self.pooling not in POOLINGS:
            raise ValueError(f"Expected pooling to be one of {POOLINGS}. Received: pooling={self.pooling!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Expected 0 <= dropout < 1. Received: dropout={self.dropout!r}")


def _is_size(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


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
}


def get_variant(variant):
    """Returns the `Variant` of a name, or the `Variant` itself.

    Raises:
        ValueError: if there is no variant of that name; the nearest names are offered.
    """
    if isinstance(variant, Variant):
        return variant
    if isinstance(variant, str) and variant in VARIANTS:
        return VARIANTS[variant]
    near = difflib.get_close_matches(str(variant), VARIANTS, n=3, cutoff=0.4) or list(VARIANTS)
    raise ValueError(
        f"Expected a Variant or the name of one. Received: variant={variant!r}. Nearest names: {', '.join(near)}"
    )
