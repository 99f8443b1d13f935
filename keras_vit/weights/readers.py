"""Reads arrays out of weight files, headers first."""

import math
import zipfile

import numpy as np


class NpzFile:
    """Reads an .npz file without unpickling, and without trusting what it says.

    Names, shapes and dtypes come from the members' headers; an array is allocated only when it is asked for.

    Args:
        path: the file.

    Raises:
        ValueError: if the file is missing or no .npz, or a member is no plain array, is unreadable, or stands in
            the file twice; all faulty members in one message.
    """

    def __init__(self, path):
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"Expected the path of a weight file in .npz layout; nothing is downloaded. Received: {path}: {error}"
            ) from error
        self.path = path
        self.shapes, self._dtypes, faults = {}, {}, []
        for info in self._zip.infolist():
            name = info.filename.removesuffix(".npy")
            try:
                if name in self.shapes or name == info.filename:
                    raise ValueError("stands in the file twice" if name in self.shapes else "no .npy member")
                self.shapes[name], self._dtypes[name] = self._header(info)
            except Exception as error:  # zipfile's and NumPy's parsers raise of every kind on a damaged header
                faults.append(f"  {info.filename}: {error}")
        if faults:
            self._zip.close()
            raise ValueError(f"{path} has members that are no plain arrays:\n" + "\n".join(faults))

    def _header(self, info):
        with self._zip.open(info) as member:
            version = np.lib.format.read_magic(member)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"unknown .npy version {version}")
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
            held = info.file_size - member.tell()
        if dtype.kind not in "fiu":
            raise ValueError(f"holds {dtype}, not numbers; nothing is unpickled")
        if math.prod(shape) * dtype.itemsize != held:
            raise ValueError(f"holds {held} bytes, its header says {dtype} of {shape}")
        return shape, dtype

    def read(self, name):
        """Returns one array as float32.

        Raises:
            ValueError: if its data is shorter than its header says or holds NaN or infinity.
        """
        try:
            with self._zip.open(name + ".npy") as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:
            raise ValueError(f"{self.path}: cannot read {name}: {error}") from error
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise ValueError(f"{self.path}: {name} holds NaN or infinity")
        return array

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._zip.close()
