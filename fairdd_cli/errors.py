"""What can go wrong, in words for the person at the prompt.

An error's text is one or two lines: what is wrong, in which file, what was expected and found, what to do.
"""

import difflib
import unicodedata
from collections.abc import Iterable

# What could steer a terminal or end a line: control characters, lone surrogates, line and paragraph separators.
HARMFUL = frozenset({"Cc", "Cs", "Zl", "Zp"})
BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


LONGEST_LINE = 2000  # letters of an error; a value from a file may have any number of them


class FairddError(Exception):
    """Something that is reported in a line, or a few, and ends the command with `exit_code`.

    Names and values from outside may hold line breaks, or never end: each of the `lines` is shown as one.
    """

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)

    def __str__(self) -> str:
        return "\n".join(_shortened(one_line(line)) for line in self.args)


class WorkError(FairddError):
    """The work failed: it diverged, memory or disk ran out (exit code 1)."""


class DivergedError(WorkError):
    """What was optimised diverged; the same command would end there again."""


class UsageError(FairddError):
    """The command was used wrongly or its input is bad (exit code 2)."""

    exit_code = 2


class Interrupted(BaseException):
    """A signal asks the process to end (exit code 130). Unlike KeyboardInterrupt it passes through the parser."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a `name` that is not among the `known` ones, with the nearest of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f": did you mean '{near[0]}'?" if near else ""
    return UsageError(f"unknown {kind} '{name}'{hint} (known: {', '.join(names)})")


def one_line(text: str) -> str:
    """`text` with its line breaks as their escapes."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def first_line(error: BaseException) -> str:
    """The first line of the text of `error`, cut to 200 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _shortened(line: str) -> str:
    """A line without its middle where it is too long: a file's name stands at its start, a remedy at its end."""
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 2 :]}"


def is_harmful(letter: str) -> bool:
    """Whether `letter`, shown, could steer a terminal or turn the line round."""
    return unicodedata.category(letter) in HARMFUL or letter in BIDIRECTIONAL
