"""How an HDF5 file is checked before anything in it is used: structure, sizes, attributes, digest, in this order.

Memory is asked for only after the size of what it will hold was compared with the file's own and with a limit. A file
is opened once, and stays open from the check to the last read: one that takes its name meanwhile is not seen.
"""

import hashlib
from typing import Any

import numpy as np

from fairdd_cli.artifacts._hdf5 import ANY, Attributes, Schema, content_digest
from fairdd_cli.artifacts._hdf5_reader import StoredArray, StructureError, read_structure
from fairdd_cli.artifacts._input import Input, hint, is_hdf5, open_input, shown
from fairdd_cli.artifacts._json import strict_loads
from fairdd_cli.errors import UsageError

WHOLE_LIMIT = 2**29  # bytes of all arrays that are read whole, but for the images of a data set
BLOCK = 2**24  # bytes hashed at a time


class Container:
    """An open file whose structure, attributes and digest were found to be as its schema says."""

    def __init__(self, file: Input, schema: Schema) -> None:
        self.file = file
        self._schema = schema
        self._left = WHOLE_LIMIT
        try:
            structure = read_structure(file)
        except StructureError as error:
            raise self.fail(str(error)) from error
        self.attributes = self._checked_attributes(structure.attributes)
        self._arrays = structure.arrays
        self._check_arrays()
        self._check_digest()

    def fail(self, reason: str) -> UsageError:
        """The error for a file that is not what it should be."""
        return UsageError(f"'{shown(self.file.path)}' is not a sound {self._schema.kind} file: {reason}")

    def names(self, prefix: str = "") -> list[str]:
        """The arrays whose names start with `prefix`."""
        return [name for name in self._arrays if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the array `name`."""
        return self._arrays[name].shape

    def array(self, name: str, limited: bool = True) -> np.ndarray:
        """The array `name`, whole; refused where what is read so would exceed WHOLE_LIMIT, unless not `limited`."""
        stored = self._arrays[name]
        self._left -= stored.nbytes if limited else 0
        if self._left < 0:
            raise self.fail(f"'{name}' and what precedes it exceed the {WHOLE_LIMIT:,} bytes that are read here")
        array = np.empty(stored.shape, stored.dtype)
        self.file.read_into(array.reshape(-1).view(np.uint8).data, stored.offset)
        return array

    def offset(self, name: str) -> int:
        """Where the bytes of the array `name` start in the file."""
        return self._arrays[name].offset

    def _checked_attributes(self, attributes: Attributes) -> Attributes:
        """The `attributes`, found to be those of the schema."""
        kind, version = attributes.get("format"), attributes.get("format_version")
        if kind != self._schema.kind:
            what = f"a {kind} file" if isinstance(kind, str) and kind.startswith("fairdd/") else "not a fairdd file"
            raise UsageError(f"'{shown(self.file.path)}' is {what}; a {self._schema.kind} file is needed here")
        if type(version) is not int or version < 1:
            raise self.fail("its format version is missing")
        newest = self._schema.newest
        if version > newest:
            raise self.fail(f"format version {version} is newer than this fairdd reads ({newest}); update fairdd")
        common = {"generated_by": str, "created": str, "options": str, "seed": int, "digest": str}
        required = {**common, **self._schema.attributes}
        for name, expected in {**required, **self._schema.optional_attributes}.items():
            if name not in attributes:
                if name in required:
                    raise self.fail(f"attribute '{name}' is missing")
                continue
            found = type(attributes[name])
            if expected is float and found is int:
                attributes[name] = float(attributes[name])
            elif found is not expected:
                raise self.fail(f"attribute '{name}' should be {expected.__name__}, found {found.__name__}")
        for name, value in attributes.items():
            numbers = [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, float)]
            if not np.isfinite(numbers).all():
                raise self.fail(f"attribute '{name[:80]}' is not a finite number")
        return attributes

    def _check_arrays(self) -> None:
        """Raises UsageError unless the arrays are those of the schema."""
        unmatched = dict(self._arrays)
        present = [
            group for group in self._schema.optional_arrays if any(self.names(name.rstrip("*")) for name in group)
        ]
        forms = {name: form for group in (self._schema.arrays, *present) for name, form in group.items()}
        for pattern, form in forms.items():
            for name in self.names(pattern[:-1]) if pattern.endswith("*") else [pattern]:
                if name not in self._arrays:
                    raise self.fail(f"the array '{name}' is missing")
                self._check_array(name, unmatched.pop(name), form)
        if unmatched:
            raise self.fail(f"'{min(unmatched)[:80]}' does not belong in it")

    def _check_array(self, name: str, array: StoredArray, form: tuple[str, int]) -> None:
        dtype, dimensions = form
        if form != ANY and (array.dtype != np.dtype(dtype) or len(array.shape) != dimensions):
            found = f"{array.dtype} with {len(array.shape)}"
            raise self.fail(f"'{name[:80]}' should be {dtype} with {dimensions} dimensions, found {found}")

    def _check_digest(self) -> None:
        """Raises UsageError unless the content has the digest that the file states."""
        entries = {}
        for name, array in self._arrays.items():
            sha = hashlib.sha256()
            for start in range(0, array.nbytes, BLOCK):
                sha.update(self.file.read(array.offset + start, min(BLOCK, array.nbytes - start)))
            entries[name] = (str(array.dtype), array.shape, sha.hexdigest())
        found = content_digest(self.attributes, entries)
        if found != self.attributes["digest"]:
            raise self.fail(f"its content has digest {found[:19]}…, but it states {self.attributes['digest'][:19]}…")


def declared_format(path: str) -> str | None:
    """The `format` that the file at `path` declares, None where it is not HDF5; UsageError for a damaged one."""
    file = open_input(path)
    if not is_hdf5(file):
        return None
    try:
        kind = read_structure(file).attributes.get("format")
    except StructureError as error:
        raise UsageError(f"'{path}' cannot be read: {error}") from error
    return kind[:40] if isinstance(kind, str) else ""


def open_container(path: str, schema: Schema) -> Container:
    """The file at `path` (`-`: standard input), checked against `schema` and its digest; UsageError if unsound."""
    file = open_input(path)
    if not is_hdf5(file):
        raise UsageError(f"'{shown(path)}' is not an HDF5 file{hint(file)}; a {schema.kind} file is needed here")
    return Container(file, schema)


def json_attribute(container: Container, name: str) -> dict[str, Any]:
    """The JSON object in the attribute `name`; raises UsageError for anything else."""
    try:
        value = strict_loads(container.attributes[name])
    except ValueError as error:
        raise container.fail(f"attribute '{name}' is not sound JSON: {str(error)[:80]}") from error
    if not isinstance(value, dict):
        raise container.fail(f"attribute '{name}' is not a JSON object")
    return value
