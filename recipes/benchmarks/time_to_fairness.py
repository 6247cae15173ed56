"""Measures how soon each way of sampling real images reaches an accuracy and a fairness: the paper's, and balanced.

    python recipes/benchmarks/time_to_fairness.py --root FOLDER-OF-FASHION-MNIST --folder runs/time --figure curve.png
    python recipes/benchmarks/time_to_fairness.py --root FOLDER-OF-FASHION-MNIST --folder runs/held-out --held-out

Fair dm on colour-biased Fashion-MNIST, width 32, IPC 10. Each number of iterations is a run of its own, whose seconds
are those that it took after loading; the draws of an iteration don't depend on how many follow. The target is where the
paper's setting ends; a setting has reached it at the first point that is as good in accuracy and in DEO_A. With
`--held-out` the last sixth of the training images (10,000) takes the place of the test images: that is how the default
number of real images in a balanced batch was chosen. The same command again continues with what is missing.
"""

import argparse
import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fairdd_cli.artifacts import read_synthetic

PAPER = "proportional, 256"
SETTINGS = {
    PAPER: ["--sampling", "proportional", "--batch-real", "256", "--init", "real"],
    **{f"balanced, {count}": ["--batch-real", str(count)] for count in (10, 20, 40, 80)},
}
HELD_OUT = 1 / 6  # of the training images
METHOD = ["--method", "dm", "--fair", "--ipc", "10", "--network", "convnet:width=32"]


@dataclass(frozen=True)
class Point:
    """What a setting has reached after some iterations, in percent."""

    setting: str
    iterations: int
    seconds: float
    accuracy: float
    deo_mean: float
    deo_max: float


def hold_out(root: Path, folder: Path) -> None:
    """Writes Fashion-MNIST's files to `folder`, its last training images as the test images."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, header, size in (("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1)):
        content = gzip.decompress(next(root.rglob(f"train-{kind}-ubyte.gz")).read_bytes())
        values, count = content[header:], (len(content) - header) // size
        cut = count - round(HELD_OUT * count)
        for name, part in (("train", values[: cut * size]), ("t10k", values[cut * size :])):
            start = content[:4] + (len(part) // size).to_bytes(4, "big") + content[8:header]
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(start + part, 1))


def fairdd(*words: object) -> None:
    """Runs a command of fairdd, which says what it does."""
    subprocess.run([sys.executable, "-m", "fairdd_cli", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def measured(setting: str, iterations: int, folder: Path, seeds: int, epochs: int) -> Point:
    """Distils and evaluates, unless that was done."""
    name = f"{setting.replace(', ', '-')}-{iterations}"
    synthetic, evaluation = folder / f"{name}.h5", folder / f"{name}.json"
    if not synthetic.exists():
        words = [*METHOD, *SETTINGS[setting], "--iterations", iterations, "-o", synthetic]
        fairdd("distill", folder / "data.h5", *words)
    if not evaluation.exists():
        fairdd("evaluate", synthetic, "--seeds", seeds, "--epochs", epochs, "-o", evaluation)
    ((_, metrics),) = json.loads(evaluation.read_text(encoding="utf-8"))["metrics"].items()
    found = [metrics[key]["mean"] for key in ("accuracy", "deo_mean", "deo_max")]
    return Point(setting, iterations, read_synthetic(str(synthetic)).history.seconds[-1], *found)


def reached(points: list[Point], goal: Point) -> Point | None:
    """The first of `points` that is as good as the `goal`."""
    good = [point for point in points if point.accuracy >= goal.accuracy and point.deo_mean <= goal.deo_mean]
    return min(good, key=lambda point: point.seconds, default=None)


def draw(points: list[Point], path: Path) -> None:
    """Draws accuracy and DEO_A over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, title in zip(axes, ("accuracy", "deo_mean"), ("Accuracy (%)", "DEO_A (%)"), strict=True):
        for setting in dict.fromkeys(point.setting for point in points):
            own = [point for point in points if point.setting == setting]
            axis.plot([point.seconds for point in own], [getattr(point, key) for point in own], "o-", label=setting)
        axis.set(xscale="log", xlabel="Seconds of distilling", ylabel=title)
        axis.grid(alpha=0.3)
    axes[1].legend(title="Real images a class")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measures what was chosen and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of Fashion-MNIST's files")
    parser.add_argument("--folder", type=Path, default=Path("runs/time"), help="where the runs are kept")
    parser.add_argument("--held-out", action="store_true", help="judge by training images that are held out")
    parser.add_argument("--setting", action="append", choices=list(SETTINGS), help="this one and the paper's only")
    parser.add_argument("--iterations", type=int, nargs="+", default=[10, 30, 100, 300, 1000])
    parser.add_argument("--seeds", type=int, default=3, help="of the evaluation")
    parser.add_argument("--epochs", type=int, default=200, help="of the evaluation")
    parser.add_argument("--figure", type=Path, help="draw the curves there")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    root = given.root
    if given.held_out:
        root = given.folder / "held-out"
        hold_out(given.root, root)
    if not (given.folder / "data.h5").exists():
        fairdd("make-dataset", "c-fmnist-fg", "--root", root, "-o", given.folder / "data.h5")
    settings = [name for name in SETTINGS if name == PAPER or name in (given.setting or SETTINGS)]
    points = [
        measured(setting, iterations, given.folder, given.seeds, given.epochs)
        for setting in settings
        for iterations in given.iterations
    ]
    print(f"{'real images a class':<20}{'iterations':>11}{'seconds':>9}{'accuracy':>10}{'DEO_M':>7}{'DEO_A':>7}")
    for point in points:
        numbers = f"{point.accuracy:>10.1f}{point.deo_max:>7.1f}{point.deo_mean:>7.1f}"
        print(f"{point.setting:<20}{point.iterations:>11,}{point.seconds:>9.1f}{numbers}")
    goal = next(point for point in reversed(points) if point.setting == PAPER)
    for setting in settings:
        there = reached([point for point in points if point.setting == setting], goal)
        said = f"{there.seconds:.1f} s, {goal.seconds / there.seconds:.1f} times as soon" if there else "not reached"
        print(f"{PAPER}, {goal.iterations:,} iterations, reached by {setting}: {said}")
    if given.figure:
        draw(points, given.figure)


if __name__ == "__main__":
    main()
