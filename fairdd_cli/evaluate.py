"""Networks x seeds, trained on a synthetic set (or a whole data set), and their predictions on the test split."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import (
    STREAM,
    BiasedDataset,
    Evaluation,
    SyntheticSet,
    as_dataset,
    kind_of,
    read_dataset,
    read_synthetic,
)
from fairdd_cli.config import EvaluateConfig
from fairdd_cli.config.evaluate import PROTOCOL
from fairdd_cli.config.keywords import configure, documented
from fairdd_cli.decodings import stored_codec
from fairdd_cli.errors import DivergedError, UsageError
from fairdd_cli.methods._protocol import protocol_of
from fairdd_cli.networks import NetworkSpec, fusible_values, parse_network
from fairdd_cli.runtime import (
    Checkpoints,
    ImageStore,
    Progress,
    Runtime,
    State,
    Stopwatch,
    Streams,
    open_runtime,
    show_progress,
)
from fairdd_cli.training import TrainingConfig, TrainingImages, Trials, decoded_images, even_shares, parameter_vector
from fairdd_cli.training import augmentation as augment

PAIRED_CLASSES = 32  # most classes whose pairs are counted: a network's counts are classes^3 numbers
WHOLE = TrainingConfig(epochs=30)  # for a whole data set: as many image passes as 1,000 epochs of a set of 1,800


@dataclass(frozen=True)
class EvaluationInput:
    """What networks are trained on, and its provenance."""

    images: TrainingImages
    labels: np.ndarray  # int64 [N]
    training: TrainingConfig
    network: str
    provenance: Mapping[str, Any]  # the attributes of Evaluation that describe it
    options: Mapping[str, Any] = field(default_factory=dict)  # `distill`: how a synthetic set was made
    split: str = "test"  # of the data set, which networks are tested on: "val" to choose hyper-parameters
    protocol: str | None = None  # the method whose protocol was asked for
    weights: np.ndarray | None = None  # float64 [N]: how often an image is drawn for an epoch; None: once

    def tested_on(self) -> dict[str, str]:
        """The split as a record, where it is not the test split."""
        return {} if self.split == "test" else {"split": self.split}

    def asked_for(self) -> dict[str, str]:
        """The protocol's method as a record, where it was asked for."""
        return {} if self.protocol is None else {"protocol": self.protocol}


def synthetic_data(synthetic: SyntheticSet, runtime: Runtime) -> EvaluationInput:
    """The decoded images of `synthetic` and its own protocol."""
    codec = stored_codec(synthetic, runtime.device)
    training = TrainingConfig.from_json(dict(synthetic.evaluation), synthetic.path)
    if synthetic.learning_rate:
        training = replace(training, learning_rate=synthetic.learning_rate)
    provenance = {name: getattr(synthetic, name) for name in ("method", "fairness", "sampling", "ipc", "iterations")}
    return EvaluationInput(
        images=decoded_images(codec, runtime.to_device(synthetic.images)),
        labels=np.repeat(synthetic.labels, synthetic.factor**2),
        training=training,
        network=synthetic.network,
        provenance={**provenance, "synthetic_digest": synthetic.digest},
        options={
            "distill": {**synthetic.options, "seed": synthetic.seed},
            "stored": {"numbers": synthetic.stored_numbers, "equivalent_ipc": synthetic.equivalent_ipc},
            **({"distill_environment": dict(synthetic.environment)} if synthetic.environment else {}),
            **({"learned_rate": synthetic.learning_rate} if synthetic.learning_rate else {}),
        },
    )


def whole_data(
    dataset: BiasedDataset, runtime: Runtime, residency: str = "auto", sampling: str = "proportional"
) -> EvaluationInput:
    """The training split itself: the baseline without distillation, or the ceiling with balanced `sampling`."""
    left_out = () if dataset.mirror_keeps_class else ("flip",)
    return EvaluationInput(
        images=ImageStore(dataset.train.images, dataset.mean, dataset.std, runtime, residency),
        labels=dataset.train.labels,
        training=replace(WHOLE, augmentation=augment.without(WHOLE.augmentation, *left_out)),
        network="convnet",
        provenance={
            "method": "whole",
            "fairness": "vanilla",
            "sampling": sampling,
            "ipc": 0,
            "iterations": 0,
            "synthetic_digest": "",
        },
        weights=even_shares(dataset.train) if sampling == "balanced" else None,
    )


def check_match(synthetic: SyntheticSet, dataset: BiasedDataset) -> None:
    """Raises UsageError unless `dataset` is the one that `synthetic` was distilled from."""
    if synthetic.dataset_digest != dataset.digest:
        raise UsageError(
            f"{synthetic.where} was distilled from {synthetic.dataset} ({synthetic.dataset_digest[:19]}…), but "
            f"{dataset.where} is {dataset.name} ({dataset.digest[:19]}…); give the right one with --data"
        )
    if synthetic.shape != dataset.shape or synthetic.class_names != dataset.class_names:
        raise UsageError(f"{synthetic.where} and {dataset.where} differ in image size or classes")


def resolve_dataset_path(synthetic: SyntheticSet) -> str:
    """The path of the data set that `synthetic` was made from: as stored, or beside the synthetic set.

    Raises UsageError where it is at neither path.
    """
    stored = synthetic.dataset_path
    beside = stored and synthetic.path not in (STREAM, "")
    sibling = Path(synthetic.path).with_name(Path(stored).name) if beside else None
    for path in (Path(stored) if stored else None, sibling):
        if path is not None and os.path.isfile(path):  # noqa: PTH113  # also where a folder may not be looked into
            return str(path)
    reason = f"'{stored}' is not there" if stored else "it does not say where that is"
    raise UsageError(f"{synthetic.where} needs its data set {synthetic.dataset}, but {reason}; give it with --data")


def open_inputs(
    synthetic: SyntheticSet | BiasedDataset | str | os.PathLike[str],
    data: BiasedDataset | str | os.PathLike[str] | None = None,
) -> tuple[SyntheticSet | BiasedDataset, BiasedDataset]:
    """What is trained on and the data set to test on, read where they are paths (`-` is standard input).

    `synthetic` may be a data set, whose own test split is used. Without `data` it is where the synthetic set says.
    """
    if isinstance(synthetic, str | os.PathLike):
        path = os.fspath(synthetic)
        whole = path != STREAM and kind_of(path) == "fairdd/dataset"
        synthetic = read_dataset(path) if whole else read_synthetic(path)
    if isinstance(synthetic, BiasedDataset):
        if data is not None:
            raise UsageError(f"{synthetic.where} is a data set and brings its own test split; leave out --data")
        return synthetic, synthetic
    if not isinstance(synthetic, SyntheticSet):
        found = type(synthetic).__name__
        raise UsageError(f"a synthetic set, or a data set, is needed here; found {found}")
    synthetic = synthetic if synthetic.digest else synthetic.in_memory()
    return synthetic, as_dataset(resolve_dataset_path(synthetic) if data is None else data)


def prepare_input(
    config: EvaluateConfig, trained_on: SyntheticSet | BiasedDataset, dataset: BiasedDataset, runtime: Runtime
) -> EvaluationInput:
    """What networks are trained on, with the protocol and the split that `config` asks for."""
    if isinstance(trained_on, BiasedDataset):
        data = whole_data(trained_on, runtime, config.residency, config.sampling)
    elif config.sampling != "proportional":
        raise UsageError(
            f"--sampling {config.sampling} is for a whole data set; {trained_on.where} is a synthetic set, and every "
            "epoch has all of its images"
        )
    else:
        check_match(trained_on, dataset)
        data = synthetic_data(trained_on, runtime)
    if config.protocol is not None:
        training = protocol_of(config.protocol, dataset)
        if isinstance(trained_on, SyntheticSet) and trained_on.learning_rate:  # learned together with the images
            training = replace(training, learning_rate=trained_on.learning_rate)
        data = replace(data, training=training, protocol=config.protocol)
    given = {field: getattr(config, name) for name, field in PROTOCOL.items() if getattr(config, name) is not None}
    if "augmentation" in given:
        given["augmentation"] = augment.without(given["augmentation"])
    return replace(data, training=replace(data.training, **given), split=config.split)


@documented(EvaluateConfig)
def evaluate(
    synthetic: SyntheticSet | BiasedDataset | str | os.PathLike[str],
    data: BiasedDataset | str | os.PathLike[str] | None = None,
    **options: Any,
) -> Evaluation:
    """Trains networks on `synthetic` and counts what they predict on the test images of `data`, group by group.

    Both may be paths. `synthetic` may be a data set, for the baseline without distillation; `data` may be left out
    where the synthetic set knows its file. The counts are those of `fairdd evaluate` with the same options. Raises
    `UsageError` for an option that is unknown or does not fit, `WorkError` where a network diverges or memory runs out.

        evaluate(synthetic, data, network=["convnet", "resnet18"], seeds=3)
    """
    config = configure(EvaluateConfig, options, synthetic="", data=None)
    trained_on, dataset = open_inputs(synthetic, data)
    runtime = open_runtime(config.device, config.precision, config.deterministic, config.compile)
    chosen = prepare_input(config, trained_on, dataset, runtime)
    networks = [parse_network(text) for text in config.network or (chosen.network,)]
    with show_progress(config.quiet) as progress:
        return run_evaluation(
            chosen, dataset, networks, config.seeds, config.seed, runtime, progress, config.residency
        ).in_memory()


def run_evaluation(
    data: EvaluationInput,
    dataset: BiasedDataset,
    networks: Sequence[NetworkSpec],
    seeds: int,
    seed: int,
    runtime: Runtime,
    progress: Progress,
    residency: str = "auto",
    log: Callable[[str], None] = lambda line: None,
    checkpoints: Checkpoints | None = None,
) -> Evaluation:
    """Trains each network afresh for each seed and tests it once, at the end; continues from `checkpoints`.

    Networks and seeds are sharded over the ranks. The stored protocol is that of `data.training`; `seed` keys
    initialisation, order and augmentation. Raises DivergedError where a network diverges.
    """
    streams = Streams(seed)
    runtime.set_image_size(*dataset.shape[1:])
    held_out = dataset.validation() if data.split == "val" else dataset.test
    trials = Trials(
        data.images,
        runtime.to_device(data.labels),
        data.training,
        held_out,
        ImageStore(held_out.images, dataset.mean, dataset.std, runtime, residency),
        runtime,
        streams,
        progress,
        data.weights,
    )
    checkpoints = checkpoints or Checkpoints()
    pairs = held_out.pairs() if dataset.classes <= PAIRED_CLASSES else None
    shapes = {"counts": (dataset.classes, dataset.groups, dataset.classes)}
    if pairs is not None:
        shapes["pairs"] = (dataset.classes,) * 3
    state = _start(len(networks), seeds, shapes, checkpoints)
    counts = {name: tensor.clone() for name, tensor in state.tensors.items()}
    watch = Stopwatch(state.seconds)
    progress.start(
        f"{len(networks)} networks x {seeds} seeds" if len(networks) > 1 else f"{networks[0]}, {seeds} seeds",
        (len(networks) * seeds - state.done) * trials.cost / runtime.processes.world_size,
    )

    values = sum(fusible_values(spec.build(dataset.shape, dataset.classes), dataset.shape) for spec in networks)
    log(f"{runtime.describe()}; {runtime.decide_compiling(seeds * trials.cost * values)}")

    def counts_of(spec: NetworkSpec, number: int) -> dict[str, Tensor]:
        """The counts of a network that is trained for this: `counts` [classes, groups, classes], and its `pairs`."""
        network = trials.train(spec, number)
        if not torch.isfinite(parameter_vector(network)).all():  # it would predict one class for every image
            raise DivergedError(
                f"{spec} number {number + 1} of {seeds} diverged while it was trained; no output was written.",
                "Lower the step size (--learning-rate), and give --restart.",
            )
        predicted = trials.predict(network)
        found = {"counts": trials.confusion(predicted)}
        return found if pairs is None else {**found, "pairs": trials.pair_counts(predicted, pairs)}

    checkpoints.update(state)
    total, processes = len(networks) * seeds, runtime.processes
    for start in range(state.done, total, processes.world_size):
        own = {name: torch.zeros_like(tensor) for name, tensor in counts.items()}
        if start + processes.rank < total:
            which, number = divmod(start + processes.rank, seeds)
            found = counts_of(networks[which], number)
            for name, tensor in own.items():
                tensor[which, number] = found[name]
        for name, tensor in own.items():
            counts[name] += processes.all_reduce(runtime.to_device(tensor)).cpu()
        done = min(start + processes.world_size, total)
        checkpoints.update(State(done, watch.seconds(), {name: tensor.clone() for name, tensor in counts.items()}))
    tables = {name: dict(zip(map(str, networks), tensor.numpy(), strict=True)) for name, tensor in counts.items()}
    return Evaluation(
        confusion=tables["counts"],
        pairs=tables.get("pairs", {}),
        dataset=dataset.name,
        class_names=dataset.class_names,
        protected_names=dataset.protected_names,
        dataset_digest=dataset.digest,
        protocol=data.training.to_json(),
        seconds=watch.seconds(),
        peak_memory=runtime.peak_memory(),
        environment=runtime.facts(),
        options={
            "networks": [str(spec) for spec in networks],
            "seeds": seeds,
            **data.tested_on(),
            **data.asked_for(),
            **data.options,
        },
        seed=seed,
        **data.provenance,
    )


def run_fingerprint(
    data: EvaluationInput, dataset: BiasedDataset, networks: Sequence[NetworkSpec], seeds: int, runtime: Runtime
) -> dict[str, object]:
    """All that an evaluation depends on except its seed; a checkpoint continues only the run with the same one."""
    return {
        "command": "evaluate",
        "synthetic set": data.provenance["synthetic_digest"],
        "data set": dataset.digest,
        **({} if data.weights is None else {"sampling": data.provenance["sampling"]}),
        "networks": [str(spec) for spec in networks],
        "seeds": seeds,
        "protocol": data.training.to_json(),
        "device": runtime.device.type,
        "precision": runtime.precision,
        "compile": runtime.compiles,
        **data.tested_on(),
    }


def _start(networks: int, seeds: int, shapes: Mapping[str, tuple[int, ...]], checkpoints: Checkpoints) -> State:
    """The state to start from, its tensors int64 [networks, seeds, …] with the `shapes` of a network's counts.

    Pairs are counted for all networks or for none: where a checkpoint has none of those done, the run goes on without.
    """
    stored = checkpoints.state
    kept = shapes if stored is None or "pairs" in stored.tensors else {"counts": shapes["counts"]}
    zeros = {name: torch.zeros(networks, seeds, *shape, dtype=torch.int64) for name, shape in kept.items()}
    checkpoints.check(zeros, networks * seeds)
    return stored or State(0, 0.0, zeros)
