"""The HDF5 container shared by the file kinds: what it holds and its digest.

Every array is stored contiguously and without filters. That makes three checks simple: what a file declares
is never more than what it holds, an array is a range of bytes that can be read in place, and no code named by
the file is ever run.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fairdd_cli.system import __version__

VERSION = 1  # of the format
ANY = ("*", -1)  # stands for an array of numbers, whatever its dtype and dimensions

# Facts about a run rather than about its content: two runs of one command differ in them, their digests don't.
VOLATILE = frozenset(
    {"created", "generated_by", "digest", "dataset_path", "environment", "history/seconds", "seconds", "peak_memory"}
)
# Which test images show the same source was added to data sets whose digests stand in synthetic sets and evaluations
# already. It says how they were made and changes no image, so that a data set is the same with and without it.
ADDED = frozenset({"test/source"})

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Schema:
    """What a file of one `kind` holds: the type of each attribute, the dtype and dimensions of each array.

    An array's name may end in `/*` and then stands for any number of members; ANY admits every form. Older files
    lack the `optional_attributes`. Each mapping of `optional_arrays` is there as a whole or not at all.
    """

    kind: str
    attributes: Mapping[str, type]
    arrays: Mapping[str, tuple[str, int]]
    optional_attributes: Mapping[str, type] = field(default_factory=dict)
    optional_arrays: tuple[Mapping[str, tuple[str, int]], ...] = ()
    newest: int = VERSION  # that is read; files are written in VERSION where nothing in them needs a newer one


def content_digest(attributes: Mapping[str, Any], arrays: Mapping[str, tuple[str, tuple[int, ...], str]]) -> str:
    """SHA-256 over the attributes and each array's (dtype, shape, SHA-256), without what is VOLATILE or ADDED."""
    content = {
        "attributes": {name: _plain(value) for name, value in attributes.items() if name not in VOLATILE},
        "arrays": {name: list(entry) for name, entry in arrays.items() if name not in VOLATILE | ADDED},
    }
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def array_entry(array: np.ndarray) -> tuple[str, tuple[int, ...], str]:
    """What `content_digest` takes for an array."""
    return str(array.dtype), array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _plain(value: object) -> object:
    """An attribute as JSON knows it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def with_header(kind: str, attributes: Attributes) -> Attributes:
    """`attributes` with those that every file carries, but for the digest."""
    return {
        "format": kind,
        "format_version": VERSION,
        "generated_by": f"fairdd {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **attributes,
    }


def sealed(kind: str, attributes: Attributes, arrays: Mapping[str, tuple[str, tuple[int, ...], str]]) -> Attributes:
    """`attributes` with those that a file of `kind` with such `arrays` (see `array_entry`) carries, the digest too."""
    headed = with_header(kind, attributes)
    return {**headed, "digest": content_digest(headed, arrays)}


def identity(attributes: Attributes) -> dict[str, Any]:
    """What an artifact in memory has of the `sealed` attributes of its file: `digest` and `provenance`."""
    provenance = {name: attributes[name] for name in ("created", "generated_by")}
    return {"digest": attributes["digest"], "provenance": provenance}
