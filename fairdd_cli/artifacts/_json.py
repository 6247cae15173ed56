"""JSON from files: refused where it is ambiguous, deep, or holds what is not a number."""

import json
import math
from typing import Any

DEPTH = 32


def strict_loads(text: str) -> Any:
    """The value of `text`; raises ValueError for a key that occurs twice, for NaN and infinity, and beyond DEPTH."""
    try:
        value = json.loads(text, object_pairs_hook=_members, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    pending = [(value, 1)]
    while pending:
        entry, depth = pending.pop()
        if depth > DEPTH:
            raise ValueError("it is nested too deeply")
        inner = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
        pending += [(member, depth + 1) for member in inner if isinstance(member, dict | list)]
    return value


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
