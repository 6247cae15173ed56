"""How files are opened and read: what stands in the way is a line."""

import os
import sys
from pathlib import Path

from fairdd_cli.errors import UsageError, WorkError

STREAM = "-"  # stands for standard input or standard output


def read_at(descriptor: int, view: memoryview, start: int, path: str) -> None:
    """Fills the bytes of `view` from byte `start` on of the open file `path`; WorkError where it cannot."""
    try:
        while view and (count := os.preadv(descriptor, [view], start)):
            view, start = view[count:], start + count
    except OSError as error:
        raise WorkError(f"cannot read '{path}': {error.strerror or error}") from error
    if view:
        raise WorkError(f"'{path}' was changed while it was in use: its end is missing")


def read_bytes(path: str, limit: int) -> bytes:
    """All of `path`, or of standard input for `-`; raises UsageError where it is missing or above `limit` bytes."""
    try:
        if path == STREAM:
            content = sys.stdin.buffer.read(limit + 1)
        else:
            check_readable(path)
            with Path(path).open("rb") as stream:
                content = stream.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    if len(content) > limit:
        raise UsageError(f"'{shown(path)}' is larger than the {limit:,} bytes that are read here")
    return content


def check_readable(path: str) -> None:
    """Raises UsageError unless `path` is a regular file that may be read."""
    file = Path(path)
    try:
        there = file.exists()
    except OSError as error:  # a name too long, a loop of links
        raise UsageError(f"cannot read '{path[:200]}': {error.strerror or error}") from error
    if not there:
        raise UsageError(f"'{path}' does not exist")
    if not file.is_file():
        raise UsageError(f"'{path}' is not a file")
    if not os.access(file, os.R_OK):
        raise UsageError(f"'{path}' may not be read: permission denied")


def shown(path: str) -> str:
    """`path` as messages name it."""
    return "standard input" if path == STREAM else path
