"""How an HDF5 file is read: the part of the format that fairdd writes, and nothing else.

That part is superblock 0, object headers 1, old-style groups, contiguous arrays of numbers, and attributes (HDF5 File
Format Specification 3.0, sections II to IV). The HDF5 library is not shown files of unknown content: a damaged one can
make it loop for ever, divide by zero or ask for any memory, and it takes whatever layout a file names. Here every
number is compared with the size of the file before it is used, and READ_LIMIT holds over all that is read.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1  # an address that leads nowhere
READ_LIMIT = 2**24  # bytes of a file that are not in its arrays, a text counted as often as it is referred to
LEAST_READ = 64  # bytes that a read counts for at least, so that their number is limited, too
MESSAGE_LIMIT = 100_000  # in all object headers
MEMBER_LIMIT = 1000  # groups and arrays, and also attributes
NAME_LIMIT = 1000  # bytes
DEPTH_LIMIT = 3
RANK_LIMIT = 8

# Types of the messages in an object header.
NIL, DATASPACE, DATATYPE, OLD_FILL, FILL, LAYOUT, ATTRIBUTE, CONTINUATION, SYMBOLS = 0, 1, 3, 4, 5, 8, 12, 16, 17
EXTERNAL, FILTERS, OLD_TIME, TIME = 7, 11, 14, 18
KNOWN = {NIL, DATASPACE, DATATYPE, OLD_FILL, FILL, LAYOUT, ATTRIBUTE, CONTINUATION, SYMBOLS, OLD_TIME, TIME}
STRING, VARIABLE = 3, 9  # classes of a datatype


class StructureError(ValueError):
    """The file is damaged, or in a layout that fairdd does not write; the message says which."""


class Source(Protocol):
    """Bytes that stay the same while they are read."""

    @property
    def size(self) -> int:
        """Number of bytes."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start` on."""
        ...


@dataclass(frozen=True)
class StoredArray:
    """An array of numbers that lies in the file from byte `offset` on."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=object))


@dataclass(frozen=True)
class Structure:
    """All of a file but the numbers in its arrays."""

    attributes: dict[str, Any]  # of the root group: truth values, numbers, texts, or lists of them
    arrays: dict[str, StoredArray]  # by path, as in 'train/images'


def read_structure(source: Source) -> Structure:
    """The attributes and arrays of the HDF5 file in `source`; raises StructureError unless it is sound."""
    return _Reader(source).structure()


def _number_types() -> dict[bytes, np.dtype[Any]]:
    """The numbers that are read, by the datatype message (without its version) that describes each."""
    types: dict[bytes, np.dtype[Any]] = {}
    for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
        dtype: np.dtype[Any] = np.dtype(name)
        sign = 8 if dtype.kind == "i" else 0
        types[struct.pack("<BBHIHH", 0, sign, 0, dtype.itemsize, 0, 8 * dtype.itemsize)] = dtype
    for name, exponent, mantissa in (("f2", 5, 10), ("f4", 8, 23), ("f8", 11, 52)):
        bits = exponent + mantissa
        fields = (0, bits + 1, mantissa, exponent, 0, mantissa, 2 ** (exponent - 1) - 1)
        types[struct.pack("<BBBBIHHBBBBI", 1, 0x20, bits, 0, np.dtype(name).itemsize, *fields)] = np.dtype(name)
    base = struct.pack("<BBHIHH", 0x10, 8, 0, 1, 0, 8)
    names = b"FALSE".ljust(8, b"\0") + b"TRUE".ljust(8, b"\0")
    types[struct.pack("<BBBBI", 8, 2, 0, 0, 1) + base + names + b"\0\1"] = np.dtype(bool)  # as h5py stores them
    return types


NUMBERS = _number_types()


def _number_type(message: bytes) -> np.dtype[Any] | None:
    """The dtype that the datatype `message` describes, None where it is no plain number of this machine."""
    plain = bytes([message[0] & 15]) + message[1:] if message else b""
    return next((dtype for encoded, dtype in NUMBERS.items() if plain.startswith(encoded)), None)


def _padded(length: int) -> int:
    return -(-length // 8) * 8


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._left, self._messages_left = READ_LIMIT, MESSAGE_LIMIT
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}  # by address: where each text lies, and its length

    def structure(self) -> Structure:
        root = list(self._messages(self._root()))
        own = [message for kind, message in root if kind == ATTRIBUTE]
        if len(own) > MEMBER_LIMIT:
            raise StructureError("it has too many attributes")
        attributes = dict(map(self._attribute, own))
        arrays: dict[str, StoredArray] = {}
        pending, seen, members = [("", root)], {self._root()}, 0
        while pending:
            prefix, messages = pending.pop()
            for key, address in self._members(messages):
                name, members = prefix + key, members + 1
                if members > MEMBER_LIMIT or name.count("/") > DEPTH_LIMIT:
                    raise StructureError("it has too many members")
                if address in seen:
                    raise StructureError(f"'{name[:80]}' is another name of something else in it")
                seen.add(address)
                found = list(self._messages(address))
                if any(kind == SYMBOLS for kind, _ in found):
                    pending.append((name + "/", found))
                else:
                    arrays[name] = self._array(name, found)
        spans = sorted((array.offset, array.nbytes, name) for name, array in arrays.items() if array.nbytes)
        for (start, length, name), (following, _, other) in pairwise(spans):
            if start + length > following:
                raise StructureError(f"'{name}' and '{other}' overlap")
        return Structure(attributes, dict(sorted(arrays.items())))

    def _read(self, start: int, length: int) -> bytes:
        if start + length > self._source.size:
            raise StructureError("it is truncated or damaged: it refers to what lies beyond its end")
        self._left -= max(length, LEAST_READ)
        if self._left < 0:
            raise StructureError(f"it holds more than {READ_LIMIT:,} bytes besides its arrays")
        return self._source.read(start, length)

    def _root(self) -> int:
        """The address of the root group's object header."""
        head = self._read(0, 96)
        if head[:8] != SIGNATURE:
            raise StructureError("it does not start as an HDF5 file")
        base, _, end, driver = struct.unpack_from("<4Q", head, 24)
        if head[8] != 0 or head[13:15] != b"\x08\x08" or base != 0 or driver != UNDEFINED:
            raise StructureError(f"its HDF5 layout (superblock {head[8]}) is not the one that fairdd writes")
        if end > self._source.size:
            raise StructureError(f"it is truncated: {self._source.size:,} of {end:,} bytes are there")
        return int(struct.unpack_from("<Q", head, 64)[0])

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Type and content of each message in the object header at `address`."""
        version, _, _, _, length = struct.unpack("<BBHII4x", self._read(address, 16))
        if version != 1:
            raise StructureError("its HDF5 layout (object header) is not the one that fairdd writes")
        blocks = [(address + 16, length)]
        while blocks:
            block, at = self._read(*blocks.pop()), 0
            while at + 8 <= len(block):
                kind, size, flags = struct.unpack_from("<HHB", block, at)
                message = block[at + 8 : at + 8 + size]
                if len(message) != size:
                    raise StructureError("an object header is damaged")
                at += 8 + size
                self._messages_left -= 1
                if self._messages_left < 0:
                    raise StructureError("its object headers hold too many messages")
                if kind in (EXTERNAL, FILTERS):
                    raise StructureError("an array must be stored contiguously, without filters and inside the file")
                if kind not in KNOWN or flags & 2:
                    raise StructureError(f"its HDF5 layout (message {kind}) is not the one that fairdd writes")
                if kind == CONTINUATION:
                    blocks.append(self._unpack("<2Q", message))
                elif kind != NIL:
                    yield kind, message

    @staticmethod
    def _unpack(form: str, content: bytes, at: int = 0) -> tuple[Any, ...]:
        if at < 0 or at + struct.calcsize(form) > len(content):
            raise StructureError("a part of it is cut off")
        return struct.unpack_from(form, content, at)

    def _members(self, messages: list[tuple[int, bytes]]) -> Iterator[tuple[str, int]]:
        """Name and header address of each member of the group that the `messages` describe."""
        tables = [self._unpack("<2Q", message) for kind, message in messages if kind == SYMBOLS]
        if len(tables) != 1:
            raise StructureError("a group is damaged")
        tree, heap = tables[0]
        signature, _, size, _, start = struct.unpack("<4sIQQQ", self._read(heap, 32))
        if signature != b"HEAP":
            raise StructureError("the names in a group are damaged")
        names = self._read(start, size)
        for leaf in self._leaves(tree, 256):
            signature, _, count = struct.unpack("<4sHH", self._read(leaf, 8))
            if signature != b"SNOD":
                raise StructureError("a group is damaged")
            entries = self._read(leaf + 8, 40 * count)
            for offset, address, cache in struct.iter_unpack("<QQI20x", entries):
                end = names.find(b"\0", offset, offset + NAME_LIMIT + 1)
                name = names[offset:end].decode(errors="replace")
                if end < 0 or not name or "/" in name:
                    raise StructureError("a name in a group is damaged")
                if cache == 2 or address == UNDEFINED:
                    raise StructureError(f"'{name[:80]}' is a link, and links are not followed")
                yield name, address

    def _leaves(self, address: int, above: int) -> Iterator[int]:
        """The addresses of the symbol nodes under the B-tree node at `address`, whose level is lower than `above`."""
        signature, kind, level, count = struct.unpack("<4sBBH16x", self._read(address, 24))
        if signature != b"TREE" or kind != 0 or level >= above:
            raise StructureError("a group is damaged")
        for _, child in struct.iter_unpack("<QQ", self._read(address + 24, 16 * count)):
            if level:
                yield from self._leaves(child, level)
            else:
                yield child

    def _array(self, name: str, messages: list[tuple[int, bytes]]) -> StoredArray:
        """The array that the `messages` of its header describe."""
        parts = dict(messages)
        if not {DATASPACE, DATATYPE, LAYOUT} <= parts.keys():
            raise StructureError(f"'{name[:80]}' is neither a group nor an array")
        dtype = _number_type(parts[DATATYPE])
        if dtype is None:
            raise StructureError(f"'{name[:80]}' should hold plain numbers")
        version, layout = self._unpack("<BB", parts[LAYOUT])
        if (version, layout) != (3, 1):
            raise StructureError(f"'{name[:80]}' must be stored contiguously, without filters and inside the file")
        offset, stored = self._unpack("<2Q", parts[LAYOUT], 2)
        array = StoredArray(dtype, self._shape(parts[DATASPACE]), 0 if offset == UNDEFINED else offset)
        if array.nbytes != stored or (offset == UNDEFINED and stored):
            raise StructureError(f"'{name[:80]}' declares {array.nbytes:,} bytes but holds {stored:,}")
        if array.offset + stored > self._source.size:
            raise StructureError(f"'{name[:80]}' reaches beyond the end of the file")
        return array

    def _shape(self, message: bytes) -> tuple[int, ...]:
        version, rank, _, kind = self._unpack("<4B", message)
        if version not in (1, 2) or rank > RANK_LIMIT or (version == 2 and kind == 2):
            raise StructureError("the shape of an array is damaged")
        return self._unpack(f"<{rank}Q", message, 8 if version == 1 else 4)

    def _attribute(self, message: bytes) -> tuple[str, Any]:
        """Name and value of an attribute."""
        version, flags, *sizes = self._unpack("<BB3H", message)
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise StructureError("an attribute is damaged")
        at, parts = 9 if version == 3 else 8, []
        for size in sizes:
            parts.append(message[at : at + size])
            at += size if version > 1 else _padded(size)
        name = parts[0].rstrip(b"\0").decode(errors="replace")
        shape, data = self._shape(parts[2]), message[at:]
        if len(shape) > 1:
            raise StructureError(f"attribute '{name[:80]}' is neither a value nor a list of values")
        values = self._values(name, parts[1], shape[0] if shape else 1, data)
        return name, values if shape else values[0]

    def _values(self, name: str, datatype: bytes, count: int, data: bytes) -> list[Any]:
        """The `count` values of this `datatype` in `data`."""
        head, _, width = self._unpack("<B3sI", datatype)
        kind, dtype = head & 15, _number_type(datatype)
        width = dtype.itemsize if dtype is not None else width
        text = kind == STRING or (kind == VARIABLE and datatype[1] & 15 == 1 and width == 16)
        if dtype is None and not text:
            raise StructureError(f"attribute '{name[:80]}' is neither a number, nor a text, nor a list of them")
        if count * width > len(data):
            raise StructureError(f"attribute '{name[:80]}' is cut off")
        if dtype is not None:
            return list(np.frombuffer(data, dtype, count).tolist())
        entries = (data[width * i : width * (i + 1)] for i in range(count))
        if kind == STRING:
            return [entry.rstrip(b"\0").decode(errors="surrogateescape") for entry in entries]
        return [self._text(*struct.unpack("<IQI", entry)) for entry in entries]

    def _text(self, length: int, heap: int, index: int) -> str:
        """A text of `length` bytes, the entry `index` of the global `heap`."""
        if length == 0:
            return ""
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._heap(heap))
        start, room = self._heaps[heap].get(index, (0, 0))
        if length > room:
            raise StructureError("its texts are damaged")
        return self._read(start, length).decode(errors="surrogateescape")  # names of files may be no UTF-8

    def _heap(self, address: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Index, start and length of each entry of the global heap at `address`."""
        signature, version, size = struct.unpack("<4sB3xQ", self._read(address, 16))
        if signature != b"GCOL" or version != 1:
            raise StructureError("its texts are damaged")
        content, at = self._read(address, size), 16
        while at + 16 <= size:
            index, length = struct.unpack_from("<H6xQ", content, at)
            if index == 0:  # what is left free
                return
            if at + 16 + length > size:
                raise StructureError("its texts are damaged")
            yield index, (address + at + 16, length)
            at += 16 + _padded(length)
