"""What a case of the torture run ends in."""

from dataclasses import dataclass

LONGEST_MESSAGE = 2_000  # characters


@dataclass(frozen=True)
class Outcome:
    """The result of one case.

    Args:
        kind: what was done, such as "npz bytes": a row of the table.
        result: "equal", "refused" or another name that the part calls good; any other is a fault.
        detail: what went wrong, for a fault.
        count: how much the case tried, such as ten kills of one run.
        limit_mb: the most memory that the case may have added at its peak, megabytes; None for no limit.
        limit_s: the longest that the case may have lasted, seconds.
    """

    kind: str
    result: str
    detail: str = ""
    count: int = 1
    limit_mb: float | None = None
    limit_s: float = 5.0
