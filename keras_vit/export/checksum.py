"""Puts the SHA-256 of an exported file at its end, by which `keras_vit.runtime` refuses a damaged one."""

from __future__ import annotations

import hashlib
import pathlib

COMMENT = b"sha256:" + bytes(64)  # of the zip at the end of a .tflite file
# A protobuf message ends where its file does, and more fields may follow: this one is a metadata property of an ONNX
# model, `sha256` (ModelProto.metadata_props of 74 bytes: key, value).
PROPERTY = b"\x72\x4a\x0a\x06sha256\x12\x40" + bytes(64)


def with_checksum(file: bytes | memoryview, end: bytes = b"") -> bytes:
    """Returns a file with the SHA-256 of all bytes before it in the place of its last 64.

    Args:
        file: its bytes.
        end: `PROPERTY` to add it to an ONNX file; empty for a zip with `COMMENT`.
    """
    parts = [file, end[:-64]] if end else [memoryview(file)[:-64]]
    checksum = hashlib.sha256()
    for part in parts:
        checksum.update(part)
    return b"".join([*parts, checksum.hexdigest().encode()])  # a large file is copied once


def write_checksums(folder: pathlib.Path) -> None:
    """Writes the SHA-256 of each file in a folder to SHA256SUMS there, for `sha256sum --check`."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    lines = [f"{hashlib.sha256(files[name].read_bytes()).hexdigest()}  {name}\n" for name in sorted(files)]
    (folder / "SHA256SUMS").write_text("".join(lines), "utf-8")
