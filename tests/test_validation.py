"""Validation while distilling: what it costs nothing of, what it writes, which images it keeps."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import Fairdd, resolved, write_toy
from test_resume import Stop, StopAt
from tiny import TINY

from fairdd_cli.artifacts import (
    BiasedDataset,
    MemoryImages,
    SyntheticSet,
    ValidationHistory,
    read_synthetic,
    write_synthetic,
)
from fairdd_cli.distill import ResolvedConfig, run_distillation, run_fingerprint
from fairdd_cli.errors import UsageError
from fairdd_cli.evaluate import synthetic_data
from fairdd_cli.methods import METHODS
from fairdd_cli.metrics import METRICS, Confusion, in_words
from fairdd_cli.networks import parse_network
from fairdd_cli.reporting.synthetic_figures import loss_curves
from fairdd_cli.runtime import Checkpoints, ImageStore, NullProgress, Streams, open_runtime
from fairdd_cli.training import Trials

CELLS = np.array([[9, 3, 0, 2], [2, 9, 1, 3], [4, 3, 2, 9]])
NETWORK = "convnet:width=4,depth=1"
QUICK = ["--ipc", 2, "--network", NETWORK, "--validate-epochs", 3]
MATCHING = [name for name in TINY if METHODS.load(name).Method.matches]


@pytest.fixture
def held_out(tmp_path: Path) -> BiasedDataset:
    """A data set with three validation images of each cell."""
    return write_toy(tmp_path / "toy.h5", CELLS, val=3)


def plan(method: str = "dm", **words: object) -> ResolvedConfig:
    network = parse_network("convnet:width=4,depth=2" if method == "mtt" else NETWORK)
    words = {"fairness": "fairdd", "ipc": 2, "iterations": 5, "seed": 3, "options": TINY[method], **words}
    return resolved(method, network=network, **words)  # type: ignore[arg-type]


def run(config: ResolvedConfig, dataset: BiasedDataset) -> SyntheticSet:
    return run_distillation(config, dataset, open_runtime("cpu"), NullProgress())


@pytest.mark.parametrize("method", MATCHING)
def test_the_images_are_those_of_a_run_that_is_not_validated(held_out: BiasedDataset, method: str) -> None:
    plain = run(plan(method, iterations=3), held_out)
    made = run(plan(method, iterations=3, validate=2, validate_epochs=2), held_out)
    assert np.array_equal(made.images, plain.images)
    assert np.array_equal(made.history.loss, plain.history.loss)
    assert made.learning_rate == plain.learning_rate
    validation = made.history.validation
    assert validation is not None
    assert list(validation.iteration) == [0, 2, 3]
    assert validation.correct.shape == (3, 2, 3, 4)
    assert (validation.total == 3).all()
    assert (plain.history.validation, plain.kept_iteration, made.kept_iteration) == (None, None, 3)


@pytest.mark.parametrize("words", [{"decoding": "group-maps"}, {"decoding": "frequency"}, {"match": "cells", "ipc": 4}])
def test_every_decoding_is_validated_as_it_is_evaluated(held_out: BiasedDataset, words: dict[str, str]) -> None:
    plain = run(plan(iterations=2, **words), held_out)
    made = run(plan(iterations=2, validate=2, validate_epochs=2, keep="best", **words), held_out)
    assert made.history.validation is not None
    if made.kept_iteration == 2:
        assert np.array_equal(made.images, plain.images)
    data = synthetic_data(made, open_runtime("cpu"))
    trial = Trials(
        data.images,
        torch.from_numpy(data.labels),
        replace(data.training, epochs=2),
        held_out.validation(),
        ImageStore(held_out.validation().images, held_out.mean, held_out.std, open_runtime("cpu")),
        open_runtime("cpu"),
        Streams(3).child("validation"),
        NullProgress(),
    )
    correct = trial.test(trial.train(parse_network(NETWORK), 0)).diagonal(dim1=0, dim2=2).T
    kept = made.history.validation.position(made.kept_iteration)
    assert np.array_equal(made.history.validation.correct[kept, 0], correct)


@pytest.mark.parametrize("method", ["dm", "mtt"])
def test_the_best_images_are_those_of_a_run_that_ended_there(
    held_out: BiasedDataset, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for best in (0, 2, 4):
        score = property(lambda self, best=best: -np.abs(self.iteration - best))
        monkeypatch.setattr(ValidationHistory, "score", score)
        made = run(plan(method, validate=1, validate_networks=1, validate_epochs=1, keep="best"), held_out)
        assert made.kept_iteration == best
        until_then = run(plan(method, iterations=best), held_out)
        assert np.array_equal(made.images, until_then.images)
        assert made.learning_rate == until_then.learning_rate
        assert len(made.history.loss) == made.iterations == 5


def test_the_score_rises_with_accuracy_and_falls_with_unfairness() -> None:
    generator = Streams(0).numpy("score")
    total = np.full((3, 2), 10)
    made = ValidationHistory(np.arange(6), generator.integers(0, 11, (6, 2, 3, 2)), total)
    best_group = (made.correct / 10).max(axis=-1).mean(axis=(1, 2))
    np.testing.assert_allclose(
        made.score, best_group - METRICS["deo_mean"](Confusion.of_cells(made.correct, total)).mean(axis=1)
    )
    accurate, unfair, failing = np.full((3, 2), 8), np.array([[10, 4]] * 3), np.array([[10, 10], [0, 0], [0, 0]])
    order = ValidationHistory(np.arange(3), np.stack([unfair, accurate, failing])[:, None], total)
    assert order.best == 1
    assert order.score[2] < order.score[0], "a network that knows one class only is fair, but worth nothing"
    one_group = ValidationHistory(np.arange(1), accurate[None, None], np.array([[10, 0]] * 3))
    assert one_group.score[0] == pytest.approx(0.8)


def test_every_validation_starts_from_the_same_networks(held_out: BiasedDataset) -> None:
    still = run(plan(validate=1, validate_epochs=2, options={"learning_rate": "0"}), held_out).history.validation
    assert still is not None
    assert (still.correct == still.correct[0]).all()
    assert not (still.correct[:, 0] == still.correct[:, 1]).all(), "but its networks differ"


def test_the_test_split_is_never_looked_at(held_out: BiasedDataset) -> None:
    class Unread(MemoryImages):
        def take(self, indices: np.ndarray) -> np.ndarray:
            raise AssertionError("the test split was read")

        def all(self) -> np.ndarray:
            raise AssertionError("the test split was read")

    unread = Unread(held_out.test.images.all())
    hidden = replace(held_out, test=replace(held_out.test, images=unread))
    assert run(plan(validate=2, validate_epochs=1, keep="best"), hidden).history.validation is not None


def test_stopping_at_any_word_of_progress_changes_nothing(held_out: BiasedDataset, tmp_path: Path) -> None:
    config = plan(validate=2, validate_epochs=2, keep="best")
    runtime, output = open_runtime("cpu"), str(tmp_path / "s.h5")
    whole = run_distillation(config, held_out, runtime, counting := StopAt(0))
    assert whole.history.validation is not None
    task = run_fingerprint(config, held_out, runtime)
    for after in Streams(1).numpy("stop").integers(1, counting.heard, 15):
        with pytest.raises(Stop), Checkpoints(output, task, 3) as checkpoints:
            run_distillation(config, held_out, runtime, StopAt(int(after)), checkpoints=checkpoints)
        with Checkpoints(output, task, 3) as checkpoints:
            assert checkpoints.state is not None
            found = run_distillation(config, held_out, runtime, NullProgress(), checkpoints=checkpoints)
        assert found.history.validation is not None
        assert np.array_equal(found.images, whole.images)
        assert found.kept_iteration == whole.kept_iteration
        assert np.array_equal(found.history.validation.correct, whole.history.validation.correct)
        assert np.array_equal(found.history.validation.iteration, [0, 2, 4, 5])


def test_a_checkpoint_without_its_best_images_is_refused(held_out: BiasedDataset, tmp_path: Path) -> None:
    config, output = plan(validate=2, validate_epochs=1, keep="best"), str(tmp_path / "s.h5")
    with pytest.raises(Stop), Checkpoints(output) as checkpoints:
        run_distillation(config, held_out, open_runtime("cpu"), StopAt(12), checkpoints=checkpoints)
    for name in ("best.images", "validation"):
        checkpoints = Checkpoints(output)
        assert checkpoints.state is not None
        tensors = {key: tensor for key, tensor in checkpoints.state.tensors.items() if key != name}
        checkpoints.state = replace(checkpoints.state, tensors=tensors)
        with pytest.raises(UsageError, match="does not hold the state of this run"):
            run_distillation(config, held_out, open_runtime("cpu"), NullProgress(), checkpoints=checkpoints)


def test_the_command_says_writes_and_draws_it(fairdd: Fairdd, held_out: BiasedDataset, tmp_path: Path) -> None:
    words = ["distill", "toy.h5", "--method", "dm", "--fair", *QUICK, "--iterations", 4]
    said = fairdd(*words, "--validate", 3, "--keep", "best", "--verbose", "-o", "s.h5").stderr
    assert "caution: 12 of 12 cells have fewer than 30 validation images (the smallest 3)" in said
    assert "validation after 3 iterations: Accuracy " in said
    assert "\nvalidation: Accuracy " in said
    made = read_synthetic(str(tmp_path / "s.h5"))
    assert made.history.validation is not None
    assert made.kept_iteration == made.history.validation.iteration[made.history.validation.best]
    assert f"after {made.kept_iteration} iteration" in said
    chosen = ("validate", "validate_networks", "validate_epochs", "keep")
    assert [made.options[name] for name in chosen] == [3, 2, 3, "best"]
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["history/validation/correct"].shape == (3, 2, 3, 4)
        assert file.attrs["kept_iteration"] == made.kept_iteration
    assert in_words(
        made.history.validation.correct[made.history.validation.best], made.history.validation.total
    ) in fairdd("inspect", "s.h5", env={**os.environ, "COLUMNS": "300"}).stdout.replace("\n", " ")
    fairdd("evaluate", "s.h5", "--epochs", 1, "--seeds", 1, "-o", "e.json")
    fairdd("report", "e.json", "--synthetic", "s.h5", "--picture", "loss", "--plot", "loss.svg")
    assert "validation (%)" in (tmp_path / "loss.svg").read_text()


def test_without_it_no_word_of_it_is_in_the_file(fairdd: Fairdd, held_out: BiasedDataset, tmp_path: Path) -> None:
    words = ["distill", "toy.h5", "--method", "dm", "--fair", "--ipc", 2, "--network", NETWORK, "--iterations", 3]
    fairdd(*words, "-o", "plain.h5")
    fairdd(*words, "--validate", 2, "--validate-epochs", 1, "-o", "last.h5")
    plain, last = (read_synthetic(str(tmp_path / name)) for name in ("plain.h5", "last.h5"))
    assert np.array_equal(last.images, plain.images)
    assert set(last.options) - set(plain.options) == {"validate", "validate_networks", "validate_epochs", "keep"}
    with h5py.File(tmp_path / "plain.h5") as file:
        assert "validation" not in file["history"]
        assert "kept_iteration" not in file.attrs


def test_it_works_in_pipes(held_out: BiasedDataset, tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("fairdd"))
    words = ["distill", "-", "--method", "dm", *map(str, QUICK), "--iterations", "2", "--decoding", "frequency"]
    piped = subprocess.run(
        [program, *words, "--validate", "1", "--keep", "best", "-o", "-"],
        input=Path(held_out.path).read_bytes(),
        capture_output=True,
        check=True,
    )
    (tmp_path / "piped.h5").write_bytes(piped.stdout)
    made = read_synthetic(str(tmp_path / "piped.h5"))
    assert made.decoding.startswith("frequency")
    assert made.history.validation is not None
    assert len(made.history.validation.iteration) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--method", "dm", "--validate", 2],
            "has no validation split; make one with 'fairdd make-dataset … --holdout",
        ),
        (["--method", "dm", "--keep", "best"], "--keep best needs validations; say after how many iterations with"),
        (["--method", "dm", "--validate-epochs", 2], "--validate-epochs needs validations"),
        (["--method", "dm", "--validate-networks", 2], "--validate-networks needs validations"),
        (["--method", "random", "--validate", 2], "--validate has no effect without iterations"),
    ],
)
def test_what_cannot_be_validated_is_refused_in_a_line(
    fairdd: Fairdd, toy: BiasedDataset, words: list[object], message: str
) -> None:
    refused = fairdd("distill", "toy.h5", *words, "--ipc", 1, "-o", "s.h5", check=False)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"correct": np.full((2, 1, 3, 4), 9)}, "must lie between 0 and 'total'"),
        ({"correct": np.zeros((3, 1, 3, 4), int)}, "differ in length"),
        ({"total": np.full((3, 3), 5)}, "differ in length"),
        ({"iteration": np.array([2, 2])}, "should rise within"),
        ({"iteration": np.array([0, 99])}, "should rise within"),
    ],
)
def test_unsound_validations_are_refused(
    held_out: BiasedDataset, tmp_path: Path, changes: dict[str, np.ndarray], message: str
) -> None:
    made = run(plan(), held_out)
    sound = ValidationHistory(np.array([0, 2]), np.ones((2, 1, 3, 4), int), np.full((3, 4), 5))
    for history, refused in ((sound, False), (replace(sound, **changes), True)):
        path = str(tmp_path / "s.h5")
        write_synthetic(path, replace(made, history=replace(made.history, validation=history), kept_iteration=2))
        if refused:
            with pytest.raises(UsageError, match=message):
                read_synthetic(path)
        else:
            assert read_synthetic(path).kept_iteration == 2
    write_synthetic(path, replace(made, kept_iteration=9))
    with pytest.raises(UsageError, match="kept_iteration"):
        read_synthetic(path)


def test_the_figure_shows_which_images_were_kept(held_out: BiasedDataset) -> None:
    made = run(plan(validate=2, validate_epochs=1), held_out)
    axes = loss_curves([made, run(plan(), held_out)]).axes
    assert [each.get_ylabel() for each in axes[1:]] == ["validation (%)"]
    assert made.history.validation is not None
    kept = [line for line in axes[1].lines if line.get_marker() == "o"]
    confusion = Confusion.of_cells(made.history.validation.correct[-1], made.history.validation.total)
    expected = [100 * METRICS[name](confusion).mean() for name in ("accuracy", "deo_max", "deo_mean")]
    np.testing.assert_allclose([line.get_ydata()[0] for line in kept], expected)
    assert {line.get_xdata()[0] for line in kept} == {5}
