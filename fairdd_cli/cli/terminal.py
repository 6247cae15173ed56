"""What people see on standard error: messages, errors, progress. Text from files is shown as it is, never as markup."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING

from fairdd_cli.errors import Interrupted, WorkError, is_harmful, one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

UNFOLDED = 1000  # columns of a table that no terminal shows
ESTIMATE_AFTER = 2.0  # seconds of work before the first word on how long it will take
ESTIMATE_EVERY = 60.0  # seconds between two such words where no bar can be drawn
signals: list[int] = []  # those that were to end the process


@cache
def console() -> "Console":
    """The console on standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def literal(text: str, style: str = "") -> "Text":
    """`text` as it is: no markup, and control characters (which could steer a terminal) as their escapes."""
    from rich.text import Text

    return Text(harmless(text), style=style)


def harmless(text: str) -> str:
    """`text` with its control characters, which could steer a terminal, as their escapes; lines stay lines."""
    return "".join(ascii(letter)[1:-1] if is_harmful(letter) and letter != "\n" else letter for letter in text)


def error(message: str) -> None:
    """Says what went wrong."""
    console().print(literal("fairdd: ", "bold red") + literal(message), soft_wrap=True)


def duration(seconds: float) -> str:
    """`seconds` as a person says it: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """A number of things in words: 1 seed, 10 seeds."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Terminal:
    """Messages and progress on standard error, within a `with` block; --quiet leaves only errors.

    It is a `Progress`: on a terminal it draws a bar with rate, remaining time and loss; elsewhere it writes a line
    after the first seconds and then one a minute.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False, unit: str = "image passes") -> None:
        self.quiet = quiet
        self.verbose = verbose
        self._unit = unit
        self._bar: _Bar | None = None

    def say(self, message: str, detail: bool = False) -> None:
        """Writes a line; a `detail` only with --verbose."""
        if not self.quiet and (self.verbose or not detail):
            console().print(literal(one_line(message)), soft_wrap=True)

    def show(self, thing: "RenderableType") -> None:
        """Shows a table."""
        if not self.quiet:
            console().print(thing)

    @property
    def width(self) -> int:
        """The columns that standard error has."""
        return console().width

    def wrote(self, path: str) -> None:
        """Says where a picture or a page lies, unless it went to standard output."""
        if path != "-":
            self.say(f"wrote {path}")

    def detail(self, message: str) -> None:
        """Writes a line with --verbose."""
        self.say(message, detail=True)

    def start(self, what: str, total: float) -> None:
        """A piece of work of `total` units begins; the one before is over."""
        self.stop()
        if not self.quiet:
            self._bar = _Bar(what, total, self._unit)

    def advance(self, amount: float, loss: float | None = None) -> None:
        """`amount` units are done. Raises Interrupted where a library's code has lost what a signal raised in it."""
        if signals:
            raise Interrupted
        if self._bar:
            self._bar.advance(amount, loss)

    def note(self, text: str) -> None:
        """Shows `text` beside the bar."""
        if self._bar:
            self._bar.note(text)

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar:
            self._bar.close()
        self._bar = None

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Bar:
    def __init__(self, what: str, total: float, unit: str) -> None:
        self._what, self._total, self._unit = harmless(one_line(what)), total, unit
        self._done, self._next_word = 0.0, 0.0
        self._warm: tuple[float, float] | None = None  # when the first step was over, and what was done by then
        self._said, self._note = False, ""
        self._progress, self._task = None, None
        if console().is_terminal:
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TextColumn("{task.fields[rate]}"),
                TextColumn("{task.fields[loss]}"),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(compact=True),
            )
            self._progress = Progress(*columns, console=console(), transient=True)
            self._progress.start()
            self._task = self._progress.add_task(self._what, total=total, rate="", loss="", note="")

    def advance(self, amount: float, loss: float | None) -> None:
        self._done += amount
        now = time.monotonic()
        if self._warm is None:  # the first step pays for warming up and says nothing of the others
            self._warm, self._next_word = (now, self._done), now + ESTIMATE_AFTER
        rate = (self._done - self._warm[1]) / max(now - self._warm[0], 1e-9)
        shown = "" if loss is None else f"loss {loss:.4g}"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, rate=f"{rate:,.0f} {self._unit}/s")
            if shown:
                self._progress.update(self._task, loss=shown)
        if now >= self._next_word and rate and self._done < self._total:
            self._next_word = now + ESTIMATE_EVERY
            left = duration((self._total - self._done) / rate)
            if not self._said:
                console().print(literal(f"{self._what}: about {left} on this machine"), soft_wrap=True)
                self._said = True
            elif self._progress is None:
                percent = 100 * self._done / self._total
                words = ", ".join(filter(None, (f"{percent:.0f} %", shown, self._note, f"{left} left")))
                console().print(literal(f"{self._what}: {words}"), soft_wrap=True)

    def note(self, text: str) -> None:
        self._note = harmless(text)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, note=self._note)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def writing() -> Iterator[None]:
    """A block that writes on standard output; raises WorkError where that cannot be, as on a full disk."""
    try:
        yield
    except BrokenPipeError:  # the reader went away, and wants to hear no more
        raise
    except OSError as error:
        raise WorkError(f"cannot write on standard output: {error.strerror or error}") from error


def out(text: str) -> None:
    """Writes a line, or lines, for the next program on standard output."""
    shown = harmless(text) if sys.stdout.isatty() else text
    with writing():
        sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")
        sys.stdout.flush()


def print_path(path: str) -> None:
    """Writes the path of an output for the next program, byte for byte, unless standard output is what was written.

    On a terminal it is shown as text, like everything.
    """
    from fairdd_cli.artifacts import is_stdout

    if is_stdout(path):
        return
    if sys.stdout.isatty():
        out(one_line(path))
    else:
        with writing():
            sys.stdout.flush()
            sys.stdout.buffer.write(os.fsencode(f"{path}\n"))
            sys.stdout.buffer.flush()


def end_killed_command(target: str, quiet: bool) -> None:
    """Ends a command that was killed after its output was complete: removes what that left, and prints the path."""
    from fairdd_cli.artifacts import lock_output

    with lock_output(target):
        Terminal(quiet).say(f"'{target}' is complete: an earlier run of this command ended before it could say so")
    print_path(target)


def width(unknown: int = UNFOLDED) -> int:
    """The columns that standard output has, or `unknown` where it is a pipe: by default so many that nothing folds."""
    from rich.console import Console

    is_known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    return (Console().width if is_known else 0) or unknown


def product(thing: "RenderableType") -> None:
    """Renders a table that is the command's product on standard output."""
    from rich.console import Console

    with writing():
        Console(highlight=False, width=width()).print(thing)
