"""The benchmark runs and says what it measured; the figures themselves are in recipes/BENCHMARKS.md."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bench as module
import bench_curves
import numpy as np
import pytest
import time_to_fairness

import fairdd_cli
from fairdd_cli.datasets._idx import FASHION, load_grey

BENCH = Path(__file__).parent.parent / "recipes" / "benchmarks" / "bench.py"
SMALL = {"images": 600, "width": 8, "batch-real": 20, "ipc": 2, "groups": 3, "classes": 2, "repetitions": 2}


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    setting = [f"--{name}={value}" for name, value in {**SMALL, "compile": "off"}.items()]
    command = [sys.executable, str(BENCH), *setting, *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_records_say_time_ratio_and_share_of_the_limit(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    done = bench(
        *(f"--only={name}" for name in ("dm-fair-step", "inner-epoch", "mtt-fair-step")), "--json", str(target)
    )
    assert done.returncode == 0, done.stderr
    records = {record["piece"]: record for record in json.loads(target.read_text())}
    assert set(records) == {"dm-fair-step", "inner-epoch", "mtt-fair-step"}
    for name, record in records.items():
        assert record["seconds"] > 0
        assert 0 < record["limit_share"] < 1
        assert record["peak_bytes"] > 1e7
        assert f"{name} " in done.stdout
        textbook = name != "mtt-fair-step"  # whose step is tested otherwise
        assert (record["textbook_seconds"] is not None) == textbook
        assert (record["ratio"] is not None) == textbook


def test_an_unknown_piece_is_refused() -> None:
    done = bench("--only", "nothing")
    assert done.returncode == 2
    assert "dm-fair-step" in done.stderr


def test_matching_groups_costs_no_second_look_at_the_images() -> None:
    """A fair and a vanilla step do the same operations, as torch counts them."""
    setting = replace(
        module.Setting(), **{name.replace("-", "_"): value for name, value in SMALL.items() if name != "repetitions"}
    )
    for method in ("dm", "gm"):
        plain, fair = (module.operations(f"{method}-{kind}step", setting) for kind in ("", "fair-"))
        assert plain > 1e6
        assert fair == pytest.approx(plain, rel=0.01)  # gm's cosines are one product more for each target


@pytest.mark.slow
def test_a_curve_has_a_point_for_each_piece_and_a_picture(tmp_path: Path) -> None:
    setting = module.Setting(images=600, width=8, batch_real=20, ipc=2, classes=2, compile="off")
    points = bench_curves.measured("groups", 3, ["dm-step", "dm-fair-step"], setting, 1)
    assert [(point.axis, point.value, point.piece) for point in points] == [
        ("groups", 3, "dm-step"),
        ("groups", 3, "dm-fair-step"),
    ]
    assert all(point.seconds > 0 and point.peak_bytes > 1e7 for point in points)
    if importlib.util.find_spec("matplotlib"):
        bench_curves.draw(points, tmp_path / "curves.png")
        assert (tmp_path / "curves.png").stat().st_size > 1000


def test_what_is_held_out_are_training_images(tmp_path: Path) -> None:
    folder = Path(fairdd_cli.__file__).parent / "datasets" / "sample"
    time_to_fairness.hold_out(folder, tmp_path)
    whole = load_grey(FASHION, folder, download=False, embedded=False)["train"]
    parts = load_grey(FASHION, tmp_path, download=False, embedded=False)
    assert len(parts["test"].labels) == 1000
    for kind in ("images", "labels"):
        joined = np.concatenate([getattr(parts[split], kind) for split in ("train", "test")])
        assert np.array_equal(joined, getattr(whole, kind))


def test_a_goal_is_reached_where_accuracy_and_fairness_both_are() -> None:
    def point(seconds: float, accuracy: float, deo_mean: float) -> time_to_fairness.Point:
        return time_to_fairness.Point("balanced, 20", 10, seconds, accuracy, deo_mean, 50.0)

    goal = point(100.0, 70.0, 20.0)
    points = [point(1.0, 71.0, 30.0), point(2.0, 60.0, 10.0), point(3.0, 70.0, 20.0), point(4.0, 80.0, 10.0)]
    assert time_to_fairness.reached(points, goal) == points[2]
    assert time_to_fairness.reached(points[:2], goal) is None
