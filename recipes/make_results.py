"""Makes the tables of RESULTS.md and of the README from the evaluations in recipes/paper/results.

    python recipes/make_results.py --collect paper=campaign-paper ours=campaign-ours   # takes what a grid has made
    python recipes/make_results.py                                                     # rewrites the tables
    python recipes/make_results.py --check    # names the documents that differ, and exits with 1; a test runs this

A row's file is SETTING.DATASET.METHOD-FAIRNESS-ipcN-seedN.json, as `fairdd evaluate` wrote it. `seconds.csv` beside
them says how long its distillation took, which the evaluation does not know.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from make_tables import fill, table

from fairdd_cli.artifacts import Evaluation, read_evaluation, read_synthetic
from fairdd_cli.reporting.published import published_values

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "recipes" / "paper" / "results"
SECONDS = RESULTS / "seconds.csv"
DOCUMENTS = [ROOT / "README.md", ROOT / "recipes" / "paper" / "RESULTS.md", ROOT / "recipes" / "best" / "README.md"]
DATASETS = ("c-mnist-fg", "c-mnist-bg", "c-fmnist-fg", "c-fmnist-bg", "cifar10-s", "utkface")
PAPER = "fairdd-neurips2025-tables-1-2"
SCORES = ("accuracy", "deo_max", "deo_mean")
COLUMNS: Mapping[str, tuple[str, str]] = {  # of the headline: setting and cell
    "vanilla": ("paper", "dm-vanilla-ipc10-seed0"),
    "FairDD": ("paper", "dm-fairdd-ipc10-seed0"),
    "`--fair`": ("ours", "dm-fairdd-ipc10-seed0"),
    "best": ("best", "dm-fairdd-ipc10-seed0"),
}


def evaluations() -> dict[str, Evaluation]:
    """Every evaluation there is, by the name of its file without the ending."""
    return {path.stem: read_evaluation(str(path)) for path in sorted(RESULTS.glob("*.json"))}


def seconds() -> dict[str, float]:
    """How long each distillation took."""
    with SECONDS.open(encoding="utf-8") as lines:
        return {line["name"]: float(line["distill"]) for line in csv.DictReader(lines)}


def collect(setting: str, folder: Path) -> None:
    """Takes the finished cells in `folder` of a grid as those of `setting`."""
    known = seconds() if SECONDS.exists() else {}
    for path in sorted(folder.glob("*/*.json")):
        evaluation = read_evaluation(str(path))
        name = f"{setting}.{path.parent.name}.{path.stem}"
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_bytes(path.read_bytes())
        if evaluation.method != "whole":
            history = read_synthetic(str(path.with_suffix(".h5"))).history.seconds
            known[name] = float(history[-1]) if len(history) else 0.0
    lines = [f"{name},{known[name]:.0f}\n" for name in sorted(known)]
    SECONDS.write_text("name,distill\n" + "".join(lines), encoding="utf-8")


def headline() -> str:
    """A line for each data set with a row: the scores of dm at IPC 10 in each setting, and FairDD's published ones."""
    found, published = evaluations(), published_values()
    rows = []
    for name in DATASETS:
        (paper,) = (each for each in published[name, 10, "dm", "fairdd", "convnet"] if each.source == PAPER)
        cells = [_scores(found.get(f"{setting}.{name}.{cell}")) for setting, cell in COLUMNS.values()]
        if set(cells) == {"-"}:
            continue
        rows.append((name, *cells, "/".join(f"{paper.metrics[score][0]:.1f}" for score in SCORES)))
    return table(("accuracy/DEO_M/DEO_A", *COLUMNS, "published"), rows)


def _scores(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "-"
    (metrics,) = evaluation.metrics().values()
    return "/".join(f"{metrics[name]['mean']:.1f}" for name in SCORES)


def costs() -> str:
    """A line for each file: what it took, and on what."""
    rows, taken = [], seconds()
    for name, evaluation in evaluations().items():
        facts = evaluation.environment
        words = [f"{evaluation.iterations:,}"] if evaluation.iterations else ["-"]
        rows.append(
            (
                f"[{name}](results/{name}.json)",
                *words,
                f"{taken[name] / 60:.1f}" if taken.get(name) else "-",
                f"{evaluation.options['seeds']} x {evaluation.protocol['epochs']:,}",
                f"{evaluation.seconds / 60:.1f}",
                f"{evaluation.peak_memory / 1e6:,.0f}",
                f"{facts['precision']}, {facts['threads']} thread{'s' if facts['threads'] > 1 else ''}",
            )
        )
    heads = ("file", "iterations", "distill, min", "networks x epochs", "evaluate, min", "evaluate, MB", "computed in")
    return table(heads, rows)


def comparison() -> str:
    """What `report` prints of all of them."""
    files = [f"recipes/paper/results/{path.name}" for path in sorted(RESULTS.glob("*.json"))]
    words = ["report", *files, "--against", "published", "--format", "markdown", "--quiet"]
    program = [sys.executable, "-m", "fairdd_cli", *words]
    return subprocess.run(program, cwd=ROOT, check=True, capture_output=True, text=True).stdout


TABLES: Mapping[str, Callable[[], str]] = {"headline": headline, "costs": costs, "comparison": comparison}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", nargs="+", default=[], metavar="SETTING=FOLDER", help="take a grid's cells first")
    parser.add_argument("--check", action="store_true", help="name the documents that differ, and change nothing")
    arguments = parser.parse_args()
    for each in arguments.collect:
        setting, _, folder = each.partition("=")
        collect(setting, Path(folder))
    return fill(DOCUMENTS, TABLES, arguments.check)


if __name__ == "__main__":
    sys.exit(main())
