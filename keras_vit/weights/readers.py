"""Readers of .npz, .safetensors and HDF5 weight files, which unpickle nothing and check every claim of a file."""

import io
import math
import os
import pathlib
import re
import stat
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from keras_vit import _arguments as checked
from keras_vit.weights.arrays import (
    BFLOAT16,
    CHUNK,
    NUMBERS,
    ByteFile,
    Placement,
    WeightFile,
    first_line,
    float32,
    plain_array,
)
from keras_vit.weights.json_file import read_json

RATIO = 1032  # the most that deflate can compress: 258 bytes to two bits (zlib's technical notes)
MAX_HEADER = 10_000  # bytes; NumPy's limit for the header of an .npy file, which is parsed as Python
PICKLE = "Pickles can run code and are not read: convert it to .safetensors in the program that wrote it"
OTHER_ZIP_FILES = {  # member of a zip file: what the file is, and what to do
    "data.pkl": f"it is PyTorch's pickle. {PICKLE}",
    "model.weights.h5": "it is a whole Keras model: load it with keras.saving.load_model, or save_weights first",
}
Path = str | os.PathLike[str]


def open_arrays(path: Path) -> WeightFile:
    """Opens a weight file with the reader that its content needs.

    Args:
        path: an .npz, .safetensors or HDF5 file, whatever its name, or a .json index of .safetensors files.

    Returns:
        A `NpzFile`, `SafetensorsFile`, `ShardedFile` or `H5File`.

    Raises:
        ValueError: if the file is missing, none of these, or refused by its reader.

    Example:
        ```python
        from keras_vit.weights.readers import open_arrays

        np.savez("weights.npz", kernel=np.ones((2, 3)))
        with open_arrays("weights.npz") as file:
            assert file.shapes == {"kernel": (2, 3)} and file.read("kernel").sum() == 6
        ```
    """
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise _unreadable(path, error) from error
    if head[8:] == b"{":  # a safetensors file begins with the length of its JSON header
        return SafetensorsFile(path)
    if pathlib.Path(path).suffix == ".json":
        return ShardedFile(path)
    if head.startswith(b"PK"):
        return NpzFile(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return H5File(path)
    pickled = head.startswith(b"\x80") or pathlib.Path(path).suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")
    raise _unreadable(path, f"it is none of these. {PICKLE}" if pickled else f"it is none of these: {head!r}")


def check_member(info: zipfile.ZipInfo, size: int) -> None:
    """Raises a ValueError for a member of a zip file that leads elsewhere or cannot be what it claims to be.

    Args:
        info: the member.
        size: of the zip file, bytes.
    """
    parts = info.filename.replace("\\", "/").split("/")
    most = info.compress_size * (RATIO if info.compress_type == zipfile.ZIP_DEFLATED else 1)
    for fault, is_faulty in {
        "has a name outside the folder": ".." in parts or not parts[0] or ":" in parts[0],
        "is a link": stat.S_ISLNK(info.external_attr >> 16),
        "is encrypted": info.flag_bits & 1,
        "is compressed, and not with deflate": info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
        f"claims to unpack to {info.file_size} bytes": info.header_offset + info.compress_size > size
        or info.file_size > most,
    }.items():
        if is_faulty:
            raise ValueError(fault)


def _unreadable(path: Path, error: object, kind: str = "an .npz, .safetensors or .weights.h5 file") -> ValueError:
    text = first_line(error) if isinstance(error, BaseException) else error
    return ValueError(f"Expected the path of {kind} with weights. Received: path={path}: {text:.500}")


class NpzFile(ByteFile):
    """Reads an .npz file without unpickling.

    Args:
        path: the file.

    Raises:
        ValueError: if the file is missing or not an .npz file, or a member is not a plain array, is unreadable or
            encrypted, claims more than its bytes can hold, has a name outside the folder or occurs twice. One error
            lists all such members.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._members: dict[str, Any] = {}  # those that are read in part
        try:
            self._file = zipfile.ZipFile(path)
            self._size = os.path.getsize(path)
        except Exception as error:  # BadZipFile, NotImplementedError for a version, IndexError for an empty name, ...
            raise _unreadable(path, error, "an .npz file") from error
        members = [(member.filename, member) for member in self._file.infolist()]
        for name, _ in members:
            if other := OTHER_ZIP_FILES.get(name.split("/")[-1]):
                self.close()
                raise _unreadable(path, other, "an .npz file")
        self._register_all(members, self._register)

    def _register(self, info: zipfile.ZipInfo) -> None:
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            raise ValueError("is not a .npy member")
        if name in self.shapes:
            raise ValueError("occurs twice")
        check_member(info, self._size)
        with self._file.open(info) as member:
            head = io.BytesIO(member.read(MAX_HEADER))
        version = np.lib.format.read_magic(head)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"unknown .npy version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(head)
        held = info.file_size - head.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * plain_array(dtype).itemsize != held:
            raise ValueError(f"holds {held} bytes, its header says {dtype} of {shape}")
        self.shapes[name] = shape
        self._placements[name] = Placement(dtype, head.tell(), by_columns and len(shape) > 1)

    def _stream(self, name: str, position: int) -> Any:
        """Returns a member at a byte. A member read in part stays open, so that rows in rising order unpack it once."""
        member = self._members.pop(name, None)
        if member and member.tell() > position:
            member.close()
            member = None
        for other in [other for other in self._members if self._members[other].tell() == self._size_of(other)]:
            self._members.pop(other).close()
        self._members[name] = member = member or self._file.open(f"{name}.npy")
        while (gap := position - member.tell()) > 0:
            # `seek` reads in pieces of 16 MB and, from Python 3.12 on, skips the checksum.
            if not member.read(min(gap, CHUNK)):
                break
        return member

    def _size_of(self, name: str) -> int:
        return self._file.getinfo(f"{name}.npy").file_size

    def close(self) -> None:
        """Closes the file and its members."""
        while self._members:
            self._members.popitem()[1].close()
        super().close()


class SafetensorsFile(ByteFile):
    """Reads a .safetensors file, whose header the safetensors library checks.

    The numbers are read here: the library has no bfloat16 for NumPy, and maps the whole file into memory.

    Args:
        path: the file.

    Raises:
        ValueError: if the file is missing or no .safetensors file, or has tensors that are not real numbers.
    """

    TYPES: Mapping[str, np.dtype] = {
        **{"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": BFLOAT16},
        **{f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
    }

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        super().__init__(path)
        try:
            with safe_open(path, framework="numpy") as file:
                slices = [(name, file.get_slice(name)) for name in file.offset_keys()]
                tensors = [(name, (name, tuple(one.get_shape()), one.get_dtype())) for name, one in slices]
            self._file = open(path, "rb")
        except Exception as error:  # SafetensorError, OSError, and what Python's side of the library raises
            raise _unreadable(path, error, "a .safetensors file") from error
        self._end = 8 + int.from_bytes(self._file.read(8), "little")
        self._register_all(tensors, self._register)

    def _register(self, tensor: tuple[str, tuple[int, ...], str]) -> None:
        name, shape, kind = tensor
        if kind not in self.TYPES:
            raise ValueError(f"holds {kind}, which float32 cannot represent")
        dtype = self.TYPES[kind]
        self.shapes[name], self._placements[name] = shape, Placement(dtype, self._end)
        self._end += math.prod(shape) * dtype.itemsize  # the library has checked that there are no gaps

    def _stream(self, name: str, position: int) -> Any:
        self._file.seek(position)
        return self._file


class ShardedFile(WeightFile):
    """Reads a model that transformers wrote into several .safetensors files, through their index.

    Args:
        path: the index, model.safetensors.index.json.

    Raises:
        ValueError: if it is not an index, or a file that it names is missing, lies in another folder, is refused by its
            reader, or lacks an array; or if it does not name all files, or all arrays in them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._files: dict[str, SafetensorsFile] = {}
        try:
            places = read_json(path)["weight_map"]
            if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
                raise ValueError('expected {"weight_map": {name: file}}')
        except (ValueError, KeyError) as error:
            raise _unreadable(path, f"no index of .safetensors files: {first_line(error)}") from error
        self._file_of = places
        parts = {*places.values()}
        if counts := {int(match[1]) for match in map(re.compile(r".*-of-0*(\d{1,6})\.").match, parts) if match}:
            if counts != {len(parts)}:
                raise _unreadable(path, f"it names {len(parts)} of {max(counts)} files", "a whole index")
        self._register_all([(name, (name, file)) for name, file in places.items()], self._register)
        if unnamed := sorted({name for file in self._files.values() for name in file.shapes} - {*places}):
            self.close()
            raise _unreadable(path, f"it leaves out {checked.first_few(unnamed)}", "a whole index")

    def _register(self, entry: tuple[str, str]) -> None:
        name, file = entry
        if pathlib.PurePath(file).name != file:
            raise ValueError(f"lies in {file}, outside the folder")
        if file not in self._files:
            self._files[file] = SafetensorsFile(pathlib.Path(self.path).with_name(file))
        if name not in self._files[file].shapes:
            raise ValueError(f"is missing in {file}")
        self.shapes[name] = self._files[file].shapes[name]

    def _fill(self, array: np.ndarray, name: str, start: int) -> None:
        self._files[self._file_of[name]]._fill(array, name, start)

    def close(self) -> None:
        """Closes all files."""
        for file in self._files.values():
            file.close()


class H5File(WeightFile):
    """Reads an HDF5 file such as Keras' .weights.h5; the names are the paths of its datasets.

    Args:
        path: the file.
        stream: an open HDF5 file that lies in it; by default, the file itself is one.
        kinds: NumPy's letters of the types that are numbers.

    Raises:
        ValueError: if the file is missing or not an HDF5 file, or has links or datasets that are not plain arrays, lie
            in other files or claim more than the file holds. One error lists all of them.
    """

    FILTERS: Mapping[int, str] = {
        1: "deflate",
        2: "shuffle",
        3: "fletcher32",
        32000: "lzf",
    }  # those built into HDF5 and h5py

    def __init__(self, path: Path, stream: BinaryIO | None = None, kinds: str = NUMBERS) -> None:
        import h5py

        super().__init__(path)
        self._kinds = kinds
        links: dict[str, Any] = {}
        try:
            self._size = os.path.getsize(path)
            self._file = h5py.File(stream or path, "r")
            self._file.visititems_links(links.__setitem__)  # unlike `visititems`, this visits links to other files, too
        except Exception as error:  # OSError, RuntimeError, SystemError, UnicodeDecodeError, ...
            if self._file:
                self.close()
            raise _unreadable(path, error, "an HDF5 file") from error
        self._register_all([(name, (name, link)) for name, link in links.items()], self._register)

    def _register(self, entry: tuple[str, Any]) -> None:
        import h5py

        name, link = entry
        if not isinstance(link, h5py.HardLink):
            raise ValueError("is a link to another place")
        dataset = self._file[name]
        if not isinstance(dataset, h5py.Dataset):
            return
        if dataset.is_virtual or dataset.external:
            raise ValueError("has its numbers in another file")
        if dataset.shape is None:
            raise ValueError("is empty")
        plain_array(dataset.dtype, self._kinds)
        self._check_size(dataset)
        self.shapes[name] = dataset.shape

    def _check_size(self, dataset: Any) -> None:
        """Raises for numbers that were never written, which HDF5 would read as zeros, and for impossible sizes."""
        properties = dataset.id.get_create_plist()
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if filters - set(self.FILTERS):
            raise ValueError(f"has the filters {sorted(filters)}, of which {sorted(self.FILTERS)} can be read")
        held, claimed = dataset.id.get_storage_size(), dataset.size * dataset.dtype.itemsize
        if dataset.chunks:
            chunks = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks))
            claimed = chunks * math.prod(dataset.chunks) * dataset.dtype.itemsize
            if dataset.id.get_num_chunks() != chunks:
                raise ValueError(f"has {dataset.id.get_num_chunks()} of {chunks} chunks")
        if held > self._size or claimed > held * (RATIO if filters else 1):
            raise ValueError(f"claims {claimed} bytes and holds {held}")

    def _fill(self, array: np.ndarray, name: str, start: int) -> None:
        dataset = self._file[name]
        rows = np.s_[start : start + len(array)] if array.ndim else ()
        if dataset.dtype.itemsize != 2:
            dataset.read_direct(array, rows)
            return
        flat = array.reshape(-1)  # HDF5 has no bfloat16, and needs 50 times as long as NumPy to widen a float16
        halves = flat.view(dataset.dtype)[flat.size :]  # the second half of the result: widening never overtakes it
        dataset.read_direct(halves.reshape(array.shape), rows)
        for at in range(0, flat.size, CHUNK):
            flat[at : at + CHUNK] = float32(halves[at : at + CHUNK])
