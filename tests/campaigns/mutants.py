"""Damage to files: to their bytes, to what an HDF5 file holds, to JSON. Each kind is a function of keyed draws."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fairdd_cli.artifacts._hdf5 import array_entry, content_digest

ODD: list[Any] = [
    *(-1, 0, 2**31, 2**62, -(2**63), 1e308, -0.0, float("nan"), float("inf"), True),
    *("", "\x1b[31mred", "[bold]x[/bold]", "../../etc/passwd", "a" * 5000, "\udcff", "null", "{", "[" * 3000),
    *([], [1], [[1, 2], [3, 4]], ["x"] * 2000, [1.5, -1.0], list("abc"), b"\xff\xfe", np.zeros(70, "u1")),
]


# Damage to the bytes


def flip_bits(content: bytearray, draw: np.random.Generator) -> None:
    for _ in range(draw.integers(1, 9)):
        content[draw.integers(len(content))] ^= 1 << draw.integers(8)


def flip_head(content: bytearray, draw: np.random.Generator) -> None:
    content[draw.integers(min(len(content), 3000))] = draw.integers(256)


def truncate(content: bytearray, draw: np.random.Generator) -> None:
    del content[draw.integers(len(content)) :]


def overwrite(content: bytearray, draw: np.random.Generator) -> None:
    start, length = draw.integers(len(content)), draw.integers(1, 64)
    fill = [bytes(length), b"\xff" * length, draw.bytes(length)][draw.integers(3)]
    content[start : start + length] = fill


def insert(content: bytearray, draw: np.random.Generator) -> None:
    start = draw.integers(len(content))
    content[start:start] = draw.bytes(int(draw.integers(1, 64)))


def move(content: bytearray, draw: np.random.Generator) -> None:
    a, b, length = draw.integers(len(content)), draw.integers(len(content)), draw.integers(1, 512)
    content[a : a + length] = content[b : b + length]


BYTES: list[Callable[[bytearray, np.random.Generator], None]] = [
    *(flip_bits, flip_head, truncate, overwrite, insert, move)
]


# Damage to what an HDF5 file holds


def arrays_of(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, member: names.append(name) if isinstance(member, h5py.Dataset) else None)
    return names


def odd_attribute(file: h5py.File, draw: np.random.Generator) -> None:
    name = pick(list(file.attrs), draw)
    del file.attrs[name]
    file.attrs[name] = pick(ODD, draw)


def drop_attribute(file: h5py.File, draw: np.random.Generator) -> None:
    del file.attrs[pick(list(file.attrs), draw)]


def add_attribute(file: h5py.File, draw: np.random.Generator) -> None:
    file.attrs[pick(["extra", "\x1b]0;x", "[red]"], draw)] = pick(ODD, draw)


def vast_attribute(file: h5py.File, draw: np.random.Generator) -> None:
    """Many elements that all refer to text of the same heap."""
    name = pick(list(file.attrs), draw)
    del file.attrs[name]
    file.attrs.create(
        name, ["x" * int(draw.integers(1, 3000))] * int(draw.integers(1, 4000)), dtype=h5py.string_dtype()
    )


def drop_array(file: h5py.File, draw: np.random.Generator) -> None:
    del file[pick(arrays_of(file), draw)]


def odd_array(file: h5py.File, draw: np.random.Generator) -> None:
    """Another dtype, shape, layout or content under a name of the format."""
    name = pick(arrays_of(file), draw)
    old = file[name][...]
    del file[name]
    kind = draw.integers(8)
    if kind == 0:
        file[name] = old.astype(pick(["f4", "f8", "i1", "u2", ">i8", "c8", "?"], draw))
    elif kind == 1:
        file[name] = old.ravel()
    elif kind == 2:
        file[name] = old[: max(0, len(old) - 1)]
    elif kind == 3:
        file.create_dataset(name, data=old, chunks=True, compression="gzip")
    elif kind == 4:
        file.create_dataset(name, shape=(2**50,) + old.shape[1:], dtype=old.dtype, chunks=(1,) + old.shape[1:])
    elif kind == 5:
        file.create_dataset(name, old.shape, old.dtype, external=[("dataset.h5", 0, max(1, old.nbytes))])
    elif kind == 6:
        layout = h5py.VirtualLayout(old.shape, old.dtype)
        layout[...] = h5py.VirtualSource("dataset.h5", "train/images", old.shape)
        file.create_virtual_dataset(name, layout)
    else:
        file.create_dataset(name, data=[b"text"] * 3, dtype=h5py.string_dtype())


def odd_values(file: h5py.File, draw: np.random.Generator) -> None:
    array = file[pick(arrays_of(file), draw)]
    if array.size:
        values = array[...].ravel()
        with np.errstate(all="ignore"):
            values[draw.integers(values.size)] = np.array(pick([-1, 7, 1e30, np.nan, 2**40], draw)).astype(array.dtype)
        array[...] = values.reshape(array.shape)


def shared_text(file: h5py.File, draw: np.random.Generator) -> None:
    """Many attributes with a long text each."""
    for number in range(int(draw.integers(1, 60))):
        file.attrs[f"text {number}"] = "x" * int(draw.integers(2**18, 2**20))


def new_layout(file: h5py.File, draw: np.random.Generator) -> None:
    """A group as newer versions of HDF5 lay it out."""
    name = pick(["extra", "history/extra", "val"], draw)
    file.create_group(name, track_order=True)["x"] = np.arange(int(draw.integers(1, 50)))


def link(file: h5py.File, draw: np.random.Generator) -> None:
    name = pick([*arrays_of(file), "extra"], draw)
    if name in file:
        del file[name]
    targets = [
        h5py.SoftLink("/nowhere"),
        h5py.SoftLink("/"),
        h5py.ExternalLink("dataset.h5", "/train/labels"),
        file["/"],
    ]
    file[name] = pick([*targets, h5py.ExternalLink("/etc/passwd", "/")], draw)


def add_member(file: h5py.File, draw: np.random.Generator) -> None:
    kind = draw.integers(3)
    if kind == 0:
        file.create_group(pick(["x", "train/x", "a/b/c/d/e/f"], draw))
    elif kind == 1:
        file.create_dataset(pick(["x", "confusion/[red]", "history/x", "confusion/\x1b[2J"], draw), data=np.arange(3))
    else:
        file["type"] = np.dtype("f4")


MEMBERS: list[Callable[[h5py.File, np.random.Generator], None]] = [
    *(odd_attribute, drop_attribute, add_attribute, vast_attribute, shared_text, new_layout),
    *(drop_array, odd_array, odd_values, link, add_member),
]


def sealed(file: h5py.File) -> None:
    """Gives the file the digest of what it holds now, so that the checks behind the digest are reached."""
    entries = {name: array_entry(file[name][...]) for name in sorted(arrays_of(file)) if file[name].nbytes < 2**24}
    attributes = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in file.attrs.items()}
    file.attrs["digest"] = content_digest(attributes, entries)


def damage_members(path: Path, draw: np.random.Generator) -> str:
    change = pick(MEMBERS, draw)
    failures = (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, OverflowError)
    with contextlib.suppress(*failures), h5py.File(path, "r+") as file:  # what h5py itself will not write
        change(file, draw)
        if draw.integers(2):
            sealed(file)
            return f"{change.__name__}, sealed"
    return change.__name__


# Damage to JSON


def damage_json(path: Path, draw: np.random.Generator) -> str:
    content = json.loads(path.read_text())
    nodes: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            nodes.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    visit(content)
    node, key = pick(nodes, draw)
    kind = draw.integers(5)
    if kind == 0:
        del node[key]
    elif kind <= 2:
        node[key] = pick([value for value in ODD if not isinstance(value, bytes | np.ndarray)], draw)
    text = json.dumps(content)
    if kind == 3:
        text = text[:-1] + ", " + text[1:]  # every key twice
    elif kind == 4:
        deep = int(draw.integers(10, 100_000))
        text = text.replace(json.dumps(content["seed"]), "[" * deep + "]" * deep, 1)
    path.write_text(text)
    return f"json {kind}"


def respell_json(path: Path, draw: np.random.Generator) -> str:
    """The file as another tool writes it."""
    content = json.loads(path.read_text())
    text = json.dumps(content, indent=pick([None, 1, 4], draw), sort_keys=bool(draw.integers(2)))
    path.write_bytes(text.encode(pick(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"], draw), "replace"))
    return "json respelled"


def pick(choices: Any, draw: np.random.Generator) -> Any:
    return choices[draw.integers(len(choices))]


def mutate(path: Path, draw: np.random.Generator) -> str:
    """Damages the sound file at `path`, once or a few times; returns what was done."""
    done = []
    for _ in range(1 + int(draw.integers(4) == 0)):
        if draw.integers(3) == 0 or done or path.suffix not in (".h5", ".json"):
            content = bytearray(path.read_bytes())
            change = pick(BYTES, draw)
            change(content or bytearray(1), draw)
            path.write_bytes(content)
            done.append(change.__name__)
        else:
            kinds = [damage_json, damage_json, respell_json] if path.suffix == ".json" else [damage_members]
            done.append(pick(kinds, draw)(path, draw))
    return ", ".join(done)
