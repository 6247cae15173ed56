"""A step waits for nothing from its device and mixes nothing of it with the host's, as far as can be told without one.

Tensors on torch's device "meta" have a shape and no values: an operation that needs a value on the host, or has one
operand there, fails on them, where on a GPU it would wait for the queue to empty, or fail as well. What copies from the
host and waits for it is noticed on its way.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import resolved, write_toy
from tiny import TINY
from torch.utils._python_dispatch import TorchDispatchMode

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.distill import ResolvedConfig, run_distillation, start_run, use_experts
from fairdd_cli.evaluate import run_evaluation, synthetic_data
from fairdd_cli.fairness import find_strategy
from fairdd_cli.matching.run import Run
from fairdd_cli.methods import METHODS
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import NullProgress, Runtime, open_runtime
from fairdd_cli.training import TrainingConfig

NETWORK = "convnet:width=4,depth=1"


class Elsewhere(Runtime):
    """A device that takes orders and never answers; like a GPU, it takes all classes at once."""

    @contextmanager
    def autocast(self) -> Iterator[None]:
        yield  # torch has no autocast for it


class Answers(TorchDispatchMode):
    """A block in which the device answers after all: a number is one half, an integer 0, a word yes."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        one = func is torch.ops.aten._local_scalar_dense.default
        if one or (func is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu")):
            answer = torch.full(args[0].shape, 0.5, device="cpu").to(kwargs.get("dtype") or args[0].dtype)
            if args[0].device.type == "meta":
                return answer.item() if one else answer
        return func(*args, **kwargs)


class Launches(TorchDispatchMode):
    """A block that counts the operations on the device, but for those that only look at a tensor in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        first = found[0] if isinstance(found, tuple | list) else found
        self.count += isinstance(first, torch.Tensor) and first.device.type == "meta" and not func.is_view
        return found


class NoWaitingCopies(TorchDispatchMode):
    """A block in which a copy from the host that waits is an error."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        copied = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source, waits = args[len(args) > 1], not ((kwargs or {}).get("non_blocking") or (len(args) > 2 and args[2]))
            assert not (waits and source.device.type == "cpu" and copied.device.type != "cpu"), func
        return copied


def plan_of(
    method: str, fairness: str, folder: Path, options: Mapping[str, str] | None = None, network: str = NETWORK
) -> ResolvedConfig:
    return resolved(
        method,
        fairness=fairness,
        init=None if METHODS.load(method).Method.selects_by_cell else "real",
        ipc=2,
        factor=1,
        iterations=1,
        network=parse_network(network),
        options=dict(TINY[method] if options is None else options),
        experts=str(folder / f"{method}.h5") if METHODS.load(method).Method.uses_experts else "",
    )


def run_of(
    dataset: BiasedDataset,
    method: str,
    fairness: str,
    runtime: Runtime,
    folder: Path,
    options: Mapping[str, str] | None = None,
    network: str = NETWORK,
) -> tuple[MethodBase, Run]:
    plan = plan_of(method, fairness, folder, options, network)
    algorithm = plan.algorithm.for_data(dataset, plan.ipc)
    plan = replace(plan, algorithm=algorithm)
    run = start_run(plan, dataset, runtime, NullProgress(), "device")
    use_experts(run, plan, dataset)
    algorithm.prepare(run)
    return algorithm, run


@pytest.fixture
def elsewhere() -> Runtime:
    return Elsewhere(torch.device("meta"))


@pytest.mark.parametrize("fairness", ["vanilla", "fairdd", "barycenter", "inverse", "groupdro"])
@pytest.mark.parametrize("method", ["dm", "cafe", "gm", "dsa", "idc"])  # dream and kde look at images on the host
def test_a_step_never_waits_for_its_device(
    toy: BiasedDataset, method: str, fairness: str, elsewhere: Runtime, tmp_path: Path
) -> None:
    algorithm, run = run_of(toy, method, fairness, elsewhere, tmp_path)
    with NoWaitingCopies():
        assert algorithm.step(run, 0).device.type == "meta"


@pytest.mark.parametrize("fairness", ["vanilla", "fairdd", "barycenter"])
@pytest.mark.parametrize("distance", ["m3d", "ncfm"])
def test_distances_of_distributions_never_wait_for_their_device(
    toy: BiasedDataset, distance: str, fairness: str, elsewhere: Runtime, tmp_path: Path
) -> None:
    algorithm, run = run_of(toy, "dm", fairness, elsewhere, tmp_path, {"distance": distance})
    with NoWaitingCopies():
        assert algorithm.step(run, 0).device.type == "meta"


@pytest.mark.parametrize("fairness", ["vanilla", "fairdd", "kde"])
@pytest.mark.parametrize("method", TINY)
def test_a_whole_run_keeps_host_and_device_apart(
    toy: BiasedDataset, method: str, fairness: str, elsewhere: Runtime, tmp_path: Path
) -> None:
    kind = METHODS.load(method).Method
    uses_strategy = kind.matches or (kind.selects_by_cell and find_strategy(fairness).uses_groups)
    if fairness != "vanilla" and not uses_strategy:
        pytest.skip("refused: the strategy would change nothing")
    with Answers():
        synthetic = run_distillation(plan_of(method, fairness, tmp_path), toy, elsewhere, NullProgress(), "device")
        assert synthetic.images.shape == (6, *toy.shape)
        data = synthetic_data(replace(synthetic, evaluation=TrainingConfig(epochs=2).to_json()), elsewhere)
        found = run_evaluation(
            data, toy, [parse_network("convnet:width=4,depth=1")], 2, 0, elsewhere, NullProgress(), "device"
        )
    assert [table.shape for table in found.confusion.values()] == [(2, 3, 4, 3)]


@pytest.mark.parametrize("fairness", ["vanilla", "fairdd", "barycenter", "inverse"])
def test_a_step_asks_no_more_of_its_device_for_more_classes_and_groups(
    fairness: str, elsewhere: Runtime, tmp_path: Path
) -> None:
    counts = []
    for classes, groups in ((2, 2), (7, 5)):
        data = write_toy(tmp_path / f"{classes}.h5", np.full((classes, groups), 4))
        algorithm, run = run_of(data, "dm", fairness, elsewhere, tmp_path, {"augmentation": "flip"})
        with Launches() as launches:
            algorithm.step(run, 0)
        counts.append(launches.count)
    assert 0 < counts[0] == counts[1] < 100


def test_batch_statistics_never_wait_for_their_device(toy: BiasedDataset, elsewhere: Runtime, tmp_path: Path) -> None:
    algorithm, run = run_of(toy, "gm", "fairdd", elsewhere, tmp_path, network=f"{NETWORK},norm=batch")
    with NoWaitingCopies():
        algorithm.step(run, 0)


@pytest.mark.parametrize("fairness", ["vanilla", "fairdd"])
@pytest.mark.parametrize("method", ["mtt", "dance"])
def test_a_step_with_experts_never_waits_for_its_device(
    toy: BiasedDataset, method: str, fairness: str, elsewhere: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(toy, method, fairness, open_runtime("cpu"), tmp_path)  # makes the experts
    monkeypatch.setattr("fairdd_cli.methods._start.load_or_train_experts", lambda spec, *_: spec.read())
    algorithm, run = run_of(toy, method, fairness, elsewhere, tmp_path)
    with NoWaitingCopies():
        assert algorithm.step(run, 0).device.type == "meta"


def test_training_never_waits_for_its_device(toy: BiasedDataset, elsewhere: Runtime, tmp_path: Path) -> None:
    _, run = run_of(toy, "dm", "vanilla", elsewhere, tmp_path)
    with NoWaitingCopies():
        network = run.networks.fresh()
        run.networks.train_on_synthetic(network, TrainingConfig(epochs=2, cutmix=1.0), 0)
    assert all(parameter.device.type == "meta" for parameter in network.parameters())


def test_waiting_and_mixing_are_noticed() -> None:
    there = torch.ones(3, device="meta")
    for careless in (lambda: bool(there.sum() > 0), lambda: there.cpu().numpy(), lambda: there + torch.ones(3)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            careless()
    for careless in (lambda: torch.ones(3).to("meta"), lambda: there.copy_(torch.ones(3))):
        with NoWaitingCopies(), pytest.raises(AssertionError):
            careless()
    with NoWaitingCopies():
        torch.ones(3).to("meta", non_blocking=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("fairness", ["vanilla", "fairdd"])
@pytest.mark.parametrize("method", ["dm", "cafe", "gm", "dsa", "idc"])
def test_a_step_never_waits_for_its_gpu(toy: BiasedDataset, method: str, fairness: str, tmp_path: Path) -> None:
    algorithm, run = run_of(toy, method, fairness, open_runtime("cuda"), tmp_path)
    algorithm.step(run, 0)  # the first sets up libraries
    with warnings.catch_warnings(action="ignore"):  # that this mode may change
        try:
            torch.cuda.set_sync_debug_mode("error")
            algorithm.step(run, 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
