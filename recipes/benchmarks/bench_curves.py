"""Measures how a step's time and memory grow with each side of the problem, and draws it.

    python recipes/benchmarks/bench_curves.py --json curves.json --figure curves.png

One side changes at a time; the others stay at bench.py's defaults or what is given here. The pieces of one point are
measured in turn, each in a process of its own; a figure is the median of the repetitions.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from _pieces import PIECES, Setting
from bench import started

AXES = {
    "groups": (1, 2, 4, 8, 10, 16, 32),
    "classes": (2, 5, 10, 20, 50, 100),
    "ipc": (1, 10, 50, 100),
    "images": (10_000, 100_000, 1_000_000, 10_000_000),
    "side": (32, 64, 128),
}
TITLES = {
    "groups": "Groups",
    "classes": "Classes",
    "ipc": "Images per class",
    "images": "Images in the data set",
    "side": "Image side (pixels)",
}


@dataclass(frozen=True)
class Point:
    """A piece at one value of one axis: seconds, and the most memory of its process in bytes."""

    axis: str
    value: int
    piece: str
    seconds: float
    peak_bytes: int


def measured(axis: str, value: int, pieces: list[str], base: Setting, repetitions: int) -> list[Point]:
    """The points of all `pieces` at one value."""
    setting = replace(base, **{axis: value})
    with tempfile.TemporaryDirectory() as folder:
        workers = {piece: started(piece, "ours", setting, folder) for piece in pieces}
        for _ in range(repetitions):
            for worker in workers.values():
                worker.measure()
        for worker in workers.values():
            worker.stop()
    return [
        Point(axis, value, piece, statistics.median(worker.seconds), worker.peak) for piece, worker in workers.items()
    ]


def draw(points: list[Point], path: Path) -> None:
    """Draws seconds above memory, a column for each axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    axes = list(dict.fromkeys(point.axis for point in points))
    pieces = list(dict.fromkeys(point.piece for point in points))
    figure, grid = plt.subplots(2, len(axes), figsize=(2.9 * len(axes), 5), layout="constrained", squeeze=False)
    for column, axis in enumerate(axes):
        for row, (key, scale) in enumerate((("seconds", 1.0), ("peak_bytes", 1e-9))):
            panel = grid[row, column]
            for piece, style in zip(pieces, ("o--", "s-", "^--", "v-") * len(pieces), strict=False):
                own = [point for point in points if (point.axis, point.piece) == (axis, piece)]
                values = [scale * getattr(point, key) for point in own]
                panel.plot([point.value for point in own], values, style, label=piece, markersize=4)
            panel.set(xscale="log", xlabel=TITLES[axis] if row else "")
            ticks: list[int] = []
            for value in dict.fromkeys(point.value for point in points if point.axis == axis):
                ticks += [value] if not ticks or value >= 1.5 * ticks[-1] else []
            panel.set_xticks(
                ticks, [str(value) if value < 10_000 else f"$10^{len(str(value)) - 1}$" for value in ticks]
            )
            panel.minorticks_off()
            panel.set_ylim(0, 1.1 * max(panel.get_ylim()[1], 1e-3))
            panel.grid(alpha=0.3)
    grid[0, 0].set_ylabel("Seconds a step")
    grid[1, 0].set_ylabel("Peak memory (GB)")
    grid[0, 0].legend(fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measures what was chosen and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = [name for names in PIECES.values() for name in names if name.endswith("-step")]
    parser.add_argument("--axis", action="append", choices=list(AXES), help="only this one")
    parser.add_argument("--piece", action="append", choices=steps, help="instead of dm-step and dm-fair-step")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the points there")
    parser.add_argument("--figure", metavar="FILE", type=Path, help="draw them there")
    parser.add_argument("--repetitions", type=int, default=5)
    for item in fields(Setting):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=type(item.default), default=item.default)
    given = parser.parse_args()
    base = Setting(**{item.name: getattr(given, item.name) for item in fields(Setting)})
    pieces = given.piece or ["dm-step", "dm-fair-step"]
    print(base)
    print(f"{'':<9}{'':>11}" + "".join(f"{piece:>24}" for piece in pieces))
    points: list[Point] = []
    for axis in given.axis or AXES:
        for value in AXES[axis]:
            found = measured(axis, value, pieces, base, given.repetitions)
            cells = "".join(f"{point.seconds:>13.3f} s{point.peak_bytes / 1e6:>6,.0f} MB" for point in found)
            print(f"{axis:<9}{value:>11,}{cells}", flush=True)
            points += found
    if given.json:
        given.json.write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n", encoding="utf-8")
    if given.figure:
        draw(points, given.figure)


if __name__ == "__main__":
    main()
