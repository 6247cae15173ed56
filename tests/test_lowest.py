"""The lowest versions that pyproject.toml allows: the commands run with them, in an environment of their own."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
PYTHON = os.environ.get("FAIRDD_LOWEST", "")
WORK = (
    "make-dataset c-fmnist-fg --embedded --limit 500 --test-per-cell 2 -o data.h5",
    "distill data.h5 --method dm --fair --ipc 1 --iterations 1 --network convnet:width=4,depth=1 -o s.h5",
    "evaluate s.h5 --epochs 1 --seeds 1 -o e.json",
    "inspect s.h5 --images s.png",
    "report e.json",
    "verify data.h5 s.h5 e.json",
)


def lowest() -> dict[str, Version]:
    """The lowest version of each package that fairdd needs."""
    stated = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    bounds = [re.fullmatch(r"([\w-]+)>=([\d.]+)", each) for each in stated]
    return {bound[1]: Version(bound[2]) for bound in bounds if bound}


@pytest.mark.skipif(not PYTHON, reason="FAIRDD_LOWEST names no Python; recipes/guide/extending.md says how")
def test_the_commands_run_with_the_lowest_versions(tmp_path: Path) -> None:
    bounds = lowest()
    script = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {list(bounds)}}}))"
    found = json.loads(subprocess.run([PYTHON, "-c", script], capture_output=True, check=True).stdout)
    assert {name: Version(Version(text).base_version) for name, text in found.items()} == bounds
    for words in WORK:
        done = subprocess.run(
            [PYTHON, "-W", "error", "-m", "fairdd_cli", *words.split()], cwd=tmp_path, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
