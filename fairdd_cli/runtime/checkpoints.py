"""Checkpoints: the state of a run, from which the same command continues after whatever ended it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from fairdd_cli.artifacts import STREAM, Checkpoint, checkpoint_of, read_checkpoint, remove, write_checkpoint
from fairdd_cli.errors import DivergedError, FairddError, UsageError, one_line
from fairdd_cli.system import __version__

CONTINUED = ("0.1.0",)  # earlier versions whose runs this one takes to the same result
INTERVAL = 60.0  # seconds between two checkpoints
LISTED = 4  # differences that an error names


@dataclass(frozen=True)
class State:
    """A run after `done` steps and `seconds` of work, with the tensors that it continues from, by name.

    Its tensors must not change afterwards: give it copies.
    """

    done: int
    seconds: float
    tensors: Mapping[str, Tensor]

    def finite(self) -> bool:
        """Whether all its numbers are finite."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.tensors.values())


class Checkpoints:
    """The checkpoint beside the output `target`, within a `with` block that ends when the output is complete.

    `state` is the one to continue from, None at a fresh start. An interrupt or an error that ends the block first
    writes the latest state. For the output `-`, or without one, nothing is written.

    `task` holds all that the result depends on, as JSON values by name. Raises UsageError for a checkpoint of
    another task, or of a version that does not come to the same result, naming what differs; with `restart` it is
    discarded unread. A checkpoint that cannot be written raises WorkError, and the one before stays. `translate` gives
    a stored task the names that it has today. All ranks of a run read the checkpoint, and one `writes` it.
    """

    def __init__(
        self,
        target: str = STREAM,
        task: Mapping[str, Any] | None = None,
        seed: int = 0,
        every: float = INTERVAL,
        restart: bool = False,
        log: Callable[[str], None] = lambda line: None,
        writes: bool = True,
        translate: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        self.path = checkpoint_of(target)
        self.state: State | None = None
        self._task = {**(task or {}), "fairdd": __version__}
        self._seed = seed
        self._every = every
        self._restart = restart
        self._translate = translate
        self._latest: State | None = None
        self._written: State | None = None
        self._last = time.monotonic()
        self._writes = writes and bool(self.path)
        if restart:
            self.discard()
        if self.path and not restart and Path(self.path).exists():
            self.state = self._written = self._latest = self._read()
            log(f"continuing after {self.state.done:,} steps ({self.state.seconds:.0f} s) from '{self.path}'")

    def _read(self) -> State:
        try:
            stored = read_checkpoint(self.path)
        except UsageError as error:
            raise UsageError(*error.args, "Give --restart to discard it.") from error
        task = self._translate(dict(stored.task))
        if task.get("fairdd") in CONTINUED:
            task["fairdd"] = __version__
        there, here = _flat({**task, "seed": stored.seed}), _flat({**self._task, "seed": self._seed})
        differing = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
        if differing:
            listed = ", ".join(
                f"{_typed(name)} (there {_shown(there, name)}, here {_shown(here, name)})"
                for name in differing[:LISTED]
            )
            listed += f", and {len(differing) - LISTED} more" if len(differing) > LISTED else ""
            raise UsageError(
                f"'{self.path}' is the checkpoint of a run with other options: {listed}.",
                "Run that command again to continue it, or give --restart to discard it.",
            )
        return State(stored.done, stored.seconds, {name: torch.from_numpy(a) for name, a in stored.state.items()})

    def check(self, expected: Mapping[str, Tensor], steps: int) -> None:
        """Raises UsageError unless `state` has tensors like the `expected`, after at most `steps` steps."""
        if self.state is None:
            return
        stored, wanted = (
            {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
            for tensors in (self.state.tensors, expected)
        )
        if stored != wanted or self.state.done > steps:
            raise UsageError(f"'{self.path}' does not hold the state of this run; give --restart to discard it")

    def update(self, state: State) -> None:
        """Takes `state` as the latest, and writes it where the last writing is long enough ago."""
        self._latest = state
        if time.monotonic() - self._last >= self._every:
            self.write()

    def child(self, target: str, task: Mapping[str, Any]) -> "Checkpoints":
        """Checkpoints of a part of this run, whose own output is `target`; written only if this run has any."""
        return Checkpoints(target if self.path else STREAM, task, self._seed, self._every, self._restart)

    def discard(self) -> None:
        """Removes the file."""
        if self._writes:
            remove(self.path)

    def write(self) -> None:
        """Writes the latest state, unless it is written already or not finite."""
        state = self._latest
        if state is None or state is self._written or not self._writes or not state.finite():
            return
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in state.tensors.items()}
        write_checkpoint(self.path, Checkpoint(self._task, self._seed, state.done, state.seconds, arrays))
        self._written, self._last = state, time.monotonic()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.discard()
            return
        if isinstance(error, UsageError):  # the request cannot be fulfilled: there is nothing to continue
            return
        try:
            self.write()
        except FairddError as failure:
            if str(failure) != str(error):
                error.add_note(str(failure))
        if self._written is not None:
            ways = "the same command continues it, --restart discards it"
            if isinstance(error, DivergedError):  # to continue would lead there again
                ways = "--restart discards it"
            error.add_note(one_line(f"The state after {self._written.done:,} steps is kept in '{self.path}': {ways}."))


def _flat(task: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`task` without nesting: {"hyper": {"outer": 1}} becomes {"hyper.outer": 1}."""
    flat: dict[str, Any] = {}
    for name, value in task.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _typed(name: str) -> str:
    """The option that sets what a task calls `name`."""
    return f"-O {name.removeprefix('hyper.')}" if name.startswith("hyper.") else name.removeprefix("protocol.")


def _shown(task: Mapping[str, Any], name: str) -> str:
    text = str(task.get(name, "nothing"))
    return text if len(text) <= 40 else text[:39] + "…"
