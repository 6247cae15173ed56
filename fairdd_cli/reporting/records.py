"""The formats of a report for other programs, JSON and CSV: every metric of every row, with all that was compared."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from fairdd_cli.reporting.outside_text import printable
from fairdd_cli.reporting.rows import STORED, Row
from fairdd_cli.reporting.sections import Section

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a cell begins that a spreadsheet would compute


def records(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """The rows as JSON has them: setting, every metric in percent, and all that was compared."""
    return [_record(section, row) for section in sections for row in section.rows]


def _record(section: Section, row: Row) -> dict[str, Any]:
    metrics = {
        name: {
            **values,
            "best": section.is_best(row, name),
            **({"interval": row.intervals[name]} if name in row.intervals else {}),
            **({"fair_floor": _fair_floor(row, name)} if name in row.fair_floors else {}),
            **({"vs_vanilla": _difference(row, name)} if name in row.delta else {}),
        }
        for name, values in row.metrics.items()
    }
    references = [
        {
            "source": reference.source,
            "differs": reference.differs,
            **{name: {"mean": value[0], "std": value[1]} for name, value in reference.metrics.items()},
        }
        for reference in row.references
    ]
    return {
        **row.setting._asdict(),
        "dataset": row.dataset,
        "dataset_digest": row.runs[0].evaluation.dataset_digest,
        "variant": row.variant,
        "iterations": row.iterations,
        "seeds": row.seeds,
        "smallest_cell": int(row.cell_sizes.min()),
        **{f"stored_{name}": row.stored.get(name) for name in STORED},
        "metrics": metrics,
        "unlike_vanilla": row.other_differences,
        "published": references,
        "files": [run.evaluation.path for run in row.runs],
    }


def _difference(row: Row, name: str) -> dict[str, Any]:
    delta = row.delta[name]
    judged = {"interval": delta.interval, "verdict": delta.verdict} if delta.interval else {}
    return {"points": delta.points, **judged}


def _fair_floor(row: Row, name: str) -> dict[str, Any]:
    floor = row.fair_floors[name]
    return {
        "mean": floor.expected,
        "excess": floor.excess,
        "p_value": floor.p_value,
        "permutations": floor.permutations,
        "paired": floor.paired,
    }


def as_json(sections: Sequence[Section]) -> str:
    """An array with an object for each row."""
    return json.dumps(records(sections), allow_nan=False, indent=2) + "\n"


def as_csv(sections: Sequence[Section]) -> str:
    """A line for each row, and for each published source of it where there are several; percent, full precision."""
    lines = [line for record in records(sections) for line in _csv_lines(record)]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _inert(value) for key, value in line.items()} for line in lines)
    return buffer.getvalue()


def _inert(value: object) -> object:
    """`value`, text among it so that a spreadsheet takes it for text: what would be a formula begins with '."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip(" \N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}").startswith(FORMULA) else text


def _csv_lines(record: dict[str, Any]) -> Iterator[dict[str, object]]:
    line = {key: value for key, value in record.items() if key not in ("metrics", "published", "files")}
    line["unlike_vanilla"] = "; ".join(record["unlike_vanilla"])
    for name, values in record["metrics"].items():
        line |= {name: values["mean"], f"{name}_std": values["std"], f"{name}_best": int(values["best"])}
        line |= _ends(name, values.get("interval"))
        floor = values.get("fair_floor")
        if floor:
            line |= {f"{name}_fair_floor": floor["mean"], f"{name}_excess": floor["excess"]}
            line[f"{name}_p_value"] = floor["p_value"]
        delta = values.get("vs_vanilla")
        if delta:
            line[f"{name}_vs_vanilla"] = delta["points"]
            line |= _ends(f"{name}_vs_vanilla", delta.get("interval"))
            line |= {f"{name}_verdict": delta["verdict"]} if "verdict" in delta else {}
    for reference in record["published"] or [{}]:
        more: dict[str, object] = {}
        for name, value in reference.items():
            if name in record["metrics"]:
                more |= {f"{name}_published": value["mean"], f"{name}_published_std": value["std"]}
            else:
                more[f"published_{name}"] = value if isinstance(value, str) else "; ".join(value)
        yield line | more


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, object]:
    return {f"{name}_low": interval[0], f"{name}_high": interval[1]} if interval else {}
