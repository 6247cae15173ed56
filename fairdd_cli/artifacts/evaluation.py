"""Evaluation: confusion counts of networks trained on a synthetic set. Every metric is derived from them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from fairdd_cli.artifacts._container import json_attribute, open_container
from fairdd_cli.artifacts._hdf5 import Attributes, Schema, array_entry, content_digest, identity, sealed
from fairdd_cli.artifacts._input import STREAM, is_hdf5, open_input, read_bytes, shown
from fairdd_cli.artifacts._json import canonical, loads
from fairdd_cli.artifacts._lock import check_target
from fairdd_cli.artifacts._output import write_bytes
from fairdd_cli.artifacts._shown import ShowsItself
from fairdd_cli.artifacts._writer import write
from fairdd_cli.errors import UsageError
from fairdd_cli.registry import display

JSON_LIMIT = 2**25  # bytes; in memory it can take twenty times that
SCHEMA = Schema(
    kind="fairdd/evaluation",
    attributes={
        "dataset": str,
        "method": str,
        "fairness": str,
        "sampling": str,
        "ipc": int,
        "iterations": int,
        "class_names": list,
        "protected_names": list,
        "dataset_digest": str,
        "synthetic_digest": str,
        "protocol": str,
        "seconds": float,
        "peak_memory": int,
    },
    arrays={"confusion/*": ("int64", 4)},
    optional_attributes={"environment": str},
    optional_arrays=({"pairs/*": ("int64", 4)},),
)
TABLES = ("confusion", "pairs")  # members that hold a table for each network
TABLE_AXES = ("seed, label, protected, prediction", "seed, label, prediction in the first and in the second group")
Tables = dict[str, dict[str, np.ndarray]]  # by member, then by network
NETWORK_LIMIT = 200  # networks of an evaluation, and letters of a network's name
JSON_ENCODED = frozenset({"protocol", "options", "environment"})  # attributes that HDF5 holds as JSON text


@dataclass(frozen=True, repr=False)
class Evaluation(ShowsItself):
    """What `fairdd evaluate` measured.

    `confusion[network]` counts test images as int64 [seeds, classes, groups, classes]: seed, label, protected
    value, prediction. `method` is `whole` and `ipc` 0 where a data set itself was trained on. `options` are
    those of the evaluation, and under `distill` those of the synthetic set. `environment` says what the networks
    were trained by: device, precision, compile, threads, deterministic, torch and fairdd versions ({} in files of
    version 0.1.0).

    Where every test image is there in both of two groups, `pairs[network]` counts the pairs, int64 [seeds, classes,
    classes, classes]: seed, label, prediction for the image in the first group, for that in the second. Else it is {}.
    """

    confusion: Mapping[str, np.ndarray]
    dataset: str
    method: str
    fairness: str
    sampling: str
    ipc: int
    iterations: int
    class_names: tuple[str, ...]
    protected_names: tuple[str, ...]
    dataset_digest: str
    synthetic_digest: str
    protocol: Mapping[str, Any]
    seconds: float
    peak_memory: int  # bytes
    options: Mapping[str, Any]
    seed: int
    environment: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, np.ndarray] = field(default_factory=dict)
    path: str = ""
    digest: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)  # created, generated_by
    reported: Mapping[str, Any] = field(default_factory=dict)  # the metrics that a JSON file gives for other programs

    @property
    def split(self) -> str:
        """The split that it was tested on, in a word."""
        return "validation" if self.options.get("split") == "val" else "test"

    @property
    def cell_sizes(self) -> np.ndarray:
        """The images of each cell of that split, int64 [classes, groups]."""
        return np.asarray(next(iter(self.confusion.values()))[0].sum(axis=-1, dtype=np.int64))

    def metrics(self) -> dict[str, dict[str, Any]]:
        """For each network every metric, in percent: mean, std and per_seed; see `fairdd_cli.metrics.summarise`."""
        return display().metrics_of(self)

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Writes it to the file `path`, .json or .h5; UsageError where that exists, unless `force`."""
        where = os.fspath(path)
        if not where.endswith((".json", ".h5")):
            raise UsageError(f"'{where}': an evaluation is written as .json or .h5")
        check_target(where, force)
        write_evaluation(where, self, self.metrics(), force)

    def in_memory(self) -> "Evaluation":
        """The same with the digest of the file that it would be, by which reports know it."""
        attributes, arrays = _content(self)
        entries = {name: array_entry(table) for name, table in arrays.items()}
        return replace(self, **identity(sealed(SCHEMA.kind, attributes, entries)))

    def _in_memory(self) -> str:
        return f"evaluation of {self.method} {self.fairness} on {self.dataset}"


def write_evaluation(path: str, evaluation: Evaluation, metrics: Mapping[str, Any], force: bool = True) -> str:
    """Writes `evaluation` to `path`, as HDF5 where it ends in `.h5`, else as JSON with the derived `metrics`."""
    attributes, arrays = _content(evaluation)
    if path.endswith(".h5"):
        return write(path, SCHEMA.kind, lambda: attributes, arrays, force)
    attributes = sealed(SCHEMA.kind, attributes, {name: array_entry(table) for name, table in arrays.items()})
    objects = {name: canonical(dict(getattr(evaluation, name))) for name in JSON_ENCODED & attributes.keys()}
    tables = {
        member: {name: table.tolist() for name, table in getattr(evaluation, member).items()}
        for member in (TABLES if evaluation.pairs else TABLES[:1])
    }
    content = {**attributes, **objects, "metrics": dict(metrics), **tables}
    write_bytes(path, (json.dumps(content, allow_nan=False) + "\n").encode(), force)
    return str(attributes["digest"])


def _content(evaluation: Evaluation) -> tuple[Attributes, dict[str, np.ndarray]]:
    """The attributes and the arrays of the file of `evaluation`."""
    names = (*SCHEMA.attributes, "options", "seed", *(["environment"] if evaluation.environment else []))
    attributes: Attributes = {name: getattr(evaluation, name) for name in names}
    for name in ("class_names", "protected_names"):
        attributes[name] = list(attributes[name])
    for name in JSON_ENCODED & attributes.keys():
        attributes[name] = json.dumps(canonical(dict(attributes[name])), sort_keys=True)
    members = {member: getattr(evaluation, member) for member in TABLES}
    return attributes, _arrays({member: dict(tables) for member, tables in members.items()})


def _arrays(tables: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The `tables` of each member by their names in a file."""
    return {f"{member}/{name}": t.astype(np.int64) for member, named in tables.items() for name, t in named.items()}


def read_evaluation(path: str) -> Evaluation:
    """The evaluation at `path`, JSON or HDF5 (`-`: JSON from standard input); UsageError unless it is sound."""
    if path != STREAM and is_hdf5(open_input(path)):
        container = open_container(path, SCHEMA)
        values = dict(container.attributes)
        for name in JSON_ENCODED & values.keys():
            values[name] = canonical(json_attribute(container, name))
        tables: Tables = {
            member: {name.removeprefix(f"{member}/"): container.array(name) for name in container.names(f"{member}/")}
            for member in TABLES
        }
    else:
        values, tables = _read_json(path)
    return _checked(path, values, tables)


def _unsound(path: str, reason: str) -> UsageError:
    return UsageError(f"'{shown(path)}' is not a sound {SCHEMA.kind} file: {reason}")


def _read_json(path: str) -> tuple[dict[str, Any], Tables]:
    content = read_bytes(path, JSON_LIMIT)
    try:
        raw = loads(content, *TABLES)
    except ValueError as error:
        raise UsageError(f"'{shown(path)}' is neither an HDF5 file nor sound JSON: {str(error)[:100]}") from error
    if not isinstance(raw, dict) or raw.get("format") != SCHEMA.kind:
        kind = raw.get("format") if isinstance(raw, dict) else None
        raise UsageError(f"'{shown(path)}' is a file of format {str(kind)[:40]!r}; {SCHEMA.kind!r} is needed here")
    members = {member: raw.pop(member) for member in TABLES if member in raw}
    reported = raw.pop("metrics", None)
    values = canonical(raw)
    common = {"generated_by": str, "created": str, "digest": str, "seed": int, "options": str}
    optional = {name: kind for name, kind in SCHEMA.optional_attributes.items() if name in values}
    for name, kind in {**common, **SCHEMA.attributes, **optional}.items():
        wanted = {dict} if name in JSON_ENCODED else {int, float} if kind is float else {kind}
        if type(values.get(name)) not in wanted:
            raise _unsound(path, f"'{name}' is missing or not of the right type")
    if values.get("format_version") != 1:
        version = str(values.get("format_version"))[:20]
        raise _unsound(path, f"format version {version} is not one that this fairdd reads (1)")
    tables: Tables = {}
    for member, axes in zip(TABLES, TABLE_AXES, strict=True):
        named = members.get(member, None if member == "confusion" else {})
        if not isinstance(named, dict):
            raise _unsound(path, f"'{member}' is missing or not of the right type")
        try:
            tables[member] = {name: _table(counts) for name, counts in named.items()}
        except (ValueError, OverflowError) as error:
            raise _unsound(path, f"'{member}' should hold integers in four dimensions: {axes}") from error
    # Version 0.1.0 took the numbers as they are spelled, which other tools change (1.0 to 1).
    if values["digest"] not in (_digest(values, tables), _digest(raw, tables)):
        raise _unsound(path, "its content does not have the digest that it states")
    return {**values, "metrics": reported}, tables


def _digest(values: Mapping[str, Any], tables: Tables) -> str:
    attributes = {name: values[name] for name in (*SCHEMA.attributes, "options", "seed", "format", "format_version")}
    attributes |= {name: json.dumps(values[name], sort_keys=True) for name in JSON_ENCODED & attributes.keys()}
    return content_digest(attributes, {name: array_entry(table) for name, table in _arrays(tables).items()})


def _table(counts: object) -> np.ndarray:
    """The table int64 of four dimensions that `counts` are; ValueError for anything else."""
    entries: list[Any] = [counts]
    shape: list[int] = []
    for _ in range(4):
        if set(map(type, entries)) != {list} or len(lengths := set(map(len, entries))) != 1:
            raise ValueError
        shape += lengths
        entries = list(chain.from_iterable(entries))
    kinds = set(map(type, entries)) - {int}
    if kinds and (kinds != {float} or not all(float(entry).is_integer() for entry in entries)):
        raise ValueError
    return np.array(entries, np.int64).reshape(shape)


def _checked(path: str, values: dict[str, Any], members: Tables) -> Evaluation:
    tables = members["confusion"]
    for name in ("class_names", "protected_names"):
        if not values[name] or not all(isinstance(entry, str) for entry in values[name]):
            raise _unsound(path, f"'{name}' should be a list of names")
        values[name] = tuple(values[name])
    classes, groups = len(values["class_names"]), len(values["protected_names"])
    if not 1 <= len(tables) <= NETWORK_LIMIT:
        raise _unsound(path, f"it holds {len(tables)} confusion tables; expected 1 to {NETWORK_LIMIT}")
    for name, table in tables.items():
        if len(name) > NETWORK_LIMIT:
            raise _unsound(path, f"the name of a network has {len(name):,} letters; expected at most {NETWORK_LIMIT}")
        if table.shape[0] < 1 or table.shape[1:] != (classes, groups, classes):
            expected = f"(seeds, {classes}, {groups}, {classes})"
            raise _unsound(path, f"the table of '{name}' has shape {table.shape}, expected {expected}")
        if table.min() < 0 or table.max() > 2**40 or table.sum(axis=(1, 2, 3)).min() < 1:
            raise _unsound(path, f"the table of '{name}' does not hold counts")
    _check_pairs(path, members["pairs"], tables)
    provenance = {name: values[name] for name in ("created", "generated_by")}
    names = (*SCHEMA.attributes, *(SCHEMA.optional_attributes.keys() & values.keys()), "options", "seed", "digest")
    kept = {name: values[name] for name in names}
    reported = values.get("metrics")
    reported = reported if isinstance(reported, dict) else {}
    return Evaluation(
        confusion=tables, pairs=members["pairs"], path=path, provenance=provenance, reported=reported, **kept
    )


def _check_pairs(path: str, pairs: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray]) -> None:
    """Raises UsageError unless the `pairs`, where there are any, are counts that add up to the confusion `tables`."""
    if pairs and pairs.keys() != tables.keys():
        raise _unsound(path, "'pairs' and 'confusion' hold different networks")
    for name, joint in pairs.items():
        seeds, classes, groups, _ = tables[name].shape
        expected = (seeds, classes, classes, classes)
        if groups != 2 or joint.shape != expected:
            raise _unsound(path, f"the pairs of '{name}' have shape {joint.shape}, expected {expected} of two groups")
        if joint.min() < 0 or joint.max() > 2**40:
            raise _unsound(path, f"the pairs of '{name}' are not counts")
        if not np.array_equal(np.stack([joint.sum(axis=3), joint.sum(axis=2)], axis=2), tables[name]):
            raise _unsound(path, f"the pairs of '{name}' do not add up to its confusion table")
