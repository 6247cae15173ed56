"""What is on offer: methods, strategies, decodings, data sets, networks and metrics, of other packages, too."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

from fairdd_cli.metrics import METRICS, Metrics
from fairdd_cli.registry import DATASETS, DECODINGS, METHODS, NETWORKS, STRATEGIES, Registry

REGISTRIES: Mapping[str, Registry | Metrics] = {
    "methods": METHODS,
    "strategies": STRATEGIES,
    "decodings": DECODINGS,
    "datasets": DATASETS,
    "networks": NETWORKS,
    "metrics": METRICS,
}

TORCHVISION_NETWORKS = {  # said here: to import torchvision takes a second
    "torchvision:NAME": "A classification network of torchvision, from scratch, for images of any size."
}


def titles(kind: str) -> dict[str, str]:
    """What each entry of a `kind` is, in a line, by its name; torchvision's networks are one entry."""
    listed = {name: _title(kind, name) for name in REGISTRIES[kind].names()}
    return {**listed, **TORCHVISION_NETWORKS} if kind == "networks" else listed


def _title(kind: str, name: str) -> str:
    if kind == "metrics":
        return f"{METRICS[name].label}: {METRICS[name].meaning}"
    module: Any = REGISTRIES[kind].load(name)
    if kind == "methods":
        return str(module.Method.title)
    if kind == "strategies":
        return str(module.strategy.title)
    if kind == "decodings":
        return str(module.Decoding.title)
    return _first_line(module.__doc__)


def describe(kind: str, name: str) -> dict[str, Any]:
    """All that is known of an entry, as JSON values; raises UsageError, naming the nearest, for an unknown one.

    Of networks, `torchvision` and `torchvision:NAME` (in capitals) describe all of torchvision's that can be used.
    """
    registry = REGISTRIES[kind]
    if kind == "networks" and name.partition(":")[0] == "torchvision":
        return _torchvision(name)
    name = registry.canonical(name)
    return {"name": name, "title": _title(kind, name), **DESCRIPTIONS[kind](name)}


def _method(name: str) -> dict[str, Any]:
    from fairdd_cli.methods._description import describe as describe_method  # imports torch

    known = asdict(describe_method(name))
    parameters = known.pop("hyper_parameters")
    return {**known, "aliases": _aliases(METHODS, name), "hyper_parameters": parameters}


def default_words(parameter: Mapping[str, Any]) -> str:
    """The default of a hyper-parameter as `describe` gives it, with its unit; by images per class where it depends."""
    left_open = parameter["default"] in (0, "")
    default = (parameter["automatic"] if left_open else "") or str(parameter["default"]) or "none"
    if parameter["by_ipc"]:
        entries = list(parameter["by_ipc"].items())
        changes = [entries[0], *(after for before, after in pairwise(entries) if after[1] != before[1])]
        default = ", ".join(f"{value} from IPC {ipc}" for ipc, value in changes)
    return f"{default} {parameter['unit']}".rstrip()


def _strategy(name: str) -> dict[str, Any]:
    strategy = STRATEGIES.load(name).strategy
    return {
        "paper": strategy.paper,
        "uses_groups": strategy.uses_groups,
        "reweights_samples": strategy.reweights_samples,
        "reduces_targets_by": strategy.reduce,
    }


def _decoding(name: str) -> dict[str, Any]:
    decoding = DECODINGS.load(name).Decoding
    options = {field.name: field.default for field in fields(decoding)}
    return {"paper": decoding.paper, "about": inspect.getdoc(decoding) or "", "options": options}


def _dataset(name: str) -> dict[str, Any]:
    module = DATASETS.load(name)
    options = {option: f"--{option.replace('_', '-')}" for option in sorted(module.OPTIONS)}
    defaults = {
        flag: getattr(module, option.upper()) for option, flag in options.items() if hasattr(module, option.upper())
    }
    fetch = getattr(module, "FETCH", "") or getattr(getattr(module, "LAYOUT", None), "fetch", "")
    source = _rest(module.__doc__).removeprefix("Source: ")
    paragraphs = (inspect.getdoc(module.source) or "").split("\n\n")
    content = "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return {
        "source": source,
        "content": content,
        "options": list(options.values()),
        "defaults": {flag: _joined(value) for flag, value in defaults.items()},
        "files": fetch,
    }


def _joined(value: object) -> str:
    """The default of an option; several values as they would be given, one after another."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _network(name: str) -> dict[str, Any]:
    network = NETWORKS.load(name).Network
    parameters = inspect.signature(network.__init__).parameters.values()
    options = {each.name: each.default for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    return {"about": inspect.getdoc(network) or "", "options": options}


def _torchvision(name: str) -> dict[str, Any]:
    from fairdd_cli.networks import parse_network, torchvision_networks  # import torch

    ((placeholder, title),) = TORCHVISION_NETWORKS.items()
    if name in ("torchvision", placeholder):
        return {"name": placeholder, "title": title, "networks": torchvision_networks()}
    return {"name": str(parse_network(name)), "title": title}


def _metric(name: str) -> dict[str, Any]:
    metric = METRICS[name]
    classes = str(metric.classes) if metric.classes else "any number"
    about = inspect.getdoc(metric.compute) or ""
    better = "higher" if metric.higher_is_better else "lower"
    return {"label": metric.label, "formula": metric.formula, "better": better, "classes": classes, "about": about}


DESCRIPTIONS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "methods": _method,
    "strategies": _strategy,
    "decodings": _decoding,
    "datasets": _dataset,
    "networks": _network,
    "metrics": _metric,
}


def _aliases(registry: Registry, name: str) -> list[str]:
    return sorted(alias for alias, target in registry.aliases.items() if target == name)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _rest(text: str | None) -> str:
    return " ".join((text or "").strip().partition("\n")[2].split())
