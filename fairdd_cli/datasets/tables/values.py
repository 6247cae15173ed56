"""Categories: what the values of a column mean under its conditions, and what is odd about them."""

import difflib
import itertools
import math
import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from fairdd_cli.datasets.tables.columns import ColumnSpec, parse_item, quote_value
from fairdd_cli.errors import HARMFUL, UsageError

VALUE_LIMIT = 1000  # classes or groups; a column with more holds numbers or names rather than categories
# A value that says nothing by itself; it is named with its column.
CODE = re.compile(r"[+-]?\d+(\.\d+)?|true|false|yes|no", re.IGNORECASE)
LETTER = re.compile(r"[tfyn]", re.IGNORECASE)  # is one only among codes: F beside M is female
LOOKS_MISSING = frozenset(
    [
        "-1",
        "?",
        "-",
        "--",
        ".",
        "#n/a",
        "n/a",
        "na",
        "nan",
        "nil",
        "none",
        "null",
        "missing",
        "unk",
        "unknown",
        "undefined",
        "unspecified",
    ]
) | {"not available", "not known", "not specified"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
SHOWN, LISTED = 3, 20  # values that a remark names, and that an error lists


@dataclass
class Categories:
    """What a column's values mean: the category of each, those that are left out, and why others are none."""

    names: list[str] = field(default_factory=list)
    code: dict[str, int] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)

    def assign(self, value: str, name: str) -> None:
        """Puts the `value` into the category `name`, which is made where it is new."""
        if name not in self.names:
            self.names.append(name)
        self.code[value] = self.names.index(name)


def categorise(spec: ColumnSpec, counts: Mapping[str, int]) -> Categories:
    """The categories that `spec` makes of a column's values, of which there are `counts`.

    Raises UsageError where they are not 2 to VALUE_LIMIT, and for a condition that no value meets.
    """
    result = Categories(left_out=set(_claimed(spec, "!=", counts)))
    values = [value for value in counts if value not in result.left_out]
    if bounds := spec.operands("<"):
        _assign_bins(spec, bounds, values, result)
    elif spec.operands("~"):
        _assign_membership(spec, values, result)
    elif spec.operands("="):
        _assign_listed(spec, values, result)
    else:
        for value in sort_values(filter(None, values)):
            result.assign(value, _name(spec.column, value, values))
    for value in values:
        if not value and value not in result.code and value not in result.left_out:
            result.errors[value] = "is empty"
    if not 2 <= len(result.names) <= VALUE_LIMIT:
        found = f"one value only, '{result.names[0][:40]}'" if result.names else "no value"
        if len(result.names) > VALUE_LIMIT:
            found = f"{len(result.names):,} different values; group them, as in '{spec.column}<20,<40'"
        raise UsageError(f"column '{spec.column}' should have 2 to {VALUE_LIMIT:,} categories, but it has {found}")
    return result


def _assign_listed(spec: ColumnSpec, values: Sequence[str], result: Categories) -> None:
    items = [parse_item(operand, values) for operand in spec.operands("=")]
    claimed = _claimed(spec, "=", values)
    for number, item in enumerate(items):
        for value in sort_values(value for value in values if claimed.get(value) == number):
            result.assign(value, item.name or _name(spec.column, value if item.expands else item.label, values))
    result.left_out |= set(values) - set(claimed)


def _assign_membership(spec: ColumnSpec, values: Sequence[str], result: Categories) -> None:
    """Two categories: lists without and with a member. A cell is a list divided by |, else by ; or by commas."""
    operands = spec.operands("~")
    if len(operands) > 1:
        raise UsageError(f"{spec.option} '{spec.text}': ~ takes one member, or several joined by +")
    divider = next((mark for mark in "|;," if any(mark in value for value in values)), "|")
    members = {value: [member.strip() for member in value.split(divider)] for value in values}
    claimed = _claimed(spec, "~", {member: 0 for each in members.values() for member in each})
    item = parse_item(operands[0], claimed)
    label = item.name or item.label
    result.names += [f"no {label}", label]
    result.code |= {value: int(any(member in claimed for member in members[value])) for value in values}


def _assign_bins(spec: ColumnSpec, operands: Sequence[str], values: Sequence[str], result: Categories) -> None:
    bounds = [_number(operand) for operand in operands]
    if any(bound is None for bound in bounds) or bounds != sorted(set(bounds), key=float):  # type: ignore[arg-type]
        raise UsageError(f"{spec.option} '{spec.text}': expected ascending numbers after <")
    column, last = spec.column, operands[-1]
    inner = [f"{low}<={column}<{high}" for low, high in itertools.pairwise(operands)]
    result.names += [f"{column}<{operands[0]}", *inner, f"{column}>={last}"]
    for value in values:
        number = _number(value)
        if number is None:
            result.errors[value] = f"holds '{value[:40]}', which is no number" if value else "is empty"
        else:
            result.code[value] = sum(number >= bound for bound in bounds)  # type: ignore[operator]
    empty = sorted(set(range(len(result.names))) - set(result.code.values()))
    if empty and result.code:
        raise UsageError(f"{spec.option} '{spec.text}': no row has {result.names[empty[0]]}")


def _claimed(spec: ColumnSpec, operator: str, values: Iterable[str]) -> dict[str, int]:
    """The number of the `operator`'s operand by value, for the values that one stands for.

    Equal text goes before text that differs by accident, and that before wildcards. UsageError for an operand that
    stands for nothing, but for what would be left out as missing: that there is none of it is no mistake.
    """
    values = dict.fromkeys(values)
    folded: dict[str, list[str]] = defaultdict(list)
    for value in values:
        folded[fold(value)].append(value)
    alternatives = [
        (number, text, wild)
        for number, operand in enumerate(spec.operands(operator))
        for text, wild in parse_item(operand, values).alternatives
    ]
    claimed: dict[str, int] = {text: number for number, text, wild in alternatives if not wild and text in values}
    for number, text, wild in alternatives:
        if wild:
            continue
        same = folded[fold(text)]
        if not same and not (operator == "!=" and (not text or looks_missing(text))):
            raise _no_such_value(spec, text, values)
        for value in same:
            claimed.setdefault(value, number)
    for number, text, wild in alternatives:
        if not wild:
            continue
        pattern = re.compile("".join({"*": ".*", "?": "."}.get(mark, re.escape(mark)) for mark in text), re.DOTALL)
        matches = [value for value in values if value and pattern.fullmatch(value)]
        if not matches and text != "*":
            raise _no_such_value(spec, text, values)
        for value in matches:
            claimed.setdefault(value, number)
    return claimed


def _no_such_value(spec: ColumnSpec, text: str, values: Iterable[str]) -> UsageError:
    names = sort_values(value for value in values if value)
    near = difflib.get_close_matches(text, names[:VALUE_LIMIT], n=1, cutoff=0.5)
    hint = f": did you mean '{near[0][:40]}'?" if near else ""
    known = ", ".join(f"'{name[:40]}'" for name in names[:LISTED]) + (", …" if len(names) > LISTED else "")
    return UsageError(f"{spec.option} '{spec.text}': no row has '{text}'{hint} (column '{spec.column}' has {known})")


def remarks(spec: ColumnSpec, counts: Mapping[str, int], categories: Categories) -> Iterator[str]:
    """A line for values that differ by accident but are different categories, and for those that look missing."""
    mentioned = {
        text
        for op in ("=", "!=")
        for operand in spec.operands(op)
        for text, _ in parse_item(operand, counts).alternatives
    }
    twins: dict[str, list[str]] = defaultdict(list)
    for value in categories.code:
        twins[fold(value)].append(value)
    same = [sorted(group, key=lambda value: -counts[value]) for group in twins.values()]
    same = [group for group in same if len({categories.code[value] for value in group}) > 1]
    if same and not spec.operands("="):
        listed = ",".join(quote_value(group[0]) for group in same)
        dropped = "".join(f",!={operand}" for operand in spec.operands("!="))
        named = "; ".join(
            " and ".join(f"'{value}' ({counts[value]:,} rows)" for value in group[:SHOWN]) for group in same[:SHOWN]
        )
        yield (
            f"column '{spec.column}': {named} are written differently and are categories of their own; merge them with "
            f"{spec.option} {shlex.quote(f'{spec.column}={listed},*{dropped}')}"
        )
    missing = [value for value in categories.code if looks_missing(value) and value not in mentioned]
    if missing:
        named = ", ".join(f"'{value}' ({counts[value]:,} rows)" for value in missing[:SHOWN])
        drop = "!=" + ",".join(map(quote_value, missing))
        yield f"column '{spec.column}': {named} may mean a missing value; leave such rows out with {spec.typed(drop)}"


def looks_missing(value: str) -> bool:
    """Whether people write `value` where they know none."""
    return " ".join(value.casefold().split()) in LOOKS_MISSING or _number(value) == -1


@lru_cache(2**16)
def fold(value: str) -> str:
    """`value` without what differs by accident: case, spaces, Unicode form, and how a number is written."""
    number = _number(value)
    return repr(number) if number is not None else " ".join(unicodedata.normalize("NFKC", value).casefold().split())


def _number(value: str) -> float | None:
    """The finite number that `value` is."""
    if not NUMBER.fullmatch(value):
        return None
    number = float(value)
    return number + 0.0 if math.isfinite(number) else None


def sort_values(values: Iterable[str]) -> list[str]:
    """`values`, each once, in the order of the categories: texts first, then numbers by size."""

    def key(value: str) -> tuple[float, str]:
        number = _number(value)
        return (-math.inf if number is None else number, value)

    return sorted(set(values), key=key)


def control_character(text: str) -> str:
    """The first character of `text` that could harm a file or a terminal, in words; nothing where there is none.

    Joiners, no-break spaces and the like are text.
    """
    for character in text:
        if unicodedata.category(character) in HARMFUL:
            return (
                "a line break" if character in "\n\r\u2028\u2029" else f"the control character U+{ord(character):04X}"
            )
    return ""


def _name(column: str, value: str, values: Iterable[str]) -> str:
    """The category's name: a value that says nothing by itself, such as 1 or yes, has its column's with it."""
    is_code = bool(CODE.fullmatch(value))
    if LETTER.fullmatch(value):
        is_code = all(CODE.fullmatch(v) or LETTER.fullmatch(v) or not v or looks_missing(v) for v in values)
    return f"{column}={value}" if is_code else value
