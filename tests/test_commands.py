"""What a user sees: the installed program, from data to table, and what it says when something is wrong."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Fairdd, write_toy
from evaluations import write
from tiny import tiny_words

from fairdd_cli.artifacts import read_dataset, read_evaluation, read_synthetic, stem_of

SMALL = ["--network", "convnet:width=8", "--quiet"]


@pytest.fixture
def data(sample: Path, tmp_path: Path) -> Path:
    """The sample as `data.h5` in the working folder."""
    path = tmp_path / "data.h5"
    path.write_bytes(sample.read_bytes())
    return path


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


def test_a_recipe_sets_defaults_that_the_command_line_overrides(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "distill:\n  method: gm\n  ipc: 2\n  iterations: 1\n  network: convnet:width=8\n"
        "  option: {outer: 1, inner: 1}\n"
        "evaluate:\n  epochs: 1\n  seeds: 1\n  network: [convnet:width=4]\n"
    )
    fairdd("distill", "data.h5", "--recipe", "recipe.yaml", "--ipc", 1, "-o", "s.h5", "--quiet")
    synthetic = read_synthetic(str(tmp_path / "s.h5"))
    assert (synthetic.method, synthetic.ipc, synthetic.options["hyper"]["outer_loop"]) == ("gm", 1, 1)
    fairdd("evaluate", "s.h5", "--recipe", "recipe.yaml", "-o", "e.json", "--quiet")
    assert list(read_evaluation(str(tmp_path / "e.json")).confusion) == ["convnet:width=4"]


def test_the_command_line_s_strategy_goes_before_a_recipe_s(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    common = "distill:\n  method: dm\n  ipc: 1\n  iterations: 0\n  network: convnet:width=8\n"
    cases = [("fairness: barycenter", ["--fair"], "fairdd"), ("fair: true", ["--fairness", "vanilla"], "vanilla")]
    for number, (line, words, expected) in enumerate(cases):
        (tmp_path / "recipe.yaml").write_text(f"{common}  {line}\n")
        fairdd("distill", "data.h5", "--recipe", "recipe.yaml", *words, "-o", f"{number}.h5", "--quiet")
        assert read_synthetic(str(tmp_path / f"{number}.h5")).fairness == expected
    (tmp_path / "recipe.yaml").write_text(f"{common}  fairness: vanilla\n  fair: true\n")
    done = fairdd("distill", "data.h5", "--recipe", "recipe.yaml", check=False)
    assert done.returncode == 2
    assert "--fair means --fairness fairdd" in done.stderr


def test_a_recipe_s_options_are_overridden_one_by_one(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "distill: {method: dm, ipc: 1, iterations: 0, option: {learning_rate: 0.5, momentum: 0.1}}\n"
    )
    fairdd("distill", "data.h5", "--recipe", "recipe.yaml", "-O", "momentum=0.2", "-o", "s.h5", "--quiet")
    hyper = read_synthetic(str(tmp_path / "s.h5")).options["hyper"]
    assert (hyper["learning_rate"], hyper["momentum"]) == (0.5, 0.2)


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


def test_a_recipe_may_have_an_empty_section_and_lists(fairdd: Fairdd, tmp_path: Path) -> None:
    write(tmp_path / "e.json")
    (tmp_path / "recipe.yaml").write_text("distill:\nreport: {group-by: [method, ipc], format: json, sort: ipc}\n")
    assert json.loads(fairdd("report", "e.json", "--recipe", "recipe.yaml").stdout)[0]["ipc"] == 10
    (tmp_path / "recipe.yaml").write_text("report: {group-by: [method, icp]}\n")
    assert "did you mean 'ipc'" in fairdd("report", "e.json", "--recipe", "recipe.yaml", check=False).stderr
    (tmp_path / "recipe.yaml").write_text("report: {formt: json}\n")
    answer = fairdd("report", "e.json", "--recipe", "recipe.yaml", check=False).stderr
    assert "did you mean 'format'? (known: against, bootstrap, confidence," in answer
    assert "recipe, " not in answer.partition("known")[2]


def test_a_run_whose_loss_is_nothing_says_where_its_output_is(fairdd: Fairdd, data: Path) -> None:
    words = ["distill", "data.h5", "--method", "random", "--ipc", 1, "--iterations", 3, "-o", "r.h5"]
    assert fairdd(*words).stdout == "r.h5\n"


def test_help_answers_at_once_and_every_option_is_explained(fairdd: Fairdd) -> None:
    times, environment = [], dict(os.environ)  # which has each run be a child of this process, from its start
    for _ in range(5):  # processor seconds: other work on the machine must not decide
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        fairdd("--help", env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert 0.01 < min(times) < 0.3
    assert fairdd().stdout == fairdd("--help").stdout
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fairdd_cli", "distill", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert " torch" not in done.stderr


def test_a_long_run_says_early_how_long_it_will_take(fairdd: Fairdd, data: Path) -> None:
    program = Path(sys.executable).with_name("fairdd")
    with subprocess.Popen(
        [str(program), "distill", "data.h5", "--method", "dm", "--ipc", "10", "-o", "long.h5"],
        cwd=data.parent,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "about" in line:
                break
        process.terminate()
        assert "on this machine" in line
        process.stderr.read()
        assert process.wait() == 130
    assert not (data.parent / "long.h5").exists()


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


@pytest.mark.parametrize("command", ["make-dataset", "distill", "evaluate", "report", "inspect"])
def test_every_option_has_help_that_gives_its_default(command: str) -> None:
    import typer

    from fairdd_cli.cli import app

    group = typer.main.get_command(app)
    for parameter in group.commands[command].params:  # type: ignore[attr-defined]
        if parameter.name == "help":
            continue
        assert parameter.help, parameter.name
        told = "(default:" in parameter.help or parameter.default is not None or parameter.required
        assert told or parameter.is_flag, f"{parameter.name} does not tell its default"
