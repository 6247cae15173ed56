"""Kills runs of every method at random moments, lets the same command continue, and compares what comes out.

    python tests/campaigns/kill.py --kills 20

Each run continues from its checkpoint until it ends, and must end in the digest of a run that was left alone. The
processes are forked from a server that has imported torch and what its optimisers import, so that each costs its
work and not the import. 100 kills take about two minutes on two cores that have nothing else to do.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fairdd_cli.artifacts import read_any
from fairdd_cli.cli import main
from fairdd_cli.runtime import Streams

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import TINY, tiny_words  # beside the other tests

NETWORK = ["--network", "convnet:width=4,depth=1"]
ITERATIONS = {"dm": 60, "idc": 8, "dream": 8}  # of the others 12


def distillation(method: str) -> list[object]:
    """The words of a short distillation."""
    words: list[object] = ["distill", "toy.h5", "--method", method, "--ipc", 2]
    if method == "random":
        return words
    return [*words, "--fair", "--iterations", ITERATIONS.get(method, 12), *tiny_words(method), *NETWORK]


TRAINED = ["--trained-networks", 2, "--trained-epochs", 3, "--cross-entropy", 0.3]
RUNS: dict[str, list[object]] = {
    **{method: distillation(method) for method in TINY},
    "decoded": [
        *distillation("dm"),
        *("--iterations", 20, "--match", "cells", "--decoding", "group-maps:channels=1", *TRAINED),
    ],
    "evaluate": ["evaluate", "toy.h5", "--seeds", 12, "--epochs", 3, *NETWORK],
}
RUNS["compiled"] = [*RUNS["gm"], "--compile", "on"]

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
    if process.exitcode != 0:
        raise RuntimeError((folder / "said").read_text())
    return time.monotonic() - began


def killed_life(words: list[object], output: Path, seconds: float, kills: int, generator: np.random.Generator) -> int:
    """Runs the program, which writes `output`, killing it `kills` times after a random share of `seconds`, and then
    lets it end.

    Returns how many kills met it alive.
    """
    folder, met = output.parent, 0
    for _ in range(kills):
        process = start([*words, output.name], folder)
        process.join(seconds * generator.uniform())
        process.kill()  # without effect on one that has just ended
        process.join()
        if process.exitcode != -signal.SIGKILL:
            if process.exitcode != 0:
                raise RuntimeError((folder / "said").read_text())
            return met
        met += 1
        if output.exists() and not list(folder.glob(f"*{output.name}*lock")):
            return met  # it had done all and was on its way out: given again, it would find the output of another run
    whole_life([*words, output.name], folder)
    return met


def campaign(name: str, folder: Path, kills: int) -> int:
    """Kills runs of `RUNS[name]` on `folder`'s toy.h5 until `kills` have met one alive; returns how many lives it took.

    Raises RuntimeError where a life does not end in the digest of an undisturbed one, or leaves a file behind.
    """
    suffix = "json" if name == "evaluate" else "h5"
    words = [*RUNS[name], "--checkpoint-every", 0, "--quiet", "-o"]
    undisturbed = [folder / f"whole{run}.{suffix}" for run in range(2)]  # the first waits for the server
    seconds = min(whole_life([*words, output.name], folder) for output in undisturbed)
    generator, met, lives = Streams(0).numpy(f"kill/{name}"), 0, 0
    while met < kills:
        output = folder / f"life{lives}.{suffix}"
        met += killed_life(words, output, seconds, 5, generator)
        lives += 1
        if read_any(str(output)).digest != read_any(str(undisturbed[0])).digest:
            raise RuntimeError(f"{name}: life {lives} ended in other content")
        output.unlink()
        for made in (*folder.glob("toy.experts-*.h5"), *folder.glob("toy.networks-*.h5")):
            made.unlink()  # so that each life makes its own
        left = {path.name for path in folder.iterdir()} - {"toy.h5", "said", *(path.name for path in undisturbed)}
        if left:
            raise RuntimeError(f"{name}: life {lives} left {sorted(left)}")
    return lives


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from conftest import write_toy

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(RUNS), help="one of these runs")
    parser.add_argument("--kills", type=int, default=20, help="of each method and of evaluate")
    chosen = parser.parse_args()
    for name in chosen.only or RUNS:
        with tempfile.TemporaryDirectory() as scratch:
            write_toy(Path(scratch, "toy.h5"), np.array([[9, 3, 0, 2], [2, 9, 1, 3], [4, 3, 2, 9]]))
            began = time.monotonic()
            lives = campaign(name, Path(scratch), chosen.kills)
            print(
                f"{name}: {chosen.kills} kills over {lives} runs, every digest equal, {time.monotonic() - began:.0f} s"
            )
