"""Synthetic sets of other tools, brought into normalised units and checked against the data set they are judged on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairdd_cli.artifacts import (
    BiasedDataset,
    ForeignSet,
    History,
    SyntheticSet,
    as_dataset,
    class_folders,
    read_foreign,
)
from fairdd_cli.config import ImportConfig, record
from fairdd_cli.config.import_set import read_channels
from fairdd_cli.config.keywords import configure, documented
from fairdd_cli.errors import UsageError
from fairdd_cli.methods._protocol import protocol_of
from fairdd_cli.runtime import show_progress

LEVELS = 255
ROUNDING = 1e-6  # beyond 0 and 1, of images in single precision


@dataclass(frozen=True)
class Imported:
    """A synthetic set, and in a line each what was found out about the file that it came from."""

    synthetic: SyntheticSet
    notes: tuple[str, ...]


@documented(ImportConfig)
def import_set(
    file: str | os.PathLike[str], data: BiasedDataset | str | os.PathLike[str], **options: Any
) -> SyntheticSet:
    """The synthetic set that another tool saved in `file` (or folder), to be tested on `data`.

    What is found out about the file is said on standard error. Raises `UsageError` where it cannot be read or does not
    fit the data set.

        import_set("res_DM_CIFAR10_ConvNet_10ipc.pt", data, method="dm-theirs")
    """
    dataset = as_dataset(data)
    config = configure(ImportConfig, options, file=os.fspath(file), data=dataset.path)
    with show_progress(config.quiet) as progress:
        imported = run_import(config, dataset)
        for note in imported.notes:
            progress.say(note)
    return imported.synthetic.in_memory()


def run_import(config: ImportConfig, dataset: BiasedDataset) -> Imported:
    """The synthetic set in the file of `config`, checked against `dataset`; raises UsageError where it does not fit."""
    path, labels, factor = config.file, config.labels, config.factor
    mean, std = (None if text is None else read_channels(text) for text in (config.mean, config.std))
    training = protocol_of(config.protocol, dataset)
    foreign = read_foreign(path, config.repetition, labels)
    if foreign.images.shape[1:] != dataset.shape:
        found, expected = ("x".join(map(str, shape)) for shape in (foreign.images.shape[1:], dataset.shape))
        raise UsageError(f"'{path}' has images of {found}, but those of {dataset.where} are {expected}")
    if not 1 <= factor <= min(dataset.shape[1:]):
        raise UsageError(f"--factor {factor} is out of range for images of {dataset.shape[1]}x{dataset.shape[2]}")
    notes = [f"'{path}': {foreign.layout}, {len(foreign.images)} images"]
    class_labels = _labels(path, foreign, dataset, notes)
    images = _normalised(path, foreign, dataset, config.values, mean, std, notes)
    groups = _groups(foreign, dataset, factor, notes)
    order = np.argsort(class_labels, kind="stable")
    count = np.bincount(class_labels, minlength=dataset.classes)
    if len(set(count)) > 1:
        notes.append(f"its classes have {count.min()} to {count.max()} images; reports call it IPC {count.max()}")
    said = foreign.origin
    synthetic = SyntheticSet(
        images=images[order],
        labels=class_labels[order],
        history=History(np.zeros(0, np.int64), np.zeros(0), np.zeros(0)),
        method=config.method or _text(said.get("method"), "imported"),
        fairness=config.fairness or _text(said.get("fairness"), "vanilla"),
        sampling="proportional",
        ipc=int(count.max()),
        iterations=0,
        network="convnet",
        factor=factor,
        learning_rate=0.0,
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        groups=None if groups is None else groups[order],
        protected_names=() if groups is None else dataset.protected_names,
        evaluation=training.to_json(),
        dataset=dataset.name,
        dataset_path=str(Path(dataset.path).absolute()) if dataset.path else "",
        dataset_digest=dataset.digest,
        options={
            "import": {
                "file": Path(path).name,
                **record(ImportConfig, config),
                "mean": mean and ",".join(map(str, mean)),
                "std": std and ",".join(map(str, std)),
                "labels": labels and Path(labels).name,
            }
        },
        seed=0,
    )
    return Imported(synthetic, tuple(notes))


def _text(value: object, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _labels(path: str, foreign: ForeignSet, dataset: BiasedDataset, notes: list[str]) -> np.ndarray:
    """The label int64 [M] of each image in the data set's order of classes; UsageError where they do not fit it."""
    if foreign.class_names is not None and foreign.class_names != dataset.class_names:
        theirs, ours = (", ".join(names)[:120] for names in (foreign.class_names, dataset.class_names))
        raise UsageError(f"'{path}' has the classes {theirs}, but {dataset.where} has {ours}")
    labels = foreign.labels
    if labels is None:
        if len(foreign.images) % dataset.classes:
            raise UsageError(
                f"'{path}' has no labels, and its {len(foreign.images)} images are no multiple of the "
                f"{dataset.classes} classes; give their labels with --labels FILE"
            )
        notes.append("no labels: taken class after class, as DD-Ranking and DC order them")
        return np.repeat(np.arange(dataset.classes), len(foreign.images) // dataset.classes)
    if foreign.folders:
        labels = np.array(_folder_labels(path, foreign.folders, dataset.class_names), np.int64)[labels]
    if labels.min() < 0 or labels.max() >= dataset.classes:
        raise UsageError(
            f"'{path}' has labels {labels.min()}…{labels.max()}, but {dataset.where} has the classes "
            f"0…{dataset.classes - 1}"
        )
    missing = np.flatnonzero(np.bincount(labels, minlength=dataset.classes) == 0)
    if len(missing):
        raise UsageError(f"'{path}' has no image of class '{dataset.class_names[missing[0]]}'")
    return labels


def _groups(foreign: ForeignSet, dataset: BiasedDataset, factor: int, notes: list[str]) -> np.ndarray | None:
    """The group int64 [M] that each image stands for, where the file tells it and the groups are those of `dataset`."""
    if foreign.groups is None:
        return None
    if foreign.group_names != dataset.protected_names:
        theirs, ours = (", ".join(names)[:120] for names in (foreign.group_names, dataset.protected_names))
        notes.append(f"its groups are {theirs}, those of the data set {ours}: left out")
        return None
    if factor > 1:
        notes.append(f"its groups are of whole images, not of the {factor}x{factor} inside each: left out")
        return None
    notes.append("each image's group is kept")
    return foreign.groups


def _folder_labels(path: str, folders: Sequence[str], class_names: tuple[str, ...]) -> list[int]:
    """The label that each of the `folders` stands for: by the class's name, its number, or the name in an export."""
    known = {name: label for label, name in enumerate(class_names)}
    for names in (class_folders(class_names), list(map(str, range(len(class_names))))):
        if set(folders) <= {*known} | {*names}:
            known = {**{name: label for label, name in enumerate(names)}, **known}
    strange = [name for name in folders if name not in known]
    if strange:
        raise UsageError(
            f"'{path}': the folder '{strange[0]}' is none of the classes; expected their names "
            f"({', '.join(class_names)[:120]}) or numbers"
        )
    return [known[name] for name in folders]


def _normalised(
    path: str,
    foreign: ForeignSet,
    dataset: BiasedDataset,
    values: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    notes: list[str],
) -> np.ndarray:
    """The images float32 [M, C, H, W] in the normalised units of `dataset`."""
    images = foreign.images
    given = (mean or foreign.mean or dataset.mean, std or foreign.std or dataset.std)
    stated = mean is not None or foreign.mean is not None
    low, high = float(images.min()), float(images.max())
    found = _kind_of_values(images, stated, given) if values == "auto" else values
    bounds = {"unit": 1, "levels": LEVELS}
    if found in bounds and (low < -ROUNDING or high > bounds[found] * (1 + ROUNDING)):
        raise UsageError(f"'{path}' has values {low:.4g}…{high:.4g}, which are no {found} of 0…{bounds[found]}")
    if len(given[0]) != len(dataset.mean) or len(given[1]) != len(dataset.std) or min(given[1]) <= 0:
        raise UsageError(f"mean and std need one number for each of {len(dataset.mean)} channels, std above 0")
    words = {"normalised": "normalised", "unit": "in [0, 1]", "levels": "levels of 0…255"}[found]
    notes.append(f"values {low:.4g}…{high:.4g}: {words}" + (" (--values says otherwise)" if values == "auto" else ""))
    ours = dataset.mean, dataset.std
    if found == "normalised" and all(np.allclose(given[i], ours[i], rtol=0, atol=1e-6) for i in range(2)):
        return images.astype(np.float32)
    if found == "levels":  # by the arithmetic that normalises the data set's own images, so that equal ones stay equal
        scale, shift = 1 / (LEVELS * _channels(dataset.std)), -_channels(dataset.mean) / _channels(dataset.std)
        return np.asarray(images.astype(np.float32) * scale.astype(np.float32) + shift.astype(np.float32))
    pixels = images * _channels(given[1]) + _channels(given[0]) if found == "normalised" else images
    return np.asarray((pixels - _channels(dataset.mean)) / _channels(dataset.std), np.float32)


def _channels(numbers: Sequence[float]) -> np.ndarray:
    return np.array(numbers, np.float64)[:, None, None]


def _kind_of_values(images: np.ndarray, stated: bool, given: tuple[Sequence[float], Sequence[float]]) -> str:
    """What the numbers in `images` are: levels where they are bytes or beyond white, unit within [0, 1]."""
    if images.dtype == np.uint8:
        return "levels"
    low, high = float(images.min()), float(images.max())
    white = max((1 - mean) / std for mean, std in zip(*given, strict=False))
    if stated or low < -ROUNDING:
        return "normalised"
    if high <= 1 + ROUNDING:
        return "unit"
    return "levels" if high > 2 * white and high <= LEVELS * (1 + ROUNDING) else "normalised"
