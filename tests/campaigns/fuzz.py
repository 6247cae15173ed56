"""Damages files of every kind at random and passes them through every command that reads them.

    python tests/campaigns/fuzz.py --count 20000 --seed 1

A command may refuse a file (exit code 2) or work with it (0). Anything else is a finding: another exit code, an
error that is not foreseen, more than 10 s of the processor, more than 1 GB, a file that is not the output. Findings
are kept in --keep with the command that shows them. Randomness is keyed: --seed S and the number of a mutant say what
it is.
"""

import argparse
import contextlib
import io
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import numpy as np
from mutants import mutate, pick

from fairdd_cli.artifacts import BiasedDataset, read_any, read_foreign
from fairdd_cli.cli import main
from fairdd_cli.errors import UsageError
from fairdd_cli.runtime import Streams

SECONDS = 10  # of the processor: what else runs on the machine must not decide
MEMORY = 2**30  # bytes above what the program itself has mapped
NETWORK = ["--network", "convnet:width=4,depth=1"]
EXPORTED = (".pt", ".npz", ".safetensors")
EVALUATION = [
    ["inspect", "FILE"],
    ["verify", "FILE", "synthetic.h5"],
    ["report", "FILE", "--against", "published", "--html", "out.html"],
    ["report", "FILE", "evaluation.json", "--format", "latex"],
]
COMMANDS: dict[str, list[list[str]]] = {  # a mutant stands for FILE, and the sound files have their own names
    "dataset.h5": [
        ["inspect", "FILE"],
        ["verify", "FILE", "synthetic.h5"],
        ["distill", "FILE", "--method", "dm", "--fair", "--ipc", "1", "--iterations", "1", *NETWORK, "-o", "out.h5"],
        ["evaluate", "FILE", "--seeds", "1", "--epochs", "1", *NETWORK, "-o", "out.json"],
        ["evaluate", "synthetic.h5", "--data", "FILE", "--seeds", "1", "--epochs", "1", "-o", "out.json"],
    ],
    "synthetic.h5": [
        ["inspect", "FILE", "--images", "out.png"],
        ["verify", "dataset.h5", "FILE"],
        ["evaluate", "FILE", "--data", "dataset.h5", "--seeds", "1", "--epochs", "1", *NETWORK, "-o", "out.json"],
    ],
    "decoded.h5": [
        ["inspect", "FILE", "--export", "out.npz"],
        ["evaluate", "FILE", "--data", "dataset.h5", "--seeds", "1", "--epochs", "1", *NETWORK, "-o", "out.json"],
    ],
    "evaluation.h5": EVALUATION,
    "evaluation.json": EVALUATION,
    **{f"set{suffix}": [["import", "FILE", "--data", "dataset.h5", "-o", "out.h5"]] for suffix in EXPORTED},
}
OUTPUTS = {"out.h5", "out.npz", "out.json", "out.png", "out.html"}


def sound_files(folder: Path) -> None:
    """Writes a sound file of each kind to `folder`."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import write_toy

    dataset = write_toy(folder / "dataset.h5", np.array([[4, 2], [2, 4]]))
    source = dataset.test.labels * 2 + np.arange(8) % 2  # as if each test image were there in both groups
    replace(dataset, test=replace(dataset.test, source=source)).save(folder / "dataset.h5", force=True)
    distill = ["distill", "dataset.h5", "--method", "dm", "--ipc", "1", "--iterations", "1", *NETWORK]
    evaluate = ["evaluate", "synthetic.h5", "--seeds", "1", "--epochs", "1"]
    decoded = [*distill, "--fair", "--match", "cells", "--decoding", "group-maps:channels=1"]
    outputs = {"synthetic.h5": distill, "decoded.h5": decoded}
    outputs |= {"evaluation.h5": evaluate, "evaluation.json": evaluate}
    commands = [[*words, "-o", name] for name, words in outputs.items()]
    commands += [["inspect", "synthetic.h5", "--export", f"set{suffix}"] for suffix in EXPORTED]
    for words in commands:
        code, said = run(words, folder, seconds=120)  # torch is imported meanwhile
        if code:
            raise RuntimeError(said)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def run(words: list[str], folder: Path, seconds: int = SECONDS) -> tuple[int, str]:
    """Runs the program in this process, in `folder`; returns its exit code and what it said."""
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)  # bytes, as a terminal or a pipe takes them
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    sys.argv = ["fairdd", *words]
    try:
        with contextlib.chdir(folder), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            main()
    except SystemExit as ended:
        return int(ended.code or 0), said.buffer.getvalue().decode(errors="replace")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def read(words: list[str], folder: Path) -> tuple[int, str]:
    """Only reads the file, the last of `words`, as the commands do; returns the exit code that they would have."""
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        if Path(words[-1]).suffix in EXPORTED:
            read_foreign(str(folder / words[-1]))
            return 0, ""
        artifact = read_any(str(folder / words[-1]))
        if isinstance(artifact, BiasedDataset):
            artifact.train.images.all()
        return 0, ""
    except UsageError as error:
        return error.exit_code, ""
    except Exception as error:
        return 1, f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@dataclass
class Report:
    """What a campaign came to."""

    files: int = 0
    runs: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0
    peak: int = 0  # bytes of resident memory


def campaign(count: int, seed: int, folder: Path, keep: Path, log: Path, readers: bool) -> Report:
    """Passes `count` mutants through the commands, or only the `readers` under them.

    A mutant that ends the process is named in `log`.
    """
    report, began = Report(), time.monotonic()
    sound_files(folder)
    originals = {name: (folder / name).read_bytes() for name in COMMANDS}
    before = {path.name for path in folder.iterdir()}
    with Path("/proc/self/statm").open() as table:
        mapped = int(table.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, resource.RLIM_INFINITY))
    for number in range(count):
        draw = Streams(seed).numpy("fuzz", number)
        kind = pick(list(COMMANDS), draw)
        mutant = folder / f"mutant{Path(kind).suffix}"
        mutant.write_bytes(originals[kind])
        what = f"mutant {number} of seed {seed}: {kind}, {mutate(mutant, draw)}"
        report.files += 1
        report.kinds[kind] += 1
        for command in [["FILE"]] if readers else COMMANDS[kind]:
            words = [mutant.name if word == "FILE" else word for word in command]
            log.write_text(f"{what}: {' '.join(words)}")
            start = time.process_time()
            code, said = (read if readers else run)(words, folder)
            report.runs += 1
            report.codes[code] += 1
            report.slowest = max(report.slowest, time.process_time() - start)
            for name in OUTPUTS:
                (folder / name).unlink(missing_ok=True)
            litter = {path.name for path in folder.iterdir()} - before - {mutant.name}
            if code not in (0, 2) or "unexpected" in said or "Traceback" in said or "\x1b" in said or litter:
                report.findings.append(f"{what}: {' '.join(words)} ended with {code}, left {litter}: {said[-300:]}")
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(mutant, keep / f"{seed}-{number}{mutant.suffix}")
            for name in litter:
                (folder / name).unlink()
        mutant.unlink()
    for name, content in originals.items():
        if (folder / name).read_bytes() != content:
            report.findings.append(f"{name} was changed")
    report.seconds = time.monotonic() - began
    report.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", action="store_true", help="leave out what the commands do with a sound file")
    parser.add_argument("--keep", type=Path, default=Path("findings"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(tempfile.gettempdir(), "fuzz.log")
        outcome = campaign(chosen.count, chosen.seed, Path(scratch), chosen.keep, log, chosen.readers)
    print(*outcome.findings, sep="\n")
    print(
        f"{outcome.files:,} files ({dict(outcome.kinds)}), {outcome.runs:,} runs, exit codes {dict(outcome.codes)}, "
        f"{len(outcome.findings)} findings; slowest {outcome.slowest:.2f} s, peak {outcome.peak / 2**20:,.0f} MiB, "
        f"{outcome.seconds:.0f} s in all"
    )
    sys.exit(bool(outcome.findings))
