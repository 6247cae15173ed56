"""Whether files are sound, and whether each was made from the files that it says it was made from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairdd_cli.artifacts import (
    Artifact,
    BiasedDataset,
    Evaluation,
    Experts,
    SyntheticSet,
    read_any,
)
from fairdd_cli.errors import UsageError
from fairdd_cli.metrics import summarise


@dataclass(frozen=True)
class Finding:
    """What is known of one file: `problem` is '' for a sound one whose chain holds.

    `made_from` names the files that it was made from, as far as they were looked at.
    """

    path: str
    kind: str
    digest: str
    made_from: str
    problem: str


def verify(paths: Sequence[str]) -> list[Finding]:
    """Checks the files at `paths`, each by itself and then against the others, in the order given.

    A chain is followed by digests: data set -> synthetic set -> evaluation. An ancestor that is not among `paths`
    is named by its digest; one that is, but was made from something else than its descendant says, is a problem.
    """
    found: dict[str, Artifact | UsageError] = {}
    for path in paths:
        try:
            found[path] = read_any(path)
        except UsageError as error:
            found[path] = error
    sound = [artifact for artifact in found.values() if not isinstance(artifact, UsageError)]
    by_digest = {artifact.digest: artifact for artifact in sound}
    return [_trace(path, entry, by_digest) for path, entry in found.items()]


def _trace(path: str, artifact: Artifact | UsageError, by_digest: dict[str, Artifact]) -> Finding:
    """The finding of an `artifact`, or of what is wrong with it."""
    if isinstance(artifact, UsageError):
        return Finding(path, "unknown", "", "", str(artifact))
    if isinstance(artifact, BiasedDataset):
        return Finding(path, "data set", artifact.digest, "", "")
    if isinstance(artifact, Experts):
        digest = str(artifact.provenance.get("dataset_digest"))
        parent_path = by_digest[digest].path if digest in by_digest else f"data set {digest[:19]}… (not given)"
        return Finding(path, "experts", artifact.digest, parent_path, "")
    parents = {"data set": artifact.dataset_digest}
    if isinstance(artifact, Evaluation) and artifact.synthetic_digest:
        parents = {"synthetic set": artifact.synthetic_digest, **parents}
    made_from, problems = [], []
    for what, digest in parents.items():
        parent = by_digest.get(digest)
        if parent is None:
            made_from.append(f"{what} {digest[:19]}… (not given)")
            continue
        made_from.append(parent.path)
        if isinstance(parent, BiasedDataset) != (what == "data set"):
            problems.append(f"'{parent.path}' is not a {what}")
        elif isinstance(parent, SyntheticSet) and parent.dataset_digest != artifact.dataset_digest:
            problems.append(f"'{parent.path}' was distilled from another data set than it was tested on")
        elif isinstance(parent, Experts) or parent.class_names != artifact.class_names:
            problems.append(f"'{parent.path}' has other classes")
    if isinstance(artifact, Evaluation):
        problems += _wrong_metrics(artifact)
    kind = "synthetic set" if isinstance(artifact, SyntheticSet) else "evaluation"
    return Finding(path, kind, artifact.digest, ", ".join(made_from), "; ".join(problems))


def _wrong_metrics(evaluation: Evaluation) -> Iterator[str]:
    """A line for each network whose reported metrics, which no digest covers, are not those of its counts."""
    for network, reported in evaluation.reported.items():
        confusion = evaluation.confusion.get(network)
        if confusion is None or not _agree(reported, summarise(confusion)):
            yield f"its metrics of '{network}' are not those of its counts"


def _agree(reported: Any, derived: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the `reported` metrics that this version knows are those `derived`, to the last digits.

    Another version knows other metrics: one that only either of them has is no error.
    """
    if not isinstance(reported, dict):
        return False
    try:
        return all(
            np.allclose(np.array(reported[name][part], float), np.array(value, float), equal_nan=True)
            for name, parts in derived.items()
            if name in reported
            for part, value in parts.items()
            if part in reported[name]
        )
    except (TypeError, ValueError, OverflowError):  # of another form
        return False
