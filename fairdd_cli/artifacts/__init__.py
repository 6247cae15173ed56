"""The three kinds of file (format version 1), checked before anything in them is used.

This package is the only place that opens HDF5 or writes a file.
"""

import h5py

from fairdd_cli.artifacts._files import (
    STREAM,
    check_readable,
    check_space,
    check_target,
    read_bytes,
    replacing,
    shown,
    write_bytes,
)
from fairdd_cli.artifacts._hdf5 import Blocks
from fairdd_cli.artifacts.dataset import (
    BiasedDataset,
    FileImages,
    Images,
    MemoryImages,
    Split,
    cell_ranges,
    majority_share,
    read_dataset,
    write_dataset,
)
from fairdd_cli.artifacts.evaluation import Evaluation, read_evaluation, write_evaluation
from fairdd_cli.artifacts.experts import Experts, read_experts, write_experts
from fairdd_cli.artifacts.synthetic import History, SyntheticSet, read_synthetic, write_synthetic
from fairdd_cli.errors import UsageError

Artifact = BiasedDataset | SyntheticSet | Evaluation


def kind_of(path: str) -> str:
    """The format that the file at `path` states: fairdd/dataset, fairdd/synthetic or fairdd/evaluation."""
    check_readable(path)
    try:
        if not h5py.is_hdf5(path):
            return "fairdd/evaluation"  # the one kind that may be JSON; its reader says what is wrong
        with h5py.File(path, "r") as file:
            kind = file.attrs.get("format")
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"'{path}' cannot be read: it is truncated or damaged") from error
    if kind not in ("fairdd/dataset", "fairdd/synthetic", "fairdd/evaluation"):
        raise UsageError(f"'{path}' is an HDF5 file, but not one of fairdd's: its 'format' is {str(kind)[:40]!r}")
    return str(kind)


def read_any(path: str) -> Artifact:
    """The file at `path`, whatever its kind; raises UsageError unless it is sound."""
    kind = kind_of(path)
    if kind == "fairdd/dataset":
        return read_dataset(path)
    return read_synthetic(path) if kind == "fairdd/synthetic" else read_evaluation(path)


__all__ = [
    "STREAM",
    "Artifact",
    "BiasedDataset",
    "Blocks",
    "Evaluation",
    "Experts",
    "FileImages",
    "History",
    "Images",
    "MemoryImages",
    "Split",
    "SyntheticSet",
    "cell_ranges",
    "check_readable",
    "check_space",
    "check_target",
    "kind_of",
    "majority_share",
    "read_any",
    "read_bytes",
    "read_dataset",
    "read_evaluation",
    "read_experts",
    "read_synthetic",
    "replacing",
    "shown",
    "write_bytes",
    "write_dataset",
    "write_evaluation",
    "write_experts",
    "write_synthetic",
]
