"""What must be said below a table of rows: what its lines are, and what limits their comparison."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from fairdd_cli.metrics import FEW_TEST_IMAGES, Confusion
from fairdd_cli.reporting.outside_text import bounded
from fairdd_cli.reporting.rows import STORED, Row

ENVIRONMENT_SHOWN = 6  # facts of the environment, and values of each, that a note lists


def notes(rows: Sequence[Row]) -> list[str]:
    """A note for each thing about the `rows` that their figures don't show."""
    return [*_fair_floors(rows), *_comparisons(rows), *_stored(rows), *_cells(rows), *_environment(rows)]


def explain_remarks(rows: Sequence[Row]) -> Iterator[str]:
    """What the lines below a row of a table of text are."""
    if any(row.delta for row in rows):
        yield "vs vanilla: difference to the vanilla row (points)"
    levels = {row.confidence_level for row in rows if row.intervals}
    yield from (f"interval: {100 * level:g} % bootstrap interval" for level in levels)
    if levels and any(row.delta for row in rows):
        yield "!: a difference whose interval leaves out 0"


def _fair_floors(rows: Sequence[Row]) -> Iterator[str]:
    kinds: dict[tuple[int, bool], set[str]] = defaultdict(set)
    for row in rows:
        for floor in row.fair_floors.values():
            kinds[floor.permutations, floor.paired].add(row.setting.dataset)
    for (count, paired), names in kinds.items():
        what = "of the two images of each pair, one in each group" if paired else "within each class"
        where = f" for {', '.join(sorted(names))}" if len(kinds) > 1 else ""
        yield (
            "fair floor: what a classifier scores whose recalls don't depend on the group; excess: points above it; "
            f"p-value: of a permutation test ({count:,} permutations of the groups {what}){where}"
        )


def _comparisons(rows: Sequence[Row]) -> Iterator[str]:
    """Which rows differ from their vanilla row in more than fairness, or have none."""
    differing: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in rows:
        differing[row.other_differences].add(f"{row.setting.method} {row.setting.fairness}")
    differing.pop((), None)
    yield from (f"{', '.join(sorted(who))} also differs in {', '.join(what)}" for what, who in differing.items())
    alone = {row.setting.method for row in rows if row.setting.fairness != "vanilla" and not row.delta}
    alone &= {row.setting.method for row in rows if row.setting.fairness == "vanilla"}
    yield from (f"{name}: no vanilla row with the same iterations and protocol" for name in sorted(alone))


def _stored(rows: Sequence[Row]) -> Iterator[str]:
    """What sets store that are not as many plain images as their IPC says."""
    found = {(row.details["decoding"], row.setting.ipc): row.stored for row in rows if "decoding" in row.details}
    for (decoding, ipc), stored in found.items():
        if len(stored) == len(STORED):
            room = f"{stored['numbers']:,} numbers, the room of {stored['equivalent_ipc']:.4g} plain images a class"
            yield f"decoding {decoding} at IPC {ipc} stores {room}"


def _cells(rows: Sequence[Row]) -> Iterator[str]:
    """What is wrong with the cells of the test splits."""
    empty = max((len(Confusion.of(row.table).empty) for row in rows), default=0)
    if empty:
        yield f"{empty} of {rows[0].cell_sizes.size} cells have no test image"
    cautions = (small_cells(row.cell_sizes, row.runs[0].evaluation.split) for row in rows)
    yield from list(dict.fromkeys(filter(None, cautions)))[:1]


def small_cells(sizes: np.ndarray, split: str = "test") -> str:
    """The caution where a cell has images of the `split`, but few; nothing where all have enough.

    `sizes` [classes, groups] are counts.
    """
    small = (sizes > 0) & (sizes < FEW_TEST_IMAGES)
    if not small.any():
        return ""
    least = int(sizes[small].min())
    moved = f"{100 / least:.0f} points" if least > 1 else "100 points"
    return (
        f"caution: {small.sum():,} of {sizes.size:,} cells have fewer than {FEW_TEST_IMAGES} {split} images "
        f"(the smallest {least:,}): one prediction moves a recall by up to {moved}, and gaps between groups are mostly "
        "noise"
    )


def _environment(rows: Sequence[Row]) -> Iterator[str]:
    """In what the networks' environments differ, as far as the files say it."""
    networks: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for run in (run for row in rows for run in row.runs):
        for key, value in run.evaluation.environment.items():
            networks[bounded(key, 40)][bounded(value, 40)] += run.seeds
    differing = {key: values for key, values in networks.items() if len(values) > 1 and key != "precision"}
    facts = []
    for key, values in list(differing.items())[:ENVIRONMENT_SHOWN]:
        listed = [f"{value} ({count})" for value, count in sorted(values.items())[:ENVIRONMENT_SHOWN]]
        facts.append(f"{key} {', '.join([*listed, *(['…'] if len(values) > ENVIRONMENT_SHOWN else [])])}")
    if facts:
        yield f"networks were trained in different environments: {'; '.join(facts)}"
