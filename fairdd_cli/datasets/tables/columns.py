"""The language of columns: which values of a table's column make which category.

A target or protected attribute is a column, followed by conditions where its values are not the categories:

    sex                         every value is a category
    sex=female,male             these values, in this order; all other rows are left out and counted
    dx=benign:nv+bkl,mel        values joined by + are one category; NAME: names it
    race=White,other:*          * and ? stand for any characters: everything else is one category, "other"
    age=3-9:03-Sep,*            without a name, every value that * stands for is a category of its own
    sex!=unknown,""             rows with these values are left out and counted; "" is an empty cell
    age<20,<40                  numbers in bins: below 20, from 20 to below 40, 40 and above
    findings~Effusion           a list such as "Effusion|Mass": whether it contains the value
    path:1  path:-1             instead of a column: the first or last folder of the image's path
    path:name  path:all         the file's name; its whole path below the root, such as 0.5pct/align/0/7_0_3.png

Conditions are separated by commas; an operator holds until the next one: `age<20,<40,!=-1`. A value that is written
differently by accident only (case, spaces, Unicode form, 1 and 1.0) counts as the one that is listed. Text that
contains one of the language's own characters stands in double quotes; a column's or value's whole text needs none.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairdd_cli.errors import UsageError, unknown

OPERATORS = ("!=", "=", "<", "~")
PATH_PART = re.compile(r"path:(-?[1-9]\d?|name|all)")
SPECIAL = re.compile(r'[,+:=!<~*?"]|^\s|\s$|^$')


@dataclass(frozen=True)
class Condition:
    """One condition on the values of a column: an operator and its operand, as typed."""

    operator: str
    operand: str


@dataclass(frozen=True)
class ColumnSpec:
    """A column and the conditions that make categories of its values. `option` is where it was given."""

    option: str
    text: str
    column: str
    conditions: tuple[Condition, ...] = ()

    def operands(self, operator: str) -> list[str]:
        """Those of the conditions with the `operator`."""
        return [condition.operand for condition in self.conditions if condition.operator == operator]

    def typed(self, extra: str) -> str:
        """The option as it is typed with one more condition, for a message that tells what to do."""
        return f"{self.option} {shlex.quote(self.text + (',' if self.conditions else '') + extra)}"


def parse_column(option: str, text: str, header: Sequence[str]) -> ColumnSpec:
    """The column of the `header` (or the part of the path) that `text` begins with, and its conditions.

    Raises UsageError for a column that is not in the header, naming the nearest, and for conditions that do not fit
    together.
    """
    column, rest = _split_column(option, text, header)
    conditions: list[Condition] = []
    operator = ""
    for part in _split(rest, ",") if rest else []:
        operand = part.strip()
        for symbol in OPERATORS:
            if operand.startswith(symbol):
                operator, operand = symbol, operand.removeprefix(symbol).strip()
                break
        conditions.append(Condition(operator, operand))
    kinds = {condition.operator for condition in conditions} - {"!="}
    if len(kinds) > 1:
        raise UsageError(f"{option} '{text}': {' and '.join(sorted(kinds))} cannot be combined on one column")
    return ColumnSpec(option, text, column, tuple(conditions))


def _split_column(option: str, text: str, header: Sequence[str]) -> tuple[str, str]:
    text = text.strip()
    if text in header:
        return text, ""
    named = [
        name for name in header if name and text.startswith(name) and text[len(name) :].lstrip().startswith(OPERATORS)
    ]
    if named:
        column = max(named, key=len)
        return column, text[len(column) :].strip()
    part = PATH_PART.match(text)
    if part and (part.end() == len(text) or text[part.end() :].lstrip().startswith(OPERATORS)):
        return part[0], text[part.end() :].strip()
    name = re.split("|".join(OPERATORS), text, maxsplit=1)[0].strip()
    raise unknown(f"column in {option}", name, filter(None, header))


@dataclass(frozen=True)
class Item:
    """An operand of = or !=: the name it gives, and its alternatives (text, whether it has wildcards)."""

    name: str
    alternatives: tuple[tuple[str, bool], ...]

    @property
    def label(self) -> str:
        """The alternatives as one name."""
        return "+".join(text for text, _ in self.alternatives)

    @property
    def expands(self) -> bool:
        """Whether each value that it stands for keeps its own name."""
        return len(self.alternatives) == 1 and self.alternatives[0][1]


def parse_item(operand: str, values: Iterable[str]) -> Item:
    """The item that `operand` spells; one that is a value as it stands is that value."""
    name, rest = "", operand
    if operand not in values:
        head, *tail = _split(operand, ":")
        if tail:
            name, rest = _unquoted(head), ":".join(tail).strip()
    parts = [rest] if rest in values else [part.strip() for part in _split(rest, "+")]
    wild = [part not in values and not part.startswith('"') and bool(set(part) & set("*?")) for part in parts]
    return Item(
        name, tuple((part if part in values else _unquoted(part), w) for part, w in zip(parts, wild, strict=True))
    )


def quote_value(value: str) -> str:
    """`value` as it is written in a condition."""
    return f'"{value}"' if SPECIAL.search(value) else value


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _split(text: str, separator: str) -> list[str]:
    """`text` divided at each `separator` that stands outside double quotes."""
    parts, quoted = [""], False
    for character in text:
        quoted ^= character == '"'
        if character == separator and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    if quoted:
        raise UsageError(f"'{text}' has a double quote that is not closed")
    return parts
