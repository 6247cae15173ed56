"""The commands that make a run again."""

import shlex
from collections.abc import Sequence

from fairdd_cli.config import DistillConfig, EvaluateConfig, ImportConfig, command_words
from fairdd_cli.config.evaluate import PROTOCOL
from fairdd_cli.reporting.outside_text import bounded
from fairdd_cli.reporting.results import Run, distill_options, flat


def commands(run: Run) -> list[str]:
    """The commands that make `run` again, with DATA and SYN for the files; for reading, not for running blindly."""
    evaluation = run.evaluation
    stored = distill_options(evaluation)
    known = {name: getattr(evaluation, name) for name in ("method", "fairness", "sampling", "ipc", "iterations")}
    hyper = flat({"hyper": stored.get("hyper", {})})
    given = {**known, **stored, "hyper": hyper, "data": "DATA"}
    given.pop("experts", None)  # the record has their digest, not their file
    first = command_words("distill", DistillConfig, given)
    if isinstance(imported := stored.get("import"), dict):
        first = command_words("import", ImportConfig, {**known, **imported, "data": "DATA"})
    whole = evaluation.method == "whole"
    trained = {"network": run.setting.network, "seeds": run.seeds, "seed": evaluation.seed}
    protocol = {name: value or "none" for name, value in evaluation.protocol.items() if name in PROTOCOL}
    named = {"protocol": evaluation.options.get("protocol"), **({"sampling": evaluation.sampling} if whole else {})}
    trained_on = {"synthetic": "DATA" if whole else "SYN", **trained, **named, **protocol}
    evaluate = command_words("evaluate", EvaluateConfig, trained_on)
    return [_quoted(evaluate)] if whole else [_quoted(first), _quoted(evaluate)]


def _quoted(words: Sequence[str]) -> str:
    return " ".join(shlex.quote(bounded(word)) for word in words)
