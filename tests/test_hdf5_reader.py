"""The reader of HDF5 files: what h5py wrote it reads as h5py does, and nothing makes it read much."""

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairdd_cli.artifacts._hdf5_reader import LEAST_READ, READ_LIMIT, Structure, StructureError, read_structure


class Counted:
    """A source in memory that counts what is read of it."""

    def __init__(self, content: bytes) -> None:
        self.content, self.size = content, len(content)
        self.bytes, self.reads = 0, 0

    def read(self, start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= self.size
        self.bytes += length
        self.reads += 1
        return self.content[start : start + length]


def structure_of(content: bytes) -> Structure:
    """What the reader makes of `content`, within its limits."""
    source = Counted(content)
    try:
        return read_structure(source)
    finally:
        assert source.bytes <= READ_LIMIT
        assert source.reads <= READ_LIMIT // LEAST_READ


def file_of(folder: Path, fill: Callable[[h5py.File], object], **options: Any) -> bytes:
    """The bytes of a file as h5py writes it."""
    path = folder / "file.h5"
    with h5py.File(path, "w", **options) as file:
        fill(file)
    return path.read_bytes()


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    texts,
    st.lists(texts, min_size=1, max_size=20),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=20),
)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/."), min_size=1, max_size=20)
arrays = hnp.arrays(
    st.sampled_from(
        [np.dtype(code) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "?")]
    ),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


@given(st.dictionaries(names, values, max_size=12), st.dictionaries(names, arrays, max_size=12))
def test_it_reads_what_h5py_wrote(
    tmp_path_factory: pytest.TempPathFactory, attributes: dict[str, Any], stored: dict[str, np.ndarray]
) -> None:
    def fill(file: h5py.File) -> None:
        for name, array in stored.items():
            file.create_dataset("a/b/" + name, data=array)
        for name, value in attributes.items():
            file.attrs[name] = value

    content = file_of(tmp_path_factory.mktemp("h5"), fill)
    found = structure_of(content)
    assert found.attributes == attributes
    assert {name: type(value) for name, value in found.attributes.items()} == {
        name: type(value) for name, value in attributes.items()
    }
    assert set(found.arrays) == {"a/b/" + name for name in stored}
    for name, expected in stored.items():
        array = found.arrays["a/b/" + name]
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
        assert content[array.offset : array.offset + array.nbytes] == expected.tobytes()


def test_it_reads_large_groups_and_many_attributes(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        for i in range(400):
            file[f"group/array {i}"] = np.full(3, i)
            file.attrs[f"attribute {i}"] = "x" * i

    found = structure_of(file_of(tmp_path, fill))
    assert len(found.arrays) == 400
    assert found.attributes["attribute 399"] == "x" * 399


def link(kind: str) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        file["a"] = np.arange(3)
        file["b"] = {
            "soft": h5py.SoftLink("/a"),
            "external": h5py.ExternalLink("other.h5", "/a"),
            "hard": file["a"],
            "loop": file["/"],
        }[kind]

    return fill


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), np.dtype("i8"))
    layout[...] = h5py.VirtualSource("other.h5", "a", (3,))
    file.create_virtual_dataset("a", layout)


def dense(file: h5py.File) -> None:
    file.create_group("a", track_order=True)["b"] = np.arange(3)


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (link("soft"), "'b' is a link"),
        (link("external"), "layout"),
        (link("hard"), "is another name of something else"),
        (link("loop"), "is another name of something else"),
        (virtual, "layout|contiguously"),
        (dense, "layout"),
        (lambda file: file.create_dataset("a", data=np.zeros(9), chunks=(3,)), "contiguously"),
        (lambda file: file.create_dataset("a", data=np.zeros(9), compression="gzip"), "contiguously"),
        (lambda file: file.create_dataset("a", (3,), "i8", external=[("other", 0, 24)]), "contiguously"),
        (lambda file: file.create_dataset("a", data=["text"]), "plain numbers"),
        (lambda file: file.create_dataset("a", data=np.zeros(3, ">i4")), "plain numbers"),
        (lambda file: file.create_dataset("a", data=h5py.Empty("f4")), "shape"),
        (lambda file: file.__setitem__("a", np.dtype("f4")), "neither a group nor an array"),
        (lambda file: file.attrs.__setitem__("a", np.zeros((2, 2))), "neither a value nor a list"),
        (lambda file: file.attrs.__setitem__("a", np.zeros(2, "c8")), "neither a number, nor a text"),
        (lambda file: file.attrs.__setitem__("a", file.ref), "neither a number, nor a text"),
        (lambda file: [file.create_group(f"g/{i}") for i in range(1001)], "too many members"),
        (lambda file: file.create_group("a/b/c/d/e"), "too many members"),
        (lambda file: [file.attrs.__setitem__(str(i), 1) for i in range(1001)], "too many attributes"),
        (lambda file: file.create_group("x" * 1001), "a name in a group is damaged"),
    ],
)
def test_what_fairdd_never_writes_is_refused(tmp_path: Path, fill: Callable[[h5py.File], object], words: str) -> None:
    with pytest.raises(StructureError, match=words):
        structure_of(file_of(tmp_path, fill))


@pytest.mark.parametrize("library", ["v108", "v110", "latest"])
def test_newer_layouts_are_refused_before_anything_is_walked(tmp_path: Path, library: str) -> None:
    content = file_of(tmp_path, lambda file: file.create_dataset("a", data=np.arange(3)), libver=(library, "latest"))
    source = Counted(content)
    with pytest.raises(StructureError, match=r"superblock [23]\) is not the one that fairdd writes"):
        read_structure(source)
    assert source.reads == 1


def simple(file: h5py.File) -> None:
    file["a"], file["b"] = np.arange(1000), np.arange(1000)
    file.attrs["text"] = "x" * 500


def test_a_truncated_file_is_told(tmp_path: Path) -> None:
    content = file_of(tmp_path, simple)
    with pytest.raises(StructureError, match=rf"truncated: {len(content) - 9:,} of {len(content):,} bytes"):
        structure_of(content[:-9])


def test_arrays_that_overlap_are_refused(tmp_path: Path) -> None:
    content = file_of(tmp_path, simple)
    start = structure_of(content).arrays["b"].offset
    moved = content.replace(struct.pack("<QQ", start, 8000), struct.pack("<QQ", start - 8, 8000))
    assert moved != content
    with pytest.raises(StructureError, match="'a' and 'b' overlap"):
        structure_of(moved)


@pytest.mark.parametrize("count", [1, 40])
def test_a_text_counts_as_often_as_it_is_referred_to(tmp_path: Path, count: int) -> None:
    def fill(file: h5py.File) -> None:
        for i in range(count):
            file.attrs[f"text {i}"] = "x" * 7777
        file.attrs["long"] = "y" * 1_000_003

    content = bytearray(file_of(tmp_path, fill))
    references = b"(?!\0{4}).{4}\0{4}.{4}"  # address and index in a heap, after the length of the text
    (long,) = re.findall(re.escape(struct.pack("<I", 1_000_003)) + references, content, re.DOTALL)
    for match in list(re.finditer(re.escape(struct.pack("<I", 7777)) + references, content, re.DOTALL)):
        content[match.start() : match.end()] = long
    if count == 1:
        assert structure_of(bytes(content)).attributes["text 0"] == "y" * 1_000_003
    else:
        with pytest.raises(StructureError, match="bytes besides its arrays"):
            structure_of(bytes(content))


@pytest.mark.parametrize("seed", range(300))
def test_a_damaged_file_is_refused_or_read_within_the_limits(tmp_path: Path, seed: int) -> None:
    content = bytearray(file_of(tmp_path, simple))
    draw = np.random.Generator(np.random.PCG64(seed))
    structure = content.index(np.arange(1000).tobytes())
    for _ in range(draw.integers(1, 9)):
        at = draw.integers(8, structure)
        content[at] = draw.choice([0, 1, 8, 255, draw.integers(256)])
    with suppress(StructureError):
        structure_of(bytes(content))


def test_a_header_that_continues_in_itself_ends(tmp_path: Path) -> None:
    content = bytearray(file_of(tmp_path, simple))
    (root,) = struct.unpack_from("<Q", content, 64)
    content[root + 16 : root + 24] = struct.pack("<HHB3x", 16, 16, 0)
    content[root + 24 : root + 40] = struct.pack("<QQ", root + 16, 24)
    with pytest.raises(StructureError, match=r"besides its arrays|too many messages"):
        structure_of(bytes(content))


def test_a_tree_whose_branches_are_itself_ends(tmp_path: Path) -> None:
    content = bytearray(file_of(tmp_path, simple))
    tree = content.index(b"TREE")
    content[tree + 5 : tree + 8] = struct.pack("<BH", 200, 1)
    content[tree + 32 : tree + 40] = struct.pack("<Q", tree)
    with pytest.raises(StructureError, match="a group is damaged"):
        structure_of(bytes(content))
