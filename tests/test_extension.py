"""A package that adds to fairdd through entry points, installed as pip would leave it."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import h5py
import pytest
from conftest import Fairdd

import fairdd_cli

EXAMPLE = Path(__file__).parent.parent / "recipes" / "extension"


def installed(folder: Path) -> dict[str, str]:
    """Puts the example and its metadata into `folder`, and the environment that finds it there."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    information = folder / "fairdd_example-1.dist-info"
    information.mkdir(parents=True)
    shutil.copy(EXAMPLE / "fairdd_example.py", folder)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: fairdd-example\nVersion: 1\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def test_another_package_adds_one_of_each_kind_in_one_file(fairdd: Fairdd, tmp_path: Path) -> None:
    assert len((EXAMPLE / "fairdd_example.py").read_text().splitlines()) < 50
    environment = installed(tmp_path / "site")
    fairdd("make-dataset", "stripes", "-o", "data.h5", env=environment)
    chosen = ["--method", "dm-pretrained", "--fairness", "rarest", "--network", "linear", "--ipc", 1]
    done = fairdd("distill", "data.h5", *chosen, "--iterations", 2, env=environment)
    assert done.stdout == "data.dm-pretrained-rarest-ipc1.h5\n"
    with h5py.File(tmp_path / "data.dm-pretrained-rarest-ipc1.h5") as file:
        assert (file.attrs["method"], file.attrs["fairness"], file.attrs["network"]) == (
            "dm-pretrained", "rarest", "linear",
        )  # fmt: skip
        assert '"warmup_epochs": 2' in file.attrs["options"]
    assert "rarest" in fairdd("distill", "--help", env=environment).stdout
    short = ["--network", "linear", "--seeds", 1, "--epochs", 1, "-o", "e.json"]
    fairdd("evaluate", "data.dm-pretrained-rarest-ipc1.h5", *short, env=environment)
    done = fairdd("report", "e.json", "--metric", "error", "--format", "json", env=environment)
    (row,) = json.loads(done.stdout)
    assert row["method"] == "dm-pretrained"
    metrics = row["metrics"]
    assert metrics["error_rate"]["mean"] == pytest.approx(100 - metrics["accuracy"]["mean"])
    listed = json.loads(fairdd("list", "--format", "json", env=environment).stdout)
    for kind, name in {
        "methods": "dm-pretrained", "strategies": "rarest", "datasets": "stripes", "networks": "linear",
        "metrics": "error_rate",
    }.items():  # fmt: skip
        assert name in listed[kind], "every kind is listed"


def test_a_file_on_a_shelf_is_all_that_its_entry_needs(tmp_path: Path) -> None:
    package = Path(fairdd_cli.__file__).parent
    shutil.copytree(package, tmp_path / "fairdd_cli", ignore=shutil.ignore_patterns("__pycache__", "sample"))
    shelves = {"methods": "dm", "fairness": "inverse", "datasets": "utkface", "networks": "mlp"}
    for shelf, model in shelves.items():
        shutil.copy(package / shelf / f"{model}.py", tmp_path / "fairdd_cli" / shelf / "new_one.py")

    def printed(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
        command = [sys.executable, "-m", "fairdd_cli", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = json.loads(printed("list", "--format", "json"))
    assert all("new-one" in listed[kind] for kind in ("methods", "strategies", "datasets", "networks"))
    assert "|new-one|" in printed("distill", "--help")
    assert json.loads(printed("list", "methods", "new-one", "--format", "json"))["hyper_parameters"]


def test_without_it_its_names_are_unknown(fairdd: Fairdd, sample: Path) -> None:
    done = fairdd("distill", sample, "--method", "dm", "--fairness", "rarest", "--ipc", 1, check=False)
    assert done.returncode == 2
    assert "unknown fairness strategy 'rarest'" in done.stderr


def test_a_package_without_what_its_entry_promises_is_named(fairdd: Fairdd, sample: Path, tmp_path: Path) -> None:
    environment = installed(tmp_path / "site")
    module = tmp_path / "site" / "fairdd_example.py"
    module.write_text(module.read_text().replace("strategy = ", "stratagem = "))
    words = ["distill", sample, "--method", "dm", "--fairness", "rarest", "--ipc", 1]
    done = fairdd(*words, check=False, env=environment)
    assert done.returncode == 2
    assert "'rarest' cannot be loaded from 'fairdd_example', which has no 'strategy'" in done.stderr
