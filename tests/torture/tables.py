"""Zip files of images and CSV tables: damaged, hostile and odd ones list the same images, or are refused."""

import io
import struct
import zipfile
import zlib

import numpy as np
from outcome import LONGEST_MESSAGE, Outcome
from PIL import Image

from keras_vit.data.sources import list_own, open_source

SHARE = 0.03
CLASSES = ("ash", "Märzveilchen", "fir")
MEGABYTES = 100


def prepare(folder):
    """Writes images, and makes the zip files and tables that are changed."""
    rng = np.random.default_rng(0)
    images = {}
    for index in range(12):
        file, kind = io.BytesIO(), ("png", "jpeg", "bmp")[index % 3]
        Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).save(file, kind)
        images[f"{CLASSES[index // 4]}/{index}.{kind}"] = file.getvalue()
    for name, data in images.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    splits = {f"{split}/{name}": data for split in ("train", "val") for name, data in images.items()}
    zips = [
        pack(files, top, method) for files, top in ((images, ""), (images, "top/"), (splits, "")) for method in (0, 8)
    ]
    lines = [
        f'{name},"{name.split("/")[0]}",{("train", "Test", "val")[i % 3]},{i / 2}' for i, name in enumerate(images)
    ]
    table = "path,label,split,weight\n" + "\n".join(lines) + "\n"
    short = "label,path\n" + "".join(f"{name.split('/')[0]}, {name} \n" for name in images)
    tables = [
        text.encode(code) for text in (table, short, table.replace("\n", "\r\n")) for code in ("utf-8", "utf-8-sig")
    ]
    seeds = []
    for data in zips:
        (folder / "x.zip").write_bytes(data)
        seeds.append((data, listed(open_source(folder / "x.zip"))))
    return folder, images, seeds, tables


def listed(source):
    return source.class_names, source.digest, source.train.names, source.validation.names, source.test.names


def pack(files, top="", method=8, odd=None):
    """Returns a zip file of {name: bytes}, written by hand; `odd(i, entry)` changes the entry of a member."""
    out, directory, places = bytearray(), bytearray(), []
    for index, (name, data) in enumerate(files.items()):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = deflate.compress(data) + deflate.flush() if method else data
        entry = {
            "name": (top + name).encode(), "flags": 0x800, "method": method, "crc": zlib.crc32(data), "packed": packed,
            "size": len(data), "compressed": len(packed), "mode": 0o100644, "offset": len(out), "version": 20,
            "extra": b"", "local_extra": b"", "own_name": None, "before": b"", "copies": 1,
        }  # fmt: skip
        if odd:
            odd(index, entry)
        e = entry
        out += e["before"]
        e["offset"] += len(e["before"])
        own = e["name"] if e["own_name"] is None else e["own_name"]
        sizes = e["crc"], e["compressed"] & 0xFFFFFFFF, e["size"] & 0xFFFFFFFF
        head = e["version"], e["flags"], e["method"], 0, 33, *sizes
        out += struct.pack("<4s5H3L2H", b"PK\3\4", *head, len(own), len(e["local_extra"])) + own + e["local_extra"]
        out += e["packed"]
        tail = len(e["name"]), len(e["extra"]), 0, 0, 0, e["mode"] << 16, e["offset"]
        record = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20 | 3 << 8, *head, *tail) + e["name"] + e["extra"]
        directory += record * e["copies"]
        places += [len(directory)] * e["copies"]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(places), len(places), len(directory), len(out), 0)
    return bytes(out + directory + end)


def zip64(entry):
    entry["extra"] = struct.pack("<HHQQ", 1, 16, entry["size"], entry["compressed"])
    entry["size"] = entry["compressed"] = 0xFFFFFFFF


# {what is odd about a member: (change of its entry, whether its zip file is the same source; None where the checksum
# decides)}
ODD = {
    "name above": (lambda e, r: e.update(name=b"../" * r.randint(1, 9) + e["name"]), False),
    "absolute name": (lambda e, r: e.update(name=b"/" + e["name"]), False),
    "drive": (lambda e, r: e.update(name=b"C:/" + e["name"]), False),
    "backslashes": (lambda e, r: e.update(name=e["name"].replace(b"/", b"\\")), False),
    "empty name": (lambda e, r: e.update(name=b""), False),
    "dots": (lambda e, r: e.update(name=b"./" + e["name"]), False),
    "deep": (lambda e, r: e.update(name=b"ash/" + b"x/" * r.randint(101, 30_000) + b"y.png"), False),
    "long": (lambda e, r: e.update(name=b"ash/" + b"x" * r.randint(5_000, 60_000) + b"y.png"), False),
    "link": (lambda e, r: e.update(mode=r.choice([0o120777, 0o060644, 0o010644, 0o020644])), False),
    "encrypted": (lambda e, r: e.update(flags=e["flags"] | 1), False),
    "patched": (lambda e, r: e.update(flags=e["flags"] | 0x20), False),
    "strongly encrypted": (lambda e, r: e.update(flags=e["flags"] | 0x40), False),
    "method": (lambda e, r: e.update(method=r.choice([1, 6, 9, 12, 14, 93, 99, 65535])), False),
    "version": (lambda e, r: e.update(version=r.randint(64, 255)), False),
    "listed twice": (lambda e, r: e.update(copies=2), False),
    "overlapping": (lambda e, r: e.update(offset=0 if e["offset"] else 1), False),
    "offset": (lambda e, r: e.update(offset=e["offset"] + r.choice([1, 2, 30, 2**31])), False),
    "other own name": (lambda e, r: e.update(own_name=b"ash/y.png"), False),
    "checksum": (lambda e, r: e.update(crc=e["crc"] ^ 1 << r.randrange(32)), False),
    "size": (lambda e, r: e.update(size=e["size"] + r.choice([-1, 1, -20, 99, 2**31])), None),
    "compressed size": (lambda e, r: e.update(compressed=e["compressed"] + r.choice([-1, 9, -20, 2**31])), None),
    "bytes": (lambda e, r: e.update(packed=flipped(e["packed"], r)), None),
    "torn extra": (lambda e, r: e.update(extra=b"\1\0\x10\0\0"), False),
    "zip64": (lambda e, r: zip64(e), True),
    "extra": (lambda e, r: e.update(extra=b"UT\5\0\1abcd", local_extra=b"UT\5\0\1abcd"), True),
    "bytes between": (lambda e, r: e.update(before=r.randbytes(99)), True),
    "name without its mark": (lambda e, r: e.update(flags=0), True),
    "no mode": (lambda e, r: e.update(mode=0), True),
}  # fmt: skip


def flipped(data, random):
    data = bytearray(data)
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def mutated(data, random):
    """Returns bytes with a few changes."""
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        at, size = random.randrange(len(data) + 1), random.choice([1, 2, 4, 30, 300])
        how = random.randrange(8)
        if how < 3 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif how == 3:
            data[at : at + size] = bytes(len(data[at : at + size]))
        elif how == 4:
            del data[at : at + size]
        elif how == 5:
            data[at:at] = random.choice([random.randbytes(size), data[at : at + size], b'"' * size, b"PK\1\2", b"\r\n"])
        elif how == 6:
            other = random.randrange(len(data) + 1)
            data[at : at + size] = data[other : other + size]
        elif random.random() < 0.3:
            del data[at:]
        else:
            data[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\x7f\xff\xff\xff"])
    return bytes(data)


def rows_of(text):
    """Returns the rows of a CSV text, or None if it is not one: RFC 4180, with any line break."""
    rows, row, cell, state, at = [], [], "", "start", 0
    text = text.replace("\r\n", "\n") if '"' not in text else text
    while at < len(text):
        c = text[at]
        if state == "quoted":
            if c == '"' and text[at + 1 : at + 2] == '"':
                cell, at = cell + c, at + 1
            elif c == '"':
                state = "after"
            else:
                cell += c
        elif c in "\r\n":
            at += text[at : at + 2] == "\r\n"
            rows.append([*row, cell] if row or cell or state == "after" else [])
            row, cell, state = [], "", "start"
        elif c == ",":
            row, cell, state = [*row, cell], "", "start"
        elif state == "after":
            return None
        elif c == '"' and state == "start":
            state = "quoted"
        else:
            cell, state = cell + c, "plain"
        at += 1
    if state == "quoted":
        return None
    return [row for row in [*rows, [*row, cell] if row or cell or state == "after" else []] if row]


def expected_of(data):
    """Returns the (path, label, split, weight) that a table's bytes hold, in order, or None if it is not one."""
    try:
        rows = rows_of(data.removeprefix(b"\xef\xbb\xbf").decode())
        header, *rows = [[cell.strip() for cell in row] for row in rows]
        named = [dict(zip(header, row)) for row in rows if len(row) == len(header)]
        if len(named) < len(rows):
            return None
        short = {"train": "train", "training": "train", "test": "test", "testing": "test"}
        short |= dict.fromkeys(("validation", "val", "valid", "dev"), "validation")
        return [
            (row["path"], row["label"], short[row.get("split", "train").casefold()], abs(float(row.get("weight", "1"))))
            for row in named
        ]
    except (UnicodeDecodeError, KeyError, ValueError, TypeError):
        return None


def refused(kind, path, error, **limits):
    message = str(error)
    if len(message) > LONGEST_MESSAGE or str(path) not in message:
        return Outcome(kind, "message", f"{len(message)} characters: {message[:300]}", **limits)
    if not message.replace("\n", "").isprintable():
        return Outcome(kind, "message", f"not printable: {message[:300]!r}", **limits)
    return Outcome(kind, "refused", **limits)


def case(state, number, random):
    """Changes a zip file or a table, and opens it."""
    folder, images, seeds, tables = state
    limits = {"limit_mb": MEGABYTES}
    if number % 3 == 0:
        path, kind = folder / "x.csv", random.choice(["csv bytes", "csv cells"])
        data = random.choice(tables)
        data = mutated(data, random) if kind == "csv bytes" else cells_changed(data, random)
        path.write_bytes(data)
        try:
            listing = list_own(path)
            if listing.problems:
                open_source(path)
        except ValueError as error:
            return refused(kind, path, error, **limits)
        got = [(image.name, image.class_name, image.split, image.weight) for image in listing.images]
        same = got == expected_of(data) and all(image.file == str(folder / image.name) for image in listing.images)
        return Outcome(kind, "equal" if same else "another table", f"{data!r}"[:900], **limits)
    path = folder / "x.zip"
    data, original = random.choice(seeds)
    kind, right = "zip bytes", {"equal", "refused"}
    if number % 3 == 1:
        kind, (change, is_same) = random.choice([*ODD.items()])
        right = {None: right, True: {"equal"}, False: {"refused"}}[is_same]
        some, kind = {random.randrange(12) for _ in range(random.choice([1, 1, 12]))}, f"zip: {kind}"
        method = random.choice([0, 8])
        data = pack(images, "", method, lambda i, entry: change(entry, random) if i in some else None)
        if random.random() < 0.2:
            data = random.randbytes(200) + data  # as a self-extracting file has it
        original = seeds[0][1]
    else:
        data = mutated(data, random)
    path.write_bytes(data)
    try:
        result = listed(open_source(path))
    except ValueError as error:
        outcome = refused(kind, path, error, **limits)
    else:
        result = "equal" if result == original else "another source"
        outcome = Outcome(kind, result, f"{zipfile.ZipFile(path).namelist()}"[:300], **limits)
    if outcome.result in ("equal", "refused") and outcome.result not in right:
        return Outcome(kind, f"{outcome.result}, not {right}", outcome.detail, **limits)
    return outcome


def cells_changed(data, random):
    """Changes cells and lines of a table."""
    start, text = (b"\xef\xbb\xbf", data[3:].decode()) if data.startswith(b"\xef\xbb\xbf") else (b"", data.decode())
    lines = text.splitlines()
    for _ in range(random.choice([1, 1, 3])):
        at = random.randrange(len(lines))
        cells = lines[at].split(",")
        cell = random.randrange(len(cells))
        how = random.randrange(7)
        if how == 0:
            lines.insert(at, lines[random.randrange(len(lines))])
        elif how == 1:
            del lines[at]
        elif how == 2:
            random.shuffle(cells)
        elif how == 3:
            cells[cell] = '"' + cells[cell].strip('"').replace('"', '""') + '"'
        elif how == 4:
            cells[cell] = random.choice(ODD_CELLS)
        elif how == 5:
            cells.insert(cell, random.choice(ODD_CELLS))
        else:
            del cells[cell]
        if how > 1:
            lines[at] = ",".join(cells)
        if not lines:
            break
    ends = random.choice(["\n", "\n", "\r\n", "\r", "\n\n", "\u2028"])
    encoding = random.choice(["utf-8"] * 8 + ["utf-16", "utf-16-le", "latin-1", "utf-32"])
    return start + ends.join([*lines, ""]).encode(encoding, "replace")


ODD_CELLS = [
    "", " ", '"', '""', '"a""b"', '"a\nb"', '"a\r\nb"', "a\0b", "\x1b[31mred", "\u202eabc", "x" * 200_000, "x" * 9_999,
    "/etc/passwd", "../" * 50 + "x.png", "..\\x.png", "C:\\x.png", "nan", "inf", "-1", "1e-40", "1e38", "1e400", "0",
    "-0", "1_000", "１", "0x1", "1e-6", "1000000", "train", "TEST", "Dev", "later", "path", "label", "weight", "split",
    "=1+1", ";",
    "\t", "|", "a,b", "\ufeff", "\ud7ff", "\U0001f33c",
]  # fmt: skip
