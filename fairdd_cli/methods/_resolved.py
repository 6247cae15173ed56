"""A configuration of `fairdd distill` with nothing left open: the method's own values stand for what was not given."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.config import DistillConfig, record
from fairdd_cli.config.distill import VALIDATION
from fairdd_cli.decodings import parse_decoding
from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.fairness import Strategy, find_strategy
from fairdd_cli.matching.groups import parse_groups
from fairdd_cli.matching.initialisation import INITS
from fairdd_cli.matching.sampling import SAMPLINGS
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.networks import NetworkSpec, parse_network
from fairdd_cli.registry import METHODS, Specification

# Options that version 0.1.0 lacks: at these values they are not in the record, and its checkpoints are continued.
NEW_DEFAULTS: Mapping[str, object] = {
    "match": "class",
    "decoding": "tiles",
    "trained_networks": 0,
    "cross_entropy": 0.0,
}


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(DistillConfig):
    """What to distil, and how, with nothing left open. Made by `resolve_config`."""

    fairness: str
    sampling: str
    trained_sampling: str
    init: str
    factor: int
    batch_real: int
    iterations: int
    network: NetworkSpec  # type: ignore[assignment]
    decoding: Specification  # type: ignore[assignment]
    algorithm: MethodBase  # the method with its hyper-parameters

    def record(self) -> dict[str, object]:
        """Every choice that the result depends on, for the file's record."""
        chosen = {
            **record(DistillConfig, self),
            "network": str(self.network),
            "decoding": str(self.decoding),
            "hyper": asdict(self.algorithm),
        }
        unused = {name for name, value in NEW_DEFAULTS.items() if chosen[name] == value}
        unused |= set() if self.trained_networks else {"trained_epochs"}
        unused |= set() if self.draws_experts else {"trained_sampling"}
        unused |= set() if self.algorithm.samples else {"batch_real"}
        unused |= set(VALIDATION) if self.validate is None else set()
        return {name: value for name, value in chosen.items() if name not in unused}

    def expert_origin(self, dataset: BiasedDataset) -> dict[str, object]:
        """What experts depend on beside their training."""
        origin = {"dataset": dataset.name, "dataset_digest": dataset.digest, "network": str(self.network)}
        if self.draws_experts and self.trained_sampling == "proportional":
            return {**origin, "sampling": self.trained_sampling}
        groups = {"groups": self.groups, "group_noise": self.group_noise}
        drawn = self.group_noise or parse_groups(self.groups)  # by the seed, which other experts don't depend on
        by = {"sampling": self.trained_sampling} if self.draws_experts else {"fairness": self.fairness}
        return {**origin, **by, **groups, "groups_seed": self.seed if drawn else None}

    @property
    def needs_experts(self) -> bool:
        """Whether networks have to be trained on the real images first."""
        return bool(self.algorithm.uses_experts or self.trained_networks)

    @property
    def draws_experts(self) -> bool:
        """Whether it matches in networks between the start and the end of trained ones."""
        return bool(self.algorithm.draws_experts or self.trained_networks)


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
    algorithm: MethodBase = METHODS.load(name).Method.for_ipc(config.ipc).with_options(dict(config.hyper))
    strategy = find_strategy(fairness)
    if fairness != "vanilla" and not (algorithm.matches or (algorithm.selects_by_cell and strategy.uses_groups)):
        remedy = "use --init balanced for a sample that is even over the groups"
        if algorithm.selects_by_cell:
            remedy = "choose a strategy that uses groups, such as fairdd"
        raise UsageError(f"--fairness {fairness} has no effect with method {name}, which matches nothing; {remedy}")
    sampling = config.sampling or default_sampling(algorithm, strategy)
    init = config.init or default_init(algorithm, strategy)
    if sampling not in SAMPLINGS:
        raise unknown("sampling", sampling, SAMPLINGS)
    if init not in INITS:
        raise unknown("initialisation", init, INITS)
    if sampling == "balanced" and strategy.reweights_samples:
        raise UsageError(
            f"--fairness {fairness} already reweights by inverse frequency, which --sampling balanced would undo; "
            "use --sampling proportional, or --fairness barycenter"
        )
    if algorithm.selects_by_cell and init != algorithm.init:
        raise UsageError(
            f"--init {init} contradicts method {name}, which chooses its images itself; "
            f"leave it out, or use --init {algorithm.init} where a recipe sets it"
        )
    trained_sampling = config.trained_sampling or sampling
    draws_experts = bool(config.trained_networks or algorithm.draws_experts)
    matches = algorithm.matches and (algorithm.draws_experts or not algorithm.uses_experts)
    if config.trained_networks and algorithm.draws_experts:
        raise UsageError(f"--trained-networks has no effect with method {name}, which trains its own: -O num_experts=…")
    if config.cross_entropy and not draws_experts:
        raise UsageError(
            "--cross-entropy has a meaning under trained networks only; give --trained-networks, such as 3"
        )
    if config.match == "cells" and not strategy.targets_are_groups:
        raise UsageError(
            f"--match cells needs a strategy with a target for each group, which {fairness} has not; use --fair"
        )
    for option, given, uses, lacking in (
        ("--sampling balanced", sampling != "proportional", algorithm.samples, "draws no real batches"),
        ("--batch-real", config.batch_real, algorithm.samples, "draws no real batches"),
        ("--match cells", config.match == "cells", matches, "matches no part of a class"),
        ("--trained-networks", config.trained_networks, matches, "matches in no networks of its own choice"),
        ("--decoding", config.decoding != "tiles", not algorithm.needs_pixels, "steps in pixels and stores images"),
        ("--experts", config.experts, algorithm.uses_experts or config.trained_networks, "uses no experts"),
    ):
        if given and not uses:
            raise UsageError(f"{option} has no effect with method {name}, which {lacking}")
    if (parse_groups(config.groups) or config.group_noise) and not (
        strategy.uses_groups or "balanced" in (sampling, init, trained_sampling if draws_experts else "")
    ):
        option = "--group-noise" if config.group_noise else "--groups"
        raise UsageError(f"{option} has no effect: --fairness {fairness}, --sampling and --init use no groups")
    # A method that optimises nothing ends at its start, whatever a grid's recipe says for all methods.
    iterations = config.iterations if config.iterations is not None and algorithm.iterations else algorithm.iterations
    decided = {
        "method": name,
        "algorithm": algorithm,
        "fairness": fairness,
        "sampling": sampling,
        "trained_sampling": trained_sampling,
        "init": init,
        "factor": config.factor or algorithm.factor,
        "batch_real": config.batch_real or algorithm.batch_real[sampling],
        "iterations": iterations,
        "network": parse_network(config.network),
        "decoding": parse_decoding(config.decoding),
    }
    decided |= config.decide_validation(iterations, algorithm.evaluation.epochs)
    return ResolvedConfig(**{entry.name: getattr(config, entry.name) for entry in fields(config)} | decided)
