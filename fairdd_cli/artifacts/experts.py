"""Experts: the parameters of networks trained on real images, kept at each epoch, for trajectory matching."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairdd_cli.artifacts._container import json_attribute, open_container
from fairdd_cli.artifacts._hdf5 import Schema
from fairdd_cli.artifacts._input import InputFile
from fairdd_cli.artifacts._writer import ArrayChunks, write
from fairdd_cli.errors import UsageError

SCHEMA = Schema(
    kind="fairdd/experts",
    attributes={"dataset": str, "dataset_digest": str, "network": str, "targets": int},
    arrays={"trajectories": ("float32", 3)},
)


@dataclass(frozen=True)
class Experts:
    """Trajectories [targets * experts, epochs + 1, parameters], those of a target together, that stay in their file.

    `provenance` says what they were made from and how: whoever uses them compares it with what they need.
    """

    file: InputFile
    offset: int
    shape: tuple[int, int, int]
    targets: int
    provenance: Mapping[str, Any]
    digest: str

    @property
    def experts(self) -> int:
        """Experts of each target."""
        return self.shape[0] // self.targets

    @property
    def path(self) -> str:
        """Where the file was when it was opened."""
        return self.file.path

    def parameters(self, target: int, expert: int, epoch: int) -> np.ndarray:
        """The parameters float32 [P] of an expert of `target` after `epoch` epochs; WorkError where they are gone.

        A negative `epoch` counts from the end.
        """
        vector = np.empty(self.shape[2], np.float32)
        row = (target * self.experts + expert) * self.shape[1] + epoch % self.shape[1]
        self.file.read_into(vector.view(np.uint8).data, self.offset + row * vector.nbytes)
        return vector


def write_experts(
    path: str, provenance: Mapping[str, Any], seed: int, targets: int, shape: tuple[int, int, int], parts: Iterable[Any]
) -> None:
    """Writes trajectories of `shape`, given as `parts` [1, epochs + 1, parameters], to the file `path`."""
    attributes = {name: provenance[name] for name in ("dataset", "dataset_digest", "network")}
    attributes |= {"targets": targets, "options": json.dumps(dict(provenance), sort_keys=True), "seed": seed}
    write(path, SCHEMA.kind, lambda: attributes, {"trajectories": ArrayChunks(shape, "float32", parts)}, force=False)


def read_experts(path: str) -> Experts:
    """The experts at `path`; raises UsageError unless the file is sound."""
    container = open_container(path, SCHEMA)
    if not isinstance(container.file, InputFile):
        raise UsageError("--experts needs a file; standard input cannot be read twice")
    rows, epochs, parameters = container.shape("trajectories")
    targets = container.attributes["targets"]
    if min(rows, parameters) < 1 or epochs < 2 or targets < 1 or rows % targets:
        raise container.fail(f"it has {rows} trajectories of {epochs} epochs for {targets} targets")
    return Experts(
        file=container.file,
        offset=container.offset("trajectories"),
        shape=(rows, epochs, parameters),
        targets=targets,
        provenance=json_attribute(container, "options"),
        digest=container.attributes["digest"],
    )
