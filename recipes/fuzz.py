"""Damages files of every kind at random and passes them through every command that reads them.

    python recipes/fuzz.py --count 20000 --seed 1

A command may refuse a file (exit code 2) or work with it (0). Anything else is a finding: another exit code, an
error that is not foreseen, more than 10 s, more than 1 GB, a file that is not the output. Findings are kept in
--keep with the command that shows them. Randomness is keyed: --seed S and the number of a mutant say what it is.
"""

import argparse
import contextlib
import io
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import numpy as np

from fairdd_cli.artifacts._hdf5 import array_entry, content_digest
from fairdd_cli.cli import main
from fairdd_cli.runtime import Streams

SECONDS = 10
MEMORY = 2**30  # bytes above what the program itself has mapped
NETWORK = ["--network", "convnet:width=4,depth=1"]
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
    "evaluation.h5": [["inspect", "FILE"], ["verify", "FILE", "synthetic.h5"]],
    "evaluation.json": [["inspect", "FILE"], ["verify", "FILE", "synthetic.h5"]],
}
OUTPUTS = {"out.h5", "out.json", "out.png"}
ODD: list[Any] = [
    *(-1, 0, 2**31, 2**62, -(2**63), 1e308, -0.0, float("nan"), float("inf"), True),
    *("", "\x1b[31mred", "[bold]x[/bold]", "../../etc/passwd", "a" * 5000, "\udcff", "null", "{", "[" * 3000),
    *([], [1], [[1, 2], [3, 4]], ["x"] * 2000, [1.5, -1.0], list("abc"), b"\xff\xfe", np.zeros(70, "u1")),
]


def sound_files(folder: Path) -> None:
    """Writes a sound file of each kind to `folder`."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from conftest import write_toy  # noqa: PLC0415

    write_toy(folder / "dataset.h5", np.array([[4, 2], [2, 4]]))
    run(["distill", "dataset.h5", "--method", "random", "--ipc", "1", *NETWORK, "-o", "synthetic.h5"], folder)
    for suffix in ("h5", "json"):
        run(["evaluate", "synthetic.h5", "--seeds", "1", "--epochs", "1", "-o", f"evaluation.{suffix}"], folder)


# Damage to the bytes


def flip_bits(content: bytearray, draw: np.random.Generator) -> None:
    for _ in range(draw.integers(1, 9)):
        content[draw.integers(len(content))] ^= 1 << draw.integers(8)


def flip_head(content: bytearray, draw: np.random.Generator) -> None:
    content[draw.integers(min(len(content), 3000))] = draw.integers(256)


def truncate(content: bytearray, draw: np.random.Generator) -> None:
    del content[draw.integers(len(content)) :]


def overwrite(content: bytearray, draw: np.random.Generator) -> None:
    start, length = draw.integers(len(content)), draw.integers(1, 64)
    fill = [bytes(length), b"\xff" * length, draw.bytes(length)][draw.integers(3)]
    content[start : start + length] = fill


def insert(content: bytearray, draw: np.random.Generator) -> None:
    start = draw.integers(len(content))
    content[start:start] = draw.bytes(int(draw.integers(1, 64)))


def move(content: bytearray, draw: np.random.Generator) -> None:
    a, b, length = draw.integers(len(content)), draw.integers(len(content)), draw.integers(1, 512)
    content[a : a + length] = content[b : b + length]


BYTES: list[Callable[[bytearray, np.random.Generator], None]] = [
    *(flip_bits, flip_head, truncate, overwrite, insert, move)
]


# Damage to what an HDF5 file holds


def arrays_of(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, member: names.append(name) if isinstance(member, h5py.Dataset) else None)
    return names


def odd_attribute(file: h5py.File, draw: np.random.Generator) -> None:
    name = pick(list(file.attrs), draw)
    del file.attrs[name]
    file.attrs[name] = pick(ODD, draw)


def drop_attribute(file: h5py.File, draw: np.random.Generator) -> None:
    del file.attrs[pick(list(file.attrs), draw)]


def add_attribute(file: h5py.File, draw: np.random.Generator) -> None:
    file.attrs[pick(["extra", "\x1b]0;x", "[red]"], draw)] = pick(ODD, draw)


def vast_attribute(file: h5py.File, draw: np.random.Generator) -> None:
    """Many elements that all refer to text of the same heap."""
    name = pick(list(file.attrs), draw)
    del file.attrs[name]
    file.attrs.create(
        name, ["x" * int(draw.integers(1, 3000))] * int(draw.integers(1, 4000)), dtype=h5py.string_dtype()
    )


def drop_array(file: h5py.File, draw: np.random.Generator) -> None:
    del file[pick(arrays_of(file), draw)]


def odd_array(file: h5py.File, draw: np.random.Generator) -> None:
    """Another dtype, shape, layout or content under a name of the format."""
    name = pick(arrays_of(file), draw)
    old = file[name][...]
    del file[name]
    kind = draw.integers(8)
    if kind == 0:
        file[name] = old.astype(pick(["f4", "f8", "i1", "u2", ">i8", "c8", "?"], draw))
    elif kind == 1:
        file[name] = old.ravel()
    elif kind == 2:
        file[name] = old[: max(0, len(old) - 1)]
    elif kind == 3:
        file.create_dataset(name, data=old, chunks=True, compression="gzip")
    elif kind == 4:
        file.create_dataset(name, shape=(2**50,) + old.shape[1:], dtype=old.dtype, chunks=(1,) + old.shape[1:])
    elif kind == 5:
        file.create_dataset(name, old.shape, old.dtype, external=[("dataset.h5", 0, max(1, old.nbytes))])
    elif kind == 6:
        layout = h5py.VirtualLayout(old.shape, old.dtype)
        layout[...] = h5py.VirtualSource("dataset.h5", "train/images", old.shape)
        file.create_virtual_dataset(name, layout)
    else:
        file.create_dataset(name, data=[b"text"] * 3, dtype=h5py.string_dtype())


def odd_values(file: h5py.File, draw: np.random.Generator) -> None:
    array = file[pick(arrays_of(file), draw)]
    if array.size:
        values = array[...].ravel()
        with np.errstate(all="ignore"):
            values[draw.integers(values.size)] = np.array(pick([-1, 7, 1e30, np.nan, 2**40], draw)).astype(array.dtype)
        array[...] = values.reshape(array.shape)


def link(file: h5py.File, draw: np.random.Generator) -> None:
    name = pick([*arrays_of(file), "extra"], draw)
    if name in file:
        del file[name]
    targets = [
        h5py.SoftLink("/nowhere"),
        h5py.SoftLink("/"),
        h5py.ExternalLink("dataset.h5", "/train/labels"),
        file["/"],
    ]
    file[name] = pick([*targets, h5py.ExternalLink("/etc/passwd", "/")], draw)


def add_member(file: h5py.File, draw: np.random.Generator) -> None:
    kind = draw.integers(3)
    if kind == 0:
        file.create_group(pick(["x", "train/x", "a/b/c/d/e/f"], draw))
    elif kind == 1:
        file.create_dataset(pick(["x", "confusion/[red]", "history/x", "confusion/\x1b[2J"], draw), data=np.arange(3))
    else:
        file["type"] = np.dtype("f4")


MEMBERS: list[Callable[[h5py.File, np.random.Generator], None]] = [
    *(odd_attribute, drop_attribute, add_attribute, vast_attribute, drop_array, odd_array, odd_values, link, add_member)
]


def sealed(file: h5py.File) -> None:
    """Gives the file the digest of what it holds now, so that the checks behind the digest are reached."""
    entries = {name: array_entry(file[name][...]) for name in sorted(arrays_of(file)) if file[name].nbytes < 2**24}
    attributes = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in file.attrs.items()}
    file.attrs["digest"] = content_digest(attributes, entries)


def damage_members(path: Path, draw: np.random.Generator) -> str:
    change = pick(MEMBERS, draw)
    refusals = (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, OverflowError)
    with contextlib.suppress(*refusals), h5py.File(path, "r+") as file:
        change(file, draw)
        if draw.integers(2):
            sealed(file)
            return f"{change.__name__}, sealed"
    return change.__name__


# Damage to JSON


def damage_json(path: Path, draw: np.random.Generator) -> str:
    content = json.loads(path.read_text())
    nodes: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            nodes.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    visit(content)
    node, key = pick(nodes, draw)
    kind = draw.integers(5)
    if kind == 0:
        del node[key]
    elif kind <= 2:
        node[key] = pick([value for value in ODD if not isinstance(value, bytes | np.ndarray)], draw)
    text = json.dumps(content)
    if kind == 3:
        text = text[:-1] + ", " + text[1:]  # every key twice
    elif kind == 4:
        deep = int(draw.integers(10, 100_000))
        text = text.replace(json.dumps(content["seed"]), "[" * deep + "]" * deep, 1)
    path.write_text(text)
    return f"json {kind}"


def pick(choices: Any, draw: np.random.Generator) -> Any:
    return choices[draw.integers(len(choices))]


def mutate(path: Path, draw: np.random.Generator) -> str:
    """Damages the sound file at `path`, once or a few times; returns what was done."""
    done = []
    for _ in range(1 + int(draw.integers(4) == 0)):
        if draw.integers(3) == 0 or done:
            content = bytearray(path.read_bytes())
            change = pick(BYTES, draw)
            change(content or bytearray(1), draw)
            path.write_bytes(content)
            done.append(change.__name__)
        else:
            done.append((damage_json if path.suffix == ".json" else damage_members)(path, draw))
    return ", ".join(done)


# Running


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def run(words: list[str], folder: Path) -> tuple[int, str]:
    """Runs the program in this process, in `folder`; returns its exit code and what it said."""
    said = io.StringIO()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    sys.argv = ["fairdd", *words]
    try:
        with contextlib.chdir(folder), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            main()
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue()
    finally:
        signal.alarm(0)


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


def campaign(count: int, seed: int, folder: Path, keep: Path | None = None, log: Path | None = None) -> Report:
    """Passes `count` mutants through the commands; a mutant that ends the process is named in `log`."""
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
        for command in COMMANDS[kind]:
            words = [mutant.name if word == "FILE" else word for word in command]
            if log:
                log.write_text(f"{what}: {' '.join(words)}")
            start = time.monotonic()
            code, said = run([*words, "--quiet"] if words[0] != "inspect" else words, folder)
            report.runs += 1
            report.codes[code] += 1
            report.slowest = max(report.slowest, time.monotonic() - start)
            for name in OUTPUTS:
                (folder / name).unlink(missing_ok=True)
            litter = {path.name for path in folder.iterdir()} - before - {mutant.name}
            if code not in (0, 2) or "unexpected" in said or "Traceback" in said or "\x1b" in said or litter:
                report.findings.append(f"{what}: {' '.join(words)} ended with {code}, left {litter}: {said[-300:]}")
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(mutant, keep / f"{seed}-{number}{mutant.suffix}")
            for name in litter:
                (folder / name).unlink()
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
    parser.add_argument("--keep", type=Path, default=Path("findings"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = campaign(
            chosen.count, chosen.seed, Path(scratch), chosen.keep, Path(tempfile.gettempdir(), "fuzz.log")
        )
    print(*outcome.findings, sep="\n")
    print(
        f"{outcome.files:,} files ({dict(outcome.kinds)}), {outcome.runs:,} runs, exit codes {dict(outcome.codes)}, "
        f"{len(outcome.findings)} findings; slowest {outcome.slowest:.2f} s, peak {outcome.peak / 2**20:,.0f} MiB, "
        f"{outcome.seconds:.0f} s in all"
    )
    sys.exit(bool(outcome.findings))
