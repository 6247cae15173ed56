"""A package that adds to fairdd through entry points, installed as pip would leave it."""

import os
import shutil
import tomllib
from pathlib import Path

import h5py
from conftest import Fairdd

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


def test_another_package_adds_a_method_a_strategy_a_data_set_and_a_network(fairdd: Fairdd, tmp_path: Path) -> None:
    assert len((EXAMPLE / "fairdd_example.py").read_text().splitlines()) < 40
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
