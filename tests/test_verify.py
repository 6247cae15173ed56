"""What verify says of files: how they are named, and whether their metrics are those of their counts."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Fairdd
from evaluations import write

from fairdd_cli.artifacts import read_dataset, write_experts
from fairdd_cli.verify import verify


def test_verify_names_whole_files_in_a_pipe_and_knows_experts(fairdd: Fairdd, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "data.h5").write_bytes(sample.read_bytes())
    # pytest's processes, or the line editor in them, say how wide their own terminal is
    alone = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    origin = {"dataset": "toy", "dataset_digest": read_dataset(str(sample)).digest, "network": "mlp"}
    name = f"{'a-long-name-' * 8}.h5"
    write_experts(str(tmp_path / name), origin, 0, 1, (1, 2, 5), [np.ones((1, 2, 5), np.float32)])
    lines = fairdd("verify", "data.h5", name, env=alone).stdout.splitlines()
    (line,) = (line for line in lines if name in line)
    assert line.split()[1] == "experts"
    assert line.split()[-2:] == ["data.h5", "sound"]


def test_verify_takes_metrics_of_other_versions(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "e.json"))
    content = json.loads(path.read_text())
    metrics = content["metrics"]["convnet"]
    del metrics["deo_max"]
    metrics["metric_of_a_newer_version"] = {"mean": 1.0}
    metrics["accuracy"]["median"] = 1.0
    path.write_text(json.dumps(content))
    assert [finding.problem for finding in verify([str(path)])] == [""]


@pytest.mark.parametrize("value", [[1, 2], "60", None, {"a": 1}])
def test_verify_refuses_metrics_of_another_form(tmp_path: Path, value: object) -> None:
    path = Path(write(tmp_path / "e.json"))
    content = json.loads(path.read_text())
    content["metrics"]["convnet"]["accuracy"]["mean"] = value
    path.write_text(json.dumps(content))
    assert [finding.problem for finding in verify([str(path)])] == [
        "its metrics of 'convnet' are not those of its counts"
    ]


def test_verify_counts_the_metrics_again(fairdd: Fairdd, tmp_path: Path) -> None:
    write(tmp_path / "e.json")
    assert "sound" in fairdd("verify", "e.json").stdout
    content = json.loads((tmp_path / "e.json").read_text())
    for change in (51.0, None, [1.0]):
        content["metrics"]["convnet"]["accuracy"]["mean"] = change
        (tmp_path / "e.json").write_text(json.dumps(content))
        done = fairdd("verify", "e.json", check=False)
        assert done.returncode == 2
        assert done.stderr == "fairdd: 1 of 1 files failed: its metrics of 'convnet' are not those of its counts\n"
