"""The README's commands run as printed, and do what it says."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import documents
import numpy as np
import pytest
from PIL import Image

from fairdd_cli.runtime import Streams

_PAGES = [Path(__file__).parents[1] / "README.md", *sorted(Path(__file__).parents[1].glob("recipes/guide/*.md"))]
README = "\n".join(page.read_text() for page in _PAGES)


def commands(section: str) -> list[str]:
    """The lines after a prompt in the console blocks of the `section`."""
    body = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", body, re.DOTALL)
    return [line[2:] for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("$ ")]


def programs(section: str) -> list[str]:
    """The Python blocks of the `section`."""
    body = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", body, re.DOTALL)


def run(lines: list[str], folder: Path, interpreter: tuple[str, ...] = ("sh", "-euc")) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*interpreter, "\n".join(lines)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow  # two minutes
def test_the_main_job_ends_in_a_table_in_which_fair_wins(tmp_path: Path) -> None:
    for command in documents.commands(documents.README):
        printed = documents.run(command.words, tmp_path)
        assert not documents.differences(command.shown, printed), command.words
    found = {}
    for fairness in ("vanilla", "fairdd"):
        content = json.loads((tmp_path / "runs" / f"data.dm-{fairness}-ipc10.json").read_text())
        found[fairness] = content["metrics"]["convnet:width=32"]
    assert found["fairdd"]["accuracy"]["mean"] - found["vanilla"]["accuracy"]["mean"] >= 25
    assert found["vanilla"]["deo_mean"]["mean"] - found["fairdd"]["deo_mean"]["mean"] >= 40
    _reports_and_other_programs(tmp_path)


def _reports_and_other_programs(folder: Path) -> None:
    """What the README does next with the files of the main job."""
    if importlib.util.find_spec("matplotlib"):
        assert "Accuracy" in run(commands("Reports"), folder)
        assert "<table" in (folder / "report.html").read_text()
        run(commands("In other programs"), folder)
        assert len(list((folder / "data.dm-fairdd").glob("*/*.png"))) == 100
        assert (folder / "groups.png").is_file()
    (program,) = programs("In other programs")
    shares = ast.literal_eval(run([program], folder, (sys.executable, "-c")))
    assert len(shares) == 10
    assert min(int(share.rstrip("%")) for share in shares.values()) >= 45
    (program,) = programs("Files")
    run([program + "assert 0 < images.mean() < 1 and len(labels) == 100"], folder, (sys.executable, "-c"))


def test_the_guide_shows_what_is_printed(tmp_path: Path) -> None:
    pages = [documents.GUIDE / name for name in ("files.md", "troubleshooting.md")]
    shown = [command for page in pages for command in documents.commands(page) if command.shown]
    assert len(shown) >= 6
    for command in shown:
        printed = documents.run(command.words, tmp_path)
        assert not documents.differences(command.shown, printed), command.words


def test_the_comparison_of_printed_lines_sees_what_it_should() -> None:
    shown = ("loss 22.39 -> 8.778 in 58 s", "…", "data.h5")
    assert not documents.differences(shown, ["loss 23.1 -> 7.9 in 3 min", "more", "data.h5"])
    assert documents.differences(shown, ["loss 22.39 -> 28.8 in 58 s", "data.h5"])
    assert documents.differences(shown, ["loss 22.39 -> 8.778 in 58 s", "other.h5"])
    assert documents.differences(("10 classes",), ["11 classes"])
    assert documents.differences(("a", "b"), ["a"])


def test_a_users_own_images_from_folder_to_report(tmp_path: Path) -> None:
    generator = Streams(0).numpy("photos")
    (tmp_path / "photos").mkdir()
    rows = ["file,mood,place"]
    for number in range(300):
        mood = number % 2
        place = mood if generator.random() < 0.9 else 1 - mood
        pixels = generator.integers(0, 80, (48, 40, 3)).astype(np.uint8)
        pixels[..., place] += 120
        pixels[8 + 20 * mood : 20 + 20 * mood, 10:30] = 255
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number:04}.jpg")
        rows.append(f"{number:04}.jpg,{('serious', 'smiling')[mood]},{('street', 'studio')[place]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    out = run(commands("Your own data"), tmp_path)
    assert "mood" in out
    assert "Accuracy" in out
    assert (tmp_path / "own.png").is_file()
