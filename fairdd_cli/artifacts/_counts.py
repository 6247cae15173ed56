"""The JSON of an evaluation, without an object for every count.

A report of 10,000 evaluations reads 100 million counts, nearly all of the text; most of its time would go into them.
Tables that are not exactly as `write_evaluation` writes them are left to `strict_loads`, which also finds errors.
"""

import json
import re
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np

from fairdd_cli.artifacts._json import strict_loads

TABLES = b'"confusion": {'
NAME = re.compile(rb'(?:, )?"([^"\\]+)": (?=\[)')
DIGITS = b"0123456789"
LONGEST = 15  # digits: no number as long could overflow


def load(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The value of `content` and the tables int64 [seeds, classes, groups, classes] taken out of its `confusion`.

    Raises ValueError as `strict_loads` does. Without tables, `confusion` still holds whatever was found there.
    """
    with suppress(ValueError, KeyError, TypeError):
        head, texts = _split(content)
        values = strict_loads(head.decode())
        shape = len(values["class_names"]), len(values["protected_names"])
        return values, {name: parse(text, *shape) for name, text in texts.items()}
    return strict_loads(content.decode()), {}


def _split(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """`content` with nothing in its last `confusion`, and the text of each table that was there."""
    start, end = content.rfind(TABLES) + len(TABLES), content.rfind(b"]") + 1
    if start < len(TABLES) or content[end:] not in (b"}}\n", b"}}"):
        raise ValueError("no tables stand at the end")
    texts: dict[str, bytes] = {}
    place = start
    while named := NAME.match(content, place):
        place = content.find(b"]]]]", named.end()) + 4
        name = named[1].decode()
        if name in texts or (named[0][:1] == b",") != bool(texts):
            raise ValueError("the tables do not follow each other")
        texts[name] = content[named.end() : place]
    if place != end or not texts:
        raise ValueError("something else stands among the tables")
    return content[:start] + content[end:], texts


def parse(text: bytes, classes: int, groups: int) -> np.ndarray:
    """The table int64 [seeds, classes, groups, classes] in `text`; ValueError where it is not plainly one."""
    raw = np.frombuffer(text, np.uint8)
    digit = (raw - 48) < 10
    edges = np.flatnonzero(digit[1:] != digit[:-1]) + 1
    first, after = edges[::2], edges[1::2]
    cells = classes * groups * classes
    if digit[0] or digit[-1] or len(first) == 0 or cells == 0 or len(first) % cells:
        raise ValueError("its size is not that of a table")
    shape = (len(first) // cells, classes, groups, classes)
    length = after - first
    opened, closed = raw[first - 1], raw[after]
    sound = (
        text.translate(None, DIGITS) == _frame(shape)
        and ((opened == ord("[")) | (opened == ord(" "))).all()
        and ((closed == ord("]")) | (closed == ord(","))).all()
        and ((raw[first] != ord("0")) | (length == 1)).all()
        and length.max() <= LONGEST
    )
    if not sound:
        raise ValueError("it is not written as a table is")
    values = raw[after - 1].astype(np.int64) - 48
    for place in range(1, int(length.max())):
        longer = np.flatnonzero(length > place)
        values[longer] += (raw[after[longer] - 1 - place].astype(np.int64) - 48) * 10**place
    return values.reshape(shape)


@lru_cache(maxsize=8)
def _frame(shape: tuple[int, ...]) -> bytes:
    """A table's text without its numbers."""
    return json.dumps(np.zeros(shape, np.int64).tolist()).replace("0", "").encode()
