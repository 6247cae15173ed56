"""Checkpoint: where a run stands, beside the output that it will write, so that the same command can continue."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairdd_cli.artifacts._container import json_attribute, open_container
from fairdd_cli.artifacts._hdf5 import ANY, Schema
from fairdd_cli.artifacts._writer import write

SCHEMA = Schema(kind="fairdd/checkpoint", attributes={"done": int, "seconds": float}, arrays={"state/*": ANY})


@dataclass(frozen=True)
class Checkpoint:
    """A run of `task` after `done` steps and `seconds`, with the arrays that it continues from.

    `task` says everything that the result depends on: JSON values by name. A name in `state` may not hold a
    slash; its array may have any shape and a dtype of plain numbers.
    """

    task: Mapping[str, Any]
    seed: int
    done: int
    seconds: float
    state: Mapping[str, np.ndarray]


def write_checkpoint(path: str, checkpoint: Checkpoint) -> None:
    """Writes `checkpoint` to `path` in the place of the one before, which stays if that fails (WorkError)."""
    attributes = {
        "options": json.dumps(dict(checkpoint.task), sort_keys=True),
        "seed": checkpoint.seed,
        "done": checkpoint.done,
        "seconds": checkpoint.seconds,
    }
    # A leading axis of one lets a single number be an array like every other.
    arrays = {f"state/{name}": np.asarray(array)[None] for name, array in checkpoint.state.items()}
    write(path, SCHEMA.kind, lambda: attributes, arrays)


def read_checkpoint(path: str) -> Checkpoint:
    """The checkpoint at `path`; raises UsageError unless it is sound."""
    container = open_container(path, SCHEMA)
    attributes = container.attributes
    if attributes["done"] < 0 or attributes["seconds"] < 0:
        raise container.fail("'done' or 'seconds' is out of range")
    return Checkpoint(
        task=json_attribute(container, "options"),
        seed=attributes["seed"],
        done=attributes["done"],
        seconds=attributes["seconds"],
        state={name.removeprefix("state/"): container.array(name)[0, ...] for name in container.names()},
    )
