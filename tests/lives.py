"""Runs of the program that are killed and started again, until they end of themselves.

The processes are forked from a server that has imported torch and what its optimisers import, so that each costs
its work and not the import.
"""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "fairdd_cli.cli",
        "fairdd_cli.distill",
        "fairdd_cli.evaluate",
        "fairdd_cli.methods.dsa",
        "fairdd_cli.networks.convnet",
        "torch._dynamo",
    ]
)


def program(words: list[str], folder: str) -> None:
    """What a process does: `fairdd` with `words` in `folder`, its messages appended to the file `said`."""
    os.chdir(folder)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["fairdd", *words]
    from fairdd_cli.cli import main

    main()


def start(words: list[object], folder: Path) -> multiprocessing.process.BaseProcess:
    """The program with `words`, started in `folder`."""
    process = SERVER.Process(target=program, args=(list(map(str, words)), str(folder)))
    process.start()
    return process


def whole_life(words: list[object], folder: Path) -> float:
    """Runs the program undisturbed; returns its seconds."""
    began = time.monotonic()
    process = start(words, folder)
    process.join(120)
    assert process.exitcode == 0, (folder / "said").read_text()
    return time.monotonic() - began


def killed_life(words: list[object], folder: Path, seconds: float, kills: int, generator: np.random.Generator) -> int:
    """Runs the program, killing it `kills` times after a random share of `seconds`, and then lets it end.

    Returns how many kills met it alive; a life that ends before is not killed any more.
    """
    met = 0
    for _ in range(kills):
        process = start(words, folder)
        process.join(seconds * generator.uniform())
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode != -signal.SIGKILL:
            assert process.exitcode == 0, (folder / "said").read_text()
            return met
        met += 1
    whole_life(words, folder)
    return met
