"""Injects faults of the machine into every command, and lets the same command end what it began.

    python tests/campaigns/faults.py --count 200 --seed 0

A fault is one of: a disk that is full after some bytes, one call of the system that fails, a kill at one call, a file
system that lacks flushes, modes, locks and swaps. Outputs have odd names. A command that is met by a fault must
end in one line; given again without it, in the digest of a command that was left alone, with nothing beside it. Needs
a C compiler. Randomness is keyed: --seed S and the number of an injection say what it was.
"""

import argparse
import ctypes
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from kill import RUNS, SERVER, distillation

from fairdd_cli.artifacts import read_any
from fairdd_cli.cli import main
from fairdd_cli.runtime import Streams

SOURCE = Path(__file__).with_name("faults.c")
NETWORK = ["--network", "mlp"]
EVALUATE = ["evaluate", "synthetic.h5", "--seeds", 2, "--epochs", 2, "--checkpoint-every", 0, *NETWORK, "-o"]
# Each command, with what its outputs are called after an odd name.
COMMANDS: dict[str, tuple[list[object], list[str]]] = {
    "make-dataset": (
        ["make-dataset", "c-fmnist-fg", "--embedded", "--limit", 60, "--test-per-cell", 1, "-o"],
        [".h5"],
    ),
    "distill": ([*distillation("gm"), "--checkpoint-every", 0, "-o"], [".h5"]),
    "distill with experts": ([*distillation("mtt"), "--checkpoint-every", 0, "-o"], [".h5"]),
    "distill with trained networks and group maps": (
        [*RUNS["decoded"], "--iterations", 12, "--checkpoint-every", 0, "-o"],
        [".h5"],
    ),
    "distill frequencies": ([*distillation("gm"), "--decoding", "frequency", "--checkpoint-every", 0, "-o"], [".h5"]),
    "evaluate": (EVALUATE, [".json"]),
    "evaluate to HDF5": (EVALUATE, [".h5"]),
    "report": (["report", "evaluation.json", "--plot", "PLOT", "--html"], [".html", ".png"]),
    "export to a folder": (["inspect", "synthetic.h5", "--images", "PLOT", "--export"], ["", ".png"]),
    "export over a folder": (["inspect", "synthetic.h5", "--force", "--images", "PLOT", "--export"], ["", ".png"]),
    "import": (["import", "synthetic.npz", "--data", "toy.h5", "-o"], [".h5"]),
    "export to a file": (["inspect", "synthetic.h5", "--export"], [".npz"]),
}
TRAINED = ("toy.experts-fairdd.h5", "toy.networks-balanced.h5")  # which commands make beside their output, once
NAMES = ["out", "lr0.1", "a b", "naïve", "日本" * 20, "x" * 245, "line\nbreak", "no\u00a0break", "[a]*"]
FAULTS = ("full", "fail", "kill", "lack")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Fault:
    """What goes wrong: the `at`th call with error `number` (0: a kill), beyond `room` bytes, what is `lacking`."""

    kind: str = "none"
    at: int = 0
    number: int = 0
    room: int = -1
    lacking: int = 0


def program(words: list[str], folder: str, fault: Fault) -> None:
    """What a process does: `fairdd` with `words` in `folder` under a `fault`; counts its calls in the file `said`."""
    os.chdir(folder)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["fairdd", *words]
    shim = ctypes.CDLL(None)
    shim.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_long, ctypes.c_int]
    shim.faults_arm(os.fsencode(folder), fault.at, fault.number, fault.room, fault.lacking)
    try:
        main()
    finally:
        calls = shim.faults_disarm()
        Path("said.calls").write_text(str(calls))


def run(words: list[object], folder: Path, fault: Fault) -> int:
    """Runs the program to its end; returns its exit code."""
    process = SERVER.Process(target=program, args=(list(map(str, words)), str(folder), fault))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        raise RuntimeError(f"{words} takes more than two minutes under {fault}")
    return process.exitcode


def spelled(command: str, name: str, folder: Path) -> tuple[list[object], list[Path]]:
    """The words of a command whose outputs begin with `name`, and these outputs."""
    words, suffixes = COMMANDS[command]
    outputs = [folder / f"{name}{suffix}" for suffix in suffixes]
    first = outputs[0].name if suffixes[0] else f"{outputs[0].name}/"  # for what looks like a suffix, too
    return [*(outputs[1].name if word == "PLOT" else word for word in words), first], outputs


def digest(output: Path) -> str:
    """What two outputs of one command have in common; '' where there is none."""
    if output.suffix in (".h5", ".json") and output.exists():
        return read_any(str(output)).digest
    files = sorted(path for path in (output, *output.rglob("*")) if path.is_file())
    sha = hashlib.sha256()
    for path in files:
        sha.update(f"{path.relative_to(output)}".encode() + path.read_bytes())
    return sha.hexdigest() if files else ""


@dataclass
class Undisturbed:
    """A command that was left alone: its outputs' digests, its calls, and the bytes that it wrote."""

    digests: list[str]
    calls: int
    size: int


def inputs(folder: Path) -> None:
    """Makes the small files that the commands read."""
    from conftest import write_toy

    write_toy(folder / "toy.h5", np.array([[9, 3, 0, 2], [2, 9, 1, 3], [4, 3, 2, 9]]))
    for words in (
        ["distill", "toy.h5", "--method", "random", "--ipc", 2, "-o", "synthetic.h5"],
        [*EVALUATE, "evaluation.json"],
        ["inspect", "synthetic.h5", "--export", "synthetic.npz"],
    ):
        if run(words, folder, Fault()):
            raise RuntimeError((folder / "said").read_text())


def left_alone(command: str, folder: Path) -> Undisturbed:
    """Runs the command without a fault, and removes what it made."""
    words, outputs = spelled(command, "alone", folder)
    if run(words, folder, Fault()):
        raise RuntimeError((folder / "said").read_text())
    size = sum(path.stat().st_size for output in outputs for path in (output, *output.rglob("*")) if path.is_file())
    found = Undisturbed([digest(output) for output in outputs], int((folder / "said.calls").read_text()), size)
    clear(folder, outputs)
    return found


def clear(folder: Path, outputs: list[Path]) -> None:
    for output in (*outputs, *(folder / name for name in TRAINED)):
        shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)


def drawn(kind: str, alone: Undisturbed, draw: np.random.Generator) -> Fault:
    """A fault of this kind that meets the command."""
    at = int(draw.integers(1, alone.calls + 1))
    if kind == "full":
        return Fault(kind, number=errno.ENOSPC, room=int(draw.integers(alone.size)))
    if kind == "fail":
        return Fault(kind, at, int(draw.choice(ERRORS)))
    if kind == "kill":
        return Fault(kind, at)
    return Fault(kind, lacking=int(draw.choice([errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])))


@dataclass
class Report:
    """What a campaign came to."""

    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def error_lines(said: str, name: str) -> list[str]:
    """The lines of the error at the end of what a command `said`, not those that tell of its work; `name` is one word.

    On a slow machine there are more of the latter: estimates of the time that is left.
    """
    lines = said.replace(name, "NAME").strip().splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("fairdd: ")]
    return lines[starts[0] :] if starts else lines


def injection(command: str, fault: Fault, name: str, alone: Undisturbed, folder: Path, report: Report) -> None:
    """Runs the command under the fault, then again, and reports what is not as it should be."""
    words, outputs = spelled(command, name, folder)
    if command == "export over a folder":  # something older is there, which must not be lost before the new is whole
        run([*words[:2], "--quiet", "--export", words[-1]], folder, Fault())
        os.truncate(next(outputs[0].glob("*/*.png")), 1)
    before = {path.name for path in folder.iterdir()} | {"said", "said.calls", *TRAINED}
    code = run(words, folder, fault)
    said = (folder / "said").read_text(errors="replace")
    report.faults[fault.kind] += 1
    report.codes[code] += 1

    def finding(words: str) -> None:
        report.findings.append(f"{command} to {name!r} under {fault}: {words}\n{said[-600:]}")

    if code not in ((0, 1, -signal.SIGKILL) if fault.kind == "kill" else (0, 1)):
        finding(f"ended with {code}")
    if "Traceback" in said or "unexpected" in said or "Exception ignored" in said:
        finding("no line")
    if code == 1 and len(error_lines(said, name)) > 2:
        finding("many lines")
    if fault.kind == "lack" and code:
        finding("failed for a feature that it can do without")
    allowed = before | {output.name for output in outputs}
    if code or {path.name for path in folder.iterdir()} - allowed:  # such as a lock that could not be removed
        again = run(words, folder, Fault())
        said = (folder / "said").read_text(errors="replace")
        if again:
            finding(f"given again, it ended with {again}")
    if [digest(output) for output in outputs] != alone.digests:
        finding("other content")
    left = {path.name for path in folder.iterdir()} - allowed
    if left:
        finding(f"left {sorted(left)}")
    clear(folder, [*outputs, *(folder / each for each in left)])


def campaign(count: int, seed: int, folder: Path) -> Report:
    """`count` injections, over every command and kind of fault in turn."""
    library = folder / "faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    os.environ["LD_PRELOAD"] = str(library)
    work = folder / "work"
    work.mkdir()
    inputs(work)
    alone = {command: left_alone(command, work) for command in COMMANDS}
    report = Report()
    pairs = [(command, kind) for kind in FAULTS for command in COMMANDS]
    for number in range(count):
        draw = Streams(seed).numpy("faults", number)
        command, kind = pairs[number % len(pairs)]
        fault = drawn(kind, alone[command], draw)
        injection(command, fault, NAMES[draw.integers(len(NAMES))], alone[command], work, report)
    return report


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = campaign(chosen.count, chosen.seed, Path(scratch))
    print(*outcome.findings, sep="\n")
    print(
        f"{sum(outcome.faults.values())} faults ({dict(outcome.faults)}) in {len(COMMANDS)} commands, exit codes "
        f"{dict(outcome.codes)}, {len(outcome.findings)} findings; {time.monotonic() - began:.0f} s"
    )
    sys.exit(bool(outcome.findings))
