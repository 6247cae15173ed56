"""SyntheticSet: the distilled images, with all that is needed to train on them and to know how they came about."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fairdd_cli.artifacts._container import Container, json_attribute, open_container
from fairdd_cli.artifacts._hdf5 import ANY, Attributes, Schema, array_entry, identity, sealed
from fairdd_cli.artifacts._lock import check_target
from fairdd_cli.artifacts._shown import ShowsItself
from fairdd_cli.artifacts._writer import write

DECODED_LIMIT = 2**30  # bytes
MOST_PIXELS = 2**16  # along a side
PLAIN = "tiles"  # the decoding of images that are stored as they are
UNBIASED, WITH_NOISE = "unbiased distance", "matching loss"  # what `history/loss` can be

SCHEMA = Schema(
    kind="fairdd/synthetic",
    attributes={
        "method": str,
        "fairness": str,
        "sampling": str,
        "ipc": int,
        "iterations": int,
        "network": str,
        "factor": int,
        "learning_rate": float,
        "mean": list,
        "std": list,
        "class_names": list,
        "evaluation": str,
        "dataset": str,
        "dataset_path": str,
        "dataset_digest": str,
    },
    arrays={
        "images": ("float32", 4),
        "labels": ("int64", 1),
        "history/iteration": ("int64", 1),
        "history/loss": ("float64", 1),
        "history/seconds": ("float64", 1),
    },
    optional_attributes={
        "environment": str,
        "history_loss": str,
        "kept_iteration": int,
        "protected_names": list,
        "decoding": str,
        "shape": list,
    },
    optional_arrays=(
        {"groups": ("int64", 1)},
        {"tables/*": ANY},
        {
            "history/validation/iteration": ("int64", 1),
            "history/validation/correct": ("int64", 4),
            "history/validation/total": ("int64", 2),
        },
    ),
    newest=2,  # sets with a decoding
)


@dataclass(frozen=True)
class ValidationHistory:
    """What networks scored on validation images that were trained on the set after some iterations.

    `correct` and `total` count the images of each cell, from which metrics follow (`Confusion.of_cells`).
    """

    iteration: np.ndarray  # int64 [V], how many were done
    correct: np.ndarray  # int64 [V, networks, classes, groups]
    total: np.ndarray  # int64 [classes, groups]

    @property
    def score(self) -> np.ndarray:
        """What `--keep best` goes by: mean over classes and networks of the worst group's recall, float64 [V].

        That is the mean recall of each class's best group minus DEO_A: it rises with accuracy and falls with
        unfairness. Networks that fail in all groups alike have a low DEO, but no high score; and as a mean over
        classes it has less noise than the worst cell alone.
        """
        known = self.total > 0
        recall = np.divide(self.correct, self.total, out=np.full(self.correct.shape, np.inf), where=known)
        score: np.ndarray = recall.min(axis=-1)[..., known.any(axis=-1)].mean(axis=(1, 2))
        return score

    @property
    def best(self) -> int:
        """The position of the highest score, the first of equal ones."""
        return int(self.score.argmax())

    def position(self, iteration: int | None) -> int:
        """The position of the validation after `iteration` iterations; the last where there is none."""
        found = np.flatnonzero(self.iteration == iteration)
        return int(found[0]) if len(found) else len(self.iteration) - 1


@dataclass(frozen=True)
class History:
    """The course of a distillation: the loss of some iterations and the seconds until then.

    An `unbiased` loss is the squared distance to the real images without the sampling noise of their batches. Any
    other one, and each in files of version 0.1.0, is what the method minimises on the batches, noise and all.
    """

    iteration: np.ndarray  # int64 [T]
    loss: np.ndarray  # float64 [T]
    seconds: np.ndarray  # float64 [T]
    unbiased: bool = False
    validation: ValidationHistory | None = None

    @property
    def what(self) -> str:
        """What the losses are, in words."""
        return "distance without sampling noise" if self.unbiased else "matching loss"


@dataclass(frozen=True, repr=False)
class SyntheticSet(ShowsItself):
    """A synthetic set as `fairdd distill` writes it.

    `images` are float32 [M, C, H, W] in normalised units, class after class; with a `factor` above 1 each
    holds factor² training images (multi-formation). With a `decoding` other than tiles they are what it makes training
    images of, with the `tables` that all of them share. `evaluation` is the protocol to train with; a
    `learning_rate` other than 0 was learned and replaces the protocol's. Where each training image stands for a group,
    `groups` (int64 [M * factor²]) index `protected_names`. Where the run was validated, `kept_iteration` says after how
    many iterations the images are as they stand here. `environment` says what the images were computed by: device,
    precision, compile, threads, deterministic, torch and fairdd versions ({} in files of version 0.1.0).
    """

    images: np.ndarray
    labels: np.ndarray  # int64 [M]
    history: History
    method: str
    fairness: str
    sampling: str
    ipc: int
    iterations: int
    network: str
    factor: int
    learning_rate: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    evaluation: Mapping[str, Any]
    dataset: str
    dataset_path: str
    dataset_digest: str
    options: Mapping[str, Any]
    seed: int
    kept_iteration: int | None = None
    groups: np.ndarray | None = None
    protected_names: tuple[str, ...] = ()
    decoding: str = PLAIN
    tables: Mapping[str, np.ndarray] = field(default_factory=dict)
    shape: tuple[int, int, int] = (0, 0, 0)  # (C, H, W) of a training image; taken from `images` where it is theirs
    environment: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    digest: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)  # created, generated_by

    def __post_init__(self) -> None:
        if self.decoding == PLAIN:
            object.__setattr__(self, "shape", self.images.shape[1:])

    @property
    def is_plain(self) -> bool:
        """Whether its images are stored as they are, with all their pixels."""
        return self.decoding == PLAIN

    @property
    def stored_numbers(self) -> int:
        """Numbers that the training images are made of: those of the stored images and of the tables."""
        return self.images.size + sum(table.size for table in self.tables.values())

    @property
    def equivalent_ipc(self) -> float:
        """Plain images of a class that take as many numbers: all that are stored, divided evenly over the classes."""
        return self.stored_numbers / len(self.class_names) / math.prod(self.shape)

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Writes it to the file `path`, as `fairdd distill` does; UsageError where that exists, unless `force`."""
        check_target(os.fspath(path), force)
        write_synthetic(os.fspath(path), self, force)

    def in_memory(self) -> "SyntheticSet":
        """The same with the digest of the file that it would be, by which its evaluations know it."""
        attributes, arrays = _content(self)
        entries = {name: array_entry(array) for name, array in arrays.items()}
        return replace(self, **identity(sealed(SCHEMA.kind, attributes, entries)))

    def _in_memory(self) -> str:
        return f"synthetic set of {self.dataset} ({self.method}, {self.fairness}, ipc {self.ipc})"


def write_synthetic(path: str, synthetic: SyntheticSet, force: bool = True) -> str:
    """Writes `synthetic` to `path` (`-`: standard output) and returns its digest."""
    attributes, arrays = _content(synthetic)
    return write(path, SCHEMA.kind, lambda: attributes, arrays, force)


def _content(synthetic: SyntheticSet) -> tuple[Attributes, dict[str, np.ndarray]]:
    """The attributes and the arrays of the file of `synthetic`."""
    attributes: dict[str, Any] = {name: getattr(synthetic, name) for name in SCHEMA.attributes}
    for name in ("mean", "std", "class_names"):
        attributes[name] = list(attributes[name])
    attributes["evaluation"] = json.dumps(dict(synthetic.evaluation), sort_keys=True)
    attributes["options"] = json.dumps(dict(synthetic.options), sort_keys=True)
    attributes["seed"] = synthetic.seed
    if synthetic.environment:
        attributes["environment"] = json.dumps(dict(synthetic.environment), sort_keys=True)
    attributes["history_loss"] = UNBIASED if synthetic.history.unbiased else WITH_NOISE
    arrays: dict[str, np.ndarray] = {
        "images": synthetic.images.astype(np.float32),
        "labels": synthetic.labels.astype(np.int64),
        "history/iteration": synthetic.history.iteration.astype(np.int64),
        "history/loss": synthetic.history.loss.astype(np.float64),
        "history/seconds": synthetic.history.seconds.astype(np.float64),
    }
    if (validation := synthetic.history.validation) is not None:
        for name in ("iteration", "correct", "total"):
            arrays[f"history/validation/{name}"] = getattr(validation, name).astype(np.int64)
    if synthetic.kept_iteration is not None:
        attributes["kept_iteration"] = synthetic.kept_iteration
    if synthetic.groups is not None:
        arrays["groups"] = synthetic.groups.astype(np.int64)
    if synthetic.decoding != PLAIN:
        shape = [int(size) for size in synthetic.shape]
        attributes |= {"decoding": synthetic.decoding, "shape": shape, "format_version": SCHEMA.newest}
        arrays |= {f"tables/{name}": table for name, table in synthetic.tables.items()}
    if "groups" in arrays or synthetic.decoding != PLAIN:
        attributes["protected_names"] = list(synthetic.protected_names)
    return attributes, arrays


def read_synthetic(path: str) -> SyntheticSet:
    """The synthetic set at `path` (`-`: standard input); raises UsageError unless it is sound."""
    container = open_container(path, SCHEMA)
    values = {name: container.attributes[name] for name in (*SCHEMA.attributes, "seed", "digest")}
    images, labels = container.array("images"), container.array("labels")
    values["shape"] = _checked_shape(container, images)
    _check_attributes(container, values)
    _check_images(container, images, labels, values)
    for name in ("mean", "std", "class_names"):
        values[name] = tuple(values[name])
    values["kept_iteration"] = container.attributes.get("kept_iteration")
    values["evaluation"] = json_attribute(container, "evaluation")
    values["options"] = json_attribute(container, "options")
    if "environment" in container.attributes:
        values["environment"] = json_attribute(container, "environment")
    if container.names("groups"):
        values["groups"] = _read_groups(container, len(images) * values["factor"] ** 2)
    values["protected_names"] = tuple(container.attributes.get("protected_names", ()))
    values["decoding"] = container.attributes.get("decoding", PLAIN)
    values["tables"] = {name.removeprefix("tables/"): container.array(name) for name in container.names("tables/")}
    iteration, loss, seconds = (container.array(f"history/{name}") for name in ("iteration", "loss", "seconds"))
    unbiased = _read_loss_kind(container) == UNBIASED
    classes = len(values["class_names"])
    history = History(iteration, loss, seconds, unbiased, _read_validation(container, classes, values["iterations"]))
    if not len(history.iteration) == len(history.loss) == len(history.seconds):
        raise container.fail("the arrays of 'history' differ in length")
    provenance = {name: container.attributes[name] for name in ("created", "generated_by")}
    return SyntheticSet(images=images, labels=labels, history=history, path=path, provenance=provenance, **values)


def _read_validation(container: Container, classes: int, iterations: int) -> ValidationHistory | None:
    """The validations of the run, where it had any."""
    kept = container.attributes.get("kept_iteration", 0)
    if not 0 <= kept <= iterations:
        raise container.fail(f"attribute 'kept_iteration' should lie in 0…{iterations}")
    if not container.names("history/validation/"):
        return None
    made = ValidationHistory(*(container.array(f"history/validation/{n}") for n in ("iteration", "correct", "total")))
    points, networks, *cells = made.correct.shape
    if not (points == len(made.iteration) and points and networks and tuple(cells) == made.total.shape):
        raise container.fail("the arrays of 'history/validation' differ in length")
    if made.total.shape[0] != classes or made.total.shape[1] < 1:
        raise container.fail(f"'history/validation/total' should have {classes} rows, one for each class")
    if made.correct.min() < 0 or (made.correct > made.total).any():
        raise container.fail("'history/validation/correct' must lie between 0 and 'total'")
    if (np.diff(made.iteration) <= 0).any() or made.iteration[0] < 0 or made.iteration[-1] > iterations:
        raise container.fail(f"'history/validation/iteration' should rise within 0…{iterations}")
    return made


def _read_loss_kind(container: Container) -> str:
    """What the losses in the history are; files of version 0.1.0 don't say, and have only one kind."""
    kind = container.attributes.get("history_loss", WITH_NOISE)
    if kind not in (UNBIASED, WITH_NOISE):
        raise container.fail(f"attribute 'history_loss' should be '{UNBIASED}' or '{WITH_NOISE}'")
    return str(kind)


def _checked_shape(container: Container, images: np.ndarray) -> tuple[int, ...]:
    """The shape of a training image: that of the stored ones, unless a decoding makes others of them."""
    if container.attributes.get("decoding", PLAIN) == PLAIN:
        return images.shape[1:]
    shape = container.attributes.get("shape", [])
    if len(shape) != 3 or not all(type(size) is int and 0 < size < MOST_PIXELS for size in shape):
        raise container.fail("attribute 'shape' should be the three sizes of a training image")
    return tuple(shape)


def _check_attributes(container: Container, values: dict[str, Any]) -> None:
    """Raises UsageError for attributes out of range."""
    if not all(isinstance(name, str) for name in values["class_names"]):
        raise container.fail("attribute 'class_names' should be a list of names")
    for name in ("mean", "std"):
        if len(values[name]) != values["shape"][0] or not all(isinstance(v, float) for v in values[name]):
            raise container.fail(f"attribute '{name}' should be one number for each channel")
    if values["ipc"] < 1 or not 1 <= values["factor"] <= min(values["shape"][1:]) or values["iterations"] < 0:
        raise container.fail("'ipc', 'factor' or 'iterations' is out of range")
    if values["learning_rate"] < 0:
        raise container.fail("'learning_rate' must be a number of at least 0")


def _check_images(container: Container, images: np.ndarray, labels: np.ndarray, values: dict[str, Any]) -> None:
    """Raises UsageError where images or labels are none, or what they are decoded to would be too large."""
    if len(images) < 1 or min(images.shape) < 1 or len(labels) != len(images):
        raise container.fail(f"it has {len(images)} images and {len(labels)} labels")
    if not np.isfinite(images).all():
        raise container.fail("an image holds a value that is not finite")
    if labels.min() < 0 or labels.max() >= len(values["class_names"]):
        raise container.fail(f"'labels' must lie in 0…{len(values['class_names']) - 1}")
    if len(images) * values["factor"] ** 2 * math.prod(values["shape"]) * images.itemsize > DECODED_LIMIT:
        raise container.fail(f"its images, enlarged by 'factor', would take more than {DECODED_LIMIT:,} bytes")


def _read_groups(container: Container, images: int) -> np.ndarray:
    """The group that each of as many training `images` stands for."""
    groups, names = container.array("groups"), container.attributes.get("protected_names")
    if not names or not all(isinstance(name, str) for name in names):
        raise container.fail("attribute 'protected_names' should name the groups that 'groups' index")
    if len(groups) != images or groups.min() < 0 or groups.max() >= len(names):
        raise container.fail(f"'groups' should be {images} numbers in 0…{len(names) - 1}")
    return groups
