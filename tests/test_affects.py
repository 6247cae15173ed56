"""What options say of themselves is true: who affects the result stands in the run's fingerprint and in its file."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_toy
from image_trees import flat, table

from fairdd_cli.config import EvaluateConfig, ImportConfig, MakeDatasetConfig, options, record
from fairdd_cli.distill import distill
from fairdd_cli.evaluate import open_inputs, prepare_input, run_evaluation, run_fingerprint
from fairdd_cli.import_set import import_set
from fairdd_cli.make_dataset import make_dataset
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import NullProgress, open_runtime

NETWORK = "convnet:width=4,depth=1"
# Another value than the default, or than EVALUATE's, for each option of a command.
EVALUATE = {"seeds": 1, "epochs": 2, "device": "cpu"}
OTHER_EVALUATE: dict[str, Any] = {
    "synthetic": "copy.h5",
    "data": "other.h5",
    "split": "val",
    "network": ("mlp",),
    "sampling": "balanced",
    "seeds": 2,
    "protocol": "gm",
    "epochs": 3,
    "learning_rate": 0.5,
    "batch": 3,
    "augmentation": "flip",
    "output": "other.json",
    "seed": 1,
    "residency": "disk",
    "device": "cuda",
    "precision": "bf16",
    "deterministic": True,
    "compile": "off",
    "checkpoint_every": 1,
    "restart": True,
    "recipe": "paper",
    "force": True,
    "quiet": True,
    "verbose": True,
}
FOLDER = {
    "root": Path("photos"),
    "csv": (Path("table.csv"),),
    "target": "smile",
    "protected": ("gender",),
    "name": "mine",
}
OTHER_FOLDER: dict[str, Any] = {
    "root": Path(),
    "csv": (Path("copy.csv"),),
    "path": "file",
    "target": "smile=yes,no",
    "protected": ("age<40",),
    "split": "0.4",
    "group_by": "person",
    "join": ("more.csv:id=person",),
    "holdout": "1",
    "name": "other",
    "size": 16,
    "no_crop": True,
    "test_per_cell": 1,
    "limit": 8,
    "workers": 2,
    "skip_unreadable": True,
    "seed": 1,
    "quiet": True,
}
COLOURED = {"embedded": True, "limit": 100}
OTHER_COLOURED: dict[str, Any] = {"bias_ratio": 0.95, "test_groups": "all", "test_per_cell": 1, "limit": 200, "seed": 1}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set and a synthetic set, each also in a second file."""
    monkeypatch.chdir(tmp_path)
    dataset = write_toy(tmp_path / "toy.h5", np.array([[9, 3], [2, 9]]), val=2)
    distill(dataset, method="random", ipc=1, network=NETWORK, device="cpu").save("s.h5")
    (tmp_path / "copy.h5").write_bytes((tmp_path / "s.h5").read_bytes())
    (tmp_path / "other.h5").write_bytes((tmp_path / "toy.h5").read_bytes())
    return tmp_path


def evaluated(config: EvaluateConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fingerprint of a run and the record in its file, as far as `config` and its inputs decide them."""
    runtime = open_runtime("cpu", config.precision, config.deterministic, config.compile)
    trained_on, dataset = open_inputs(config.synthetic, config.data)
    chosen = prepare_input(config, trained_on, dataset, runtime)
    networks = [parse_network(text) for text in config.network or (chosen.network,)]
    shown = runtime if config.device == "cpu" else replace(runtime, device=torch.device(config.device))
    fingerprint = run_fingerprint(chosen, dataset, networks, config.seeds, shown)
    made = run_evaluation(
        chosen, dataset, networks, config.seeds, config.seed, runtime, NullProgress(), config.residency
    )
    return fingerprint, {name: getattr(made, name) for name in ("protocol", "options", "sampling", "seed")}


@pytest.mark.parametrize("name", options(EvaluateConfig))
def test_what_an_evaluation_depends_on_is_in_its_fingerprint_and_file(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairdd_cli.runtime.device.use_deterministic_algorithms", lambda: None)  # for the other tests
    synthetic = "toy.h5" if name == "sampling" else "s.h5"  # which is an option of whole data sets
    config = EvaluateConfig(synthetic=synthetic, **EVALUATE)
    other = replace(config, **{name: OTHER_EVALUATE[name]})
    (fingerprint, found), (other_fingerprint, other_found) = evaluated(config), evaluated(other)
    affects = options(EvaluateConfig)[name].affects
    # The seed stands in a file and in a checkpoint beside these.
    assert (fingerprint != other_fingerprint) == (affects in ("result", "digits"))
    assert (found != other_found) == (affects in ("result", "seed"))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of images and its table, which also lies there a second time."""
    monkeypatch.chdir(tmp_path)
    cells = 10 * [*product(("no", "yes"), ("female", "male"))]
    rows = [[f"photos/i{number}.png", *cell, 20 + number, f"p{number}"] for number, cell in enumerate(cells)]
    for number, row in enumerate(rows):
        flat(tmp_path / str(row[0]), number)
    for name in ("table.csv", "copy.csv"):
        table(tmp_path / name, [["file", "smile", "gender", "age", "person"], *rows])
    table(tmp_path / "more.csv", [["id", "more"], *([row[4], 1] for row in rows)])


def check_dataset(dataset: str, given: dict[str, Any], name: str, value: object) -> None:
    """Checks one option of a data set: whether its file says something else for another `value`."""
    found, other = (make_dataset(dataset, **options) for options in (given, {**given, name: value}))
    of_file = ({"name": each.name, "seed": each.seed, **each.options} for each in (found, other))
    affects = options(MakeDatasetConfig)[name].affects != "nothing"
    assert (next(of_file) != next(of_file)) == affects


@pytest.mark.parametrize("name", OTHER_FOLDER)
@pytest.mark.usefixtures("photos")
def test_what_a_data_set_of_ones_own_depends_on_is_in_its_file(name: str) -> None:
    check_dataset("folder", FOLDER, name, OTHER_FOLDER[name])


@pytest.mark.parametrize("name", OTHER_COLOURED)
def test_what_a_coloured_data_set_depends_on_is_in_its_file(name: str) -> None:
    check_dataset("c-fmnist-fg", COLOURED, name, OTHER_COLOURED[name])


def test_an_imported_set_has_every_option_that_affects_it(folder: Path) -> None:
    np.savez("theirs.npz", images=np.zeros((2, 3, 8, 8), np.float32), labels=np.arange(2))
    config = ImportConfig(file="theirs.npz", data="toy.h5")
    stored = import_set("theirs.npz", "toy.h5").options["import"]
    assert stored == {"file": "theirs.npz", **record(ImportConfig, config)}


def test_every_option_of_data_sets_that_affects_them_is_checked_above() -> None:
    matter = {name for name, entry in options(MakeDatasetConfig).items() if entry.affects != "nothing"}
    assert matter - {*OTHER_FOLDER, *OTHER_COLOURED} == {"dataset", "severity"}  # the latter is of cifar10-s alone
