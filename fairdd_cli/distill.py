"""The one loop that optimises synthetic images, whatever the method, the strategy and the sampling.

In a notebook, `distill` is all of it; the command reads, locks and writes files around its steps.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import STREAM, BiasedDataset, History, Split, SyntheticSet, as_dataset, stem_of
from fairdd_cli.config import DistillConfig, record
from fairdd_cli.config.distill import VALIDATE_NETWORKS, VALIDATION
from fairdd_cli.config.keywords import configure, documented
from fairdd_cli.decodings import Codec, load_decoding, parse_decoding
from fairdd_cli.errors import DivergedError, UsageError, unknown
from fairdd_cli.fairness import Strategy, find_strategy
from fairdd_cli.matching.experts import ExpertSpec, all_images, even_cells, expert_targets, load_or_train_experts
from fairdd_cli.matching.groups import cluster_groups, corrupt_groups, parse_groups
from fairdd_cli.matching.initialisation import INITS, initialise
from fairdd_cli.matching.networks import Networks
from fairdd_cli.matching.real import GROUPS_PER_STEP, RealData
from fairdd_cli.matching.run import Run, allowed_augmentations
from fairdd_cli.matching.sampling import SAMPLINGS
from fairdd_cli.matching.synthetic import SyntheticImages
from fairdd_cli.matching.validation import Validation
from fairdd_cli.methods import METHODS
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._renamed import with_current_names
from fairdd_cli.networks import NetworkSpec, fusible_values, parse_network
from fairdd_cli.registry import Specification
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
from fairdd_cli.training import FeatureExtractor, TrainingConfig

# Options that version 0.1.0 lacks: at these values they are not in the record, and its checkpoints are continued.
NEW_DEFAULTS: Mapping[str, object] = {
    "match": "class",
    "decoding": "tiles",
    "trained_networks": 0,
    "cross_entropy": 0.0,
}
HISTORY_POINTS = 1000  # losses kept of a run, at most about twice as many


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(DistillConfig):
    """What to distil, and how, with nothing left open. Made by `resolve_config`."""

    fairness: str
    sampling: str
    init: str
    factor: int
    batch_real: int
    iterations: int
    network: NetworkSpec  # type: ignore[assignment]
    decoding: Specification  # type: ignore[assignment]
    hyper: MethodBase  # type: ignore[assignment]

    def record(self) -> dict[str, object]:
        """Every choice that the result depends on, for the file's record."""
        chosen = {
            **record(DistillConfig, self),
            "network": str(self.network),
            "decoding": str(self.decoding),
            "hyper": asdict(self.hyper),
        }
        unused = {name for name, value in NEW_DEFAULTS.items() if chosen[name] == value}
        unused |= set() if self.trained_networks else {"trained_epochs", "trained_sampling"}
        unused |= set() if self.hyper.samples else {"batch_real"}
        unused |= set(VALIDATION) if self.validate is None else set()
        return {name: value for name, value in chosen.items() if name not in unused}

    def expert_origin(self, dataset: BiasedDataset) -> dict[str, object]:
        """What experts depend on beside their training."""
        origin = {"dataset": dataset.name, "dataset_digest": dataset.digest, "network": str(self.network)}
        if self.trained_networks and self.trained_sampling == "proportional":
            return {**origin, "sampling": self.trained_sampling}
        groups = {"groups": self.groups, "group_noise": self.group_noise}
        drawn = self.group_noise or parse_groups(self.groups)  # by the seed, which other experts don't depend on
        by = {"sampling": self.trained_sampling} if self.trained_networks else {"fairness": self.fairness}
        return {**origin, **by, **groups, "groups_seed": self.seed if drawn else None}

    @property
    def needs_experts(self) -> bool:
        """Whether networks have to be trained on the real images first."""
        return bool(self.hyper.uses_experts or self.trained_networks)


def default_sampling(method: type[MethodBase] | MethodBase, strategy: Strategy) -> str:
    """Even over the groups with a strategy that uses them, unless it reweights the images by itself."""
    even = strategy.uses_groups and not strategy.reweights_samples and method.samples
    return "balanced" if even else "proportional"


def default_init(method: type[MethodBase] | MethodBase, strategy: Strategy) -> str:
    """The method's own start, or real images: of every group with a strategy that uses groups."""
    return method.init or ("balanced" if strategy.uses_groups else "real")


def resolve_config(config: DistillConfig) -> ResolvedConfig:
    """`config` with the method's own values for what is None; raises UsageError for what is unknown or contradictory.

    A strategy that uses groups starts from images of every group and samples the cells evenly; without groups both
    follow the data.
    """
    fairness = config.strategy
    name = METHODS.canonical(config.method)
    hyper: MethodBase = METHODS.load(name).Method.for_ipc(config.ipc).with_options(dict(config.hyper))
    strategy = find_strategy(fairness)
    if fairness != "vanilla" and not (hyper.matches or (hyper.selects_by_cell and strategy.uses_groups)):
        remedy = "use --init balanced for a sample that is even over the groups"
        if hyper.selects_by_cell:
            remedy = "choose a strategy that uses groups, such as fairdd"
        raise UsageError(f"--fairness {fairness} has no effect with method {name}, which matches nothing; {remedy}")
    sampling = config.sampling or default_sampling(hyper, strategy)
    init = config.init or default_init(hyper, strategy)
    if sampling not in SAMPLINGS:
        raise unknown("sampling", sampling, SAMPLINGS)
    if init not in INITS:
        raise unknown("initialisation", init, INITS)
    if sampling == "balanced" and strategy.reweights_samples:
        raise UsageError(
            f"--fairness {fairness} already reweights by inverse frequency, which --sampling balanced would undo; "
            "use --sampling proportional, or --fairness barycenter"
        )
    if hyper.selects_by_cell and init != hyper.init:
        raise UsageError(
            f"--init {init} contradicts method {name}, which chooses its images itself; "
            f"leave it out, or use --init {hyper.init} where a recipe sets it"
        )
    matches = hyper.matches and not hyper.uses_experts
    if config.cross_entropy and not config.trained_networks:
        raise UsageError(
            "--cross-entropy has a meaning under trained networks only; give --trained-networks, such as 3"
        )
    if config.match == "cells" and not strategy.targets_are_groups:
        raise UsageError(
            f"--match cells needs a strategy with a target for each group, which {fairness} has not; use --fair"
        )
    for option, given, uses, lacking in (
        ("--sampling balanced", sampling != "proportional", hyper.samples, "draws no real batches"),
        ("--batch-real", config.batch_real, hyper.samples, "draws no real batches"),
        ("--match cells", config.match == "cells", matches, "matches no part of a class"),
        ("--trained-networks", config.trained_networks, matches, "matches in no networks of its own choice"),
        ("--decoding", config.decoding != "tiles", not hyper.needs_pixels, "steps in pixels and stores images"),
        ("--experts", config.experts, hyper.uses_experts or config.trained_networks, "uses no experts"),
    ):
        if given and not uses:
            raise UsageError(f"{option} has no effect with method {name}, which {lacking}")
    if (parse_groups(config.groups) or config.group_noise) and not (
        strategy.uses_groups or "balanced" in (sampling, init)
    ):
        option = "--group-noise" if config.group_noise else "--groups"
        raise UsageError(f"{option} has no effect: --fairness {fairness}, --sampling and --init use no groups")
    # A method that optimises nothing ends at its start, whatever a grid's recipe says for all methods.
    iterations = config.iterations if config.iterations is not None and hyper.iterations else hyper.iterations
    decided = {
        "method": name,
        "hyper": hyper,
        "fairness": fairness,
        "sampling": sampling,
        "init": init,
        "factor": config.factor or hyper.factor,
        "batch_real": config.batch_real or hyper.batch_real[sampling],
        "iterations": iterations,
        "network": parse_network(config.network),
        "decoding": parse_decoding(config.decoding),
    }
    decided |= config.decide_validation(iterations, hyper.evaluation.epochs)
    return ResolvedConfig(**{entry.name: getattr(config, entry.name) for entry in fields(config)} | decided)


def check_config(config: ResolvedConfig, dataset: BiasedDataset, ranks: int = 1) -> None:
    """Raises UsageError where `config` asks of `dataset` what it doesn't have, or has no work for that many `ranks`."""
    smallest = int(dataset.train.count.sum(axis=1).min())
    label = int(dataset.train.count.sum(axis=1).argmin())
    decoding = load_decoding(config.decoding)
    decoding.check_shape(dataset.shape, config.ipc)
    images = decoding.per_class(config.ipc, dataset.shape) * config.factor**2
    if images > smallest:
        decoded = "" if config.decoding.name == "tiles" else f" and --decoding {config.decoding}"
        raise UsageError(
            f"--ipc {config.ipc} with --factor {config.factor}{decoded} needs {images} images of each class, but "
            f"class '{dataset.class_names[label]}' of {dataset.where} has {smallest}; lower it"
        )
    if config.validate is not None:
        dataset.validation()
    if config.needs_experts and dataset.path in (STREAM, "") and not config.experts:
        raise UsageError(f"give --experts FILE for the experts of {dataset.where}: it has no file to keep them beside")
    if config.needs_experts and (spec := expert_spec(config, dataset)).exists():
        spec.read()  # which refuses those of another run
    if config.factor > min(dataset.shape[1:]) // 4:
        raise UsageError(
            f"--factor {config.factor} leaves tiles under 4 pixels of {dataset.shape[1]}x{dataset.shape[2]}"
        )
    network = config.network.build(dataset.shape, dataset.classes)  # which refuses images that it cannot take
    if reason := config.hyper.unsupported_reason(network):
        raise UsageError(f"method '{config.method}' cannot use network '{config.network}': {reason}")
    if config.hyper.samples and ranks > dataset.classes:  # which share the images of a class: at least one for each
        draw, streams = SAMPLINGS[config.sampling], Streams(config.seed)
        labels = range(dataset.classes)
        in_batch = [len(draw(dataset.train, each, config.batch_real, streams.numpy("real", each))) for each in labels]
        most = min(in_batch[label] * dataset.classes + label for label in labels)
        if ranks > most:
            raise UsageError(
                f"{ranks} ranks are too many for batches of {min(in_batch)} images of each of {dataset.classes} "
                f"classes; start at most {most}, or raise --batch-real"
            )


def start_run(
    config: ResolvedConfig,
    dataset: BiasedDataset,
    runtime: Runtime,
    progress: Progress,
    residency: str = "auto",
    log: Callable[[str], None] = lambda line: None,
) -> Run:
    """All that a method needs to begin `config` on `dataset`, but for experts: see `use_experts`."""
    streams, strategy = Streams(config.seed), find_strategy(config.fairness)
    runtime.set_image_size(*dataset.shape[1:])

    def with_features(split: Split, epochs: int = 1) -> tuple[ImageStore, FeatureExtractor]:
        store = ImageStore(split.images, dataset.mean, dataset.std, runtime, residency)
        # By each rank itself: clusters magnify the last bit in which all-reduced sums differ.
        alone = runtime.without_group()
        extractor = FeatureExtractor(alone, streams, split, store, config.network, dataset.classes, progress, epochs)
        return store, extractor

    split = dataset.train
    if clusters := parse_groups(config.groups):
        split = cluster_groups(split, clusters, with_features(split)[1], streams, runtime.broadcast)
    if config.group_noise:
        split = corrupt_groups(split, config.group_noise, streams)
    store, features = with_features(split, config.hyper.feature_epochs)
    log(f"{runtime.describe()}; images in {store.residency}; {config.record()}")
    decoding = load_decoding(config.decoding)
    fitted = decoding.fit(split, store, streams)
    tables = {name: runtime.broadcast(runtime.to_device(table)) for name, table in fitted.items()}
    codec = Codec(decoding, dataset.shape, config.factor, tables)
    per_class = decoding.per_class(config.ipc, dataset.shape)
    start = (config.init, split, store, dataset.classes, per_class, codec, streams)
    images, stand_for = initialise(*start, features, by_cell=strategy.uses_groups)
    images = runtime.broadcast(runtime.to_device(images))
    sample_weights = runtime.broadcast(strategy.sample_weights(split, features))
    sampling = SAMPLINGS[config.sampling]
    real = RealData(split, store, strategy, sampling, config.batch_real, sample_weights, runtime, streams)
    synthetic = SyntheticImages(images, stand_for, dataset.classes, codec, store, streams, runtime.processes)
    networks = Networks(config.network, real, synthetic, runtime, streams, progress)
    run = Run(runtime, streams, real, synthetic, networks, progress, dataset.mirror_keeps_class)
    run.subtracts_noise = config.hyper.squared_distances and strategy.reduce == "sum" and real.noise_known
    run.match_cells, run.cross_entropy = config.match == "cells", config.cross_entropy
    if run.match_cells and codec.num_groups:
        real.groups_per_step = GROUPS_PER_STEP
    elif run.match_cells:
        check_cells(split, stand_for, synthetic.per_class, dataset)
    return run


def check_cells(split: Split, stand_for: Tensor, per_class: int, dataset: BiasedDataset) -> None:
    """Raises UsageError where no training image stands for a group that a class has."""
    for label, groups in enumerate(stand_for.numpy().reshape(-1, per_class)):
        missing = set(np.flatnonzero(split.count[label]).tolist()) - set(groups.tolist())
        if missing:
            group, present = dataset.protected_names[min(missing)], int((split.count[label] > 0).sum())
            raise UsageError(
                f"--match cells: none of the {per_class} training images of class '{dataset.class_names[label]}' "
                f"stands for group '{group}'; it has {present} groups: raise --ipc or --factor, or use --init balanced"
            )


def expert_spec(config: ResolvedConfig, dataset: BiasedDataset) -> ExpertSpec:
    """The experts, or trained networks, that `config` needs for `dataset`."""
    origin, stem = config.expert_origin(dataset), stem_of(dataset.path)
    if config.hyper.uses_experts:
        path = config.experts or f"{stem}.experts-{config.fairness}.h5"
        return ExpertSpec(path, origin, *config.hyper.expert_training(dataset), expert_targets)
    path = config.experts or f"{stem}.networks-{config.trained_sampling}.h5"
    training = TrainingConfig(
        epochs=config.trained_epochs,
        augmentation=allowed_augmentations(TrainingConfig().augmentation, dataset.mirror_keeps_class),
        lr_milestones=(),
    )
    targets = even_cells if config.trained_sampling == "balanced" else all_images
    return ExpertSpec(path, origin, config.trained_networks, training, targets)


def use_experts(
    run: Run, config: ResolvedConfig, dataset: BiasedDataset, checkpoints: Checkpoints | None = None
) -> None:
    """Gives `run` the experts or trained networks that it needs, if any: those in their file, or trained now."""
    if config.needs_experts:
        run.experts = load_or_train_experts(expert_spec(config, dataset), run, checkpoints)
    if config.trained_networks:
        run.networks.trained = run.experts


@documented(DistillConfig)
def distill(data: BiasedDataset | str | os.PathLike[str], **options: Any) -> SyntheticSet:
    """Distils `data`, a data set or the path of its file, into a few images per class.

    The images are those of `fairdd distill` with the same options, on the same machine and number of threads, and no
    file is written, but for the experts of mtt. Raises `UsageError` for an option that is unknown or does not fit,
    `WorkError` where it diverges or memory runs out.

        distill(data, method="dm", fairness="fairdd", ipc=10, network="convnet:width=32", hyper={"learning_rate": 1})
    """
    dataset = as_dataset(data)
    config = resolve_config(configure(DistillConfig, options, data=dataset.path))
    runtime = open_runtime(config.device, config.precision, config.deterministic, config.compile)
    check_config(config, dataset)
    with show_progress(config.quiet) as progress:
        return run_distillation(config, dataset, runtime, progress, config.residency).in_memory()


def run_distillation(
    config: ResolvedConfig,
    dataset: BiasedDataset,
    runtime: Runtime,
    progress: Progress,
    residency: str = "auto",
    log: Callable[[str], None] = lambda line: None,
    checkpoints: Checkpoints | None = None,
) -> SyntheticSet:
    """Runs `config`, which `check_config` accepted, on `dataset`, from the state of `checkpoints` if that has one.

    Raises WorkError when it diverges.
    """
    config = replace(config, hyper=config.hyper.for_data(dataset, config.ipc))
    run = start_run(config, dataset, runtime, progress, residency, log)
    use_experts(run, config, dataset, checkpoints)
    passes = config.iterations * config.hyper.cost_per_iteration(run)
    log(runtime.decide_compiling(passes * fusible_values(run.networks.fresh(), dataset.shape)))
    processes, before = runtime.processes, run.bytes_reduced
    evaluation = config.hyper.evaluation
    evaluation = replace(evaluation, augmentation=run.allowed_augmentations(evaluation.augmentation))
    validation = _validation(config, run, dataset, evaluation, residency)
    history = _optimise(config, run, checkpoints or Checkpoints(), validation, log)
    kept_iteration = validation.keep() if validation else None
    if processes.world_size > 1:
        reduced = (run.bytes_reduced - before) / max(1, config.iterations)
        log(f"{processes.world_size} processes; each summed {reduced:,.0f} bytes a step with the others")
    return SyntheticSet(
        images=run.synthetic.images.detach().cpu().numpy(),
        labels=run.synthetic.labels.numpy(),
        groups=run.synthetic.groups.numpy() if run.match_cells and not run.synthetic.codec.num_groups else None,
        protected_names=dataset.protected_names,
        decoding=str(config.decoding),
        shape=dataset.shape,
        tables={name: table.cpu().numpy() for name, table in run.synthetic.codec.tables.items()},
        history=history,
        method=config.method,
        fairness=config.fairness,
        sampling=config.sampling,
        ipc=config.ipc,
        iterations=config.iterations,
        network=str(config.network),
        factor=config.factor,
        learning_rate=config.hyper.learned_rate(run),
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        evaluation=evaluation.to_json(),
        dataset=dataset.name,
        dataset_path="" if dataset.path in (STREAM, "") else str(Path(dataset.path).absolute()),
        dataset_digest=dataset.digest,
        options={**config.record(), **({"experts": run.experts.digest} if config.needs_experts else {})},
        seed=config.seed,
        environment=runtime.facts(),
        kept_iteration=kept_iteration,
    )


def run_fingerprint(config: ResolvedConfig, dataset: BiasedDataset, runtime: Runtime) -> dict[str, object]:
    """All that the outcome of `config` on `dataset` depends on, but for its seed: what a checkpoint is of."""
    machine = {"device": runtime.device.type, "precision": runtime.precision, "compile": runtime.compiles}
    return {"command": "distill", "data set": dataset.digest, **config.record(), **machine}


def current_fingerprint(stored: dict[str, object]) -> dict[str, object]:
    """The fingerprint `stored` by an earlier version under the names that hyper-parameters have now."""
    hyper, method = stored.get("hyper"), stored.get("method")
    if isinstance(hyper, dict) and isinstance(method, str):
        stored["hyper"] = with_current_names(method, hyper)
    return stored


def _validation(
    config: ResolvedConfig, run: Run, dataset: BiasedDataset, evaluation: TrainingConfig, residency: str
) -> Validation | None:
    """The validations of `run` that `config` asks for, if any."""
    if config.validate is None:
        return None
    split = dataset.validation()
    return Validation(
        run=run,
        split=split,
        store=ImageStore(split.images, dataset.mean, dataset.std, run.runtime, residency),
        iterations=config.iterations,
        every=config.validate,
        networks=config.validate_networks or VALIDATE_NETWORKS,
        training=replace(evaluation, epochs=config.validate_epochs or evaluation.epochs),
        learned_rate=partial(config.hyper.learned_rate, run),
        keeps_best=config.keep == "best",
    )


def _optimise(
    config: ResolvedConfig,
    run: Run,
    checkpoints: Checkpoints,
    validation: Validation | None,
    log: Callable[[str], None],
) -> History:
    hyper, progress = config.hyper, run.progress
    hyper.prepare(run)
    if not config.iterations:
        return History(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    label = f"{config.method} {config.fairness} ipc {config.ipc}"
    every = max(1, config.iterations // HISTORY_POINTS)
    state = _start(config, run, checkpoints, every, validation)
    recorded_as = _history_name(run)
    # Points (iteration, loss, seconds) are only ever added: the columns that a state holds never change.
    points = state.tensors[recorded_as].shape[1]
    history = torch.zeros(3, config.iterations // every + 2, dtype=torch.float64)
    history[:, :points] = state.tensors[recorded_as]
    experts = _expert_digest(config, run)
    processes = run.runtime.processes
    work = (config.iterations - state.done) * hyper.cost_per_iteration(run) / processes.world_size
    work += validation.cost if validation else 0
    progress.start(f"{label}, {config.iterations:,} iterations", work)
    watch = Stopwatch(state.seconds)
    last_finite = state  # of those that were checked
    checkpoints.update(state)

    def validated(state: State) -> State:
        """The `state` with its validation, where one is due."""
        if validation is None or not validation.due(state.done):
            return state
        words = validation.validate(state.done)
        progress.note(f"validation: {words}")
        log(f"validation after {state.done:,} iterations: {words}")
        state = State(state.done, watch.seconds(), {**state.tensors, **validation.tensors()})
        checkpoints.update(state)
        return state

    state = validated(state)
    for iteration in range(state.done, config.iterations):
        loss = run.runtime.retry_on_oom(
            run.real.images_per_step,
            partial(hyper.step, run, iteration),
            partial(run.restore, state.tensors),
        )
        recorded = iteration % every == 0 or iteration == config.iterations - 1
        if recorded:
            value = float(processes.all_reduce(loss))
            if not math.isfinite(value) or not torch.isfinite(run.synthetic.images).all():
                checkpoints.update(last_finite)
                raise DivergedError(
                    f"{label} diverged at iteration {iteration}: the loss is {value}; no output was written.",
                    "Lower the step size (-O learning_rate=…) or choose another --seed, and give --restart.",
                )
            history[:, points] = torch.tensor([iteration, value, watch.seconds()], dtype=torch.float64)
            points += 1
            progress.advance(0, value)
        kept = {**experts, **(validation.tensors() if validation else {})}
        state = State(iteration + 1, watch.seconds(), {**run.snapshot(), **kept, recorded_as: history[:, :points]})
        last_finite = state if recorded else last_finite
        checkpoints.update(state)
        state = validated(state)
    columns = history[:, :points].numpy().copy()
    validations = validation.history if validation else None
    return History(columns[0].astype(np.int64), columns[1], columns[2], run.subtracts_noise, validations)


def _history_name(run: Run) -> str:
    """What a checkpoint calls the history of `run`: "history" is one of losses with their noise."""
    return "history.unbiased" if run.subtracts_noise else "history"


def _start(
    config: ResolvedConfig, run: Run, checkpoints: Checkpoints, every: int, validation: Validation | None
) -> State:
    """The state to start from: that of `checkpoints`, to which `run` is brought, or the very first."""
    experts, found = _expert_digest(config, run), checkpoints.state
    if found is not None and "history" in found.tensors:
        run.subtracts_noise = False  # of version 0.1.0: one history has losses of one kind
    beside = {**experts, **(validation.tensors() if validation else {})}
    first = State(0, 0.0, {**run.snapshot(), **beside, _history_name(run): torch.zeros(3, 0, dtype=torch.float64)})
    if found is None:
        return first
    last = config.iterations - 1
    points = -(-found.done // every) + (found.done > last and last % every > 0)
    expected = {**first.tensors, _history_name(run): torch.zeros(3, points, dtype=torch.float64)}
    if "momentum" in found.tensors:
        expected["momentum"] = first.tensors["images"]
    if validation:
        expected |= validation.expected(found.tensors, found.done)
    checkpoints.check(expected, config.iterations)
    if any(not torch.equal(found.tensors[name], digest) for name, digest in experts.items()):
        raise UsageError(
            f"'{checkpoints.path}' is the checkpoint of a run with other experts than '{run.experts.path}' has.",
            "Give that run's with --experts to continue it, or give --restart to discard it.",
        )
    run.restore(found.tensors)
    if validation:
        validation.restore(found.tensors)
    return found


def _expert_digest(config: ResolvedConfig, run: Run) -> dict[str, Tensor]:
    """What a checkpoint says of the experts that the run uses, if any: the digest of their file, letter by letter."""
    if not config.needs_experts:
        return {}
    return {"experts": torch.tensor(list(run.experts.digest.encode()), dtype=torch.uint8)}
