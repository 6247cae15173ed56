"""The benchmarks run and say what they measured; the figures themselves are in recipes/BENCHMARKS.md."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import resolved, write_toy
from torch.utils.flop_counter import FlopCounterMode

import fairdd_cli
from fairdd_cli.distill import start_run
from fairdd_cli.runtime import NullProgress, open_runtime

BENCHMARKS = Path(__file__).parents[1] / "recipes" / "benchmarks"
SMALL = {"images": 600, "width": 8, "batch-real": 20, "ipc": 2, "groups": 3, "classes": 2, "compile": "off"}


def run(script: str, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, cwd=cwd)


def small(**changes: object) -> list[str]:
    return [f"--{name}={value}" for name, value in {**SMALL, **changes}.items()]


@pytest.mark.slow
def test_records_say_time_ratio_and_share_of_the_limit(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    pieces = ("dm-fair-step", "inner-epoch", "mtt-fair-step")
    done = run("bench.py", *small(repetitions=2), *(f"--only={name}" for name in pieces), "--json", target)
    assert done.returncode == 0, done.stderr
    records = {record["piece"]: record for record in json.loads(target.read_text())}
    assert set(records) == set(pieces)
    for name, record in records.items():
        assert record["seconds"] > 0
        assert 0 < record["limit_share"] < 1
        assert record["peak_bytes"] > 1e7
        assert f"{name} " in done.stdout
        compared = name != "mtt-fair-step"  # which has no reference implementation
        assert (record["reference_seconds"] is not None) == compared
        assert (record["ratio"] is not None) == compared


def test_an_unknown_piece_is_refused() -> None:
    done = run("bench.py", "--only", "nothing")
    assert done.returncode == 2
    assert "dm-fair-step" in done.stderr


@pytest.mark.parametrize("method", ["dm", "gm"])
def test_matching_groups_costs_no_second_pass_over_the_images(tmp_path: Path, method: str) -> None:
    """A fair and a vanilla step do the same floating-point operations, as torch counts them."""
    dataset = write_toy(tmp_path / "toy.h5", np.full((2, 3), 20), side=32)
    counts = {}
    for fairness in ("vanilla", "fairdd"):
        options = {"outer_loop": "1", "inner_loop": "1"} if method == "gm" else {}
        config = resolved(
            method, fairness=fairness, sampling="balanced", batch_real=30, ipc=2, iterations=1, options=options
        )
        begun = start_run(config, dataset, open_runtime("cpu", compiles="off"), NullProgress())
        config.algorithm.prepare(begun)
        with FlopCounterMode(display=False) as counter:
            config.algorithm.step(begun, 0)
        counts[fairness] = counter.get_total_flops()
    assert counts["vanilla"] > 1e6
    assert counts["fairdd"] == pytest.approx(counts["vanilla"], rel=0.01)  # cosines: a product more for each target


@pytest.mark.slow
def test_a_curve_has_a_point_for_each_piece_and_a_figure(tmp_path: Path) -> None:
    words = ["--axis", "side", "--piece", "dm-step", "--json", "points.json", "--figure", "curves.png"]
    done = run("bench_curves.py", *small(repetitions=1), *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    points = json.loads((tmp_path / "points.json").read_text())
    assert [(point["axis"], point["value"], point["piece"]) for point in points] == [
        ("side", side, "dm-step") for side in (32, 64, 128)
    ]
    assert all(point["seconds"] > 0 and point["peak_bytes"] > 1e7 for point in points)
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.slow
def test_settings_are_compared_on_held_out_training_images(tmp_path: Path) -> None:
    root = Path(fairdd_cli.__file__).parent / "datasets" / "sample"
    words = ["--root", root, "--folder", tmp_path, "--held-out", "--setting", "balanced, 10"]
    done = run("time_to_fairness.py", *words, "--iterations", 1, "--seeds", 1, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "balanced, 10" in done.stdout
    assert "proportional, 256, 1 iterations, reached by proportional, 256" in done.stdout
    (evaluation, _) = sorted(tmp_path.glob("*.json"))
    (table,) = json.loads(evaluation.read_text())["confusion"].values()
    assert np.sum(table) == 1000  # a sixth of the 6,000 training images
