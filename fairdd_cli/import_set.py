"""Synthetic sets of other tools, brought into normalised units and checked against the data set they are judged on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fairdd_cli.artifacts import BiasedDataset, ForeignSet, History, SyntheticSet, class_folders, read_foreign
from fairdd_cli.config.import_set import VALUES
from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.methods import METHODS
from fairdd_cli.training import augmentation as augment

LEVELS = 255
ROUNDING = 1e-6  # beyond 0 and 1, of images in single precision


@dataclass(frozen=True)
class Imported:
    """A synthetic set, and in a line each what was found out about the file that it came from."""

    synthetic: SyntheticSet
    notes: tuple[str, ...]


def import_set(
    path: str,
    dataset: BiasedDataset,
    *,
    protocol: str = "dm",
    values: str = "auto",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    repetition: int = 1,
    labels: str | None = None,
    factor: int = 1,
    method: str | None = None,
    fairness: str | None = None,
) -> Imported:
    """The synthetic set in the file or folder `path`, to be trained on by a `protocol` and tested on `dataset`.

    `values` says what the numbers in the images are: `normalised` by `mean` and `std` (per channel; default: those
    that the file states, or else those of the data set), `unit` in [0, 1], or `levels` in 0…255; `auto` finds it out.
    A `factor` above 1 cuts each image into factor² ones (multi-formation). `method` and `fairness` name the set in
    reports. Raises UsageError where the file cannot be read or does not fit the data set.
    """
    if values not in VALUES:
        raise unknown("kind of values", values, VALUES)
    training = METHODS.load(METHODS.canonical(protocol)).Method.evaluation
    if not dataset.mirror_keeps_class:
        training = replace(training, augmentation=augment.without(training.augmentation, "flip"))
    foreign = read_foreign(path, repetition, labels)
    if foreign.images.shape[1:] != dataset.shape:
        found, expected = ("x".join(map(str, shape)) for shape in (foreign.images.shape[1:], dataset.shape))
        raise UsageError(f"'{path}' has images of {found}, but those of '{dataset.path}' are {expected}")
    if not 1 <= factor <= min(dataset.shape[1:]):
        raise UsageError(f"--factor {factor} is out of range for images of {dataset.shape[1]}x{dataset.shape[2]}")
    notes = [f"'{path}': {foreign.layout}, {len(foreign.images)} images"]
    class_labels = _labels(path, foreign, dataset, notes)
    images = _normalised(path, foreign, dataset, values, mean, std, notes)
    order = np.argsort(class_labels, kind="stable")
    count = np.bincount(class_labels, minlength=dataset.classes)
    if len(set(count)) > 1:
        notes.append(f"its classes have {count.min()} to {count.max()} images; reports call it IPC {count.max()}")
    said = foreign.origin
    synthetic = SyntheticSet(
        images=images[order],
        labels=class_labels[order],
        history=History(np.zeros(0, np.int64), np.zeros(0), np.zeros(0)),
        method=method or _text(said.get("method"), "imported"),
        fairness=fairness or _text(said.get("fairness"), "vanilla"),
        sampling="proportional",
        ipc=int(count.max()),
        iterations=0,
        network="convnet",
        factor=factor,
        learning_rate=0.0,
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        evaluation=training.to_json(),
        dataset=dataset.name,
        dataset_path=str(Path(dataset.path).absolute()),
        dataset_digest=dataset.digest,
        options={
            "import": {
                "file": Path(path).name,
                "protocol": METHODS.canonical(protocol),
                "values": values,
                "mean": mean and ",".join(map(str, mean)),
                "std": std and ",".join(map(str, std)),
                "labels": labels and Path(labels).name,
                "repetition": repetition,
                "factor": factor,
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
        raise UsageError(f"'{path}' has the classes {theirs}, but '{dataset.path}' has {ours}")
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
            f"'{path}' has labels {labels.min()}…{labels.max()}, but '{dataset.path}' has the classes "
            f"0…{dataset.classes - 1}"
        )
    missing = np.flatnonzero(np.bincount(labels, minlength=dataset.classes) == 0)
    if len(missing):
        raise UsageError(f"'{path}' has no image of class '{dataset.class_names[missing[0]]}'")
    return labels


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
