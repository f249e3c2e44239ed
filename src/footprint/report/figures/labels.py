"""Labels that stand beside what they name without covering each other: beside marks, and at the ends of curves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product

from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from footprint.report.page.svg import PALETTE

LABEL_POINTS = 8
"""Size of a label's text."""

_DISTANCES = (3.0, 6.0, 10.0, 15.0, 21.0, 28.0, 36.0, 45.0, 56.0, 70.0, 86.0)
"""How far from its mark a label may stand, in points, nearest first."""

_LEADER = 8.0
"""Points beyond which a thin line leads from the mark to its label."""

_SIDES = tuple(side for side in product((1, 0, -1), (0, 1, -1)) if side != (0, 0))

_AIR = 1.5
"""Pixels a label keeps from everything else."""

_BETWEEN = 5.0
"""Pixels between labels side by side: closer, they read as one."""

_CROSSED = 2
"""What it costs a place to lie on a thin line, in steps of distance."""

_STRANGER = 3
"""What it costs a place to lie nearer to another mark than to its own."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A mark that wants a label: where it lies in data coordinates, and its radius in points."""

    x: float
    y: float
    radius: float
    text: str
    style: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a label could stand."""

    step: int
    """How far out, as a position in _DISTANCES."""
    offset: tuple[float, float]
    """Points from the mark."""
    side: tuple[int, int]
    """Rightwards and upwards: -1, 0 or 1."""
    box: Bbox
    """What it would cover, in pixels."""
    leader: Path | None
    """The line to it, in pixels."""


def beside_marks(axes: Axes, marks: Sequence[Mark], lines: Sequence[Bbox] = (), others: Sequence[Mark] = ()) -> int:
    """Label the marks in their order, each on the nearest free side; returns how many found no room and have none.

    No label covers a mark (of `marks` or `others`), a label or a leader, and no leader a mark that has a label;
    `lines` (boxes in data coordinates) are covered only where there is no better place.
    """
    axes.figure.draw_without_rendering()  # settles where the axes lie
    taken = [_around(axes, mark) for mark in marks]
    unnamed = [_around(axes, mark) for mark in others]
    all_marks = [*taken, *unnamed]
    leaders: list[Path] = []
    thin = [axes.transData.transform_bbox(line) for line in lines]
    homeless = 0
    for mark, own in zip(marks, list(taken), strict=True):
        apart = [box for box in taken if box is not own]
        free = [
            place
            for place in _places(axes, mark)
            if not _hit(place.box, unnamed) and _is_free(axes, place, apart, leaders)
        ]
        if not free:
            homeless += 1
            continue
        strangers = [box for box in all_marks if box is not own]
        best = min(
            free,
            key=lambda place: (
                place.step + _CROSSED * _hit(place.box, thin) + _STRANGER * _is_nearer(place.box, strangers, own)
            ),
        )
        taken.append(best.box.expanded(1 + 2 * _BETWEEN / best.box.width, 1))
        leaders += [best.leader] if best.leader else []
        _write(axes, mark, best)
    return homeless


def _is_nearer(box: Bbox, strangers: Sequence[Bbox], own: Bbox) -> bool:
    """Whether a label there lies nearer to a stranger's mark than to its own."""
    return any(_apart(box, other) < _apart(box, own) for other in strangers)


def _apart(one: Bbox, other: Bbox) -> float:
    """The distance of two boxes in pixels."""
    across = max(one.x0 - other.x1, other.x0 - one.x1, 0)
    along = max(one.y0 - other.y1, other.y0 - one.y1, 0)
    return (across**2 + along**2) ** 0.5


def _around(axes: Axes, mark: Mark) -> Bbox:
    x, y = axes.transData.transform((mark.x, mark.y))
    reach = 0.85 * mark.radius * axes.figure.dpi / 72  # a circle leaves the corners of its square free
    return Bbox.from_extents(x - reach, y - reach, x + reach, y + reach)


def _places(axes: Axes, mark: Mark) -> Iterator[_Place]:
    """Every place the label of a mark could have, nearest first; the pages' fonts are no wider than the one here."""
    text = axes.text(mark.x, mark.y, mark.text, fontsize=LABEL_POINTS, **mark.style)
    size = text.get_window_extent()
    text.remove()
    pixel = axes.figure.dpi / 72
    x, y = axes.transData.transform((mark.x, mark.y))
    for (step, distance), (sideways, upwards) in product(enumerate(_DISTANCES), _SIDES):
        reach = mark.radius * (0.85 if sideways and upwards else 1) + distance
        left = x + sideways * reach * pixel - size.width * (1 - sideways) / 2
        bottom = y + upwards * reach * pixel - size.height * (1 - upwards) / 2
        box = Bbox.from_bounds(left, bottom, size.width, size.height)
        end = (x + sideways * reach * pixel, y + upwards * reach * pixel)
        leader = Path([(x, y), end]) if distance > _LEADER else None
        yield _Place(
            step=step, offset=(sideways * reach, upwards * reach), side=(sideways, upwards), box=box, leader=leader
        )


def _is_free(axes: Axes, place: _Place, taken: Sequence[Bbox], leaders: Sequence[Path]) -> bool:
    """Whether a label there stays within the axes and, with its leader, clear of what is there already."""
    room, box = axes.get_window_extent(), place.box
    inside = room.x0 < box.x0 and box.x1 < room.x1 and room.y0 < box.y0 and box.y1 < room.y1
    if not inside or _hit(box, taken) or any(leader.intersects_bbox(box.padded(_AIR)) for leader in leaders):
        return False
    if place.leader is None:
        return True
    crossed = any(place.leader.intersects_path(leader) for leader in leaders)
    return not crossed and not any(place.leader.intersects_bbox(other) for other in taken)


def _hit(box: Bbox, others: Sequence[Bbox]) -> int:
    """How many of the others a label there would touch."""
    wide = box.padded(_AIR)
    return sum(wide.overlaps(other) for other in others)


def _write(axes: Axes, mark: Mark, place: _Place) -> None:
    sideways, upwards = place.side
    line = {"arrowstyle": "-", "color": PALETTE["muted"], "linewidth": 0.5, "shrinkA": 0, "shrinkB": mark.radius}
    axes.annotate(
        mark.text,
        (mark.x, mark.y),
        xytext=place.offset,
        textcoords="offset points",
        fontsize=LABEL_POINTS,
        arrowprops=line if place.leader else None,
        ha={1: "left", 0: "center", -1: "right"}[sideways],
        va={1: "bottom", 0: "center", -1: "top"}[upwards],
        **mark.style,
    )


def at_ends(axes: Axes, ends: Sequence[tuple[float, str, dict]]) -> None:
    """Label what reaches the right edge of the axes at heights (data), moved apart where they would overlap.

    Each end is (height, text, text style).
    """
    axes.figure.draw_without_rendering()
    pixel = axes.figure.dpi / 72
    gap = 1.3 * LABEL_POINTS * pixel
    ordered = sorted(ends, key=lambda end: end[0])
    heights = [axes.transData.transform((0, height))[1] for height, _, _ in ordered]
    for (height, text, style), old, new in zip(ordered, heights, spread(heights, gap), strict=True):
        axes.annotate(
            text,
            (1, height),
            xycoords=("axes fraction", "data"),
            xytext=(6, (new - old) / pixel),
            textcoords="offset points",
            va="center",
            fontsize=LABEL_POINTS,
            **style,
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights moved as little as possible so that neighbours are at least `gap` apart."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _laid(groups[-2], gap)[-1] + gap > _laid(groups[-1], gap)[0]:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [height for group in groups for height in _laid(group, gap)]


def _laid(group: list[float], gap: float) -> list[float]:
    """A group's heights side by side, about their common middle."""
    middle = sum(group) / len(group)
    return [middle + (index - (len(group) - 1) / 2) * gap for index in range(len(group))]


def segments(xs: Sequence[float], ys: Sequence[float]) -> list[Bbox]:
    """A line of horizontal and vertical pieces as boxes without area, in data coordinates."""
    points = list(zip(xs, ys, strict=True))
    return [Bbox([start, end]) for start, end in pairwise(points)]
