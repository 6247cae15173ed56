"""The verbs as functions: what a notebook calls gives what the command gives, shows itself, and refuses alike."""

import inspect
import io
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Fairdd, write_toy
from tiny import TINY, tiny_words

from fairdd_cli import load
from fairdd_cli.artifacts import (
    BiasedDataset,
    SyntheticSet,
    as_dataset,
    read_any,
    read_dataset,
    read_evaluation,
    read_synthetic,
)
from fairdd_cli.config import COMMANDS, DistillConfig, options
from fairdd_cli.config.keywords import configure
from fairdd_cli.distill import distill
from fairdd_cli.errors import UsageError, WorkError
from fairdd_cli.evaluate import evaluate
from fairdd_cli.import_set import import_set
from fairdd_cli.make_dataset import make_dataset
from fairdd_cli.reporting import report
from fairdd_cli.reporting.commands import commands
from fairdd_cli.reporting.results import runs_of
from fairdd_cli.runtime.progress import TextProgress, show_progress

GUIDE = Path(__file__).parents[1] / "recipes" / "guide"
NETWORK = "convnet:width=4,depth=2"
VERBS = {
    "make-dataset": make_dataset,
    "distill": distill,
    "evaluate": evaluate,
    "import": import_set,
    "report": report,
}


@pytest.fixture(scope="module")
def data() -> BiasedDataset:
    """The embedded sample in memory, cut to 1,000 training images."""
    return make_dataset("c-fmnist-fg", embedded=True, limit=1000, quiet=True)


@pytest.fixture
def small(tmp_path: Path) -> BiasedDataset:
    """Three classes and two groups, in memory."""
    dataset = write_toy(tmp_path / "toy.h5", np.array([[9, 3], [2, 9], [4, 3]]))
    return replace(dataset, path="")


def test_the_guides_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = runpy.run_path(str(GUIDE / "notebook.py"))
    said = capsys.readouterr().out
    assert "did you mean 'iterations'?" in said
    assert said.count("True\n") == 3 and "False" not in said
    for name in ("data", "fair", "scores", "table"):
        assert re.fullmatch(r"(<div>.*</div>)+", made[name]._repr_html_(), re.DOTALL)
    assert "vs vanilla" in str(made["table"])


def test_the_page_is_a_notebook_in_the_percent_format() -> None:
    cells = re.split(r"(?m)^# %%", (GUIDE / "notebook.py").read_text())[1:]
    assert sum(cell.startswith(" [markdown]") for cell in cells) >= 8
    for cell in cells:
        if cell.startswith(" [markdown]"):
            assert all(line.startswith("#") or not line for line in cell.splitlines()[1:])
        else:
            compile(cell.removeprefix("\n"), "cell", "exec")


def test_a_data_set_in_memory_is_that_of_the_command(data: BiasedDataset, sample: Path, tmp_path: Path) -> None:
    there = read_dataset(str(sample))
    assert (data.digest, data.path) == (there.digest, "")
    assert np.array_equal(data.train.images.all(), there.train.images.all())
    data.save(tmp_path / "saved.h5")
    assert read_any(str(tmp_path / "saved.h5")).digest == data.digest
    with pytest.raises(UsageError, match="exists already"):
        data.save(tmp_path / "saved.h5")


@pytest.mark.parametrize("method", ["dm", "gm"])
def test_images_and_scores_are_those_of_the_commands(
    fairdd: Fairdd, small: BiasedDataset, tmp_path: Path, method: str
) -> None:
    hyper = TINY[method]
    given = {"method": method, "fair": True, "ipc": 1, "iterations": 3, "network": NETWORK, "seed": 3}
    synthetic = distill(small, hyper=hyper, **given)
    common = ["--method", method, "--fair", "--ipc", 1, "--iterations", 3, "--network", NETWORK, "--seed", 3]
    fairdd("distill", "toy.h5", *common, *tiny_words(method), "-o", "set.h5")
    there = read_synthetic(str(tmp_path / "set.h5"))
    assert synthetic.images.tobytes() == there.images.tobytes()
    assert (synthetic.digest, synthetic.options) == (there.digest, there.options)

    scores = evaluate(synthetic, small, seeds=2, epochs=2, network=[NETWORK, "mlp:width=8"])
    fairdd("evaluate", "set.h5", "--seeds", 2, "--epochs", 2, "--network", NETWORK, "--network", "mlp:width=8")
    (tmp_path / "runs" / "set.json").rename(tmp_path / "scores.json")
    assert scores.digest == read_evaluation(str(tmp_path / "scores.json")).digest
    for name in ("saved.json", "saved.h5"):
        scores.save(tmp_path / name)
        assert read_evaluation(str(tmp_path / name)).digest == scores.digest
    with pytest.raises(UsageError, match=r"written as .json or .h5"):
        scores.save(tmp_path / "saved.csv")


def test_paths_stand_for_what_they_hold(small: BiasedDataset, tmp_path: Path) -> None:
    synthetic = distill(tmp_path / "toy.h5", method="random", ipc=1, network=NETWORK)
    assert synthetic.dataset_path == str(tmp_path / "toy.h5")
    synthetic.save(tmp_path / "set.h5")
    one = evaluate(str(tmp_path / "set.h5"), seeds=1, epochs=1)  # which knows where its data set lies
    other = evaluate(synthetic, small, seeds=1, epochs=1)
    assert one.digest == other.digest
    one.save(tmp_path / "one.json")
    assert str(report(tmp_path / "one.json")) == str(report(other))
    whole = evaluate(small, seeds=1, epochs=1, network=NETWORK)
    assert (whole.method, whole.synthetic_digest) == ("whole", "")
    assert np.array_equal(load(synthetic).images.numpy(), synthetic.images)
    assert len(load(small, "test")) == len(small.test)


def test_a_set_in_memory_is_refused_where_it_does_not_belong(small: BiasedDataset, data: BiasedDataset) -> None:
    synthetic = distill(small, method="random", ipc=1, network=NETWORK)
    with pytest.raises(UsageError, match=r"the synthetic set of toy .random, vanilla, ipc 1. was distilled from toy"):
        evaluate(synthetic, data)
    with pytest.raises(UsageError, match="it does not say where that is"):
        evaluate(synthetic)
    with pytest.raises(UsageError, match="the data set toy is a data set and brings its own test split"):
        evaluate(small, data)
    with pytest.raises(UsageError, match="the data set toy has no validation split"):
        evaluate(synthetic, small, split="val", seeds=1)
    with pytest.raises(UsageError, match=r"give experts='FILE.h5' for the experts of the data set toy"):
        distill(small, method="mtt", ipc=1, network=NETWORK)
    with pytest.raises(UsageError, match=r"give experts='FILE.h5' for the trained networks of the data set toy"):
        distill(small, method="dm", ipc=1, network=NETWORK, trained_networks=1)
    with pytest.raises(UsageError, match="class 'class 2' of the data set toy has 7; lower it"):
        distill(small, method="random", ipc=12, network=NETWORK)
    for wrong in (synthetic, 3, None):
        with pytest.raises(UsageError, match="a data set, or the path of one, is needed here; found"):
            as_dataset(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a synthetic set, or a data set, is needed here; found int"):
        evaluate(3, small)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least one evaluation"):
        report([])


def test_the_protocol_can_be_that_of_another_method(small: BiasedDataset) -> None:
    synthetic = distill(small, method="random", ipc=1, network=NETWORK)
    digits = replace(small, mirror_keeps_class=False)
    common: dict[str, Any] = {"seeds": 1, "epochs": 1, "network": NETWORK}
    plain, idc, dc = (evaluate(synthetic, digits, protocol=name, **common) for name in (None, "idc", "dc"))
    assert (idc.options["protocol"], dc.options["protocol"], "protocol" in plain.options) == ("idc", "gm", False)
    assert (idc.protocol["cutmix"], plain.protocol["cutmix"], idc.protocol["epochs"]) == (0.5, 0.0, 1)
    assert "flip" not in str(idc.protocol) + str(dc.protocol)
    learned = replace(synthetic, learning_rate=0.25)
    assert evaluate(learned, small, protocol="mtt", **common).protocol["learning_rate"] == 0.25
    assert evaluate(learned, small, protocol="mtt", learning_rate=0.5, **common).protocol["learning_rate"] == 0.5
    assert evaluate(small, protocol="idc", **common).protocol["cutmix"] == 0.5
    (line,) = [word for word in commands(runs_of(idc)[0]) if word.startswith("fairdd evaluate")]
    assert "--protocol idc --epochs 1" in line


def test_a_set_made_by_hand_is_evaluated_under_its_own_digest(small: BiasedDataset) -> None:
    synthetic = distill(small, method="random", ipc=1, network=NETWORK)
    by_hand = replace(synthetic, images=synthetic.images + 1, digest="")
    assert evaluate(by_hand, small, seeds=1, epochs=1).synthetic_digest not in ("", synthetic.digest)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"iteration": 1}, "unknown option of distill 'iteration': did you mean 'iterations'?"),
    "of a file": ({"output": "a.h5"}, "unknown option of distill 'output'"),
    "not a choice": ({"method": "dmm"}, "unknown method 'dmm': did you mean 'dm'?"),
    "too small": ({"ipc": 0}, "ipc: expected at least 1, found '0'"),
    "too large": ({"group_noise": 1.5}, "group_noise: expected at most 1, found '1.5'"),
    "not a number": ({"group_noise": float("nan")}, "group_noise: expected a number, found 'nan'"),
    "not whole": ({"ipc": 2.5}, "ipc: expected a whole number, found '2.5'"),
    "a truth": ({"ipc": True}, "ipc: expected a whole number, found 'True'"),
    "no truth": ({"fair": 1}, "fair: expected True or False, found '1'"),
    "no text": ({"network": object}, "network: expected text"),
    "no mapping": ({"hyper": "a=1"}, "hyper: expected a dict"),
    "seed": ({"seed": -1}, "--seed: expected a whole number from 0"),
    "nothing": ({"seed": None}, "seed: expected text"),
    "contradiction": ({"fair": True, "fairness": "kde"}, "--fair means --fairness fairdd"),
    "hyper": ({"hyper": {"learning_rat": 1}}, "did you mean 'learning_rate'?"),
    "no word": ({"network": "a\0b"}, "is not text in UTF-8"),
}


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_keywords_are_told_in_a_line(small: BiasedDataset, reason: str) -> None:
    given, words = WRONG[reason]
    with pytest.raises(UsageError, match=re.escape(words)) as failed:
        distill(small, **{"method": "dm", "ipc": 1, **given})
    assert len(str(failed.value).splitlines()) == 1


def test_what_is_required_is_named(small: BiasedDataset) -> None:
    with pytest.raises(UsageError, match="distill needs method=… and ipc=…"):
        distill(small)
    with pytest.raises(UsageError, match="unknown data set 'c-fmnist': did you mean 'c-fmnist-"):
        make_dataset("c-fmnist")


def test_values_are_those_that_the_command_line_would_give() -> None:
    given = {"method": "dc", "ipc": np.int64(2), "hyper": {"learning-rate": 0.5}, "group_noise": 0}
    config = configure(DistillConfig, given, data="")
    assert (config.method, config.ipc, config.hyper, config.group_noise) == ("gm", 2, {"learning_rate": "0.5"}, 0.0)
    assert type(config.ipc) is int
    network = configure(COMMANDS["evaluate"], {"network": "mlp"}, synthetic="", data=None).network
    assert network == ("mlp",) == configure(COMMANDS["evaluate"], {"network": ["mlp"]}, synthetic="", data=None).network
    folder = configure(COMMANDS["make-dataset"], {"csv": "a.csv", "split": 0.2, "root": "b"}, dataset="folder")
    assert (folder.csv, folder.split, folder.root) == ((Path("a.csv"),), "0.2", Path("b"))
    assert configure(COMMANDS["import"], {"mean": (0.1, 0.2, 0.3)}, file="", data="").mean == "0.1,0.2,0.3"


def test_a_recipe_gives_defaults_that_keywords_replace(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("distill: {method: dm, ipc: 10, fairness: kde, option: {learning_rate: 3, momentum: 0}}\n")
    given = {"recipe": recipe, "ipc": 1, "hyper": {"learning_rate": 2}}
    config = configure(DistillConfig, given, data="")
    assert (config.method, config.ipc, config.strategy) == ("dm", 1, "kde")
    assert config.hyper == {"learning_rate": "2", "momentum": "0"}
    assert configure(DistillConfig, {**given, "fair": True}, data="").strategy == "fairdd"
    recipe.write_text("distill: {method: dm, ipc: 0}\n")
    with pytest.raises(UsageError, match="ipc: expected at least 1"):
        configure(DistillConfig, {"recipe": recipe}, data="")


@pytest.mark.parametrize("command", VERBS)
def test_each_function_documents_the_options_of_its_command(command: str) -> None:
    function = VERBS[command]
    parameters = inspect.signature(function).parameters
    for name, entry in options(COMMANDS[command]).items():
        if name in parameters and parameters[name].kind is inspect.Parameter.KEYWORD_ONLY:
            assert re.search(rf"(?m)^    {name}: ", function.__doc__ or ""), name
            assert parameters[name].default == (inspect.Parameter.empty if entry.required else entry.default)
    assert {"quiet", "seed"} <= set(parameters) or command == "import"
    assert "force" not in parameters


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.elements.add(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_artifacts_show_themselves_with_names_as_text(small: BiasedDataset) -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    hostile = replace(small, name=evil, class_names=(evil, "b", "c"), protected_names=(evil, "q"))
    synthetic = replace(distill(hostile, method="random", ipc=2, network=NETWORK), method=evil)
    scores = evaluate(synthetic, hostile, seeds=2, epochs=1)
    for shown in (hostile, synthetic, scores, report(scores)):
        page = Page(shown._repr_html_())
        assert not page.open
        assert page.elements <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td", "img"}
        assert any("<script>" in word for word in page.words)
        assert "\x1b" not in repr(shown) + shown._repr_html_()
    assert repr(scores).count("±") == 5  # four metrics and the line that explains them
    assert hostile._repr_html_().count("<img") == synthetic._repr_html_().count("<img") == 3


def test_much_is_cut_and_said(small: BiasedDataset, tmp_path: Path) -> None:
    large = write_toy(tmp_path / "large.h5", np.ones((25, 22), np.int64))
    assert "shown: 20 of 25 classes, 20 of 22 groups" in repr(large)
    synthetic = distill(large, method="random", ipc=22, network=NETWORK)
    assert "shown: the first 20 classes" in synthetic._repr_html_()
    grey = replace(synthetic, images=synthetic.images[:, :2], mean=synthetic.mean[:2], std=synthetic.std[:2])
    assert "<img" in grey._repr_html_()  # two channels are no colours


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_that_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 100.0, 1.0))
    monkeypatch.setattr("fairdd_cli.runtime.progress.time.monotonic", lambda: float(next(clock)))
    progress = TextProgress(screen := Screen())
    progress.start("dm ipc 1", 10)
    progress.advance(5, 0.25)
    progress.say("note: half")
    progress.advance(5)
    progress.stop()
    lines = screen.getvalue().split("\n")
    assert lines[0].split("\r")[2] == f"dm ipc 1: {'#' * 15}{'.' * 15}  50 %, loss 0.25, 3 s"
    assert lines[1] == "note: half"
    assert "100 %, loss 0.25" in lines[2] and lines[3] == ""


def test_where_nobody_watches_only_remarks_are_written(capsys: pytest.CaptureFixture[str], data: BiasedDataset) -> None:
    distill(data, method="dm", ipc=1, iterations=1, network=NETWORK)
    with show_progress(quiet=True) as progress:
        progress.say("unheard")
    assert capsys.readouterr() == ("", "")
    with show_progress() as progress:
        progress.start("work", 0)
        progress.say("note: heard")
    assert capsys.readouterr() == ("", "note: heard\n")


def test_it_diverges_as_the_command_does(small: BiasedDataset) -> None:
    with pytest.raises(WorkError, match="diverged at iteration"):
        distill(small, method="dm", ipc=1, iterations=50, network=NETWORK, hyper={"learning_rate": 1e30})


def test_importing_the_data_sets_verb_loads_no_torch() -> None:
    program = "import sys; from fairdd_cli.make_dataset import make_dataset; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_import_says_what_it_found_out(
    small: BiasedDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic: SyntheticSet = distill(small, method="random", ipc=1, network=NETWORK)
    np.savez(tmp_path / "theirs.npz", images=synthetic.images, labels=synthetic.labels)
    capsys.readouterr()
    found = import_set(tmp_path / "theirs.npz", small, values="normalised", method="theirs")
    assert "named arrays, 3 images" in capsys.readouterr().err
    assert found.images.tobytes() == synthetic.images.tobytes()
    assert (found.method, found.dataset_path) == ("theirs", "")
    assert evaluate(found, small, seeds=1, epochs=1, network=NETWORK).synthetic_digest == found.digest
