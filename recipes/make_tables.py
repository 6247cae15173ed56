"""Writes the tables of the guide from the code: options, what each shelf has on offer, metrics, and what files hold.

    python recipes/make_tables.py            # rewrites the pages of recipes/guide
    python recipes/make_tables.py --check    # names the pages that differ, and exits with 1; a test runs this

A table stands between the lines `<!-- table: NAME -->` and `<!-- end of table -->` of a page; TABLES has the names.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from make_defaults import own

from fairdd_cli.artifacts import dataset, evaluation, experts, synthetic
from fairdd_cli.cli.entries import default_words, describe
from fairdd_cli.config import COMMANDS, option_table
from fairdd_cli.metrics import METRICS
from fairdd_cli.registry import DATASETS, DECODINGS, METHODS, NETWORKS, STRATEGIES

SCHEMAS = [module.SCHEMA for module in (dataset, synthetic, experts, evaluation)]
GUIDE = Path(__file__).parent / "guide"
TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->\n)", re.DOTALL)
# What each array of a file holds: its dimensions and a few words. A file without an entry here fails the test.
SPLIT = {
    "images": ("N, C, H, W", "sorted by cell: class by class, group by group"),
    "labels": ("N", "the class of each image"),
    "protected": ("N", "the group of each image"),
    "cells/start": ("classes, groups", "where a cell begins"),
    "cells/count": ("classes, groups", "how many images it has"),
}
SPLIT_ARRAYS = {f"{split}/{name}": entry for split in ("train", "test", "val") for name, entry in SPLIT.items()}
CONTENT: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "fairdd/dataset": {**SPLIT_ARRAYS, "test/source": ("N", "test images with one number show the same source")},
    "fairdd/synthetic": {
        "images": ("M, C, H, W", "normalised: (pixel / 255 - mean) / std"),
        "labels": ("M", "the class of each image"),
        "groups": ("M", "the group of each image"),
        "tables/*": ("…", "numbers that all images share, as the decoding names them"),
        "history/iteration": ("T", "iterations whose loss was stored"),
        "history/loss": ("T", "the loss of each"),
        "history/seconds": ("T", "the time until then"),
        "history/validation/iteration": ("V", "iterations before each validation"),
        "history/validation/correct": ("V, networks, classes, groups", "validation images classified correctly"),
        "history/validation/total": ("classes, groups", "validation images of each cell"),
    },
    "fairdd/experts": {"trajectories": ("targets · experts, epochs + 1, parameters", "those of a target together")},
    "fairdd/evaluation": {
        "confusion/*": ("seeds, classes, groups, classes", "a network's: by seed, label, group and prediction"),
        "pairs/*": ("seeds, classes, classes, classes", "by seed, label and prediction in the first and second group"),
    },
}


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *([_cell(str(value)) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", r"\<")


def methods() -> str:
    """A line for each method: its default run and its paper."""
    rows = []
    for name in own(METHODS.names(), "fairdd_cli.methods"):
        known = describe("methods", name)
        batch = "/".join(str(known["batch_real"][key]) for key in ("proportional", "balanced") if known["batch_real"])
        names = ", ".join(f"`{each}`" for each in (name, *known["aliases"]))
        rows.append((names, known["title"], known["iterations"], batch or "-", f"{known['paper']} {known['citation']}"))
    return table(("`--method`", "", "iterations", "real batch", "source"), rows)


def hyper_parameters() -> str:
    """A table for each method that has hyper-parameters, and the protocol that its sets are evaluated by."""
    parts = []
    for name in own(METHODS.names(), "fairdd_cli.methods"):
        known = describe("methods", name)
        if not known["hyper_parameters"]:
            continue
        rows = []
        for each in known["hyper_parameters"]:
            words = [each["meaning"]]
            words += [f"one of {', '.join(f'`{choice}`' for choice in each['choices'])}"] if each["choices"] else []
            words += [f"also `{'`, `'.join(each['old_names'])}`"] if each["old_names"] else []
            rows.append((f"`{each['name']}`", default_words(each), "; ".join(words), each["source"]))
        protocol = ", ".join(f"{key} {value}" for key, value in known["evaluation"].items() if value not in ("", 0))
        parts.append(f"### {name}\n\n{table(('`-O`', 'default', '', 'from'), rows)}\nEvaluation: {protocol}.\n")
    return "\n".join(parts)


def strategies() -> str:
    """A line for each fairness strategy."""
    rows = []
    for name in own(STRATEGIES.names(), "fairdd_cli.fairness"):
        known = describe("strategies", name)
        rows.append((f"`{name}`", known["title"], "yes" if known["uses_groups"] else "no", known["paper"]))
    return table(("`--fairness`", "targets of a class", "uses groups", "source"), rows)


def decodings() -> str:
    """A line for each decoding of a synthetic set with its options."""
    rows = []
    for name in own(DECODINGS.names(), "fairdd_cli.decodings"):
        known = describe("decodings", name)
        rows.append((f"`{name}`", known["title"], _listed(known["options"]), known["paper"]))
    return table(("`--decoding`", "", "options and defaults", "source"), rows)


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in options.items()) or "-"


def datasets() -> str:
    """A line for each data set: what its classes and groups are, the defaults of its options, where its files are had.

    Those that differ only in what is coloured share theirs.
    """
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in own(DATASETS.names(), "fairdd_cli.datasets"):
        known = describe("datasets", name)
        facts = (known["title"].partition(":")[0], known["content"].partition("\n")[0])
        defaults = " ".join(f"`{flag} {shlex.quote(value)}`" for flag, value in known["defaults"].items())
        rows.setdefault((*facts, defaults, known["files"]), []).append(f"`{name}`")
    lines = [(", ".join(names), *words) for words, names in rows.items()]
    return table(("name", "", "classes and groups", "defaults", "files"), lines)


def networks() -> str:
    """A line for each network with its options."""
    rows = []
    for name in own(NETWORKS.names(), "fairdd_cli.networks"):
        known = describe("networks", name)
        rows.append((f"`{name}`", known["title"], _listed(known["options"])))
    return table(("`--network`", "", "options and defaults"), rows)


def metrics() -> str:
    """A line for each metric."""
    rows = []
    for name in METRICS:
        known = describe("metrics", name)
        rows.append((f"`{name}`", known["label"], METRICS[name].meaning, f"`{known['formula']}`", known["better"]))
    return table(("`--metric`", "column", "", "formula", "better"), rows)


def content(kind: str) -> str:
    """The tree of a kind of file: its arrays with dtype and dimensions; then its attributes with their types."""
    (schema,) = (schema for schema in SCHEMAS if schema.kind == kind)
    optional = {name: form for group in schema.optional_arrays for name, form in group.items()}
    trees: dict[str, list[str]] = {}  # by the group that holds the arrays, "" for the root
    others = []  # optional arrays of a group that is always there
    for name, (dtype, _) in {**schema.arrays, **optional}.items():
        dimensions, words = CONTENT[kind][name]
        group, _, member = name.rpartition("/") if name not in SPLIT_ARRAYS else name.partition("/")
        mark = " (optional)" if name in optional else ""
        line = f"{member.replace('*', 'NAME'):<13} {dtype:<8} {f'[{dimensions}]':<18} {words}"
        if name in optional and any(required.startswith(f"{group}/") for required in schema.arrays if group):
            others.append(f"{group}/{line}{mark}")
            continue
        trees.setdefault(f"{group}/{mark}" if group else "", []).append(line + mark * (not group))
    lines = list(trees.pop("", []))
    while trees:
        members = trees[next(iter(trees))]
        alike = [group for group, each in trees.items() if each == members]
        lines += [", ".join(alike), *(f"  {member}" for member in members)]
        trees = {group: each for group, each in trees.items() if group not in alike}
    attributes = [f"`{name}` {_type(form)}" for name, form in schema.attributes.items()]
    attributes += [f"`{name}` {_type(form)} (optional)" for name, form in schema.optional_attributes.items()]
    return "```text\n" + "\n".join(lines + others) + f"\n```\n\nAttributes: {', '.join(attributes)}.\n"


def _type(form: type) -> str:
    return {str: "text", int: "integer", float: "number", list: "list", bool: "true or false"}[form]


TABLES: Mapping[str, Callable[[], str]] = {
    "methods": methods,
    "hyper-parameters": hyper_parameters,
    "strategies": strategies,
    "decodings": decodings,
    "datasets": datasets,
    "networks": networks,
    "metrics": metrics,
    **{f"options of {name}": lambda config=config: option_table(config) for name, config in COMMANDS.items()},
    **{f"content of {schema.kind}": lambda kind=schema.kind: content(kind) for schema in SCHEMAS},
}


def filled(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """`text` with its tables made anew; KeyError for one that has no entry in `tables`."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n{tables[found[2]]()}\n{found[3]}"

    return TABLE.sub(made, text)


def fill(pages: Iterable[Path], tables: Mapping[str, Callable[[], str]], check: bool) -> int:
    """Makes the tables of `pages` anew and prints the names of those that differed; 1 if `check` found any, else 0."""
    differing = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        new = filled(text, tables)
        if new != text:
            differing.append(page.name)
            if not check:
                page.write_text(new, encoding="utf-8")
    sys.stdout.write("".join(f"{name}\n" for name in differing))
    return int(check and bool(differing))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="name the pages that differ, and change nothing")
    return fill(sorted(GUIDE.glob("*.md")), TABLES, parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
