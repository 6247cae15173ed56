"""Measures one job on one and on two processes of one thread each, and simulates more.

    python recipes/benchmarks/bench_processes.py

Each process gets a core of its own; dm and gm are FairDD's on the embedded sample (ConvNet width 128, IPC 10, 256 real
images a class), fair. From the two times of a step and the bytes that are all-reduced in it follow the part of a step
that is sharded and the part that every process repeats. The simulation divides the first by the share of the largest
process (classes, then images of a class), keeps the second, and adds a ring's sum: 2 (n - 1) / n of the bytes at
25 GB/s a process, and 5 us for each of its 2 (n - 1) steps.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from fairdd_cli.artifacts import read_synthetic

COMMON = ["data.h5", "--fair", "--ipc", "10", "--sampling", "proportional", "--batch-real", "256", "--init", "real"]
RUNS = {
    "dm": ["--method", "dm", "--iterations", "8"],
    "gm": ["--method", "gm", "--iterations", "3", "-O", "outer_loop=2", "-O", "inner_loop=10"],
}
BANDWIDTH, LATENCY = 25e9, 5e-6  # bytes a second and process; seconds a message
CLASSES, IMAGES = 10, 256


def run(name: str, count: int, folder: str) -> tuple[float, float]:
    """(seconds of a step, bytes summed in it) of `RUNS[name]` in `count` processes."""
    words = [
        "-m",
        "fairdd_cli",
        "distill",
        *COMMON,
        *RUNS[name],
        "-o",
        "out.h5",
        "--force",
        "--verbose",
        "--compile=off",
    ]
    if count > 1:
        words = ["-m", "torch.distributed.run", f"--nproc-per-node={count}", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], check=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    seconds = read_synthetic(str(Path(folder, "out.h5"))).history.seconds
    said = re.search(r"each all-reduced ([\d,]+) bytes", done.stderr)
    steps = [later - sooner for sooner, later in pairwise(seconds)]  # the first warms up
    return statistics.median(steps), float(said[1].replace(",", "")) if said else 0.0


def simulated(shared: float, repeated: float, size: float, count: int) -> float:
    """Seconds of a step in `count` processes."""
    largest = -(-CLASSES // count) / CLASSES if count <= CLASSES else 1 / CLASSES / max(1, count // CLASSES)
    ring = 0 if count == 1 else 2 * (count - 1) / count * size / BANDWIDTH + 2 * (count - 1) * LATENCY
    return shared * largest + repeated + ring


def main() -> None:
    """Measures, and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--faster", type=float, default=100.0, help="how much faster a GPU is than a core: assumed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make = [sys.executable, "-m", "fairdd_cli", "make-dataset", "c-fmnist-fg", "--embedded", "-o", "data.h5"]
        subprocess.run(make, check=True, cwd=folder, capture_output=True)
        found = {}
        for name in RUNS:
            pairs = [(run(name, 1, folder), run(name, 2, folder)) for _ in range(given.repetitions)]
            one, two = (statistics.median(pair[which][0] for pair in pairs) for which in (0, 1))
            size = pairs[0][1][1]
            ratios = sorted(pair[0][0] / pair[1][0] for pair in pairs)
            repeated = max(0.0, 2 * two - one)
            found[name] = one - repeated, repeated, size
            speedup = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"{name}: {one:.2f} s a step alone, {two:.2f} s in two processes: speed-up {speedup}")
            print(
                f"    {size / 1e6:.1f} MB summed a step; {100 * repeated / one:.0f} % of a step is repeated", flush=True
            )
        counts = [1, 2, 4, 8, 10, 16, 32, 64, 128, 256]
        print("simulated speed-up of " + " ".join(f"{count:>6}" for count in counts))
        for name, (shared, repeated, size) in found.items():
            for words, scale in (("cores", 1.0), ("GPUs", given.faster)):
                alone = simulated(shared / scale, repeated / scale, size, 1)
                times = [alone / simulated(shared / scale, repeated / scale, size, count) for count in counts]
                print(f"    {name}, {words:<12}" + "  " + " ".join(f"{ratio:>6.1f}" for ratio in times))


if __name__ == "__main__":
    main()
