"""Measures make-dataset: a full Fashion-MNIST, and folders of JPEGs with one and several workers.

    python recipes/benchmarks/bench_data.py --fashion /usr/share/datasets/fashion-mnist

Takes about five minutes and 1 GB of temporary disk on 2 cores. Rates are medians over interleaved repetitions, since
other work may share the machine; memory is the largest sum, over fairdd and its workers, of resident pages. Linux only.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (178, 218)
PAGE = 4096  # bytes
POLL = 0.05  # seconds


def make_folder(root: Path, count: int) -> Path:
    """`count` JPEGs of the size and weight of CelebA's in root/photos; returns the CSV that describes them."""
    (root / "photos").mkdir(parents=True)
    rng = np.random.default_rng(0)
    texture = rng.normal(0, 6, (SIZE[1], SIZE[0], 3))
    with (root / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "kind", "group"])
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (7, 6, 3), np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
            pixels = np.clip(coarse + np.roll(texture, number, axis=0), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / f"{number:06d}.jpg", quality=85)
            kind = number % 2
            rows.writerow([f"{number:06d}.jpg", "ab"[kind], "xy"[kind if number % 10 < 8 else 1 - kind]])
    return root / "labels.csv"


@dataclass(frozen=True)
class Run:
    """What a command cost: seconds on the clock, seconds of processor over all its processes, bytes at the peak."""

    seconds: float
    processor: float
    peak: int


def resident(process: int, parent: bytes = b"") -> int:
    """Bytes resident in a process and all below it."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        below = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # it has ended meanwhile
        return 0
    if command == parent:  # about to become another program, it still shows its parent's pages
        return 0
    return pages * PAGE + sum(resident(int(child), command) for child in below)


def measured(*arguments: str) -> Run:
    """What `fairdd make-dataset` costs with these arguments."""
    command = [sys.executable, "-m", "fairdd_cli", "make-dataset", *arguments, "--quiet", "--force"]
    start, peak, ended = time.perf_counter(), 0, 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not ended:
        peak = max(peak, resident(process.pid))
        time.sleep(POLL)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return Run(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, peak)


def fashion(root: Path, output: str, repeats: int) -> None:
    """The whole of Fashion-MNIST, coloured."""
    runs = [measured("c-fmnist-fg", "--root", str(root), "-o", output) for _ in range(repeats)]
    seconds, processor = (statistics.median(getattr(run, what) for run in runs) for what in ("seconds", "processor"))
    peak = max(run.peak for run in runs)
    print(f"c-fmnist-fg: {seconds:.1f} s ({processor:.1f} s of processor), peak {peak / 1e6:,.0f} MB")


def folders(scratch: Path, output: str, counts: tuple[int, int], workers: tuple[int, int], repeats: int) -> None:
    """Two folders of JPEGs, each with two numbers of workers; what is independent of their size cancels out."""
    tables = {count: make_folder(scratch / str(count), count) for count in counts}
    runs: dict[tuple[int, int], list[Run]] = {(count, number): [] for number in workers for count in counts}
    for repeat in range(repeats):
        for (count, number), done in runs.items():
            table = str(tables[count])
            where = ("--root", str(scratch / str(count) / "photos"), "--csv", table, "-o", output)
            done.append(
                measured("folder", *where, "--target", "kind", "--protected", "group", "--workers", str(number))
            )
            print(f"  run {repeat + 1}: {count:,} images, {number} workers: {done[-1].seconds:.1f} s")
    rates = {
        (number, what): [
            (counts[1] - counts[0]) / (getattr(large, what) - getattr(small, what))
            for small, large in zip(*(runs[count, number] for count in counts), strict=True)
        ]
        for number in workers
        for what in ("seconds", "processor")
    }
    for number in workers:
        clock, processor = (statistics.median(rates[number, what]) for what in ("seconds", "processor"))
        print(f"{number} workers: {clock:,.0f} images/s, {processor:,.0f} images per second of processor")
    ratios = [several / one for one, several in zip(*(rates[number, "seconds"] for number in workers), strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f}, of {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    for number in workers:
        small, large = (max(run.peak for run in runs[count, number]) / 1e6 for count in counts)
        print(f"{number} workers: peak {small:,.0f} MB with {counts[0]:,} images, {large:,.0f} MB with {counts[1]:,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, help="folder with the IDX files of Fashion-MNIST")
    parser.add_argument("--images", type=int, default=20_000, help="JPEGs in the larger folder")
    parser.add_argument("--workers", type=int, default=2, help="processes compared with one")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        output = f"{scratch}/data.h5"
        if options.fashion:
            fashion(options.fashion, output, options.repeats)
        counts = (options.images // 10, options.images)
        folders(Path(scratch), output, counts, (1, options.workers), options.repeats)


if __name__ == "__main__":
    main()
