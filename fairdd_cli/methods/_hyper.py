"""How a method declares its hyper-parameters: each field with its meaning, its unit and where its value comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

IPCS = (1, 10, 20, 30, 40, 50, 100)  # images per class for which defaults are listed where they depend on it


def hyper(default: Any, meaning: str, *, unit: str = "", source: str = "paper", automatic: str = "") -> Any:
    """A field of a method with its `default` and what it means, in a line.

    `source` names where the default is from: the paper, its public code, or fairdd. `automatic` says what
    0 or '' stands for.
    """
    facts = {"meaning": meaning, "unit": unit, "source": source, "automatic": automatic}
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class HyperParameter:
    """A hyper-parameter as `fairdd list methods NAME` shows it.

    `by_ipc` holds the defaults for some numbers of images per class where they differ, and is empty otherwise.
    """

    name: str
    kind: str  # int, float or str
    default: object
    by_ipc: Mapping[int, object]
    meaning: str
    unit: str
    source: str
    automatic: str  # what 0 or '' stands for
    choices: tuple[str, ...]
    old_names: tuple[str, ...]


def hyper_parameters(method: type[Any]) -> tuple[HyperParameter, ...]:
    """Those of the class `method`, a `MethodBase`, in the order of their declaration."""
    default, by_ipc = method(), {ipc: method.for_ipc(ipc) for ipc in IPCS}
    found = []
    for each in fields(method):
        values = {ipc: getattr(chosen, each.name) for ipc, chosen in by_ipc.items()}
        facts = each.metadata
        found.append(
            HyperParameter(
                name=each.name,
                kind=type(getattr(default, each.name)).__name__,
                default=getattr(default, each.name),
                by_ipc=values if len(set(values.values())) > 1 else {},
                meaning=facts.get("meaning", ""),
                unit=facts.get("unit", ""),
                source=facts.get("source", ""),
                automatic=facts.get("automatic", ""),
                choices=method.choices.get(each.name, ()),
                old_names=tuple(old for old, name in method.aliases.items() if name == each.name),
            )
        )
    return tuple(found)
