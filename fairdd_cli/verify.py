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

    `origin` names the files that it was made from, as far as they were looked at.
    """

    path: str
    kind: str
    digest: str
    origin: str
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
    return [_traced(path, entry, by_digest) for path, entry in found.items()]


def _traced(path: str, artifact: Artifact | UsageError, by_digest: dict[str, Artifact]) -> Finding:
    """The finding of an `artifact`, or of what is wrong with it."""
    if isinstance(artifact, UsageError):
        return Finding(path, "unknown", "", "", str(artifact))
    if isinstance(artifact, BiasedDataset):
        return Finding(path, "data set", artifact.digest, "", "")
    if isinstance(artifact, Experts):
        digest = str(artifact.origin.get("dataset_digest"))
        made_from = by_digest[digest].path if digest in by_digest else f"data set {digest[:19]}… (not given)"
        return Finding(path, "experts", artifact.digest, made_from, "")
    parents = {"data set": artifact.dataset_digest}
    if isinstance(artifact, Evaluation) and artifact.synthetic_digest:
        parents = {"synthetic set": artifact.synthetic_digest, **parents}
    origin, problems = [], []
    for what, digest in parents.items():
        parent = by_digest.get(digest)
        if parent is None:
            origin.append(f"{what} {digest[:19]}… (not given)")
            continue
        origin.append(parent.path)
        if isinstance(parent, BiasedDataset) != (what == "data set"):
            problems.append(f"'{parent.path}' is not a {what}")
        elif isinstance(parent, SyntheticSet) and parent.dataset_digest != artifact.dataset_digest:
            problems.append(f"'{parent.path}' was distilled from another data set than it was tested on")
        elif isinstance(parent, Experts) or parent.class_names != artifact.class_names:
            problems.append(f"'{parent.path}' has other classes")
    if isinstance(artifact, Evaluation):
        problems += _misstated(artifact)
    kind = "synthetic set" if isinstance(artifact, SyntheticSet) else "evaluation"
    return Finding(path, kind, artifact.digest, ", ".join(origin), "; ".join(problems))


def _misstated(evaluation: Evaluation) -> Iterator[str]:
    """A line for each network whose metrics, which no digest covers, are not those of its counts."""
    for network, stated in evaluation.stated.items():
        counted = evaluation.confusion.get(network)
        if counted is None or not _agree(stated, summarise(counted)):
            yield f"its metrics of '{network}' are not those of its counts"


def _agree(stated: object, found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether `stated` has the numbers of `found`, to the last digits, and nothing else."""
    if not isinstance(stated, dict) or stated.keys() != found.keys():
        return False
    try:
        pairs = [(stated[name][part], value) for name, parts in found.items() for part, value in parts.items()]
        return all(np.allclose(np.array(a, float), np.array(b, float), equal_nan=True) for a, b in pairs)
    except (KeyError, TypeError, ValueError):  # of another form
        return False
