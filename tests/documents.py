"""README and guide as tests read them: their console blocks are run, and what they print is compared.

A block marked `console` holds commands after `$ ` and, below each, what a terminal of 80 columns shows. Blocks marked
otherwise are not run. An expected line `…` stands for any number of lines. Figures may differ by TOLERANCE, since
processors round differently; durations may differ by any amount.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = ROOT / "recipes" / "guide"
TOLERANCE = 8.0  # of a figure: percentage points, or a unit of the loss; the guide states it
RELATIVE = 0.25
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
DURATION = re.compile(r"\b\d+(?:\.\d+)? (?:s|min|h)\b")
ESTIMATE = re.compile(r": about \S+ \S+ on this machine$|, \S+ \S+ left$")  # how long it will take


@dataclass(frozen=True)
class Command:
    """A command of a page and the lines that the page shows below it."""

    words: str
    shown: tuple[str, ...]


def commands(page: Path) -> list[Command]:
    """The commands in the console blocks of `page`, in order; a line that ends in a backslash continues."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    found = []
    for block in blocks:
        for part in re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
            words, *shown = part.rstrip("\n").split("\n")
            found.append(Command(words, tuple(shown)))
    return found


def run(command: str, folder: Path) -> list[str]:
    """The lines that `command` prints in `folder` on a terminal of 80 columns, without estimates of its time."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80"}
    shell = ["sh", "-euc", command]
    done = subprocess.run(
        shell, cwd=folder, env=environment, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return [line for line in done.stdout.splitlines() if not ESTIMATE.search(line)]


def differences(shown: tuple[str, ...], printed: list[str]) -> list[str]:
    """What `printed` lines differ in from those that a page has `shown`; none where they agree."""
    pattern, printed = [_normalised(line) for line in shown], [_normalised(line) for line in printed]
    if pattern.count("…") > 1:
        return ["a page may leave out lines in one place only"]
    if "…" in pattern:
        before = pattern.index("…")
        after = len(pattern) - before - 1
        if len(printed) < before + after:
            return [f"{len(printed)} lines were printed, {before + after} are shown"]
        pattern = [*pattern[:before], *pattern[before + 1 :]]
        printed = [*printed[:before], *printed[len(printed) - after :]]
    if len(pattern) != len(printed):
        return [f"{len(printed)} lines were printed, {len(pattern)} are shown:", *printed]
    return [f"shown:   {a}\nprinted: {b}" for a, b in zip(pattern, printed, strict=True) if not _agree(a, b)]


def _normalised(line: str) -> str:
    return re.sub(r"-{3,}|─{3,}", "---", " ".join(DURATION.sub("TIME", line).split()))


def _agree(shown: str, printed: str) -> bool:
    """Whether two lines have the same words, and figures within the tolerance."""
    if NUMBER.sub("#", shown) != NUMBER.sub("#", printed):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(_close(a.replace(",", ""), b.replace(",", "")) for a, b in pairs)


def _close(shown: str, printed: str) -> bool:
    if "." not in shown + printed:  # a count
        return int(shown) == int(printed)
    return abs(float(shown) - float(printed)) <= max(TOLERANCE, RELATIVE * abs(float(shown)))
