"""Measures what waiting threads cost: dm steps on two threads under each waiting policy of OpenMP.

    python recipes/benchmarks/bench_busy.py [--rounds 3] [--spin 300000 --spin 1000 …]

Each round runs every policy once on a quiet machine and once with a competitor on every core, in turn, so that a
change of the machine's load meets all of them. `SMALL` has many short parallel regions, `WIDE` few long ones. A time is
that of the steps alone, from the history of the synthetic set. Ratios are to libgomp's own spin count (300000).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from fairdd_cli.artifacts import read_synthetic

COMMON = ["distill", "data.h5", "--method", "dm", "--fair", "--compile", "off", "--force", "--quiet", "-o", "out.h5"]
RUNS = {
    "small": ["--ipc", "1", "--batch-real", "16", "--network", "convnet:width=16", "--iterations", "100"],
    "wide": ["--ipc", "10", "--batch-real", "64", "--network", "convnet:width=128", "--iterations", "4"],
}
LIBGOMP = 300_000  # its spin count where nothing is set


def seconds(run: str, policy: str, folder: str, threads: int) -> float:
    """Seconds of the steps of `RUNS[run]` after the first one."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment |= {"OMP_WAIT_POLICY": "passive"} if policy == "passive" else {"GOMP_SPINCOUNT": policy}
    command = [sys.executable, "-m", "fairdd_cli", *COMMON, *RUNS[run]]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    history = read_synthetic(str(Path(folder) / "out.h5")).history
    return float(history.seconds[-1] - history.seconds[0])


def main() -> None:
    """Prints the median seconds of every policy and their median ratios to libgomp's own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spin", action="append", help="a spin count, or passive; repeatable")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--run", action="append", choices=[*RUNS])
    parser.add_argument("--load", action="append", choices=["quiet", "busy"])
    options = parser.parse_args()
    policies = [str(LIBGOMP), *(options.spin or ("100000", "10000", "1000", "0", "passive"))]
    times: dict[tuple[str, str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make = ["make-dataset", "c-fmnist-fg", "--embedded", "--limit", "2000", "-o", "data.h5", "--quiet"]
        subprocess.run([sys.executable, "-m", "fairdd_cli", *make], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for _, run, load in product(range(options.rounds), options.run or RUNS, options.load or ("quiet", "busy")):
            spin = [sys.executable, "-c", "while True: pass"]
            competitors = [subprocess.Popen(spin) for _ in range(options.threads if load == "busy" else 0)]
            try:
                for policy in policies:
                    found = seconds(run, policy, folder, options.threads)
                    times.setdefault((run, load, policy), []).append(found)
            finally:
                for competitor in competitors:
                    competitor.kill()
                    competitor.wait()
    for (run, load, policy), measured in times.items():
        base = times[run, load, str(LIBGOMP)]
        ratio = statistics.median(own / other for own, other in zip(measured, base, strict=True))
        listed = ", ".join(f"{value:.2f}" for value in measured)
        print(f"{run:6} {load:6} {policy:>8} {statistics.median(measured):7.2f} s {ratio:6.2f}  ({listed})")


if __name__ == "__main__":
    main()
