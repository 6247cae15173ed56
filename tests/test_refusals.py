"""What the installed program says when something is wrong, and that it leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Fairdd, write_toy

SMALL = ["--network", "convnet:width=8", "--quiet"]


def test_a_misspelt_option_leaves_nothing_in_the_way(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    words = ["distill", "data.h5", "--method", "dm", "--ipc", 1, "--iterations", 1, "--network", "convnet:width=4"]
    before = sorted(tmp_path.iterdir())
    done = fairdd(*words, "-O", "augmentation=foo", "-o", "s.h5", check=False)
    assert done.returncode == 2
    assert "unknown augmentation 'foo'" in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    fairdd(*words, "-O", "augmentation=color", "-o", "s.h5", "--quiet")


def test_an_output_never_takes_the_place_of_what_is_read(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    fairdd("distill", "data.h5", "--method", "random", "--ipc", 1, "-o", "s.h5")
    (tmp_path / "labels.csv").touch()
    for path, words in {
        "data.h5": ["distill", "data.h5", "--method", "random", "--ipc", 1],
        "s.h5": ["distill", "data.h5", "--method", "mtt", "--ipc", 1, "--experts", "s.h5"],
        "./data.h5": ["evaluate", "s.h5"],  # which says that it was made from it
        "labels.csv": ["make-dataset", "folder", "--root", ".", "--csv", "labels.csv"],
    }.items():
        before = (tmp_path / path).read_bytes()
        done = fairdd(*words, "-o", path, "--force", check=False)
        assert done.returncode == 2
        assert "is what the command reads" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert (tmp_path / path).read_bytes() == before


BAD = [
    (["distill", "absent.h5", "--method", "dm", "--ipc", 1], "does not exist"),
    (["distill", "data.h5", "--method", "dmm", "--ipc", 1], "did you mean 'dm'"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 0], "ipc"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 101], "needs 101 images"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--fairness", "faird"], "did you mean 'fairdd'"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--fair", "--fairness", "barycenter"], "--fair means"),
    (["distill", "data.h5", "--method", "random", "--ipc", 1, "--fair"], "matches nothing"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--network", "convet"], "did you mean 'convnet'"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--network", "convnet:widht=3"], "did you mean 'width'"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--sampling", "even"], "unknown sampling 'even'"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--init", "noisy"], "did you mean 'noise'"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "-O", "momentun=1"], "did you mean 'momentum'"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "-O", "momentum=x"], "expected float"),
    (["distill", "data.h5", "--method", "gm", "--ipc", 1, "-O", "outer=0"], "at least 1"),
    (["distill", "data.h5", "--method", "gm", "--ipc", 1, "-O", "learning_rate=nan"], "expected float"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--device", "cuda:7"], "is not there"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--device", "gpu"], "unknown device"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--precision", "fp8"], "unknown precision"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--residency", "moon"], "unknown residency"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--recipe", "bad.yaml"], "did you mean 'iterations'"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "--recipe", "absent.yaml"], "absent.yaml"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "-o", "data.h5"], "would be lost"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "-o", "s.h5"], "exists already"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "-o", "."], "is a folder"),
    (["distill", "data.h5", "--method", "dm", "--ipc", 1, "-o", ""], "cannot write ''"),
    (["evaluate", "s.h5", "-o", ""], ".json or .h5"),
    (["make-dataset", "c-fmnist-fg", "--embedded", "-o", ""], "cannot write ''"),
    (["distill", "data.h5", "--method", "dm"], "--ipc"),
    (["distill", "foreign.h5", "--method", "dm", "--ipc", 1], "not a fairdd file"),
    (["distill", "truncated.h5", "--method", "dm", "--ipc", 1], "truncated"),
    (["distill", "text.h5", "--method", "dm", "--ipc", 1], "is not an HDF5 file"),
    (["distill", "s.h5", "--method", "dm", "--ipc", 1], "fairdd/dataset"),
    (["evaluate", "absent.h5"], "does not exist"),
    (["evaluate", "text.h5"], "fairdd/synthetic"),
    (["evaluate", "s.h5", "--data", "toy.h5"], "was distilled from"),
    (["evaluate", "s.h5", "--data", "s.h5"], "fairdd/dataset"),
    (["evaluate", "s.h5", "--seeds", 0], "seeds"),
    (["evaluate", "s.h5", "--augmentation", "rotat"], "did you mean 'rotate'"),
    (["evaluate", "s.h5", "-o", "e.txt"], ".json or .h5"),
    (["evaluate", "truncated.h5"], "truncated"),
    (["report", "absent.json"], "does not exist"),
    (["report", "text.h5"], "text.h5"),
    (["report", "data.h5"], "fairdd/evaluation"),
    (["inspect", "absent.h5"], "does not exist"),
    (["inspect", "truncated.h5"], "truncated"),
    (["inspect", "foreign.h5"], "not one of fairdd's"),
    (["inspect", "data.h5", "--images", "grid.jpg"], ".png"),
    (["make-dataset", "c-fmnist", "--embedded"], "did you mean 'c-fmnist-"),
    (["make-dataset", "c-fmnist-fg", "--embedded", "--bias-ratio", 1.5], "out of range"),
    (["make-dataset", "c-fmnist-fg", "--embedded", "--bias-ratio", 0.05], "out of range"),
    (["make-dataset", "c-fmnist-fg", "--embedded", "--limit", 10**6], "out of range"),
    (["make-dataset", "c-fmnist-fg", "--root", "nowhere"], "--embedded"),
    (["make-dataset", "c-mnist-fg", "--embedded"], "no sample of MNIST"),
    (["frobnicate"], "frobnicate"),
]  # fmt: skip


@pytest.fixture(scope="module")
def faulty(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good data set and synthetic set and with files that are wrong in every way."""
    folder = tmp_path_factory.mktemp("faulty")
    content = sample.read_bytes()
    (folder / "data.h5").write_bytes(content)
    (folder / "truncated.h5").write_bytes(content[: len(content) // 2])
    (folder / "text.h5").write_text("not HDF5\n")
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["numbers"] = np.arange(3)
    write_toy(folder / "toy.h5", np.full((2, 2), 5))
    (folder / "bad.yaml").write_text("distill:\n  iteration: 3\n")
    program = Path(sys.executable).with_name("fairdd")
    words = ["distill", "data.h5", "--method", "random", "--ipc", "1", "-o", "s.h5", *SMALL]
    subprocess.run([str(program), *words], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(("words", "expected"), BAD, ids=lambda value: " ".join(map(str, value))[:60])
def test_bad_input_gets_a_line_and_leaves_nothing_behind(
    faulty: Path, words: list[object], expected: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from fairdd_cli.cli import main

    monkeypatch.chdir(faulty)
    before = sorted(path.name for path in faulty.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["fairdd", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert ended.value.code == 2, err
    assert out == ""
    assert expected in " ".join(err.split())
    assert len(err.splitlines()) <= 3
    assert "Traceback" not in err
    assert sorted(path.name for path in faulty.rglob("*")) == before


def test_a_folder_that_is_not_writable_is_said_before_the_work(
    fairdd: Fairdd, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairdd_cli.artifacts import check_target
    from fairdd_cli.errors import UsageError

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="is not writable"):
        check_target(str(tmp_path / "new.h5"), force=False)


def test_an_interrupt_while_the_program_is_loaded_is_a_line() -> None:
    script = (
        "import sys\nfrom fairdd_cli.__main__ import main\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *further):\n"
        "        if name == 'fairdd_cli.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "fairdd: interrupted\n")
