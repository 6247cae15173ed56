"""What a report keeps of an evaluation: the counts by cell, what they depend on and where they come from."""

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
from fairdd_cli.metrics import Cells, cells

MANY = 1000  # files from which on several processes read them
# Options that change where and how a run went, not what was measured.
INCIDENTAL = frozenset({"data", "device", "output", "path", "recipe", "residency", "seed", "seeds", "synthetic"})
IN_SETTING = frozenset({"dataset", "method", "fairness", "fair", "sampling", "ipc", "networks", "protocol"})


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
    """One network of one evaluation; the `evaluation` keeps its provenance but not its tables."""

    setting: Setting
    details: Mapping[str, str]  # what else the result depends on
    cells: Cells  # int64 [seeds, classes, groups]
    evaluation: Evaluation


def clean(text: object) -> str:
    """`text` from a file with its control characters replaced, so that it can only ever be text."""
    words = str(text)
    if words.isprintable():
        return words
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def read(paths: Sequence[str]) -> list[Run]:
    """The runs in the evaluations at `paths`, JSON and HDF5 mixed; a network counts once, in however many files.

    Raises UsageError for a file that is not a sound evaluation.
    """
    if paths.count(STREAM) > 1:
        raise UsageError("standard input can be read only once: give '-' a single time")
    if len(paths) < MANY or STREAM in paths:
        return _once(map(_read_one, paths))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return _once(pool.map(_read_one, paths, chunksize=100))


def _once(batches: Iterable[list[Run]]) -> list[Run]:
    """The runs without those whose networks another one has all of, as where `--seeds` was raised later."""
    kept: dict[object, Run] = {}
    for run in (run for runs in batches for run in runs):
        made = run.evaluation
        first = tuple(counts[0].tobytes() for counts in run.cells)  # the same training ends in the same counts
        origin = (made.synthetic_digest, made.dataset_digest, made.seed)
        key: object = (run.setting, tuple(sorted(run.details.items())), *origin, first)
        other = kept.get(key)
        if other is not None:
            shorter, longer = sorted((other, run), key=lambda each: len(each.cells.total))
            if not all(np.array_equal(a, b[: len(a)]) for a, b in zip(shorter.cells, longer.cells, strict=True)):
                key = (key, made.digest)  # alike by chance
            elif longer is other:
                continue
        kept[key] = run
    return list(kept.values())


def _read_one(path: str) -> list[Run]:
    evaluation = read_evaluation(path)
    kept = replace(
        evaluation,
        confusion={},
        reported={},
        class_names=tuple(map(clean, evaluation.class_names)),
        protected_names=tuple(map(clean, evaluation.protected_names)),
    )
    details = _details(evaluation)
    return [
        Run(
            Setting(
                clean(evaluation.dataset),
                clean(evaluation.method),
                clean(evaluation.fairness),
                clean(evaluation.sampling),
                evaluation.ipc,
                clean(network),
            ),
            details,
            cells(table),
            kept,
        )
        for network, table in evaluation.confusion.items()
    ]


def _details(evaluation: Evaluation) -> dict[str, str]:
    """What the result of `evaluation` depends on besides its setting, by name."""
    found = {
        **flat(distill_options(evaluation)),
        **{f"evaluation {key}": value for key, value in evaluation.protocol.items()},
        "iterations": evaluation.iterations,
    }
    if evaluation.protocol.get("learning_rate") == evaluation.options.get("learned_rate"):
        found["evaluation learning_rate"] = "learned"  # with each set anew, and of no other protocol for that
    kept = {key: value for key, value in found.items() if key not in INCIDENTAL | IN_SETTING}
    return {clean(key): clean(v if isinstance(v, str) else json.dumps(v, sort_keys=True)) for key, v in kept.items()}


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
    found: dict[str, object] = {}
    for key, value in options.items():
        found.update(value if isinstance(value, dict) else {key: value})
    return found
