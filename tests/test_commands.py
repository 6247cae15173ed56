"""What a user sees: the installed program, from data to table."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Fairdd, write_toy
from tiny import tiny_words

from fairdd_cli.artifacts import read_dataset, read_evaluation, read_synthetic, stem_of

SMALL = ["--network", "convnet:width=8", "--quiet"]


def test_the_main_job_from_data_to_table(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    for words in ([], ["--fair"]):
        done = fairdd(
            "distill",
            "--method",
            "gm",
            *words,
            "--ipc",
            2,
            "data.h5",
            "--iterations",
            1,
            "-O",
            "outer_loop=2",
            "-O",
            "inner_loop=1",
            *SMALL,
        )
        name = f"data.gm-{'fairdd' if words else 'vanilla'}-ipc2.h5"
        assert done.stdout == f"{name}\n"
        done = fairdd("evaluate", name, "--seeds", 2, "--epochs", 2, "--quiet")
        assert done.stdout == f"runs/{Path(name).stem}.json\n"
    done = fairdd("report", *sorted((tmp_path / "runs").glob("*.json")), "--format", "csv")
    rows = done.stdout.splitlines()
    assert len(rows) == 3
    assert "fairdd" in done.stdout
    synthetic = read_synthetic(str(tmp_path / "data.gm-fairdd-ipc2.h5"))
    assert synthetic.images.shape == (20, 3, 32, 32)
    assert (synthetic.method, synthetic.fairness, synthetic.sampling) == ("gm", "fairdd", "balanced")
    assert synthetic.options["hyper"]["outer_loop"] == 2
    evaluation = read_evaluation(str(tmp_path / "runs" / "data.gm-fairdd-ipc2.json"))
    assert evaluation.confusion["convnet:width=8"].shape == (2, 10, 10, 10)
    assert evaluation.confusion["convnet:width=8"].sum() == 2 * 3000
    assert evaluation.synthetic_digest == synthetic.digest
    assert evaluation.dataset_digest == synthetic.dataset_digest == read_dataset(str(data)).digest


@pytest.mark.parametrize("words", ["", "--decoding group-maps:channels=1 --match cells"])
def test_a_pipeline_passes_files_through_standard_streams(words: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("fairdd")
    line = (
        f"{program} make-dataset c-fmnist-fg --embedded --limit 500 -o - -q"
        f" | tee data.h5"
        f" | {program} distill - --method dm --fair --ipc 2 --iterations 2 {words} -o - {' '.join(SMALL)}"
        f" | {program} evaluate - --data data.h5 --seeds 1 --epochs 1 -o - -q"
        f" | {program} report - --format json"
    )
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert done.stderr == ""


def test_the_path_on_standard_output_feeds_the_next_command(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("fairdd")
    line = (
        f"{program} evaluate $({program} distill --method dm --fair --ipc 1 data.h5 --iterations 1 {' '.join(SMALL)})"
        " --seeds 1 --epochs 1"
    )
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.returncode == 0, done.stderr
    assert done.stdout == "runs/data.dm-fairdd-ipc1.json\n"


def test_the_same_seed_gives_the_same_file_and_another_seed_another(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        fairdd(
            "distill",
            "data.h5",
            "--method",
            "dsa",
            "--fair",
            "--ipc",
            1,
            "--iterations",
            2,
            "--seed",
            seed,
            "-O",
            "outer_loop=2",
            "-O",
            "inner_loop=2",
            "-o",
            f"{name}.h5",
            *SMALL,
        )
        fairdd("evaluate", f"{name}.h5", "--seeds", 1, "--epochs", 2, "-o", f"{name}.json", "--quiet")
        digests.append(
            (
                read_synthetic(str(tmp_path / f"{name}.h5")).digest,
                read_evaluation(str(tmp_path / f"{name}.json")).digest,
            )
        )
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]
    assert digests[0][1] != digests[2][1]


def test_an_evaluation_in_hdf5_is_the_one_in_json(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    fairdd("distill", "data.h5", "--method", "random", "--ipc", 2, "-o", "s.h5", *SMALL)
    for name in ("e.json", "e.h5"):
        fairdd("evaluate", "s.h5", "--seeds", 1, "--epochs", 1, "-o", name, "--quiet")
    one, other = (read_evaluation(str(tmp_path / name)) for name in ("e.json", "e.h5"))
    assert one.digest == other.digest
    assert json.loads((tmp_path / "e.json").read_text())["metrics"]["convnet:width=8"]["accuracy"]["mean"] > 0
    assert "e.json" in fairdd("inspect", "e.json").stdout


def test_a_data_set_is_evaluated_as_the_whole_data_baseline(fairdd: Fairdd, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 20), side=16)
    fairdd("evaluate", "toy.h5", "--network", "convnet:width=8,depth=2", "--seeds", 1, "--epochs", 3, "--quiet")
    evaluation = read_evaluation(str(tmp_path / "runs" / "toy.json"))
    assert (evaluation.method, evaluation.ipc, evaluation.synthetic_digest) == ("whole", 0, "")


def test_a_whole_data_set_may_be_sampled_evenly_over_its_groups(fairdd: Fairdd, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.array([[36, 2], [2, 36]]), side=16)
    small = ("--network", "convnet:width=8,depth=2", "--seeds", 2, "--epochs", 3, "--batch", 8, "--quiet")
    for sampling in ("proportional", "balanced"):
        fairdd("evaluate", "toy.h5", *small, "--sampling", sampling)
    plain, even = (read_evaluation(str(tmp_path / "runs" / name)) for name in ("toy.json", "toy.balanced.json"))
    assert (plain.sampling, even.sampling) == ("proportional", "balanced")
    assert not np.array_equal(*(each.confusion["convnet:width=8,depth=2"] for each in (plain, even)))
    fairdd("distill", "toy.h5", "--method", "random", "--ipc", 1, "-o", "s.h5", "--network", "convnet:width=8,depth=2")
    refused = fairdd("evaluate", "s.h5", *small, "--sampling", "balanced", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--sampling balanced is for a whole data set" in refused.stderr


def test_several_networks_are_evaluated_in_one_call(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    fairdd("distill", "data.h5", "--method", "random", "--ipc", 1, "-o", "s.h5", *SMALL)
    fairdd(
        "evaluate",
        "s.h5",
        "--network",
        "convnet:width=4",
        "--network",
        "convnet:width=4,norm=batch",
        "--seeds",
        1,
        "--epochs",
        1,
        "-o",
        "e.json",
        "--quiet",
    )
    assert set(read_evaluation(str(tmp_path / "e.json")).confusion) == {"convnet:width=4", "convnet:width=4,norm=batch"}


def test_inspect_shows_the_cells_and_saves_a_grid(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    from PIL import Image

    shown = fairdd("inspect", "data.h5", "--images", "grid.png").stdout
    assert "c-fmnist-fg" in shown
    assert "bias" in shown
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width >= 640
    fairdd("distill", "data.h5", "--method", "random", "--ipc", 3, "-o", "s.h5", *SMALL)
    shown = fairdd("inspect", "s.h5", "--images", "s.png").stdout
    assert "random" in shown
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.height > 3 * picture.width


def test_a_dot_in_a_name_does_not_cut_the_names_of_what_is_made_from_it(fairdd: Fairdd, tmp_path: Path) -> None:
    for name in ("exp_lr0.1", "exp_lr0.01"):
        write_toy(tmp_path / f"{name}.h5", np.full((2, 2), 3))
        done = fairdd("distill", f"{name}.h5", "--method", "random", "--ipc", 1, "--quiet")
        assert done.stdout == f"{name}.random-vanilla-ipc1.h5\n"
        done = fairdd("evaluate", done.stdout.strip(), "--epochs", 1, "--network", "mlp", "--quiet")
        assert done.stdout == f"runs/{name}.random-vanilla-ipc1.json\n"
    small = ["--ipc", 1, "--iterations", 1, *tiny_words("mtt"), "--network", "mlp"]
    fairdd("distill", "exp_lr0.1.h5", "--method", "mtt", *small)
    experts = "exp_lr0.1.experts-vanilla.h5"
    assert (tmp_path / experts).exists()
    done = fairdd("distill", "exp_lr0.1.h5", "--method", "mtt", *small, "-o", experts, "--force", check=False)
    assert (done.returncode, "is what the command reads" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("path", "stem"),
    [("a/b.c.h5", "a/b.c"), ("b.hdf5", "b"), ("b.npz", "b.npz"), (".h5", ".h5"), ("-", "-"), ("a.b/c", "a.b/c")],
)
def test_the_stem_of_a_file_ends_before_its_suffix_only(path: str, stem: str) -> None:
    assert stem_of(path) == stem
