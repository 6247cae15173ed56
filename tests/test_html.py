"""The page: it holds what the table holds, nothing in it is taken for markup, and it works in a real browser."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import opened
from evaluations import pair, synthetic, write

from fairdd_cli.reporting import (
    SHOWN,
    arrange,
    build_rows,
    read,
    with_fair_floors,
    with_intervals,
    with_published,
)
from fairdd_cli.reporting.commands import commands
from fairdd_cli.reporting.page import page, page_figures
from fairdd_cli.runtime import Streams

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """The tags of a page, checked for being closed in order, and its text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words += data


def written(tmp_path: Path, *paths: str) -> Path:
    """A page of everything: intervals, published values, figures, synthetic sets."""
    rows = with_fair_floors(build_rows(read(paths)), 50, Streams(0).numpy)
    rows = with_intervals(rows, 50, Streams(0).numpy)
    sections = arrange(with_published(rows))
    sets = [synthetic(), synthetic("fairdd")]
    target = tmp_path / "page.html"
    target.write_text(page(sections, SHOWN, page_figures(sections, sets)))
    return target


def test_the_page_says_what_the_table_says(tmp_path: Path) -> None:
    paths = [*pair(tmp_path, dataset="c-fmnist-fg"), write(tmp_path / "b.json", method="gm", dataset="c-fmnist-fg")]
    outline = Outline(written(tmp_path, *paths).read_text())
    for row in build_rows(read(paths)):
        assert f"{row.metrics['accuracy']['mean']:.1f}±{row.metrics['accuracy']['std']:.1f}" in outline.words
        assert row.runs[0].evaluation.digest in outline.words
    for text in ("vs vanilla, better", "published 77.1", "In the one comparison", "fairdd distill DATA", "300"):
        assert text in outline.words
    svgs = [attributes for tag, attributes in outline.tags if tag == "svg"]
    assert len(svgs) == 5
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in svgs)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in outline.tags if tag == "a"]
    assert all(link and link.startswith("#") and link[1:] in ids for link in links)


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    outline = Outline(written(tmp_path, *pair(tmp_path)).read_text())
    for tag, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, name)


def test_nothing_from_a_file_is_markup(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        dataset=HOSTILE,
        method=HOSTILE,
        fairness=HOSTILE,
        network=HOSTILE,
        protocol={HOSTILE: HOSTILE},
        class_names=(HOSTILE, "b", "c"),
        options={"distill": {"init": HOSTILE, "hyper": {HOSTILE: 1}}},
    )
    outline = Outline(written(tmp_path, path).read_text())
    assert [tag for tag, _ in outline.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in outline.tags]
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)
    assert HOSTILE in outline.words


def test_commands_make_the_run_again(tmp_path: Path) -> None:
    options = {"distill": {"method": "dm", "network": "convnet:width=8", "init": "real", "hyper": {"momentum": 0.5}}}
    options["distill"] |= {"groups": "pseudo:3", "group_noise": 0.1}
    path = write(tmp_path / "a.json", options=options, seed=4, network="mlp")
    distill, evaluate = commands(read([path])[0])
    assert distill == (
        "fairdd distill DATA --method dm --ipc 10 --fairness vanilla --sampling proportional --init real "
        "--iterations 100 --network convnet:width=8 --groups pseudo:3 --group-noise 0.1 -O num_freqs=4096 "
        "-O momentum=0.5"
    )
    assert evaluate == (
        "fairdd evaluate SYN --network mlp --seeds 3 --epochs 300 --learning-rate 0.01 --batch 256 "
        "--augmentation none --seed 4"
    )
    whole = write(tmp_path / "b.json", method="whole", ipc=0, synthetic_digest="")
    assert commands(read([whole])[0])[0].startswith("fairdd evaluate DATA ")
    even = write(tmp_path / "c.json", method="whole", ipc=0, synthetic_digest="", sampling="balanced")
    assert " --sampling balanced " in commands(read([even])[0])[0]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    found = [write(tmp_path / f"{ipc}.json", recall=0.3 + ipc / 200, ipc=ipc) for ipc in (10, 100, 50)]
    return written(tmp_path, *found, *pair(tmp_path, ipc=20))


COLUMN = "rows => rows.map(row => row.cells[{0}].dataset.value ?? row.cells[{0}].textContent)"


@pytest.mark.browser
def test_headings_sort_by_mouse_and_by_keyboard(many: Path) -> None:
    with opened(many) as found:
        page = found.page
        place = page.locator("thead th").all_inner_texts().index("IPC")
        rows = page.locator("tbody tr")
        heading = page.locator("thead button").nth(place)
        heading.click()
        assert rows.evaluate_all(COLUMN.format(place)) == ["10", "20", "20", "50", "100"]
        heading.focus()
        page.keyboard.press("Enter")
        assert rows.evaluate_all(COLUMN.format(place)) == ["100", "50", "20", "20", "10"]
        assert page.locator("[aria-sort]").get_attribute("aria-sort") == "descending"
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        values = [float(value) for value in rows.evaluate_all(COLUMN.format(place + 1))]
        assert values == sorted(values)
        page.locator("tbody a").first.click()
        assert page.locator("details[open]").count() == 1
        assert found.complaints == []
        assert {url.partition(":")[0] for url in found.requests} <= {"file", "data"}


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_the_page_fits_its_window(many: Path, tmp_path: Path, width: int, dark: bool) -> None:
    with opened(many, width, dark) as found:
        page = found.page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        colour = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert (colour == "rgb(20, 23, 27)") == dark
        label = page.locator("tbody td").first.evaluate("cell => getComputedStyle(cell, '::before').content")
        assert (label != "none") == (width < 600)
        for names in ("p", "a", "td", "small.better", "small:not(.better)", "dt, figcaption", "summary", "svg text"):
            assert page.locator(names).evaluate_all(CONTRAST) >= 4.5, names
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert found.complaints == []


# The smallest contrast of the text of some elements with what is behind it, as WCAG 2 defines it.
CONTRAST = """
(elements) => {
  const light = (colour) => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!colour.startsWith("rgba")) return colour;
    }
  };
  const shown = (node) => getComputedStyle(node)[node.closest("svg") ? "fill" : "color"];
  const labels = (node) => !node.closest("svg") || /currentcolor/i.test(node.outerHTML); // not the figures in a map
  return Math.min(...elements.filter(labels).map((node) => {
    const [one, other] = [light(shown(node)), light(behind(node))];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  }));
}
"""


@pytest.mark.browser
def test_the_page_reads_without_scripts(many: Path) -> None:
    with opened(many, scripts=False) as found:
        text = found.page.content()
        assert "<button" not in text
        assert "vs vanilla" in text
        assert found.complaints == []
