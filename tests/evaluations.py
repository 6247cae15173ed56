"""Evaluations made up for the tests of reports: cheap, and with what they should show known in advance."""

from pathlib import Path
from typing import Any

import numpy as np

from fairdd_cli.artifacts import Evaluation, History, SyntheticSet, write_evaluation
from fairdd_cli.metrics import summarise
from fairdd_cli.runtime import Streams


def confusion(recall: np.ndarray, seeds: int = 3, images: int = 50, seed: int = 0) -> np.ndarray:
    """Counts [seeds, classes, groups, classes] of `images` a cell, drawn with `recall` [classes, groups]."""
    classes = len(recall)
    chances = np.repeat(((1 - recall) / (classes - 1))[..., None], classes, axis=-1)
    for label in range(classes):
        chances[label, :, label] = recall[label]
    generator = Streams(seed).numpy("evaluations")
    return generator.multinomial(images, chances, size=(seeds, *recall.shape))


def evaluation(recall: float | np.ndarray = 0.6, network: str = "convnet", **given: Any) -> Evaluation:
    """An evaluation of three classes and two groups unless `recall` [classes, groups] says otherwise."""
    table = np.full((3, 2), recall) if isinstance(recall, float) else recall
    counts = confusion(table, **{key: given.pop(key) for key in ("seeds", "images") if key in given})
    values: dict[str, Any] = {
        "confusion": {network: counts},
        "dataset": "toy",
        "method": "dm",
        "fairness": "vanilla",
        "sampling": "proportional",
        "ipc": 10,
        "iterations": 100,
        "class_names": tuple(f"class {i}" for i in range(table.shape[0])),
        "protected_names": tuple(f"group {i}" for i in range(table.shape[1])),
        "dataset_digest": "sha256:" + "d" * 64,
        "synthetic_digest": "sha256:" + "5" * 64,
        "protocol": {"epochs": 300, "learning_rate": 0.01, "batch": 256, "augmentation": ""},
        "seconds": 12.0,
        "peak_memory": 2**28,
        "options": {"networks": [network], "distill": {"method": "dm", "init": "real", "hyper": {"momentum": 0.5}}},
        "seed": 0,
    }
    return Evaluation(**{**values, **given})


def write(path: Path, **given: Any) -> str:
    """Writes an `evaluation` to `path` and returns it as the command line takes it."""
    made = evaluation(**given)
    write_evaluation(str(path), made, {name: summarise(table) for name, table in made.confusion.items()})
    return str(path)


FAIR = {"recall": 0.8, "fairness": "fairdd", "sampling": "balanced"}
UNFAIR = {"recall": np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.5]])}


def pair(folder: Path, **given: Any) -> list[str]:
    """A vanilla and a fair evaluation of one setting; the fair one is better in every way."""
    return [write(folder / "vanilla.json", **UNFAIR, **given), write(folder / "fair.json", **FAIR, **given)]


def synthetic(fairness: str = "vanilla", classes: int = 3, ipc: int = 12, channels: int = 3) -> SyntheticSet:
    """A synthetic set of noise with a falling loss."""
    steps = np.arange(200)
    generator = Streams(1).numpy("synthetic")
    return SyntheticSet(
        images=generator.normal(size=(classes * ipc, channels, 8, 8)).astype(np.float32),
        labels=np.repeat(np.arange(classes), ipc),
        history=History(steps * 5, np.exp(-steps / 100) * (1 + 0.1 * generator.random(200)), steps * 0.1),
        method="dm",
        fairness=fairness,
        sampling="proportional",
        ipc=ipc,
        iterations=1000,
        network="convnet",
        factor=1,
        learning_rate=0.0,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        class_names=tuple(f"class {i}" for i in range(classes)),
        evaluation={},
        dataset="toy",
        dataset_path="",
        dataset_digest="",
        options={},
        seed=0,
    )
