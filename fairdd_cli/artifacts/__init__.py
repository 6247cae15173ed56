"""The four kinds of file and checkpoints, checked before anything in them is used.

This package is the only place that opens HDF5 or writes a file.
"""

import os

from fairdd_cli.artifacts._cache import cache_folder, has_temporary_folder, private_folder
from fairdd_cli.artifacts._container import declared_format
from fairdd_cli.artifacts._input import STREAM, check_readable, read_bytes, shown
from fairdd_cli.artifacts._lock import check_target, lock_output, made_by_this_command, remove_parts
from fairdd_cli.artifacts._output import (
    atomic_write,
    check_space,
    checkpoint_of,
    is_stdout,
    is_stream,
    remove,
    stem_of,
    write_bytes,
)
from fairdd_cli.artifacts._writer import ArrayChunks
from fairdd_cli.artifacts.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from fairdd_cli.artifacts.dataset import (
    BiasedDataset,
    FileImages,
    Images,
    MemoryImages,
    Split,
    cell_ranges,
    collect_dataset,
    majority_share,
    read_dataset,
    write_dataset,
)
from fairdd_cli.artifacts.evaluation import Evaluation, read_evaluation, write_evaluation
from fairdd_cli.artifacts.experts import Experts, read_experts, write_experts
from fairdd_cli.artifacts.export import Export, check_export, class_folders, pixels, write_export
from fairdd_cli.artifacts.foreign import ForeignSet, read_foreign
from fairdd_cli.artifacts.synthetic import (
    History,
    SyntheticSet,
    ValidationHistory,
    read_synthetic,
    write_synthetic,
)
from fairdd_cli.errors import UsageError

Artifact = BiasedDataset | SyntheticSet | Evaluation | Experts


def kind_of(path: str) -> str:
    """The format that the file at `path` states: fairdd/dataset, or likewise synthetic, evaluation, experts."""
    kind = declared_format(path)
    if kind is None:
        return "fairdd/evaluation"  # the one kind that may be JSON; its reader says what is wrong
    if kind == "fairdd/checkpoint":
        raise UsageError(f"'{path}' is a checkpoint: the command that wrote it, run again, continues from it")
    if kind not in ("fairdd/dataset", "fairdd/synthetic", "fairdd/evaluation", "fairdd/experts"):
        raise UsageError(f"'{path}' is an HDF5 file, but not one of fairdd's: its 'format' is {kind!r}")
    return kind


def read_any(path: str) -> Artifact:
    """The file at `path`, whatever its kind; raises UsageError unless it is sound."""
    kind = kind_of(path)
    if kind == "fairdd/dataset":
        return read_dataset(path)
    if kind == "fairdd/experts":
        return read_experts(path)
    return read_synthetic(path) if kind == "fairdd/synthetic" else read_evaluation(path)


def as_dataset(data: BiasedDataset | str | os.PathLike[str]) -> BiasedDataset:
    """`data`, read where it is the path of a file; raises UsageError for what is no data set."""
    if isinstance(data, str | os.PathLike):
        return read_dataset(os.fspath(data))
    if isinstance(data, BiasedDataset):
        return data
    raise UsageError(f"a data set, or the path of one, is needed here; found {type(data).__name__}")


__all__ = [
    "STREAM",
    "ArrayChunks",
    "Artifact",
    "BiasedDataset",
    "Checkpoint",
    "Evaluation",
    "Experts",
    "Export",
    "FileImages",
    "ForeignSet",
    "History",
    "Images",
    "MemoryImages",
    "Split",
    "SyntheticSet",
    "ValidationHistory",
    "as_dataset",
    "atomic_write",
    "cache_folder",
    "cell_ranges",
    "check_export",
    "check_readable",
    "check_space",
    "check_target",
    "checkpoint_of",
    "class_folders",
    "collect_dataset",
    "has_temporary_folder",
    "is_stdout",
    "is_stream",
    "kind_of",
    "lock_output",
    "made_by_this_command",
    "majority_share",
    "pixels",
    "private_folder",
    "read_any",
    "read_bytes",
    "read_checkpoint",
    "read_dataset",
    "read_evaluation",
    "read_experts",
    "read_foreign",
    "read_synthetic",
    "remove",
    "remove_parts",
    "shown",
    "stem_of",
    "write_bytes",
    "write_checkpoint",
    "write_dataset",
    "write_evaluation",
    "write_experts",
    "write_export",
    "write_synthetic",
]
