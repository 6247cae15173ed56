"""What the tests share: small data sets written as files, and the installed program."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import PROGRAM, TIMEOUT, Forked

from fairdd_cli.artifacts import (
    ArrayChunks,
    BiasedDataset,
    MemoryImages,
    Split,
    majority_share,
    read_dataset,
    write_dataset,
)
from fairdd_cli.config import DistillConfig
from fairdd_cli.distill import ResolvedConfig, resolve_config
from fairdd_cli.runtime import Streams

# Many small matrices: threads cost more than they bring, and processes of the tests would fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def write_toy(
    path: Path, cells: np.ndarray, side: int = 8, channels: int = 3, seed: int = 0, val: int = 0
) -> BiasedDataset:
    """A data set at `path` with `cells` [classes, groups] training images, drawn at random but told apart by cell.

    With `val` validation images of each cell, if any.
    """
    classes, groups = cells.shape
    generator = Streams(seed).numpy("toy")
    splits, blocks = {}, {}
    counts = {"train": cells, "test": np.full_like(cells, 2), **({"val": np.full_like(cells, val)} if val else {})}
    for name, count in counts.items():
        labels = np.repeat(np.repeat(np.arange(classes), groups), count.ravel())
        protected = np.repeat(np.tile(np.arange(groups), classes), count.ravel())
        images = generator.integers(0, 256, (len(labels), channels, side, side), dtype=np.uint8)
        images[np.arange(len(labels)), labels % channels, protected % side] = 255
        splits[name] = Split.sorted_by_cell(MemoryImages(images), labels, protected, classes, groups)
        blocks[name] = ArrayChunks(images.shape, "uint8", [images])
    dataset = BiasedDataset(
        name="toy",
        class_names=tuple(f"class {i}" for i in range(classes)),
        protected_names=tuple(f"group {i}" for i in range(groups)),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        bias_ratio=majority_share(cells),
        train=splits["train"],
        test=splits["test"],
        val=splits.get("val"),
        options={},
        seed=seed,
    )
    write_dataset(str(path), dataset, blocks)
    return read_dataset(str(path))


@pytest.fixture
def toy(tmp_path: Path) -> BiasedDataset:
    """Three classes and four groups, with an absent cell and a cell of one image."""
    return write_toy(tmp_path / "toy.h5", np.array([[9, 3, 0, 2], [2, 9, 1, 3], [4, 3, 2, 9]]))


def resolved(method: str, *, network: object = "convnet", options: Mapping[str, str], **words: Any) -> ResolvedConfig:
    """The resolved configuration of `fairdd distill` with these `options` of the `method` and further `words`."""
    config = DistillConfig(data="data.h5", method=method, network=str(network), hyper=dict(options), **words)
    return resolve_config(config)


def pytest_configure() -> None:
    """Lets the programs that tests start see no GPU: what they do is compared with a CPU, digit by digit.

    The tests that are marked `gpu` have it in this process. Signals that are ignored here, as in what a script starts
    in the background, would be ignored there, too: the programs are to be interrupted.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if torch.cuda.is_available():
        torch.cuda.init()
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slow tests first: whoever has none left takes quick ones, and no core waits for the last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


Fairdd = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def forked() -> Iterator[Forked]:
    """Where commands are run."""
    server = Forked()
    yield server
    server.close()


@pytest.fixture
def fairdd(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, forked: Forked) -> Fairdd:
    """Runs the installed `fairdd` with some words in `tmp_path`; with `options` of `subprocess.run`, from its start."""
    spool = tmp_path_factory.mktemp("printed")

    def run(*words: object, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        command = [*map(str, words)]
        if options:
            given = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": TIMEOUT, **options}
            done = subprocess.run([str(PROGRAM), *command], check=False, **given)
        else:
            done = forked.run(command, tmp_path, spool)
        if check and done.returncode:
            pytest.fail(f"fairdd {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        return done

    return run


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded sample as a data set file, cut to 1,000 training images."""
    path = tmp_path_factory.mktemp("sample") / "data.h5"
    program = Path(sys.executable).with_name("fairdd")
    words = ["make-dataset", "c-fmnist-fg", "--embedded", "--limit", "1000", "-o", str(path)]
    subprocess.run([str(program), *words], check=True, capture_output=True)
    return path


@pytest.fixture
def data(sample: Path, tmp_path: Path) -> Path:
    """The sample as `data.h5` in the working folder."""
    path = tmp_path / "data.h5"
    path.write_bytes(sample.read_bytes())
    return path
