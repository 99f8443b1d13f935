"""The base of all readers of weight files: arrays as float32, whole or some rows of them."""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np

from keras_vit import _arguments as checked
from keras_vit._finite import refuse_not_finite

CHUNK = 1 << 16  # numbers; their 256 KB stay in the processor's cache from the checksum to the cast
UNCOUNTED = 1 << 18  # weights that a file may lack before its claims are called false without a list
LISTED = 5  # faulty members in a message
NUMBERS = "fiu"  # NumPy's letters of the types that float32 can represent
BFLOAT16 = np.dtype("V2")  # NumPy has no bfloat16: np.savez and h5py write the numbers as two untyped bytes


def first_line(error: BaseException) -> str:
    """Returns the first line of an error, or its kind where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def plain_array(dtype: np.dtype, kinds: str = NUMBERS) -> np.dtype:
    """Returns the dtype if float32 can represent its values; else raises a ValueError."""
    if dtype != BFLOAT16 and (dtype.kind not in kinds or dtype.itemsize > 8):
        raise ValueError(f"holds {dtype}, not numbers; nothing is unpickled")
    return dtype


def float32(numbers: np.ndarray) -> np.ndarray:
    """Returns numbers as float32; integers beyond 2**24 are rounded."""
    if numbers.dtype == BFLOAT16:  # the upper half of a float32
        return (numbers.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32, copy=False)


class WeightFile:
    """A weight file: names and shapes of its arrays, and each array on request.

    Nothing is allocated before `read`, and then only the result, whatever the file claims.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._file: Any = None

    def read(self, name: str, rows: tuple[int, int] | None = None) -> np.ndarray:
        """Returns an array, or some of its rows, as float32.

        Args:
            name: one of `shapes`.
            rows: (start, stop) along the first axis; all by default. Rows in rising order read a compressed file
                once. A checksum that covers an array is checked when its last row is read.

        Raises:
            ValueError: if there is no such array or row, or its data is damaged, shorter than its header says, holds
                NaN or infinity, or does not fit into float32.
        """
        if name not in self.shapes:
            raise ValueError(f"Expected the name of an array in {self.path}, see `shapes`. Received: name={name!r}")
        shape = self.shapes[name]
        if rows is not None:
            if not shape or not 0 <= rows[0] <= rows[1] <= shape[0]:
                raise ValueError(f"Expected (start, stop) within the rows of {name} {shape}. Received: rows={rows}")
            shape = (rows[1] - rows[0], *shape[1:])
        array = np.empty(shape, np.float32)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # an overflow raises the error below, with the name
                if array.size:
                    self._fill(array, name, rows[0] if rows else 0)
        except Exception as error:  # zipfile, zlib and h5py raise any kind on damaged data
            raise ValueError(f"{self.path}: cannot read {name:.200}: {first_line(error):.500}") from error
        refuse_not_finite(self.path, [(name, array)])
        return array

    def _fill(self, array: np.ndarray, name: str, start: int) -> None:
        """Fills the array with the rows of `name` from `start` on."""
        raise NotImplementedError

    def _register_all(self, entries: Iterable[tuple[str, Any]], register: Callable[[Any], None]) -> None:
        """Calls `register(entry)` for each (label, entry), and raises one error with all entries that it refuses."""
        faults = []
        for label, entry in entries:
            try:
                register(entry)
            except Exception as error:  # the parsers of zipfile, NumPy and h5py raise any kind on a damaged header
                faults.append(f"{label}: {first_line(error)}")
        if faults:
            self.close()
            listed = checked.first_few(faults, "\n  ", LISTED)
            raise ValueError(f"{self.path} has members that are not plain arrays:\n  {listed}")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclasses.dataclass(frozen=True)
class Placement:
    """The position of an array in a stream of bytes: from `offset` on, by rows or, as in Fortran, by columns."""

    dtype: np.dtype
    offset: int
    by_columns: bool = False


class ByteFile(WeightFile):
    """A weight file whose arrays are bytes in streams.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._placements: dict[str, Placement] = {}

    def _stream(self, name: str, position: int) -> Any:
        """Returns the stream of an array, positioned at a byte of it."""
        raise NotImplementedError

    def _fill(self, array: np.ndarray, name: str, start: int) -> None:
        placement, shape = self._placements[name], self.shapes[name]
        if placement.by_columns:
            self._fill_by_columns(array, name, start)
            return
        flat = array.reshape(-1)
        stream = self._stream(name, placement.offset + start * math.prod(shape[1:]) * placement.dtype.itemsize)
        for at, numbers in _numbers(stream, placement.dtype, flat.size):
            flat[at : at + len(numbers)] = numbers

    def _fill_by_columns(self, array: np.ndarray, name: str, start: int) -> None:
        """Reads a whole array whose rows are not contiguous, and keeps the rows from `start` on."""
        placement, (rows, *rest) = self._placements[name], self.shapes[name]
        columns = math.prod(rest)
        order = np.arange(columns).reshape(rest).ravel(order="F")  # the file's first axes run fastest
        target, step = array.reshape(len(array), columns), max(1, CHUNK // rows)
        stream = self._stream(name, placement.offset)
        for at, numbers in _numbers(stream, placement.dtype, rows * columns, step * rows):
            block = numbers.reshape(-1, rows)[:, start : start + len(array)]
            target[:, order[at // rows : at // rows + step]] = block.T


def _numbers(stream: Any, dtype: np.dtype, count: int, step: int = CHUNK) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index of the first, float32 numbers) of a stream, `step` at a time."""
    for at in range(0, count, step):
        expected = min(step, count - at) * dtype.itemsize
        data = stream.read(expected)
        if len(data) != expected:
            raise EOFError(f"ends after {at * dtype.itemsize + len(data)} of {count * dtype.itemsize} bytes")
        yield at, float32(np.frombuffer(data, dtype))
