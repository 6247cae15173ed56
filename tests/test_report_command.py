"""`fairdd report` as a person runs it."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Fairdd
from evaluations import FAIR, pair, synthetic, write
from rich.console import Console
from typer.testing import CliRunner

from fairdd_cli.artifacts import write_synthetic
from fairdd_cli.cli import app
from fairdd_cli.cli.report import fitting, rich_table
from fairdd_cli.errors import UsageError
from fairdd_cli.metrics import METRICS, Confusion, Metric, metric
from fairdd_cli.reporting import arrange, build_rows, read

NAMES = ("accuracy", "deo_max", "deo_mean", "worst_group_accuracy", "balanced_accuracy", "group_accuracy_gap")


def run(*words: object, text: str | None = None) -> str:
    """What `fairdd report` with these words writes to standard output; its errors are raised."""
    done = CliRunner().invoke(app, ["report", *map(str, words)], input=text, catch_exceptions=False)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_every_format_goes_to_standard_output(tmp_path: Path) -> None:
    paths = pair(tmp_path)
    assert "vs vanilla" in run(*paths)
    assert run(*paths, "--format", "markdown").startswith("### toy")
    assert r"\begin{tabular}" in run(*paths, "--format", "latex")
    assert run(*paths, "--format", "csv").startswith("dataset,method,fairness,sampling,ipc,network")
    assert [row["fairness"] for row in json.loads(run(*paths, "--format", "json"))] == ["vanilla", "fairdd"]
    assert [row["fairness"] for row in json.loads(run(*paths, "-f", "json", "--sort", "accuracy"))] == [
        "fairdd",
        "vanilla",
    ]


def test_metrics_may_be_called_as_their_columns_are(tmp_path: Path) -> None:
    paths = pair(tmp_path)
    assert run(*paths, "--metric", "DEO_M", "--sort", "wga") == run(
        *paths, "--metric", "deo_max", "--sort", "worst_group_accuracy"
    )


@pytest.fixture
def misses() -> Iterator[Metric]:
    """A metric of the whole table that somebody adds: one entry, and no other edit."""

    @metric("Zeros", "images wrongly taken for class 0", "P(ŷ = 0, y ≠ 0)", better="lower")
    def share_taken_for_zero(confusion: Confusion) -> np.ndarray:
        assert confusion.table is not None
        return confusion.table[..., 1:, :, 0].sum(axis=(-2, -1)) / confusion.total.sum(axis=(-2, -1))

    yield share_taken_for_zero
    METRICS.unregister("share_taken_for_zero")


def test_a_metric_that_is_registered_is_everywhere(misses: Metric, tmp_path: Path) -> None:
    paths = pair(tmp_path)
    counts = np.array(json.loads(Path(paths[0]).read_text())["confusion"]["convnet"])
    expected = 100 * misses(counts).mean()
    words = (*paths, "--bootstrap", 20)
    assert f"{expected:.1f}±" in run(*words, "--metric", "zeros")
    assert json.loads(run(*words, "-f", "json"))[0]["metrics"][misses.name]["mean"] == pytest.approx(expected)
    assert f",{misses.name}," in run(*words, "-f", "csv").splitlines()[0]
    run(*words, "--metric", misses.name, "--html", tmp_path / "page.html")
    assert (
        'title="images wrongly taken for class 0: P(ŷ = 0, y ≠ 0)">Zeros↓</th>' in (tmp_path / "page.html").read_text()
    )
    with pytest.raises(UsageError, match=misses.name):
        run(*words, "--metric", "zero")
    assert CliRunner().invoke(app, ["verify", *paths]).exit_code == 0
    assert "Zeros: images wrongly taken for class 0" in CliRunner().invoke(app, ["list", "metrics"]).stdout
    assert "P(ŷ = 0, y ≠ 0)" in CliRunner().invoke(app, ["list", "metrics", "zeros"]).stdout


def test_a_file_without_a_new_metric_is_sound(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    paths = pair(tmp_path)
    request.getfixturevalue("misses")
    assert "share_taken_for_zero" not in Path(paths[0]).read_text()
    assert CliRunner().invoke(app, ["verify", *paths]).exit_code == 0
    assert "Zeros" in run(*paths, "--metric", "zeros")


@pytest.mark.parametrize("way", ["decorated", "plain"])
def test_another_package_adds_a_metric(fairdd: Fairdd, tmp_path: Path, way: str) -> None:
    lines = [
        "from fairdd_cli.metrics import Metric, metric",
        "def error_rate(confusion):",
        "    return 1 - confusion.correct.sum((-2, -1)) / confusion.total.sum((-2, -1))",
        {
            "decorated": 'metric = metric("Error", "wrong images", "P(ŷ ≠ y)", better="lower")(error_rate)',
            "plain": 'metric = Metric("error_rate", "Error", "wrong images", "P(ŷ ≠ y)", False, error_rate)',
        }[way],
    ]
    (tmp_path / "theirs.py").write_text("\n".join(lines), encoding="utf-8")
    information = tmp_path / "theirs-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[fairdd_cli.metrics]\nerror-rate = theirs\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = fairdd("report", *pair(tmp_path), "--metric", "error", "--format", "json", env=environment)
    metrics = json.loads(done.stdout)[0]["metrics"]
    assert metrics["error_rate"]["mean"] == pytest.approx(100 - metrics["accuracy"]["mean"])


def test_files_and_intervals_are_the_same_twice(tmp_path: Path) -> None:
    paths = pair(tmp_path)
    words = (*paths, "--bootstrap", 200, "--against", "published", "--format", "json", "--empty-cells", "zero")
    first = run(*words, "--html", tmp_path / "a.html", "--plot", tmp_path / "a.png")
    assert first == run(*words, "--html", tmp_path / "b.html", "--plot", tmp_path / "b.png")
    for suffix in ("html", "png"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert json.loads(first)[1]["metrics"]["deo_mean"]["vs_vanilla"]["verdict"] == "better"


def test_each_picture_is_saved(tmp_path: Path) -> None:
    paths = pair(tmp_path)
    write_synthetic(str(tmp_path / "s.h5"), synthetic())
    sets = ["--synthetic", tmp_path / "s.h5"]
    for name, words in (("scatter", []), ("recall", []), ("images", sets), ("loss", sets)):
        run(*paths, "--plot", tmp_path / f"{name}.svg", "--picture", name, *words)
        assert (tmp_path / f"{name}.svg").stat().st_size > 2000


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--plot", "a.png", "--picture", "images", *["--synthetic", "s.h5"] * 7],
            "up to 6 synthetic sets; 7 were given",
        ),
        (["--format", "tables"], "did you mean 'table'"),
        (["--sort", "acuracy"], "did you mean 'accuracy'"),
        (["--group-by", "datset"], "did you mean 'dataset'"),
        (["--metric", "deo"], "unknown metric"),
        (["--empty-cells", "drop"], "unknown treatment"),
        (["--against", "ours"], "unknown against 'ours'"),
        (["--plot", "a.gif"], ".png, .svg, .pdf"),
        (["--plot", "a.png", "--picture", "recal"], "did you mean 'recall'"),
        (["--plot", "a.png", "--picture", "images"], "--synthetic"),
        (["--plot", "a.png", "--picture", "loss", "--metric", "accuracy", "--synthetic", "vanilla.json"], "synthetic"),
        (["--plot", "a.png", "--synthetic", "s.h5"], "--synthetic is for --html or --picture images or loss"),
        (["--html", "fair.json"], "is what the command reads"),
        (["--metric", "demographic_parity_difference"], "is for 2 classes; these evaluations have 3"),
        (["--confidence", "90"], "--confidence is for --bootstrap"),
        (["--picture", "recall"], "--picture is for --plot"),
        (["--reverse"], "--reverse is for --sort"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_wrong_words_are_answered(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = pair(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError) as caught:
        run(*paths, *words)
    assert expected in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_terminal_gets_a_table_that_fits_it(tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    markup = write(tmp_path / "m.json", method="[red]x", ipc=50, **FAIR)
    sections = arrange(build_rows(read([*pair(tmp_path), markup])))
    (sheet,), hidden = fitting(sections, NAMES, 2)
    assert len(sheet.metrics) + len(hidden) == 6
    assert len(fitting(sections, NAMES, 6)[0][0].metrics) == 6
    assert len(sheet.metrics) == {60: 2, 80: 4, 140: 6}[width]
    console = Console(width=width, record=True, force_terminal=True, file=io.StringIO())
    console.print(rich_table(sheet))
    shown = console.export_text()
    assert "[red]x" in shown
    assert "*" in shown
    assert max(map(len, shown.splitlines())) <= width


def test_reports_start_without_torch(tmp_path: Path) -> None:
    script = "import sys; sys.argv = ['fairdd', 'report', *sys.argv[1:]]; from fairdd_cli.cli import main\n"
    script += "try: main()\nfinally: assert not {'torch', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, *pair(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_standard_input_is_an_evaluation(tmp_path: Path) -> None:
    path = Path(pair(tmp_path)[1])
    words = [sys.executable, "-m", "fairdd_cli", "report", "-", "--format", "json"]
    done = subprocess.run(words, input=path.read_bytes(), capture_output=True, check=True)
    assert json.loads(done.stdout)[0]["fairness"] == "fairdd"


def test_a_picture_of_one_pair_tells_of_the_others(tmp_path: Path) -> None:
    more = write(tmp_path / "other.json", **FAIR, method="gm"), write(tmp_path / "gm.json", method="gm")
    words = [*pair(tmp_path), *more, "--plot", str(tmp_path / "a.png"), "--picture", "recall"]
    done = CliRunner().invoke(app, ["report", *words])
    assert "a.png shows dm fairdd, one of 2 pairs: give fewer evaluations for another" in done.output


def test_a_page_alone_goes_to_standard_output(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "fairdd_cli", "report", *pair(tmp_path), "--html", "-"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.endswith("</html>\n")
    assert done.stderr == ""


def test_settings_without_published_values_are_counted(tmp_path: Path) -> None:
    known = write(tmp_path / "known.json", dataset="c-fmnist-fg", recall=np.full((10, 10), 0.5), images=5)
    words = [sys.executable, "-m", "fairdd_cli", "report", *pair(tmp_path), known, "--against", "published"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == "--against published: 1 of 3 settings have published values\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_in_a_line(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "fairdd_cli", "report", *pair(tmp_path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "fairdd: cannot write on standard output: No space left on device\n")


def test_ascii_is_enough(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "fairdd_cli", "report", *pair(tmp_path)]
    done = subprocess.run(words, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert b"+-" in done.stdout
    assert done.stdout.isascii()
