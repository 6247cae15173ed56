"""Evaluations as a report reads them: for each network its counts, what they depend on and where they come from."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from fairdd_cli.artifacts import STREAM, Evaluation, read_evaluation
from fairdd_cli.errors import UsageError
from fairdd_cli.methods._renamed import with_current_names
from fairdd_cli.reporting.outside_text import bounded
from fairdd_cli.system import exit_with_parent, usable_cores

PARALLEL_FROM = 1000  # files from which on several processes read them
MOST_OPTIONS = 1000  # of one evaluation
# Options that change where and how a run went, not what was measured.
INCIDENTAL = frozenset({"data", "device", "output", "path", "recipe", "residency", "seed", "seeds", "synthetic"})
IN_SETTING = frozenset({"dataset", "method", "fairness", "fair", "sampling", "ipc", "networks", "protocol"})
PARITY_PRECISION = "fp32"  # what networks are trained in unless a file says otherwise


class Setting(NamedTuple):
    """What a row is about."""

    dataset: str
    method: str
    fairness: str
    sampling: str
    ipc: int
    network: str


@dataclass(frozen=True)
class Run:
    """One network of one evaluation.

    `table` counts test images, unsigned [seeds, classes, groups, classes]. `evaluation` has the provenance without
    its tables. `outcomes` counts the pairs of test images that `pair_outcomes` tells apart, where it has pairs.
    """

    setting: Setting
    details: Mapping[str, str]  # what else the result depends on
    fingerprint: str  # of the details
    table: np.ndarray
    evaluation: Evaluation
    outcomes: np.ndarray | None = None

    @property
    def seeds(self) -> int:
        """How many networks were trained."""
        return len(self.table)


def read(paths: Sequence[str]) -> list[Run]:
    """The runs in the evaluations at `paths`, JSON and HDF5 mixed; a network counts once, in however many files.

    Raises UsageError for a file that is not a sound evaluation.
    """
    if paths.count(STREAM) > 1:
        raise UsageError("standard input can be read only once: give '-' a single time")
    if len(paths) < PARALLEL_FROM or STREAM in paths:
        return without_duplicates(map(_read_one, paths))
    with ProcessPoolExecutor(usable_cores(), get_context("spawn"), exit_with_parent) as pool:
        return without_duplicates(pool.map(_read_one, paths, chunksize=100))


def without_duplicates(batches: Iterable[list[Run]]) -> list[Run]:
    """The runs without those whose networks another one has all of, as where `--seeds` was raised later."""
    unique: dict[object, Run] = {}
    for run in (run for runs in batches for run in runs):
        source = run.evaluation
        first_seed = hashlib.sha256(run.table[0].tobytes()).digest()  # the same training ends in the same counts
        provenance = (source.synthetic_digest, source.dataset_digest, source.seed)
        key: object = (run.setting, run.fingerprint, *provenance, first_seed)
        other = unique.get(key)
        if other is not None:
            shorter, longer = sorted((other, run), key=lambda each: (each.seeds, each.outcomes is not None))
            if not np.array_equal(shorter.table, longer.table[: shorter.seeds]):
                key = (key, source.digest)  # alike by chance
            elif longer is other:
                continue
        unique[key] = run
    return list(unique.values())


def _read_one(path: str) -> list[Run]:
    return runs_of(read_evaluation(path))


def runs_of(evaluation: Evaluation) -> list[Run]:
    """A run for each network of `evaluation`."""
    source = replace(
        evaluation,
        confusion={},
        pairs={},
        reported={},
        class_names=tuple(map(bounded, evaluation.class_names)),
        protected_names=tuple(map(bounded, evaluation.protected_names)),
        dataset=bounded(evaluation.dataset),
        dataset_digest=bounded(evaluation.dataset_digest),
        synthetic_digest=bounded(evaluation.synthetic_digest),
    )
    details = _details(evaluation)
    fingerprint = hashlib.sha256(json.dumps(details, sort_keys=True).encode()).hexdigest()
    return [
        Run(
            Setting(
                source.dataset,
                bounded(evaluation.method),
                bounded(evaluation.fairness),
                bounded(evaluation.sampling),
                evaluation.ipc,
                bounded(network),
            ),
            details,
            fingerprint,
            compact(table),
            source,
            pair_outcomes(evaluation.pairs[network]) if evaluation.pairs else None,
        )
        for network, table in evaluation.confusion.items()
    ]


def pair_outcomes(pairs: np.ndarray) -> np.ndarray:
    """How many pairs are correct in both groups, in the first only, in the second only: int64 [seeds, classes, 3].

    `pairs` [seeds, classes, classes, classes] are those of an evaluation.
    """
    label = np.arange(pairs.shape[1])
    both = pairs[:, label, label, label]
    first, second = pairs.sum(axis=3)[:, label, label], pairs.sum(axis=2)[:, label, label]
    return np.stack([both, first - both, second - both], axis=-1)


def compact(table: np.ndarray) -> np.ndarray:
    """The counts in the smallest type that holds the images of the largest cell: thousands of tables are kept."""
    return table.astype(np.min_scalar_type(int(table.sum(axis=-1).max())))


def _details(evaluation: Evaluation) -> dict[str, str]:
    """What the result of `evaluation` depends on besides its setting, by name."""
    values = {
        **flat(distill_options(evaluation)),
        **{f"evaluation {key}": value for key, value in evaluation.protocol.items()},
        "iterations": evaluation.iterations,
        **({"evaluation split": evaluation.options["split"]} if "split" in evaluation.options else {}),
    }
    if len(values) > MOST_OPTIONS:
        raise UsageError(f"'{evaluation.path}' has {len(values):,} options; a report takes up to {MOST_OPTIONS:,}")
    if evaluation.protocol.get("learning_rate") == evaluation.options.get("learned_rate"):
        values["evaluation learning_rate"] = "learned"  # with each set anew, and of no other protocol for that
    distilled = evaluation.options.get("distill_environment")
    for name, facts in (("evaluation", evaluation.environment), ("distill", distilled)):
        precision = facts.get("precision", PARITY_PRECISION) if isinstance(facts, Mapping) else PARITY_PRECISION
        if precision != PARITY_PRECISION:
            values[f"{name} precision"] = precision
    other = {key: value for key, value in values.items() if key not in INCIDENTAL | IN_SETTING}
    texts = {key: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for key, v in other.items()}
    return {bounded(key): bounded(text) for key, text in texts.items()}


def distill_options(evaluation: Evaluation) -> dict[str, object]:
    """What the evaluated set was distilled with; its hyper-parameters under the names that they have now."""
    stored = evaluation.options.get("distill")
    options: dict[str, object] = dict(stored) if isinstance(stored, dict) else {}
    hyper = options.get("hyper")
    if isinstance(hyper, dict):
        options["hyper"] = with_current_names(evaluation.method, hyper)
    return options


def flat(options: Mapping[str, object]) -> dict[str, object]:
    """Stored options with the members of nested ones among them."""
    values: dict[str, object] = {}
    for key, value in options.items():
        values.update(value if isinstance(value, dict) else {key: value})
    return values
