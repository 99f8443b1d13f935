"""Gives a file's arrays as float32, whole or by rows; what the readers of all layouts share."""

import dataclasses
import math
import zipfile
import zlib

import numpy as np

CHUNK = 1 << 16  # numbers; their 256 KB stay in the processor's cache from the checksum to the cast
BFLOAT16 = np.dtype("V2")  # NumPy has no bfloat16: np.savez and h5py write the numbers as two bytes of unknown kind

DAMAGE = (ValueError, OSError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error)


def plain_array(dtype):
    """Returns the dtype, if its values are real numbers that float32 can stand for."""
    if dtype != BFLOAT16 and (dtype.kind not in "fiu" or dtype.itemsize > 8):
        raise ValueError(f"holds {dtype}, not numbers; nothing is unpickled")
    return dtype


def float32(numbers):
    """Returns plain numbers as float32; integers beyond 2**24 are rounded."""
    if numbers.dtype == BFLOAT16:  # the upper half of a float32
        return (numbers.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32, copy=False)


class WeightFile:
    """Names and shapes of a file's arrays, and the arrays one by one.

    Nothing is allocated before `read`, and no more than the result then, whatever the file claims.
    """

    def __init__(self, path):
        self.path, self.shapes = path, {}

    def read(self, name, rows=None):
        """Returns an array, or some of its rows, as float32.

        Args:
            name: one of `shapes`.
            rows: (start, stop) along the first axis; all by default. In rising order they stream through a
                compressed file once. A checksum that covers an array is checked when its last row is read.

        Raises:
            ValueError: if there is no such array or row; if its data is damaged, shorter than its header says, or
                holds NaN, infinity or what float32 has no number for.
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
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below, with its name
                if array.size:
                    self._fill(array, name, rows[0] if rows else 0)
        except DAMAGE as error:
            raise ValueError(f"{self.path}: cannot read {name}: {error}") from error
        flat = array.reshape(-1)
        if not all(np.isfinite(flat[i : i + CHUNK]).all() for i in range(0, flat.size, CHUNK)):
            raise ValueError(f"{self.path}: {name} holds NaN or infinity")
        return array

    def _fill(self, array, name, start):
        """Fills the array with the rows of `name` from `start` on."""
        raise NotImplementedError

    def _admit(self, entries, look):
        """Calls `look(entry)` for each (label, entry), which notes its shape or raises; refuses all faults at once."""
        faults = []
        for label, entry in entries:
            try:
                look(entry)
            except Exception as error:  # zipfile's, NumPy's and h5py's parsers raise of every kind on a damaged header
                faults.append(f"  {label}: {error}")
        if faults:
            self.close()
            raise ValueError(f"{self.path} has members that are no plain arrays:\n" + "\n".join(faults))

    def close(self):
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an array lies in a stream of bytes: from `offset` on, by rows or, as in Fortran, by columns."""

    dtype: np.dtype
    offset: int
    by_columns: bool = False


class ByteFile(WeightFile):
    """A file whose arrays lie in streams; `_stream(name, position)` gives one, at that byte of it."""

    def __init__(self, path):
        super().__init__(path)
        self._layouts = {}

    def _fill(self, array, name, start):
        layout, shape = self._layouts[name], self.shapes[name]
        if layout.by_columns:
            return self._fill_by_columns(array, name, start)
        flat = array.reshape(-1)
        stream = self._stream(name, layout.offset + start * math.prod(shape[1:]) * layout.dtype.itemsize)
        for at, numbers in _numbers(stream, layout.dtype, flat.size):
            flat[at : at + len(numbers)] = numbers

    def _fill_by_columns(self, array, name, start):
        """Reads the whole of an array whose rows lie scattered over it, and keeps those that are wanted."""
        layout, (rows, *rest) = self._layouts[name], self.shapes[name]
        columns = math.prod(rest)
        ours = np.arange(columns).reshape(rest).ravel(order="F")  # the file's first axes run fastest
        target, step = array.reshape(len(array), columns), max(1, CHUNK // rows)
        stream = self._stream(name, layout.offset)
        for at, numbers in _numbers(stream, layout.dtype, rows * columns, step * rows):
            block = numbers.reshape(-1, rows)[:, start : start + len(array)]
            target[:, ours[at // rows : at // rows + step]] = block.T


def _numbers(stream, dtype, count, step=CHUNK):
    """Yields (index of the first, float32 numbers) of a stream, some at a time."""
    for at in range(0, count, step):
        expected = min(step, count - at) * dtype.itemsize
        data = stream.read(expected)
        if len(data) != expected:
            raise EOFError(f"ends after {at * dtype.itemsize + len(data)} of {count * dtype.itemsize} bytes")
        yield at, float32(np.frombuffer(data, dtype))
