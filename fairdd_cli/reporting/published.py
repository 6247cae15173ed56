"""The published values of a row's setting, from `published.csv`, each with its source.

Columns: source, dataset, ipc, method, fairness, network; accuracy, deo_max and deo_mean in percent with their
standard deviations where they were published; test_images, the number of images that the networks were tested on, where
it is known.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from fairdd_cli.reporting.rows import Reference, Row

METRICS = ("accuracy", "deo_max", "deo_mean")
# What the sources trained with, as far as they say so, by the names of a row's details. What a source doesn't say is
# not compared.
LONG: Mapping[str, object] = {"evaluation epochs": 1_000}
SHORT: Mapping[str, object] = {"evaluation epochs": 300}
REAL: Mapping[str, object] = {"init": "real", "batch_real": 256}
SETTINGS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "fairdd-neurips2025": {
        "random": LONG,
        "dm": {"iterations": 20_000, **REAL, **LONG},
        "gm": {"iterations": 1_000, **REAL, **SHORT},
        "dsa": {"iterations": 1_000, **REAL, **LONG},
        "idc": {"iterations": 2_000},  # its evaluation is not stated, nor is that of DREAM
        "dream": {"iterations": 2_000},
        "mtt": {"iterations": 5_000, "init": "real", **LONG},
    },
    "cobra-authors": {
        "dm": {"iterations": 2_600, "batch_real": 600, "evaluation epochs": 1_500},
        "gm": {"iterations": 1_000},
    },
}
SEEDS = {"fairdd-neurips2025": 10, "cobra-authors": 5}  # evaluation networks
SAMPLING = "proportional"
DISTILLED_WITH = "convnet"
BEYOND = ("decoding", "match", "trained_networks", "cross_entropy")  # what no published row has

Key = tuple[str, int, str, str, str]


@dataclass(frozen=True)
class Published:
    """A line of the table."""

    source: str
    metrics: dict[str, tuple[float, float | None]]
    test_images: int | None  # None: not known


def published_values() -> dict[Key, list[Published]]:
    """The published values by (dataset, IPC, method, fairness, network); the whole data set has IPC 0."""
    values: dict[Key, list[Published]] = defaultdict(list)
    with resources.files("fairdd_cli.reporting").joinpath("published.csv").open(encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            key = (line["dataset"], int(line["ipc"] or 0), line["method"], line["fairness"], line["network"])
            metrics = {
                name: (float(line[name]), float(line[f"{name}_std"]) if line[f"{name}_std"] else None)
                for name in METRICS
                if line[name]
            }
            values[key].append(Published(line["source"], metrics, int(line["test_images"] or 0) or None))
    return values


def with_published(rows: Sequence[Row]) -> list[Row]:
    """`rows`, each with the published values of its setting; a network counts by its name, without its options."""
    known = published_values()

    def key(row: Row) -> Key:
        setting = row.setting
        return (row.dataset, setting.ipc, setting.method, setting.fairness, setting.network.partition(":")[0])

    return [
        replace(
            row, references=tuple(Reference(p.source, p.metrics, _differs(row, p)) for p in known.get(key(row), []))
        )
        for row in rows
    ]


def _differs(row: Row, published: Published) -> tuple[str, ...]:
    """In what, as far as both are known, the row's setting is not the published one."""
    setting, words = row.setting, []
    family = next((name for name in SETTINGS if published.source.startswith(name)), "")
    for name, value in SETTINGS.get(family, {}).get(setting.method, {}).items():
        if row.details.get(name, str(value)) != str(value):
            words.append(f"{name} {_with_separators(row.details[name])} (published {_with_separators(str(value))})")
    words += [f"{name} {row.details[name]} (published: none)" for name in BEYOND if name in row.details]
    if row.seeds != SEEDS.get(family, row.seeds):
        words.append(f"{row.seeds} network{'s' if row.seeds > 1 else ''} (published {SEEDS[family]})")
    if ":" in setting.network:
        words.append(f"network {setting.network} (published {setting.network.partition(':')[0]})")
    if setting.sampling != SAMPLING and setting.method != "random":
        words.append(f"sampling {setting.sampling} (published {SAMPLING})")
    distilled = row.details.get("network", DISTILLED_WITH)
    if distilled != DISTILLED_WITH and setting.method not in ("random", "whole"):
        words.append(f"distilled with {distilled} (published {DISTILLED_WITH})")
    expected = published.test_images
    if expected and row.test_images < 0.95 * expected:
        words.append(f"{row.test_images:,} test images (published {expected:,})")
    return tuple(words)


def _with_separators(text: str) -> str:
    """`text`, a whole number with separators of thousands."""
    return f"{int(text):,}" if text.isdecimal() else text
