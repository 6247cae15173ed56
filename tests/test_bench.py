"""The benchmark runs and says what it measured; the figures themselves are in recipes/BENCHMARKS.md."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bench as module
import pytest

BENCH = Path(__file__).parent.parent / "recipes" / "bench.py"
SMALL = {"images": 600, "width": 8, "batch-real": 20, "ipc": 2, "groups": 3, "classes": 2, "repetitions": 2}


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    setting = [f"--{name}={value}" for name, value in {**SMALL, "compile": "off"}.items()]
    command = [sys.executable, str(BENCH), *setting, *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def test_records_say_time_ratio_and_share_of_the_limit(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    done = bench("--only", "dm-fair-step", "--only", "gm-step", "--only", "inner-epoch", "--json", str(target))
    assert done.returncode == 0, done.stderr
    records = {record["piece"]: record for record in json.loads(target.read_text())}
    assert set(records) == {"dm-fair-step", "gm-step", "inner-epoch"}
    for name, record in records.items():
        assert record["seconds"] > 0
        assert record["ratio"] > 0
        assert 0 < record["limit_share"] < 1
        assert record["peak_bytes"] > 1e7
        assert f"{name} " in done.stdout


def test_a_piece_without_a_textbook_has_no_ratio(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    done = bench("--only", "mtt-fair-step", "--json", str(target))
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(target.read_text())
    assert record["seconds"] > 0
    assert record["textbook_seconds"] is None
    assert record["ratio"] is None


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
