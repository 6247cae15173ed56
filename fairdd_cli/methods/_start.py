"""What comes before the first iteration of a run: whether it can be, its data, images and networks, and its experts."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from fairdd_cli.artifacts import STREAM, BiasedDataset, Split, stem_of
from fairdd_cli.decodings import Codec, load_decoding
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import find_strategy
from fairdd_cli.matching.experts import ExpertSpec, all_images, even_cells, expert_targets, load_or_train_experts
from fairdd_cli.matching.groups import cluster_groups, corrupt_groups, group_names, parse_groups
from fairdd_cli.matching.initialisation import initialise
from fairdd_cli.matching.networks import Networks
from fairdd_cli.matching.real import GROUPS_PER_STEP, RealData
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.sampling import SAMPLINGS, fewest_drawn, sample_of_cells
from fairdd_cli.matching.state import allowed_augmentations
from fairdd_cli.matching.synthetic import SyntheticImages
from fairdd_cli.methods._resolved import ResolvedConfig
from fairdd_cli.runtime import Checkpoints, ImageStore, Progress, Runtime, Streams
from fairdd_cli.training import FeatureExtractor, TrainingConfig


def check_config(config: ResolvedConfig, dataset: BiasedDataset, ranks: int = 1) -> None:
    """Raises UsageError where `config` asks of `dataset` what it doesn't have, or has no work for that many `ranks`."""
    smallest = int(dataset.train.count.sum(axis=1).min())
    label = int(dataset.train.count.sum(axis=1).argmin())
    decoding = load_decoding(config.decoding)
    decoding.check_shape(dataset.shape, config.ipc)
    if decoding.by_group and parse_groups(config.groups):
        raise UsageError(
            f"--groups {config.groups} gives each class clusters of its own, but decoding '{config.decoding}' maps "
            "groups that all classes share; use --groups labels, or another decoding"
        )
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
        words = "--experts FILE" if dataset.path else "experts='FILE.h5'"  # as a command or a notebook takes it
        what = "experts" if config.algorithm.uses_experts else "trained networks"
        raise UsageError(f"give {words} for the {what} of {dataset.where}: it has no file to keep them beside")
    if config.needs_experts:
        expert_spec(config, dataset).check()
    if config.factor > min(dataset.shape[1:]) // 4:
        raise UsageError(
            f"--factor {config.factor} leaves tiles under 4 pixels of {dataset.shape[1]}x{dataset.shape[2]}"
        )
    network = config.network.build(dataset.shape, dataset.classes)  # which refuses images that it cannot take
    if reason := config.algorithm.unsupported_reason(network):
        raise UsageError(f"method '{config.method}' cannot use network '{config.network}': {reason}")
    if config.algorithm.samples and ranks > dataset.classes:  # which share the images of a class: at least one for each
        in_batch = [
            fewest_drawn(config.sampling, int(count.sum()), config.batch_real, _groups_in_batch(config, count))
            for count in dataset.train.count
        ]
        most = min(drawn * dataset.classes + label for label, drawn in enumerate(in_batch))
        if ranks > most:
            raise UsageError(
                f"{ranks} ranks are too many for batches of {min(in_batch)} images of each of {dataset.classes} "
                f"classes; start at most {most}, or raise --batch-real"
            )


def _groups_in_batch(config: ResolvedConfig, count: np.ndarray) -> range:
    """How many groups a balanced batch of a class with `count` images int64 [groups] may have, as far as is known."""
    present, clusters = np.count_nonzero(count), parse_groups(config.groups)
    fewest, most = (1, min(clusters, count.sum())) if clusters else (present, present)
    if config.group_noise:
        fewest, most = 1, clusters or len(count)
    if config.match == "cells" and load_decoding(config.decoding).by_group:
        fewest, most = min(fewest, GROUPS_PER_STEP), min(most, GROUPS_PER_STEP)
    return range(int(fewest), int(most) + 1)


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
    store, features = with_features(split, config.algorithm.feature_epochs)
    log(f"{runtime.describe()}; images in {store.residency}; {config.record()}")
    decoding = load_decoding(config.decoding)
    fitted = decoding.fit(dataset.shape, split.count, partial(sample_of_cells, split, store, streams))
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
    run.subtracts_noise = config.algorithm.reports_unbiased_loss and strategy.reduce == "sum" and real.noise_known
    run.match_cells, run.cross_entropy = config.match == "cells", config.cross_entropy
    if run.match_cells and codec.num_groups:
        real.groups_per_step = GROUPS_PER_STEP
    elif run.match_cells:
        check_cells(split, stand_for, synthetic.per_class, dataset, group_names(config.groups, dataset.protected_names))
    return run


def check_cells(split: Split, stand_for: Tensor, per_class: int, dataset: BiasedDataset, names: Sequence[str]) -> None:
    """Raises UsageError where no training image stands for one of the groups, called `names`, that a class has."""
    for label, groups in enumerate(stand_for.numpy().reshape(-1, per_class)):
        missing = set(np.flatnonzero(split.count[label]).tolist()) - set(groups.tolist())
        if missing:
            group, present = names[min(missing)], int((split.count[label] > 0).sum())
            raise UsageError(
                f"--match cells: none of the {per_class} training images of class '{dataset.class_names[label]}' "
                f"stands for group '{group}'; it has {present} groups: raise --ipc or --factor, or use --init balanced"
            )


def expert_spec(config: ResolvedConfig, dataset: BiasedDataset) -> ExpertSpec:
    """The experts, or trained networks, that `config` needs for `dataset`."""
    origin, stem = config.expert_origin(dataset), stem_of(dataset.path)
    if config.algorithm.uses_experts and not config.algorithm.draws_experts:
        path = config.experts or f"{stem}.experts-{config.fairness}.h5"
        return ExpertSpec(path, origin, *config.algorithm.expert_training(dataset), expert_targets)
    if config.algorithm.uses_experts:
        number, training = config.algorithm.expert_training(dataset)
        name = f"networks-{config.method}"
    else:
        augmentation = allowed_augmentations(TrainingConfig().augmentation, dataset.mirror_keeps_class)
        number, name = config.trained_networks, "networks"
        training = TrainingConfig(epochs=config.trained_epochs, augmentation=augmentation, lr_milestones=())
    path = config.experts or f"{stem}.{name}-{config.trained_sampling}.h5"
    targets = even_cells if config.trained_sampling == "balanced" else all_images
    return ExpertSpec(path, origin, number, training, targets, ends_only=True)


def use_experts(
    run: Run, config: ResolvedConfig, dataset: BiasedDataset, checkpoints: Checkpoints | None = None
) -> None:
    """Gives `run` the experts or trained networks that it needs, if any: those in their file, or trained now."""
    if config.needs_experts:
        run.experts = load_or_train_experts(expert_spec(config, dataset), run, checkpoints)
    if config.draws_experts:
        run.networks.trained = run.experts
