"""JSON from files: refused where it is ambiguous, deep, or holds what is not a number."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson

DEPTH = 32
LONGEST_INTEGER = 400  # digits; a float has 309
WORD = 2**64  # integers from here on are floats, as in most programs that read JSON
KEY = re.compile(rb'"[ \t\n\r]*:')


def loads(content: bytes, *tables: str) -> Any:
    """The value of `content`, as `strict_loads` has it; its members called `tables` may hold any lists.

    Most of an evaluation is counts: orjson reads them several times as fast as json, but takes the last of two equal
    keys. Each key in the text is matched by KEY (and so is perhaps more), so that equal numbers prove that there are
    none. `strict_loads` is asked wherever that fails, and for its message.
    """
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return strict_loads(content.decode(json.detect_encoding(content)))
    present = [name for name in tables if name in value] if isinstance(value, dict) else []
    if present and all(isinstance(value[name], dict) for name in present):
        entries = list(_entries({**value, **{name: {} for name in present}}))
        keys = sum(len(entry) for entry, _ in entries if isinstance(entry, dict))
        keys += sum(len(value[name]) for name in present)
        if keys == len(KEY.findall(content)) and max(depth for _, depth in entries) <= DEPTH:
            return value
    return strict_loads(content.decode(json.detect_encoding(content)))


def strict_loads(text: str) -> Any:
    """The value of `text`; raises ValueError for a key that occurs twice, for NaN and infinity, and beyond DEPTH."""
    try:
        value = json.loads(
            text, object_pairs_hook=_members, parse_constant=_refuse, parse_float=_finite, parse_int=_integer
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if any(depth > DEPTH for _, depth in _entries(value)):
        raise ValueError("it is nested too deeply")
    return value


def canonical(value: Any) -> Any:
    """`value` with integers for the floats that are whole: other tools write 1.0 as 1, or 1 as 1.0."""
    if isinstance(value, dict):
        return {key: canonical(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < WORD else value


def _entries(value: Any) -> Iterator[tuple[Any, int]]:
    """`value` and each list and object in it, with its depth."""
    pending = [(value, 1)]
    while pending:
        entry, depth = pending.pop()
        yield entry, depth
        inner = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
        pending += [(member, depth + 1) for member in inner if isinstance(member, dict | list)]


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key occurs twice")
    return members


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _integer(text: str) -> int | float:
    if len(text) > LONGEST_INTEGER:  # which takes long to read, and is no finite number here
        raise ValueError(f"an integer of {len(text):,} digits is not a finite number")
    return int(text) if len(text) < 19 or abs(int(text)) < WORD else _finite(text)
