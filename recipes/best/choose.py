"""Tries recipes on held-out training images and ranks them: what the recipes of this folder were chosen by.

    python recipes/best/choose.py held/c-fmnist-fg.h5 --log recipes/best/c-fmnist-fg.md
    python recipes/best/choose.py held/utkface.h5 --split val --log recipes/best/utkface.md

DATA is a data set whose test split is held out of the training images (hold_out.py), or one with validation images
(make-dataset --holdout) and `--split val`. Every candidate is distilled once for each of `--repeats` seeds and
evaluated by `--networks` networks. What is done stays in a folder beside DATA and is not done again, so that the
script goes on where it was stopped. The ranking is by the recall of the worst group, mean over the classes: that of
each class's best group minus DEO_A. The rank says which recipe to take; report what `evaluate` says of the test split.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

TRAINED = ["--trained-networks", "3", "--trained-epochs", "1"]
MAPS = ["--match", "cells", "--decoding", "group-maps:channels=1"]
LEARNED = ["--match", "cells", "--decoding", "group-maps:channels=1,learn=1"]
FACES = "group-maps:kernel=3,offset=8,learn=1"
CANDIDATES: dict[str, list[str]] = {
    "dm --fair": ["--iterations", "300"],
    "dm --fair, longer": ["--iterations", "900"],
    "tiles, start": ["--factor", "2", "--iterations", "0"],
    "tiles": ["--factor", "2", "--iterations", "150"],
    "tiles, trained": ["--factor", "2", "--iterations", "150", *TRAINED, "--cross-entropy", "0.3"],
    "tiles, cells": ["--match", "cells", "--factor", "2", "--iterations", "150"],
    "tiles, cells, trained": [
        *("--match", "cells", "--factor", "2", "--iterations", "150"),
        *(*TRAINED, "--cross-entropy", "0.3"),
    ],
    "group maps, start": [*MAPS, "--iterations", "0"],
    "group maps": [*MAPS, "--iterations", "150"],
    "group maps, trained": [*MAPS, "--iterations", "150", *TRAINED, "--cross-entropy", "0.3"],
    "group maps, learned": [*LEARNED, "--iterations", "150", *TRAINED, "--cross-entropy", "0.3"],
    "group maps, tiles, start": [*MAPS, "--factor", "2", "--iterations", "0"],
    "group maps of 3 channels, start": [
        *("--match", "cells", "--decoding", "group-maps:channels=3", "--iterations", "0"),
    ],
    "group maps of faces, start": [*("--match", "cells", "--decoding", FACES, "--factor", "2", "--iterations", "0")],
    "group maps of faces, trained": [
        *("--match", "cells", "--decoding", FACES, "--factor", "2", "--iterations", "150"),
        *(*TRAINED, "--cross-entropy", "0.3"),
    ],
}
METRICS = ("accuracy", "deo_max", "deo_mean", "worst")


def fairdd(*words: object) -> None:
    """Runs a command, whose messages go where those of this script go."""
    subprocess.run([sys.executable, "-m", "fairdd_cli", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def tried(name: str, arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    """The scores, in percent, and the seconds of one candidate; made now unless they are there."""
    folder = arguments.data.with_suffix(".tried")
    folder.mkdir(exist_ok=True)
    stem = f"{name.replace(' ', '-').replace(',', '')}-ipc{arguments.ipc}-{seed}"
    result, made = folder / f"{stem}.json", folder / f"{stem}.h5"
    if not result.exists():
        common = ["--network", arguments.network, "--seed", seed, "--quiet"]
        start = time.perf_counter()
        words = ["--method", "dm", "--fair", "--ipc", arguments.ipc, *CANDIDATES[name], "--force", "-o", made]
        fairdd("distill", arguments.data, *words, *common)
        seconds = time.perf_counter() - start
        protocol = ["--seeds", arguments.networks, "--epochs", arguments.epochs, "--split", arguments.split]
        fairdd("evaluate", made, *protocol, "--force", "-o", result, "--quiet")
        made.with_suffix(".seconds").write_text(f"{seconds:.0f}")
    return {**scores(json.loads(result.read_text())), "seconds": float(made.with_suffix(".seconds").read_text())}


def scores(evaluation: dict[str, object]) -> dict[str, float]:
    """Accuracy, DEO_M and DEO_A of an evaluation, and the recall of the worst group, mean over the classes."""
    (network,) = evaluation["metrics"].values()  # type: ignore[attr-defined]
    found = {name: network[name]["mean"] for name in METRICS[:-1]}
    (tables,) = evaluation["confusion"].values()  # type: ignore[attr-defined]
    worst = [
        min(cell[label] / sum(cell) for cell in cells if sum(cell))
        for table in tables
        for label, cells in enumerate(table)
    ]
    return {**found, "worst": 100 * sum(worst) / len(worst)}


def with_spread(values: list[float]) -> str:
    """The mean of `values`, with their standard deviation where there are several."""
    return f"{mean(values):.1f}" + (f"±{stdev(values):.1f}" if len(values) > 1 else "")


def main() -> None:
    """Tries all candidates and writes the log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=["test", "val"])
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--network", default="convnet:width=32")
    parser.add_argument("--networks", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES), choices=list(CANDIDATES))
    arguments = parser.parse_args()
    rows = []
    for name in arguments.only:
        runs = [tried(name, arguments, seed) for seed in range(arguments.repeats)]
        rows.append((name, {key: [run[key] for run in runs] for key in runs[0]}))
        print(name, rows[-1][1], flush=True)
    rows.sort(key=lambda row: -mean(row[1]["worst"]))
    words = ["distill --method dm --fair --ipc", str(arguments.ipc), "--network", arguments.network]
    protocol = f"{arguments.networks} network(s), {arguments.epochs} epochs, {arguments.repeats} seed(s) of distilling"
    lines = [
        f"Tried on held-out training images of {arguments.data.stem}: `{' '.join(words)}` and the options; {protocol}.",
        "",
        "| candidate | options | accuracy | DEO_M | DEO_A | worst group | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in rows:
        figures = " | ".join(with_spread(found[key]) for key in METRICS)
        lines.append(f"| {name} | `{' '.join(CANDIDATES[name])}` | {figures} | {mean(found['seconds']):.0f} |")
    arguments.log.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
