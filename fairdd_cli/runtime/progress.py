"""How far a run has come: the protocol of progress bars, one of plain text, and a stopwatch."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

BAR = 30  # letters
REDRAW_EVERY = 0.1  # seconds


class Progress(Protocol):
    """Receives how far a piece of work has come. Work is counted in image passes: one image forward and backward."""

    def start(self, what: str, total: float) -> None:
        """A piece of work of `total` image passes begins."""
        ...

    def advance(self, amount: float, loss: float | None = None) -> None:
        """`amount` image passes are done; the `loss` is the latest."""
        ...

    def note(self, text: str) -> None:
        """`text` says what else is known of the work so far, until the next note."""
        ...


class NullProgress:
    """Progress that is not shown."""

    def start(self, what: str, total: float) -> None:
        """Shows nothing."""

    def advance(self, amount: float, loss: float | None = None) -> None:
        """Shows nothing."""

    def note(self, text: str) -> None:
        """Shows nothing."""

    def say(self, remark: str) -> None:
        """Shows nothing."""


class TextProgress:
    """Progress as a line of text that is written over and over, and remarks: for notebooks and scripts.

    The line is drawn where a person watches: on a terminal, or in a notebook, which takes a carriage return, too.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._watched = stream.isatty() or "ipykernel" in sys.modules
        self._what, self._total, self._done, self._loss, self._note = "", 0.0, 0.0, "", ""
        self._begun = self._drawn = 0.0
        self._length = 0  # letters of the line that is shown

    def say(self, remark: str) -> None:
        """Writes a line of its own."""
        self.stop()
        self._stream.write(f"{remark}\n")
        self._stream.flush()

    def start(self, what: str, total: float) -> None:
        """A piece of work of `total` units begins."""
        self.stop()
        self._what, self._total, self._done, self._loss, self._note = what, total, 0.0, "", ""
        self._begun = time.monotonic()
        self._draw()

    def advance(self, amount: float, loss: float | None = None) -> None:
        """`amount` units are done; the `loss` is the latest."""
        self._done += amount
        self._loss = self._loss if loss is None else f", loss {loss:.4g}"
        if time.monotonic() - self._drawn >= REDRAW_EVERY:
            self._draw()

    def note(self, text: str) -> None:
        """Shows `text` behind the loss."""
        self._note = f", {text}"

    def stop(self) -> None:
        """Ends the line with what was reached."""
        if self._length:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()
        self._length = 0

    def _draw(self) -> None:
        if not self._watched:
            return
        self._drawn = time.monotonic()
        share = min(1.0, self._done / self._total) if self._total else 1.0
        bar = "#" * int(BAR * share)
        found = f"{100 * share:3.0f} %{self._loss}{self._note}, {self._drawn - self._begun:.0f} s"
        line = f"{self._what}: {bar:.<{BAR}} {found}"
        self._stream.write("\r" + line.ljust(self._length))
        self._stream.flush()
        self._length = len(line)


@contextmanager
def show_progress(quiet: bool = False) -> Iterator[TextProgress | NullProgress]:
    """A block whose progress and remarks are shown on standard error, unless it is to be `quiet`."""
    if quiet:
        yield NullProgress()
        return
    progress = TextProgress(sys.stderr)
    try:
        yield progress
    finally:
        progress.stop()


class Stopwatch:
    """Seconds since it was made, plus those of an earlier part of the same run."""

    def __init__(self, before: float = 0.0) -> None:
        self._start = time.perf_counter() - before

    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start
