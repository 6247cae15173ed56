"""Whether a figure can be read: no text is cut off by its edge, and none lies on another."""

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOLERANCE = 2.0  # pixels


def problems(figure: Figure) -> list[str]:
    """A line for each text that is cut, and for each pair of texts that overlap."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # which lays the figure out
    renderer = canvas.get_renderer()
    hidden = _hidden(figure)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text not in hidden]
    found = [f"cut: {words!r}" for words, box in boxes if not _inside(box, figure.bbox)]
    for (one, first), (other, second) in combinations(boxes, 2):
        overlap = Bbox.intersection(first, second)
        if overlap is not None and min(overlap.width, overlap.height) > TOLERANCE:
            found.append(f"overlap: {one!r} and {other!r}")
    return found


def _hidden(figure: Figure) -> set[Text]:
    """The labels of ticks outside their axis, which are there but not drawn, and those of axes that are off."""
    hidden: set[Text] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            is_off = not axes.get_visible() or not axes.axison
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if is_off or not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    return hidden


def _inside(box: Bbox, edge: Bbox) -> bool:
    return (
        box.x0 >= edge.x0 - TOLERANCE
        and box.y0 >= edge.y0 - TOLERANCE
        and box.x1 <= edge.x1 + TOLERANCE
        and box.y1 <= edge.y1 + TOLERANCE
    )
