"""Opens weight files of every layout, without unpickling and without trusting what they say."""

import io
import json
import math
import os
import pathlib
import zipfile

import numpy as np

from keras_vit.weights.arrays import BFLOAT16, CHUNK, ByteFile, Layout, WeightFile, float32, plain_array

RATIO = 1032  # what deflate can shrink at most: 258 bytes to two bits (zlib's technical notes)
MAX_HEADER = 10_000  # bytes; NumPy's own limit for the header of an .npy file, which is Python to be parsed
PICKLE = "Pickles can run code and are not read: convert it to .safetensors where it comes from"
ALIENS = {  # member of a zip file: what the file is, and what to do
    "data.pkl": f"it is PyTorch's pickle. {PICKLE}",
    "model.weights.h5": "it is a whole Keras model: load it with keras.saving.load_model, or save_weights first",
}


def open_arrays(path):
    """Opens a weight file as what its content says it is.

    Returns:
        a `NpzFile`, `SafetensorsFile`, `ShardedFile` or `H5File`; all have `path`, `shapes` ({name: shape}), `read` and
        `close`.

    Raises:
        ValueError: if the file is missing, none of these, or refused by its reader.
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
    for magic, reader in ((b"PK", NpzFile), (b"\x89HDF\r\n\x1a\n", H5File)):
        if head.startswith(magic):
            return reader(path)
    pickled = head.startswith(b"\x80") or pathlib.Path(path).suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")
    raise _unreadable(path, f"it is none of these. {PICKLE}" if pickled else f"it is none of these: {head!r}")


def _unreadable(path, error, layout="in .npz, .safetensors or Keras' .weights.h5 layout"):
    return ValueError(f"Expected the path of a weight file {layout}. Received: {path}: {error}")


class NpzFile(ByteFile):
    """Reads an .npz file without unpickling, and without trusting what it says.

    Args:
        path: the file.

    Raises:
        ValueError: if the file is missing or no .npz, or a member is no plain array, is unreadable or encrypted,
            claims more than its bytes can hold, is named out of the folder or stands in the file twice; all faulty
            members in one message.
    """

    def __init__(self, path):
        super().__init__(path)
        self._members = {}
        try:
            self._file = zipfile.ZipFile(path)
            self._size = os.path.getsize(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise _unreadable(path, error, "in .npz layout") from error
        members = [(member.filename, member) for member in self._file.infolist()]
        for name, _ in members:
            if alien := ALIENS.get(name.split("/")[-1]):
                self.close()
                raise _unreadable(path, alien, "in .npz layout")
        self._admit(members, self._look)

    def _look(self, info):
        name = info.filename.removesuffix(".npy")
        parts = name.replace("\\", "/").split("/")
        for fault, found in {
            "is no .npy member": name == info.filename,
            "stands in the file twice": name in self.shapes,
            "is named out of the folder": ".." in parts or not parts[0] or ":" in parts[0],
            "is encrypted": info.flag_bits & 1,
            "is compressed, and not with deflate": info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
            f"claims to unpack to {info.file_size} bytes": not self._can_hold(info),
        }.items():
            if found:
                raise ValueError(fault)
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
        self._layouts[name] = Layout(dtype, head.tell(), by_columns and len(shape) > 1)

    def _can_hold(self, info):
        most = info.compress_size * (RATIO if info.compress_type == zipfile.ZIP_DEFLATED else 1)
        return info.header_offset + info.compress_size <= self._size and info.file_size <= most

    def _stream(self, name, position):
        """Returns a member at a byte; those read in part stay open, so that rows in rising order unpack each once."""
        member = self._members.pop(name, None)
        if member and member.tell() > position:
            member.close()
            member = None
        for other in [other for other in self._members if self._members[other].tell() == self._size_of(other)]:
            self._members.pop(other).close()
        self._members[name] = member = member or self._file.open(f"{name}.npy")
        while (gap := position - member.tell()) > 0:
            # `seek` would read in pieces of 16 MB and, from Python 3.12 on, give up the checksum.
            if not member.read(min(gap, CHUNK)):
                break
        return member

    def _size_of(self, name):
        return self._file.getinfo(f"{name}.npy").file_size

    def close(self):
        while self._members:
            self._members.popitem()[1].close()
        super().close()


class SafetensorsFile(ByteFile):
    """Reads a .safetensors file, whose header the safetensors library checks.

    The numbers are read here: the library has no bfloat16 in NumPy, and maps the whole file into memory.

    Args:
        path: the file.

    Raises:
        ValueError: if the file is missing or no .safetensors, or has tensors that are no real numbers.
    """

    TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": BFLOAT16} | {
        f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)
    }

    def __init__(self, path):
        from safetensors import SafetensorError, safe_open

        super().__init__(path)
        try:
            with safe_open(path, framework="numpy") as file:
                slices = [(name, file.get_slice(name)) for name in file.offset_keys()]
                tensors = [(name, (name, tuple(one.get_shape()), one.get_dtype())) for name, one in slices]
            self._file = open(path, "rb")
        except (OSError, SafetensorError) as error:
            raise _unreadable(path, error, "in .safetensors layout") from error
        self._end = 8 + int.from_bytes(self._file.read(8), "little")
        self._admit(tensors, self._look)

    def _look(self, tensor):
        name, shape, kind = tensor
        if kind not in self.TYPES:
            raise ValueError(f"holds {kind}, not numbers that float32 can stand for")
        dtype = np.dtype(self.TYPES[kind])
        self.shapes[name], self._layouts[name] = shape, Layout(dtype, self._end)
        self._end += math.prod(shape) * dtype.itemsize  # the library has checked that they lie without gaps

    def _stream(self, name, position):
        self._file.seek(position)
        return self._file


class ShardedFile(WeightFile):
    """Reads the .safetensors files that an index names as one, as transformers writes large models.

    Args:
        path: the index, model.safetensors.index.json.

    Raises:
        ValueError: if it is no index, or a file that it names is missing, lies in another folder, is refused by its
            reader, or has not the arrays that it should have.
    """

    def __init__(self, path):
        super().__init__(path)
        self._files = {}
        try:
            places = dict(json.loads(pathlib.Path(path).read_text("utf-8"))["weight_map"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _unreadable(path, f"no index of .safetensors files: {error}") from error
        self._place = places
        self._admit([(name, (name, place)) for name, place in places.items()], self._look)

    def _look(self, entry):
        name, place = entry
        if pathlib.PurePath(place).name != place:
            raise ValueError(f"is said to lie in {place}, out of the folder")
        if place not in self._files:
            self._files[place] = SafetensorsFile(pathlib.Path(self.path).with_name(place))
        if name not in self._files[place].shapes:
            raise ValueError(f"is said to lie in {place}, which has no such array")
        self.shapes[name] = self._files[place].shapes[name]

    def _fill(self, array, name, start):
        self._files[self._place[name]]._fill(array, name, start)

    def close(self):
        for file in self._files.values():
            file.close()


class H5File(WeightFile):
    """Reads an HDF5 file such as Keras' .weights.h5; the names are the paths of its datasets.

    Args:
        path: the file.

    Raises:
        ValueError: if the file is missing or no HDF5, or has links, datasets that are no plain arrays, that lie in
            other files or that claim more than the file holds; all faulty ones in one message.
    """

    FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # those built into HDF5 and h5py

    def __init__(self, path):
        import h5py

        super().__init__(path)
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise _unreadable(path, error, "in HDF5 layout") from error
        links = {}
        self._file.visititems_links(links.__setitem__)  # this one, unlike `visititems`, shows what leads elsewhere
        self._admit([(name, (name, link)) for name, link in links.items()], self._look)

    def _look(self, entry):
        import h5py

        name, link = entry
        if not isinstance(link, h5py.HardLink):
            raise ValueError("is a link to elsewhere")
        dataset = self._file[name]
        if not isinstance(dataset, h5py.Dataset):
            return
        if dataset.is_virtual or dataset.external:
            raise ValueError("has its numbers in other files")
        if dataset.shape is None:
            raise ValueError("is empty")
        plain_array(dataset.dtype)
        self._check_size(dataset)
        self.shapes[name] = dataset.shape

    def _check_size(self, dataset):
        """Raises for numbers that were never written, which HDF5 would read as zeros, and for impossible claims."""
        made = dataset.id.get_create_plist()
        filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
        if filters - set(self.FILTERS):
            raise ValueError(f"is packed with filters {sorted(filters)}, of which {sorted(self.FILTERS)} are read")
        held, claimed = dataset.id.get_storage_size(), dataset.size * dataset.dtype.itemsize
        if dataset.chunks:
            chunks = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks))
            claimed = chunks * math.prod(dataset.chunks) * dataset.dtype.itemsize
            if dataset.id.get_num_chunks() != chunks:
                raise ValueError(f"has {dataset.id.get_num_chunks()} of {chunks} chunks")
        if held > os.path.getsize(self.path) or claimed > held * (RATIO if filters else 1):
            raise ValueError(f"claims {claimed} bytes and holds {held}")

    def _fill(self, array, name, start):
        dataset = self._file[name]
        rows = np.s_[start : start + len(array)] if array.ndim else ()
        if dataset.dtype.itemsize != 2:
            return dataset.read_direct(array, rows)
        flat = array.reshape(-1)  # HDF5 has no bfloat16, and takes 50 times as long as NumPy to widen a float16
        halves = flat.view(dataset.dtype)[flat.size :]  # the second half of the result: widening never overtakes it
        dataset.read_direct(halves.reshape(array.shape), rows)
        for at in range(0, flat.size, CHUNK):
            flat[at : at + CHUNK] = float32(halves[at : at + CHUNK])
