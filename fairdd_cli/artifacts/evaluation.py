"""Evaluation: confusion counts of networks trained on a synthetic set. Every metric is derived from them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairdd_cli.artifacts._container import json_attribute, opened
from fairdd_cli.artifacts._counts import load
from fairdd_cli.artifacts._files import read_bytes, shown
from fairdd_cli.artifacts._hdf5 import Schema, array_entry, content_digest, with_header
from fairdd_cli.artifacts._output import write_bytes
from fairdd_cli.artifacts._writer import write
from fairdd_cli.errors import UsageError

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
)
JSON_ENCODED = frozenset({"protocol", "options", "environment"})  # attributes that HDF5 holds as JSON text


@dataclass(frozen=True)
class Evaluation:
    """What `fairdd evaluate` measured.

    `confusion[network]` counts test images as int64 [seeds, classes, groups, classes]: seed, label, protected
    value, prediction. `method` is `whole` and `ipc` 0 where a data set itself was trained on. `options` are
    those of the evaluation, and under `distill` those of the synthetic set. `environment` says what the networks
    were trained by: device, precision, compile, threads, deterministic, torch and fairdd versions ({} in files of
    version 0.1.0).
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
    path: str = ""
    digest: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)  # created, generated_by
    reported: Mapping[str, Any] = field(default_factory=dict)  # the metrics that a JSON file gives for other programs


def write_evaluation(path: str, evaluation: Evaluation, metrics: Mapping[str, Any], force: bool = True) -> str:
    """Writes `evaluation` to `path`, as HDF5 where it ends in `.h5`, else as JSON with the derived `metrics`."""
    names = (*SCHEMA.attributes, "options", "seed", *(["environment"] if evaluation.environment else []))
    attributes: dict[str, Any] = {name: getattr(evaluation, name) for name in names}
    for name in ("class_names", "protected_names"):
        attributes[name] = list(attributes[name])
    for name in JSON_ENCODED & attributes.keys():
        attributes[name] = json.dumps(dict(attributes[name]), sort_keys=True)
    arrays = {f"confusion/{name}": table.astype(np.int64) for name, table in evaluation.confusion.items()}
    if path.endswith(".h5"):
        return write(path, SCHEMA.kind, lambda: attributes, arrays, force)
    attributes = with_header(SCHEMA.kind, attributes)
    digest = content_digest(attributes, {name: array_entry(table) for name, table in arrays.items()})
    for name in JSON_ENCODED & attributes.keys():
        attributes[name] = json.loads(attributes[name])
    confusion = {name: table.tolist() for name, table in evaluation.confusion.items()}
    content = {**attributes, "digest": digest, "metrics": dict(metrics), "confusion": confusion}
    write_bytes(path, (json.dumps(content, allow_nan=False) + "\n").encode(), force)
    return digest


def read_evaluation(path: str) -> Evaluation:
    """The evaluation at `path`, JSON or HDF5 (`-`: JSON from standard input); UsageError unless it is sound."""
    if _is_hdf5(path):
        with opened(path, SCHEMA) as container:
            values = dict(container.attributes)
            for name in JSON_ENCODED & values.keys():
                values[name] = json_attribute(container, name)
            tables = {name.removeprefix("confusion/"): container.array(name) for name in container.names()}
    else:
        values, tables = _read_json(path)
    return _checked(path, values, tables)


def _is_hdf5(path: str) -> bool:
    file = Path(path)
    if not file.is_file():
        return False
    try:
        with file.open("rb") as stream:
            return stream.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error


def _read_json(path: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    def fail(reason: str) -> UsageError:
        return UsageError(f"'{shown(path)}' is not a sound {SCHEMA.kind} file: {reason}")

    content = read_bytes(path, JSON_LIMIT)
    try:
        values, tables = load(content)
    except ValueError as error:
        raise UsageError(f"'{shown(path)}' is neither an HDF5 file nor sound JSON: {str(error)[:100]}") from error
    if not isinstance(values, dict) or values.get("format") != SCHEMA.kind:
        kind = values.get("format") if isinstance(values, dict) else None
        raise UsageError(f"'{shown(path)}' is a file of format {str(kind)[:40]!r}; {SCHEMA.kind!r} is needed here")
    expected = {"generated_by": str, "created": str, "digest": str, "seed": int, "options": str, "confusion": dict}
    optional = {name: kind for name, kind in SCHEMA.optional_attributes.items() if name in values}
    for name, kind in {**expected, **SCHEMA.attributes, **optional}.items():
        wanted: Any = dict if name in JSON_ENCODED else (int, float) if kind is float else kind
        if not isinstance(values.get(name), wanted) or isinstance(values.get(name), bool):
            raise fail(f"'{name}' is missing or not of the right type")
    if values.get("format_version") != 1:
        raise fail(f"format version {str(values.get('format_version'))[:20]} is not one that this fairdd reads (1)")
    for name, counts in values.pop("confusion").items():
        try:
            tables[name] = np.array(_numbers(counts, 4), np.int64)
        except (ValueError, OverflowError) as error:
            reason = "'confusion' should hold integers in four dimensions: seed, label, protected, prediction"
            raise fail(reason) from error
    attributes = {name: values[name] for name in (*SCHEMA.attributes, "options", "seed", "format", "format_version")}
    for name in JSON_ENCODED & attributes.keys():
        attributes[name] = json.dumps(attributes[name], sort_keys=True)
    found = content_digest(attributes, {f"confusion/{name}": array_entry(table) for name, table in tables.items()})
    if found != values["digest"]:
        raise fail("its content does not have the digest that it states")
    return values, tables


def _numbers(table: object, dimensions: int) -> object:
    """`table` itself, if it is lists of whole numbers nested `dimensions` deep; else ValueError."""
    if dimensions == 0:
        if type(table) is not int:
            raise ValueError
    elif not isinstance(table, list):
        raise ValueError
    else:
        for entry in table:
            _numbers(entry, dimensions - 1)
    return table


def _checked(path: str, values: dict[str, Any], tables: dict[str, np.ndarray]) -> Evaluation:
    def fail(reason: str) -> UsageError:
        return UsageError(f"'{shown(path)}' is not a sound {SCHEMA.kind} file: {reason}")

    for name in ("class_names", "protected_names"):
        if not values[name] or not all(isinstance(entry, str) for entry in values[name]):
            raise fail(f"'{name}' should be a list of names")
        values[name] = tuple(values[name])
    classes, groups = len(values["class_names"]), len(values["protected_names"])
    texts = [*values["class_names"], *values["protected_names"], *tables]
    texts += [value for value in values.values() if isinstance(value, str)]
    if not all(text.isprintable() for text in texts):
        raise fail("a name holds control characters")
    if not tables:
        raise fail("it holds no confusion table")
    for name, table in tables.items():
        if table.shape[0] < 1 or table.shape[1:] != (classes, groups, classes):
            raise fail(
                f"the table of '{name}' has shape {table.shape}, expected (seeds, {classes}, {groups}, {classes})"
            )
        if table.min() < 0 or table.max() > 2**40 or table.sum(axis=(1, 2, 3)).min() < 1:
            raise fail(f"the table of '{name}' does not hold counts")
    provenance = {name: values[name] for name in ("created", "generated_by")}
    names = (*SCHEMA.attributes, *(SCHEMA.optional_attributes.keys() & values.keys()), "options", "seed", "digest")
    kept = {name: values[name] for name in names}
    reported = values.get("metrics")
    reported = reported if isinstance(reported, dict) else {}
    return Evaluation(confusion=tables, path=path, provenance=provenance, reported=reported, **kept)
