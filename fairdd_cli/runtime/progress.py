"""How far a run has come: the protocol of progress bars, and a stopwatch."""

import time
from typing import Protocol


class Progress(Protocol):
    """Receives how far a piece of work has come. Work is counted in image passes: one image forward and backward."""

    def start(self, what: str, total: float) -> None:
        """A piece of work of `total` image passes begins."""
        ...

    def advance(self, amount: float, loss: float | None = None) -> None:
        """`amount` image passes are done; the `loss` is the latest."""
        ...


class NullProgress:
    """Progress that is not shown."""

    def start(self, what: str, total: float) -> None:
        """Shows nothing."""

    def advance(self, amount: float, loss: float | None = None) -> None:
        """Shows nothing."""


class Stopwatch:
    """Seconds since it was made, plus those of an earlier part of the same run."""

    def __init__(self, before: float = 0.0) -> None:
        self._start = time.perf_counter() - before

    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start
