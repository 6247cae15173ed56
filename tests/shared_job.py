"""What each process of a shared job does in test_processes.py: every method on one data set, the images to a file."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from conftest import resolved
from tiny import TINY

from fairdd_cli.artifacts import read_dataset
from fairdd_cli.distill import ResolvedConfig, run_distillation
from fairdd_cli.methods import METHODS
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import NullProgress, open_runtime

VARIANTS = {  # what is run besides, by what it is called: the method, the network's normalisation, and options
    "gm with batch statistics": ("gm", "batch", TINY["gm"]),
    "dm by m3d": ("dm", "instance", {"distance": "m3d"}),
    "dm by ncfm": ("dm", "instance", {"distance": "ncfm", "num_freqs": "16"}),
    "cafe that measures accuracy": (
        "cafe",
        "instance",
        {"outer_loop": "2", "inner_loop": "11", "lambda_2": "0.999", "query": "4"},
    ),
}
TRAINED = {"trained_networks": 2, "trained_epochs": 1, "cross_entropy": 0.5}
INGREDIENTS: Mapping[str, Mapping[str, object]] = {  # of dm
    "cells in trained networks": {**TRAINED, "match": "cells", "factor": 2, "init": "balanced"},
    "learned group maps in trained networks": {
        **TRAINED,
        "match": "cells",
        "decoding": "group-maps:channels=1,learn=1",
    },
    "frequency in trained networks": {**TRAINED, "decoding": "frequency"},
}
MOVING = [name for name in TINY if METHODS.load(name).Method.matches]


def plan_of(
    method: str,
    folder: Path,
    norm: str = "instance",
    options: Mapping[str, str] | None = None,
    **words: object,
) -> ResolvedConfig:
    """A short run of `method`, fair where it matches anything."""
    return resolved(
        method,
        fairness="vanilla" if method == "random" else "fairdd",
        ipc=2,
        iterations=2,
        network=parse_network(f"convnet:width=8,depth=2,norm={norm}"),
        options=dict(TINY[method] if options is None else options),
        **{"experts": str(folder / f"{method}.h5") if METHODS.load(method).Method.uses_experts else "", **words},
    )


def main(data: str, folder: Path) -> None:
    """Distils by every method; the first process saves images and losses."""
    torch.set_num_threads(1)  # as torchrun does: clusters magnify the last bit in which sums of two threads differ
    dataset, runtime = read_dataset(data), open_runtime("cpu")
    found = {}
    for method in TINY:
        made = run_distillation(plan_of(method, folder), dataset, runtime, NullProgress())
        found |= {method: made.images, f"{method} loss": made.history.loss}
    for name, (method, norm, options) in VARIANTS.items():
        found[name] = run_distillation(plan_of(method, folder, norm, options), dataset, runtime, NullProgress()).images
    for name, words in INGREDIENTS.items():
        chosen = plan_of("dm", folder, experts=str(folder / "networks.h5"), **words)
        found[name] = run_distillation(chosen, dataset, runtime, NullProgress()).images
    if runtime.processes.is_main:
        np.savez(
            folder / "found.npz", **found, sent=runtime.processes.bytes_reduced, count=runtime.processes.world_size
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
