"""Nothing is lost: a run that was killed or interrupted continues, and ends as if it had not been."""

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import resolved, write_toy
from kill import NETWORK, RUNS, campaign, start
from tiny import TINY

import fairdd_cli
from fairdd_cli.artifacts import (
    BiasedDataset,
    Checkpoint,
    Evaluation,
    lock_output,
    read_checkpoint,
    read_dataset,
    write_checkpoint,
)
from fairdd_cli.distill import ResolvedConfig, run_distillation, run_fingerprint
from fairdd_cli.errors import UsageError, WorkError
from fairdd_cli.evaluate import run_evaluation, whole_data
from fairdd_cli.matching.run import Run
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import Checkpoints, NullProgress, Progress, State, Streams, open_runtime
from fairdd_cli.runtime.checkpoints import CONTINUED
from fairdd_cli.training import TrainingConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small data set."""
    write_toy(tmp_path / "toy.h5", np.array([[9, 3, 0, 2], [2, 9, 1, 3], [4, 3, 2, 9]]))
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if name != "compiled"])  # whose lives are long
def test_a_killed_run_ends_like_one_that_was_left_alone(folder: Path, name: str) -> None:
    campaign(name, folder, kills=3)  # tests/campaigns/kill.py does more


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain")
        time.sleep(0.01)


def under_way(folder: Path) -> bool:
    """Whether the run of s.h5 has completed an iteration."""
    path = folder / "s.h5.checkpoint"
    return path.exists() and read_checkpoint(str(path)).done > 0


def said(folder: Path) -> str:
    return (folder / "said").read_text() if (folder / "said").exists() else ""


LONG = ["distill", "toy.h5", "--method", "gm", "--fair", "--ipc", 2, "--iterations", 10**6, *NETWORK]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_where_its_state_is_and_continues(folder: Path, number: int) -> None:
    process = start([*LONG, "-o", "s.h5", "--checkpoint-every", 0], folder)
    wait_for(lambda: under_way(folder))
    os.kill(process.pid or 0, number)
    process.join(60)
    assert process.exitcode == 130
    assert names(folder) == {"toy.h5", "said", "s.h5.checkpoint"}
    assert "interrupted" in said(folder)
    assert "the same command continues it" in said(folder)
    state = read_checkpoint(str(folder / "s.h5.checkpoint"))
    assert state.done > 0
    process = start([*LONG, "-o", "s.h5", "--checkpoint-every", 0], folder)
    wait_for(lambda: f"continuing after {state.done} steps" in said(folder))
    os.kill(process.pid or 0, number)
    os.kill(process.pid or 0, number)
    process.join(60)
    assert process.exitcode == 130
    assert read_checkpoint(str(folder / "s.h5.checkpoint")).done >= state.done


def test_an_interrupt_before_the_first_checkpoint_is_due_saves_the_state(folder: Path) -> None:
    process = start([*LONG, "-o", "s.h5"], folder)
    wait_for(lambda: "about" in said(folder))
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(60)
    assert read_checkpoint(str(folder / "s.h5.checkpoint")).done > 0


def test_the_second_run_of_one_output_is_refused_while_the_first_lives(folder: Path) -> None:
    first = start([*LONG, "-o", "s.h5", "--checkpoint-every", 0], folder)
    wait_for(lambda: under_way(folder))
    second = start([*LONG, "-o", "s.h5"], folder)
    second.join(60)
    assert second.exitcode == 2
    assert f"being written by another fairdd (process {first.pid})" in said(folder)
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    with lock_output(str(folder / "s.h5")):  # the lock died with its process
        assert ".s.h5.lock" in names(folder)
    assert names(folder) == {"toy.h5", "said", "s.h5.checkpoint"}


class Stop(BaseException):
    """Ends a run in the process of the test."""


class StopAt(NullProgress):
    """Progress that ends the run when it is heard for the `after`th time."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.heard = 0

    def advance(self, amount: float, loss: float | None = None) -> None:
        self.heard += 1
        if self.heard == self.after:
            raise Stop


def plan_of(method: str, words: Mapping[str, Any] | None = None, **options: str) -> ResolvedConfig:
    """A short run of `method` with its own `options`, and with other `words` of distill."""
    usual = {"fairness": "fairdd", "ipc": 2, "factor": 1, "iterations": 6, "seed": 3}
    network = parse_network("convnet:width=4,depth=1")
    return resolved(method, network=network, options=options, **{**usual, **(words or {})})


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((method, TINY[method]) for method in ("dm", "cafe", "gm", "dsa")),
        *(("dm", {"distance": distance, "num_freqs": "16"}) for distance in ("m3d", "ncfm")),
    ],
)
def test_stopping_at_any_word_of_progress_changes_nothing(folder: Path, method: str, options: dict[str, str]) -> None:
    dataset, runtime = read_dataset(str(folder / "toy.h5")), open_runtime("cpu")
    plan = plan_of(method, **options)
    whole = run_distillation(plan, dataset, runtime, counting := StopAt(0))
    output = str(folder / "s.h5")
    for after in Streams(1).numpy("stop").integers(1, counting.heard, 20):
        with pytest.raises(Stop), Checkpoints(output, run_fingerprint(plan, dataset, runtime), 3) as checkpoints:
            run_distillation(plan, dataset, runtime, StopAt(int(after)), checkpoints=checkpoints)
        with Checkpoints(output, run_fingerprint(plan, dataset, runtime), 3) as checkpoints:
            assert checkpoints.state is not None
            found = run_distillation(plan, dataset, runtime, NullProgress(), checkpoints=checkpoints)
        assert np.array_equal(found.images, whole.images)
        assert np.array_equal(found.history.loss, whole.history.loss)
    assert names(folder) == {"toy.h5"}


TRAINED = {"trained_networks": 2, "trained_epochs": 2, "cross_entropy": 0.3}


@pytest.mark.parametrize(
    "words",
    [
        {**TRAINED, "match": "cells", "factor": 2},
        {**TRAINED, "match": "cells", "decoding": "group-maps:channels=1"},
        {**TRAINED, "decoding": "frequency"},
    ],
    ids=["tiles", "group-maps", "frequency"],
)
def test_stopping_with_every_ingredient_changes_nothing(folder: Path, words: dict[str, Any]) -> None:
    dataset, runtime, networks = read_dataset(str(folder / "toy.h5")), open_runtime("cpu"), "toy.networks-balanced.h5"
    plan = plan_of("dm", words)
    whole = run_distillation(plan, dataset, runtime, counting := StopAt(0))
    output = str(folder / "s.h5")
    for after in Streams(3).numpy("stop").integers(1, counting.heard, 12):
        (folder / networks).unlink()  # so that some runs are stopped while the networks are trained
        with pytest.raises(Stop), Checkpoints(output, run_fingerprint(plan, dataset, runtime), 3) as checkpoints:
            run_distillation(plan, dataset, runtime, StopAt(int(after)), checkpoints=checkpoints)
        with Checkpoints(output, run_fingerprint(plan, dataset, runtime), 3) as checkpoints:
            found = run_distillation(plan, dataset, runtime, NullProgress(), checkpoints=checkpoints)
        assert np.array_equal(found.images, whole.images)
        assert np.array_equal(found.history.loss, whole.history.loss)
        assert found.options["experts"] == whole.options["experts"]
        assert {name: table.tolist() for name, table in found.tables.items()} == {
            name: table.tolist() for name, table in whole.tables.items()
        }
        assert names(folder) == {"toy.h5", networks}


@pytest.mark.parametrize("method", ["herding", "kcenter"])
def test_a_coreset_that_is_stopped_while_its_network_is_trained_is_chosen_the_same(folder: Path, method: str) -> None:
    dataset, runtime = read_dataset(str(folder / "toy.h5")), open_runtime("cpu")
    plan = plan_of(method, embedding_epochs="5")
    whole = run_distillation(plan, dataset, runtime, counting := StopAt(0))
    assert counting.heard > 3
    output = str(folder / "s.h5")
    for after in (1, counting.heard // 2, counting.heard):
        with pytest.raises(Stop), Checkpoints(output, run_fingerprint(plan, dataset, runtime), 3) as checkpoints:
            run_distillation(plan, dataset, runtime, StopAt(after), checkpoints=checkpoints)
        with Checkpoints(output, run_fingerprint(plan, dataset, runtime), 3) as checkpoints:
            found = run_distillation(plan, dataset, runtime, NullProgress(), checkpoints=checkpoints)
        assert np.array_equal(found.images, whole.images)
    assert names(folder) == {"toy.h5"}


def test_stopping_an_evaluation_at_any_word_of_progress_changes_nothing(folder: Path) -> None:
    dataset, runtime = read_dataset(str(folder / "toy.h5")), open_runtime("cpu")
    data = replace(whole_data(dataset, runtime), training=TrainingConfig(epochs=3))
    networks = [parse_network("convnet:width=4,depth=1"), parse_network("mlp:width=8")]

    def run(progress: Progress, checkpoints: Checkpoints) -> Evaluation:
        return run_evaluation(data, dataset, networks, 3, 5, runtime, progress, checkpoints=checkpoints)

    whole = run(counting := StopAt(0), Checkpoints())
    output = str(folder / "e.json")
    for after in Streams(2).numpy("stop").integers(1, counting.heard, 20):
        with pytest.raises(Stop), Checkpoints(output) as checkpoints:
            run(StopAt(int(after)), checkpoints)
        with Checkpoints(output) as checkpoints:
            assert checkpoints.state is not None
            found = run(NullProgress(), checkpoints)
        assert all(np.array_equal(found.confusion[name], table) for name, table in whole.confusion.items())
    assert names(folder) == {"toy.h5"}


def test_what_a_method_carries_on_is_part_of_its_state(toy: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, runtime = plan_of("dm"), open_runtime("cpu")
    step, prepare = type(plan.algorithm).step, type(plan.algorithm).prepare

    def prepared(self: MethodBase, run: Run) -> None:
        prepare(self, run)
        run.state["rate"] = torch.tensor(0.5)  # without dimensions
        run.state["seen"] = torch.zeros(3, dtype=torch.int64)

    def stepped(self: MethodBase, run: Run, iteration: int) -> torch.Tensor:
        run.synthetic.configure_optimizer(float(run.state["rate"]), 0.5)
        run.state["rate"] *= 1.5
        run.state["seen"] += iteration
        return step(self, run, iteration)

    monkeypatch.setattr(type(plan.algorithm), "step", stepped)
    monkeypatch.setattr(type(plan.algorithm), "prepare", prepared)
    whole = run_distillation(plan, toy, runtime, NullProgress())
    output = toy.path + ".out"
    with pytest.raises(Stop), Checkpoints(output) as checkpoints:
        run_distillation(plan, toy, runtime, StopAt(7), checkpoints=checkpoints)
    state = read_checkpoint(output + ".checkpoint").state
    assert set(state) == {"history.unbiased", "images", "momentum", "state.rate", "state.seen"}
    with Checkpoints(output) as checkpoints:
        found = run_distillation(plan, toy, runtime, NullProgress(), checkpoints=checkpoints)
    assert np.array_equal(found.images, whole.images)


def test_another_task_is_refused_and_named_and_restart_discards(tmp_path: Path) -> None:
    output = str(tmp_path / "s.h5")
    state = State(3, 1.5, {"images": torch.ones(2, 3)})
    options = {"ipc": 1, "hyper": {"outer_loop": 2, "inner_loop": 5}, "data set": "sha256:aa"}

    def fail(task: dict[str, Any], seed: int) -> None:
        with Checkpoints(output, task, seed) as checkpoints:
            checkpoints.update(state)
            raise Stop

    with pytest.raises(Stop):
        fail(options, 0)
    for other, seed, words in (
        ({**options, "ipc": 2}, 0, r"ipc \(there 1, here 2\)"),
        ({**options, "hyper": {"outer_loop": 2}}, 0, r"-O inner_loop \(there 5, here nothing\)"),
        ({**options, "data set": "sha256:bb"}, 0, "data set"),
        (options, 7, r"seed \(there 0, here 7\)"),
    ):
        with pytest.raises(UsageError, match=words):
            Checkpoints(output, other, seed)
    assert Checkpoints(output, options).state is not None
    assert Checkpoints(output, {}, restart=True).state is None
    assert not list(tmp_path.iterdir())


def test_other_experts_are_not_continued_with(toy: BiasedDataset, tmp_path: Path) -> None:
    options = dict(TINY["mtt"])
    network, output = parse_network("convnet:width=4,depth=2"), toy.path + ".out"

    def plan(seed: int, iterations: int) -> ResolvedConfig:
        path = str(tmp_path / f"experts-{seed}.h5")
        given = {"fairness": "vanilla", "ipc": 1, "network": network, "options": options, "experts": path}
        return resolved("mtt", seed=seed, iterations=iterations, **given)  # type: ignore[arg-type]

    for seed in (0, 1):
        run_distillation(plan(seed, 0), toy, open_runtime("cpu"), NullProgress())
    with pytest.raises(Stop), Checkpoints(output) as checkpoints:
        run_distillation(plan(0, 4), toy, open_runtime("cpu"), StopAt(5), checkpoints=checkpoints)
    swapped = replace(plan(0, 4), experts=str(tmp_path / "experts-1.h5"))
    with pytest.raises(UsageError, match="other experts than"), Checkpoints(output) as checkpoints:
        run_distillation(swapped, toy, open_runtime("cpu"), NullProgress(), checkpoints=checkpoints)
    with Checkpoints(output) as checkpoints:
        found = run_distillation(plan(0, 4), toy, open_runtime("cpu"), NullProgress(), checkpoints=checkpoints)
    assert np.array_equal(found.images, run_distillation(plan(0, 4), toy, open_runtime("cpu"), NullProgress()).images)


def test_a_damaged_checkpoint_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "s.h5.checkpoint").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(UsageError, match="--restart"):
        Checkpoints(str(tmp_path / "s.h5"))
    foreign = Checkpoint({"fairdd": fairdd_cli.__version__}, 0, 3, 1.0, {"images": np.ones((2, 2), np.float32)})
    write_checkpoint(str(tmp_path / "s.h5.checkpoint"), foreign)
    checkpoints = Checkpoints(str(tmp_path / "s.h5"))
    with pytest.raises(UsageError, match="does not hold the state of this run"):
        checkpoints.check({"images": torch.ones(2, 3)}, 10)
    with pytest.raises(UsageError, match="does not hold the state of this run"):
        checkpoints.check({"images": torch.ones(2, 2)}, 2)


@pytest.mark.parametrize("version", [*CONTINUED, fairdd_cli.__version__, "0.0.9"])
def test_a_run_is_continued_by_versions_that_take_it_to_the_same_result(tmp_path: Path, version: str) -> None:
    images = np.ones((2, 2), np.float32)
    write_checkpoint(str(tmp_path / "s.h5.checkpoint"), Checkpoint({"fairdd": version}, 0, 3, 1.0, {"images": images}))
    if version == "0.0.9":
        with pytest.raises(UsageError, match=rf"fairdd \(there 0.0.9, here {re.escape(fairdd_cli.__version__)}\)"):
            Checkpoints(str(tmp_path / "s.h5"))
        return
    state = Checkpoints(str(tmp_path / "s.h5")).state
    assert state is not None
    assert state.done == 3


def test_divergence_keeps_the_last_sound_state(folder: Path) -> None:
    plan, dataset, runtime = plan_of("gm", learning_rate="1e30"), read_dataset(str(folder / "toy.h5")), open_runtime()
    words = re.compile("diverged at iteration.*Lower the step size", re.DOTALL)
    with pytest.raises(WorkError, match=words) as failed, Checkpoints(str(folder / "s.h5")) as checkpoints:
        run_distillation(plan, dataset, runtime, NullProgress(), checkpoints=checkpoints)
    assert failed.value.__notes__[0].endswith("s.h5.checkpoint': --restart discards it.")
    assert np.isfinite(read_checkpoint(str(folder / "s.h5.checkpoint")).state["images"]).all()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_step_that_runs_out_of_memory_is_repeated_in_smaller_pieces(toy: BiasedDataset, error: Exception) -> None:
    plan = plan_of("dm")
    whole = run_distillation(plan, toy, open_runtime("cpu"), NullProgress())

    class Full(NullProgress):
        heard = 0

        def advance(self, amount: float, loss: float | None = None) -> None:
            self.heard += amount > 0  # the loop's own reports lie outside of the step
            if amount > 0 and self.heard in (5, 8):
                raise error

    runtime = open_runtime("cpu")
    found = run_distillation(plan, toy, runtime, Full())
    assert runtime.micro_batch == 8
    np.testing.assert_allclose(found.images, whole.images, rtol=1e-4, atol=1e-5)

    class AlwaysFull(NullProgress):
        def advance(self, amount: float, loss: float | None = None) -> None:
            raise error

    with pytest.raises(WorkError, match="one image at a time"):
        run_distillation(plan, toy, open_runtime("cpu"), AlwaysFull())


def test_another_error_is_not_taken_for_a_lack_of_memory(toy: BiasedDataset) -> None:
    def fail() -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        open_runtime("cpu").retry_on_oom(8, fail, fail)
