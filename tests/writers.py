"""Every kind of output, written small, and system calls that fail meanwhile."""

import os
import signal
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_toy
from evaluations import synthetic
from evaluations import write as write_evaluated

from fairdd_cli.artifacts import (
    Checkpoint,
    lock_output,
    write_bytes,
    write_checkpoint,
    write_experts,
    write_export,
    write_synthetic,
)
from fairdd_cli.loading import as_export

EXPERTS = {"dataset": "toy", "dataset_digest": "sha256:0", "network": "mlp"}
WRITERS: dict[str, Callable[[str], object]] = {
    "data.h5": lambda path: write_toy(Path(path), np.full((2, 2), 3)),
    "synthetic.h5": lambda path: write_synthetic(path, synthetic()),
    "evaluation.h5": lambda path: write_evaluated(Path(path)),
    "evaluation.json": lambda path: write_evaluated(Path(path)),
    "experts.h5": lambda path: write_experts(path, EXPERTS, 0, 1, (1, 2, 5), [np.ones((1, 2, 5), np.float32)]),
    "s.h5.checkpoint": lambda path: write_checkpoint(path, Checkpoint({}, 0, 3, 1.0, {"images": np.ones(3)})),
    "page.html": lambda path: write_bytes(path, b"page"),
    "export": lambda path: write_export(path, as_export(synthetic(classes=2, ipc=1)), force=True),
    "export.npz": lambda path: write_export(path, as_export(synthetic(classes=2, ipc=1)), force=True),
}
CALLS = ("open", "pwrite", "ftruncate", "fsync", "mkdir", "rename", "replace")


class Interposed:
    """Does `act` in place of the `at`th of the system's `calls`, and of each that is called one of the `missing`."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        act: Callable[[], None],
        at: int = 0,
        missing: Sequence[str] = (),
        calls: Sequence[str] = CALLS,
    ) -> None:
        self.act, self.at, self.missing, self.count, self.acted = act, at, missing, 0, ""
        for name in {*calls, *missing}:
            patch.setattr(os, name, self.wrapped(name, getattr(os, name)))

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*words: Any, **options: Any) -> Any:
            if name == "open" and not words[1] & os.O_CREAT:
                return call(*words, **options)
            self.count += 1
            if self.count == self.at or name in self.missing:
                self.acted = name
                self.act()
            return call(*words, **options)

        return wrapper


def failing(number: int) -> Callable[[], None]:
    """What raises the system's error `number`."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


def killed() -> None:
    """Ends this process as if it had been killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], object]) -> int:
    """Does `work` in a copy of this process; returns its exit code, negative where a signal ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch has threads, which the copy does not use
        process = os.fork()
    if not process:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {path.name for path in folder.iterdir()}


def locked(path: Path | str, name: str) -> None:
    """What a command does that writes the output `path` like the one called `name`."""
    with lock_output(str(path)):
        WRITERS[name](str(path))
