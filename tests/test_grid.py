"""The grid of recipes/paper/Snakefile, on the embedded sample: what fails, what is run again, what the report holds."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

PAPER = Path(__file__).parent.parent / "recipes" / "paper"
PROGRAMS = Path(sys.executable).parent
CELLS = [
    f"{dataset}/{cell}-ipc1-seed1"
    for dataset in ("c-fmnist-fg", "c-fmnist-bg")
    for cell in ("random-vanilla", "dm-vanilla", "dm-fairdd")
]
FAULTY = "c-fmnist-fg/dm-fairdd-ipc1-seed1"
JOB = re.compile(r"^(?:local)?rule (\w+):\n(?:    input: .*\n)?    output: (.*)$", re.MULTILINE)
Jobs = set[tuple[str, str]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PROGRAMS / "snakemake").exists(), reason="snakemake is not installed (extra grid)"),
]


class Grid:
    """A grid in `folder`, with small budgets; `further` options go on top of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.further: dict[str, Any] = {}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Snakemake on the cells of the grid, with its output in a pipe."""
        small = {
            "*": {
                "make-dataset": {"embedded": True, "limit": 200},
                "distill": {"network": "convnet:width=8,depth=2", "iterations": 2},
                "evaluate": {"network": "convnet:width=8,depth=2", "seeds": 1, "epochs": 1},
            }
        }
        lists = {"datasets": ["c-fmnist-fg", "c-fmnist-bg"], "methods": ["random", "dm"], "ipc": [1], "seeds": [1]}
        (self.folder / "small.yaml").write_text(yaml.safe_dump({**lists, "set": {**small, **self.further}}))
        command = [PROGRAMS / "snakemake", "-j2", "--snakefile", PAPER / "Snakefile", "--configfile", "small.yaml"]
        return subprocess.Popen(
            [*command, *words],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
                "XDG_CACHE_HOME": str(self.folder / "cache"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, fails: bool = False) -> tuple[str, Jobs]:
        """What it printed, and the jobs that it ran: their rules and outputs."""
        process = self.start(*words)
        printed, _ = process.communicate(timeout=900)
        assert (process.returncode != 0) == fails, printed
        return printed, {(rule, name.removeprefix("grid/")) for rule, name in JOB.findall(printed)}

    def done(self) -> list[str]:
        """The cells with an evaluation."""
        return sorted(str(path.relative_to(self.folder / "grid"))[:-5] for path in self.folder.glob("grid/*/*.json"))


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


def of(cell: str) -> Jobs:
    """The jobs of a cell."""
    return {("distill", f"{cell}.h5"), ("evaluate", f"{cell}.json")}


def test_a_failed_cell_stops_no_other_and_only_what_changed_is_run_again(grid: Grid) -> None:
    report = grid.folder / "grid" / "report.html"
    grid.further = {FAULTY: {"distill": {"option": {"learning": "fast"}}}}
    printed, _ = grid.run(fails=True)
    assert "did you mean 'learning_rate'?" in printed  # the log of what failed
    assert grid.done() == sorted(set(CELLS) - {FAULTY})
    assert f"5 of 6 cells are in the report\n  not: {FAULTY}\n" in printed
    assert "dm" in report.read_text()

    grid.further = {}
    before = {path: path.stat().st_mtime_ns for path in grid.folder.glob("grid/**/*.[hj]*")}
    printed, jobs = grid.run()
    assert jobs == of(FAULTY)
    assert grid.done() == sorted(CELLS)
    assert "6 of 6 cells are in the report" in printed
    assert {path for path, changed in before.items() if path.stat().st_mtime_ns != changed} == {report}

    changed, lengthened, _ = CELLS[:3]
    with (grid.folder / "grid" / f"{changed}.h5").open("ab") as file:
        file.write(b"more")
    grid.further = {
        "c-fmnist-bg": {"make-dataset": {"limit": 300}},
        lengthened: {"evaluate": {"epochs": 2}},
    }
    expected = {("dataset", "c-fmnist-bg.h5"), ("evaluate", f"{changed}.json"), ("evaluate", f"{lengthened}.json")}
    _, jobs = grid.run("--dry-run")
    assert jobs == expected.union(*(of(cell) for cell in CELLS if cell.startswith("c-fmnist-bg")))


def test_a_distillation_that_is_killed_continues_when_its_job_is_tried_again(grid: Grid) -> None:
    grid.further = {FAULTY: {"distill": {"iterations": 200, "checkpoint-every": 0}}}
    output = grid.folder / "grid" / f"{FAULTY}.h5"
    process = grid.start("--retries", "1", str(output.relative_to(grid.folder)))
    checkpoint, lock = output.with_name(f"{output.name}.checkpoint"), output.with_name(f".{output.name}.lock")
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.kill(json.loads(lock.read_text())["process"], signal.SIGKILL)
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == 0, printed
    assert "Trying to restart job" in printed
    assert "continuing after" in output.with_name(f"{output.stem}.distill.log").read_text()
    assert not checkpoint.exists()
