"""The commands that make a run again."""

import shlex

from fairdd_cli.reporting.outside_text import bounded
from fairdd_cli.reporting.results import Run, distill_options, flat

PROTOCOL_OPTIONS = ("epochs", "learning_rate", "batch", "augmentation")
DISTILL_OPTIONS = (
    "method",
    "fairness",
    "sampling",
    "init",
    "ipc",
    "factor",
    "batch_real",
    "iterations",
    "network",
    "groups",
    "group_noise",
)


def commands(run: Run) -> list[str]:
    """The commands that make `run` again, with DATA and SYN for the files; for reading, not for running blindly."""
    evaluation = run.evaluation
    distill = distill_options(evaluation)
    known = {"method": evaluation.method, "fairness": evaluation.fairness, "sampling": evaluation.sampling}
    known |= {"ipc": str(evaluation.ipc), "iterations": str(evaluation.iterations)}
    given = {**known, **{key: value for key, value in distill.items() if key in DISTILL_OPTIONS}}
    lines = []
    if evaluation.method != "whole":
        hyper = flat({"hyper": distill.get("hyper", {})})
        words = [word for key in DISTILL_OPTIONS if key in given for word in (_option(key), given[key])]
        words += [word for key, value in hyper.items() for word in ("-O", f"{key}={value}")]
        words += ["--seed", distill["seed"]] if "seed" in distill else []
        lines.append(_command("fairdd", "distill", "DATA", *words))
    protocol = [(key, evaluation.protocol[key]) for key in PROTOCOL_OPTIONS if key in evaluation.protocol]
    words = [word for key, value in protocol for word in (_option(key), value or "none")]
    source = "DATA" if evaluation.method == "whole" else "SYN"
    trained = ("--network", run.setting.network, "--seeds", run.seeds, "--seed", evaluation.seed)
    return [*lines, _command("fairdd", "evaluate", source, *trained, *words)]


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _command(*words: object) -> str:
    return " ".join(shlex.quote(bounded(word)) for word in words)
