"""What artifacts show of themselves: in a notebook as HTML, in a terminal as text.

All text is escaped: names come from files.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairdd_cli.artifacts import BiasedDataset, Evaluation, SyntheticSet
from fairdd_cli.metrics import summarise
from fairdd_cli.reporting.cells import class_bias, examples, grid, visible, warnings
from fairdd_cli.reporting.labels import SHOWN, caption, mean_std, metric_title
from fairdd_cli.reporting.notes import small_cells
from fairdd_cli.reporting.outside_text import bounded

LONGEST = 1000  # letters of a text
MOST = 20  # classes, groups, and images of a class that are shown
Image = np.ndarray | None  # uint8 [C, H, W]


@dataclass(frozen=True)
class Shown:
    """What is shown of an artifact: a title, a table of texts, rows of images with their names, and remarks."""

    title: str
    columns: Sequence[str] = ()
    lines: Sequence[Sequence[str]] = ()
    pictures: Sequence[tuple[str, Sequence[Image]]] = ()
    remarks: Sequence[str] = ()


def as_text(artifact: object) -> str:
    """The `artifact` as lines of text, without images."""
    shown = _shown(artifact)
    cells = [[*map(str, shown.columns)], *shown.lines] if shown.lines else []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = [
        "  ".join(text.ljust(width) if place == 0 else text.rjust(width) for place, (text, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in cells)
    ]
    lines = [shown.title, *(line.rstrip() for line in table), *shown.remarks]
    return "\n".join(bounded(line, LONGEST) for line in lines)


def as_html(artifact: object) -> str:
    """The `artifact` as HTML that needs no script, no style sheet and no other file."""
    return to_html(_shown(artifact))


def metrics_of(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """For each network every metric, in percent: see `fairdd_cli.metrics.summarise`."""
    return {name: summarise(table) for name, table in evaluation.confusion.items()}


def to_html(shown: Shown) -> str:
    """What is `shown`, as such HTML."""
    parts = [f"<p><b>{_safe(shown.title)}</b></p>"]
    if shown.lines:
        head, body = _row("th", shown.columns), "".join(_row("td", line) for line in shown.lines)
        parts.append(f"<table><thead>{head}</thead><tbody>{body}</tbody></table>")
    if shown.pictures:
        rows = [f"<tr><th>{_safe(name)}</th><td>{_picture(images, name)}</td></tr>" for name, images in shown.pictures]
        parts.append(f"<table><tbody>{''.join(rows)}</tbody></table>")
    parts += [f"<p>{_safe(remark)}</p>" for remark in shown.remarks]
    return f"<div>{''.join(parts)}</div>"


def _safe(text: str) -> str:
    return html.escape(bounded(text, LONGEST))


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_safe(text)}</{tag}>' for text in cells)}</tr>"


def _picture(images: Sequence[Image], name: str) -> str:
    """The images side by side as a PNG inside the page; nothing where there are none."""
    from PIL import Image as Picture  # noqa: PLC0415  # text needs none

    if all(image is None for image in images):
        return ""
    sheet = grid([images])
    if sheet.shape[2] not in (1, 3):
        sheet = sheet[..., :1]
    buffer = io.BytesIO()
    Picture.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet).save(buffer, "PNG")
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{_safe(name)}" src="data:image/png;base64,{content}">'


def _shown(artifact: object) -> Shown:
    if isinstance(artifact, BiasedDataset):
        return _of_dataset(artifact)
    if isinstance(artifact, SyntheticSet):
        return _of_synthetic(artifact)
    if isinstance(artifact, Evaluation):
        return _of_evaluation(artifact)
    raise TypeError(f"{type(artifact).__name__} shows nothing of itself")


def _of_dataset(dataset: BiasedDataset) -> Shown:
    """Training images of each cell, and the first image of each."""
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits().items())
    classes, groups = dataset.class_names[:MOST], dataset.protected_names[:MOST]
    bias = class_bias(dataset.train.count)
    remarks = [f"warning: {warning}" for warning in warnings(dataset)]
    left_out: Mapping[str, int] = dataset.options.get("left_out", {})
    remarks += [f"left out: {count:,} images ({reason})" for reason, count in left_out.items()]
    if len(classes) < dataset.classes or len(groups) < dataset.groups:
        remarks.append(f"shown: {len(classes)} of {dataset.classes} classes, {len(groups)} of {dataset.groups} groups")
    has_images = dataset.train.images.shape[0] > 0
    rows = examples(dataset)[: len(classes)] if has_images else []
    return Shown(
        f"{dataset.name}: {sizes} images, {_size(dataset.shape)}, {dataset.classes} classes x {dataset.groups} groups, "
        f"bias ratio {dataset.bias_ratio:.3g}",
        ("training images", *map(bounded, groups), "bias"),
        [
            (bounded(name), *(f"{count:,}" for count in counts[: len(groups)]), f"{share:.3f}")
            for name, counts, share in zip(classes, dataset.train.count, bias, strict=False)
        ],
        [(name, row[: len(groups)]) for name, row in zip(classes, rows, strict=False)],
        remarks,
    )


def _of_synthetic(synthetic: SyntheticSet) -> Shown:
    """The images of each class."""
    images = visible(synthetic)
    pictures = [
        (name, list(images[synthetic.labels == label][:MOST]))
        for label, name in enumerate(synthetic.class_names[:MOST])
    ]
    remarks = [f"shown: the first {MOST} classes"] if len(synthetic.class_names) > MOST else []
    remarks += [f"shown: the first {MOST} images of a class"] if synthetic.ipc > MOST else []
    tiles = f", each of {synthetic.factor}x{synthetic.factor} training images" if synthetic.factor > 1 else ""
    return Shown(
        f"{synthetic.method} {synthetic.fairness}, {synthetic.ipc} per class of {synthetic.dataset}: "
        f"{len(synthetic.images)} images, {_size(synthetic.shape)}{tiles}, "
        f"{synthetic.iterations:,} iterations in {synthetic.network}",
        pictures=pictures,
        remarks=remarks,
    )


def _of_evaluation(evaluation: Evaluation) -> Shown:
    """Mean and deviation of the usual metrics of each network."""
    seeds = len(next(iter(evaluation.confusion.values())))
    trained = "the whole data set" if evaluation.method == "whole" else f"IPC {evaluation.ipc}"
    metrics = metrics_of(evaluation)
    lines = [
        (network, *(mean_std(values[name]["mean"], values[name]["std"] if seeds > 1 else None) for name in SHOWN))
        for network, values in metrics.items()
    ]
    caution = small_cells(evaluation.cell_sizes, evaluation.split)
    return Shown(
        f"{evaluation.method} {evaluation.fairness} on {evaluation.dataset}: trained on {trained}, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}",
        ("network", *map(metric_title, SHOWN)),
        lines,
        remarks=[f"{caption(seeds)}.", *([caution] if caution else [])],
    )


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
