"""Files that version 0.1.0 wrote are read, checked and used as then; `v0_1_0/README.md` tells how they were made."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Fairdd

from fairdd_cli.artifacts import read_evaluation

OLD = Path(__file__).parent / "v0_1_0"
SYNTHETIC = ("dm", "gm", "mtt")
FILES = ("data.h5", *(f"{name}.h5" for name in SYNTHETIC), "experts.h5", "evaluation.json", "evaluation.h5")
HERE = ["--device", "cpu", "--compile", "off"]
COMMON = ["--fair", "--ipc", 1, "--network", "convnet:width=4,depth=2", *HERE]  # of dm and mtt
DM = ["distill", "data.h5", "--method", "dm", "--iterations", 60, *COMMON]
# The options of README.md under the names of today: `expert_epochs` was the training of an expert, now `train_epochs`.
TEACHERS = ["-O", "num_experts=1", "-O", "train_epochs=3", "-O", "lr_teacher=0.05"]
UNROLLING = ["-O", "max_start_epoch=2", "-O", "expert_epochs=1", "-O", "syn_steps=4"]
LEARNED = ["-O", "lr_init=0.02", "-O", "lr_lr=1e-5"]
MTT = ["distill", "data.h5", "--method", "mtt", "--iterations", 4, *COMMON, *TEACHERS, *UNROLLING, *LEARNED]
# Mean and standard deviation over the seeds, as version 0.1.0 reported them.
REPORTED = {
    "evaluation.json": {
        "accuracy": (55, 5),
        "deo_max": (40, 20),
        "deo_mean": (30, 10),
        "worst_group_accuracy": (13.333333, 11.547005),
        "group_accuracy_gap": (23.333333, 20.816660),
        "balanced_accuracy": (55, 5),
        "demographic_parity_difference": (16.666667, 5.773503),
    },
    "evaluation.h5": {
        "accuracy": (68.333333, 2.886751),
        "deo_max": (26.666667, 23.094011),
        "deo_mean": (16.666667, 15.275252),
        "worst_group_accuracy": (40, 20),
        "group_accuracy_gap": (16.666667, 15.275252),
        "balanced_accuracy": (68.333333, 2.886751),
        "demographic_parity_difference": (10, 10),
    },
}


@pytest.fixture(autouse=True)
def old_files(tmp_path: Path) -> None:
    """Copies of the old files, but for the checkpoint, in the folder that commands run in."""
    for name in FILES:
        shutil.copy(OLD / name, tmp_path)


def images(path: Path) -> np.ndarray:
    """The stored images of a synthetic set, whoever wrote it."""
    with h5py.File(path) as file:
        return np.asarray(file["images"][:])


def learned_rate(path: Path) -> float:
    """The learning rate in a synthetic set, 0 where none was learned."""
    with h5py.File(path) as file:
        return float(file.attrs["learning_rate"])


def digest(path: Path) -> str:
    """The digest that a file states."""
    if path.suffix == ".json":
        return str(json.loads(path.read_text())["digest"])
    with h5py.File(path) as file:
        return str(file.attrs["digest"])


@pytest.mark.parametrize("name", FILES)
def test_inspect_describes_an_old_file(fairdd: Fairdd, name: str) -> None:
    shown = fairdd("inspect", name, env={**os.environ, "COLUMNS": "200"}).stdout
    assert digest(OLD / name) in shown
    assert "convnet:width=4,depth=2" in shown or name == "data.h5"


def test_verify_finds_old_files_sound_and_made_from_each_other(fairdd: Fairdd) -> None:
    lines = fairdd("verify", *FILES, env={**os.environ, "COLUMNS": "200"}).stdout.splitlines()
    origins = {"gm.h5": "data.h5", "mtt.h5": "data.h5", "experts.h5": "data.h5", "evaluation.h5": "gm.h5"}
    for name in FILES:
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert line.split()[-1] == "sound"
        assert origins.get(name, "") in line


@pytest.mark.parametrize("name", SYNTHETIC)
def test_networks_are_trained_on_an_old_synthetic_set(fairdd: Fairdd, tmp_path: Path, name: str) -> None:
    words = ["--data", "data.h5", "--seeds", 1, "--epochs", 1, *HERE, "-o", "new.json"]
    fairdd("evaluate", f"{name}.h5", *words)
    evaluation = read_evaluation(str(tmp_path / "new.json"))
    assert evaluation.confusion["convnet:width=4,depth=2"].sum() == 20
    assert evaluation.synthetic_digest == digest(OLD / f"{name}.h5")
    expected = learned_rate(OLD / f"{name}.h5") or 0.01
    assert evaluation.protocol["learning_rate"] == expected
    assert (name == "mtt") == (expected != 0.01)


def test_old_evaluations_are_reported_with_the_same_values(fairdd: Fairdd) -> None:
    rows = json.loads(fairdd("report", *REPORTED, "--format", "json").stdout)
    assert [(row["method"], row["fairness"]) for row in rows] == [("dm", "fairdd"), ("gm", "vanilla")]
    for row, (name, metrics) in zip(rows, REPORTED.items(), strict=True):
        assert row["files"] == [name]
        for metric, (mean, std) in metrics.items():
            assert row["metrics"][metric]["mean"] == pytest.approx(mean, abs=1e-5)
            assert row["metrics"][metric]["std"] == pytest.approx(std, abs=1e-5)


def test_old_and_new_evaluations_of_one_set_are_one_row(fairdd: Fairdd) -> None:
    fairdd("evaluate", "dm.h5", "--data", "data.h5", "--seeds", 2, "--epochs", 20, "--seed", 7, *HERE, "-o", "new.json")
    (row,) = json.loads(fairdd("report", "evaluation.json", "new.json", "--format", "json").stdout)
    assert row["files"] == ["evaluation.json", "new.json"]
    assert row["seeds"] == 5


def test_old_experts_are_matched_to_again(fairdd: Fairdd, tmp_path: Path) -> None:
    fairdd(*MTT, "--experts", "experts.h5", "-o", "new.h5")
    assert (tmp_path / "experts.h5").read_bytes() == (OLD / "experts.h5").read_bytes()
    np.testing.assert_allclose(images(tmp_path / "new.h5"), images(OLD / "mtt.h5"), rtol=1e-3, atol=1e-3)
    assert learned_rate(tmp_path / "new.h5") == pytest.approx(learned_rate(OLD / "mtt.h5"), rel=1e-3)


def test_an_old_checkpoint_is_continued_to_the_same_images(fairdd: Fairdd, tmp_path: Path) -> None:
    shutil.copy(OLD / "interrupted.h5.checkpoint", tmp_path)
    said = fairdd(*DM, "-o", "interrupted.h5").stderr
    assert "continuing after 20 steps" in said
    assert not (tmp_path / "interrupted.h5.checkpoint").exists()
    fairdd(*DM, "-o", "whole.h5")
    then = images(OLD / "dm.h5")  # by the same command, without an interruption
    whole = images(tmp_path / "whole.h5")
    # Another processor or another torch may round otherwise. Where this one does not, every bit must be the same.
    rounding = 0 if np.array_equal(whole, then) else 1e-3
    np.testing.assert_allclose(whole, then, rtol=0, atol=1e-3)
    np.testing.assert_allclose(images(tmp_path / "interrupted.h5"), then, rtol=0, atol=rounding)


def test_an_old_evaluation_is_continued_to_the_same_counts(fairdd: Fairdd, tmp_path: Path) -> None:
    shutil.copy(OLD / "interrupted.json.checkpoint", tmp_path)
    command = ["evaluate", "dm.h5", "--data", "data.h5", "--seeds", 3, "--epochs", 20, *HERE]
    said = fairdd(*command, "-o", "interrupted.json").stderr
    assert "continuing after 1 steps" in said
    assert not (tmp_path / "interrupted.json.checkpoint").exists()
    fairdd(*command, "-o", "whole.json")
    then, whole, continued = (
        read_evaluation(str(folder / f"{name}.json")).confusion["convnet:width=4,depth=2"]
        for folder, name in ((OLD, "evaluation"), (tmp_path, "whole"), (tmp_path, "interrupted"))
    )
    # The first seed's counts are those of then, the others' those of this machine, which may round otherwise.
    np.testing.assert_array_equal(continued, np.concatenate([then[:1], whole[1:]]))
