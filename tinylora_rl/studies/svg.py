"""Draws charts as inline SVG, for pages that load nothing over the network.

Colours are CSS classes (`s0` .. `s7`, `axis`, `grid`, ...) of the page's style sheet, for light and
dark screens. Each mark carries its numbers as a `title`, which browsers show under the pointer.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 8, 24
NUM_COLOURS = 8
MAX_POINTS = 400
"""Of one line; of longer ones every k-th is drawn."""
NOISE = 1e-5  # a relative spread below is rounding, and not drawn over the whole height
LEAST = 1e-200  # of a logarithmic axis: below, margins underflow
MARKED_POINTS = 40  # up to here each point of a line is a mark

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """Points joined in order.

    Attributes:
        colour: index of the class, modulo NUM_COLOURS.
        faint: drawn thin and pale, as one of several seeds is.
        marked: each point a dot, even where there are many.
        intervals: (low, high) of each point, or none.
        hollow: dots with the page's ground inside; the line dotted.
        point_labels: of each point; without, all bear the line's label.
    """

    label: str
    points: Sequence[Point]
    colour: int = 0
    faint: bool = False
    marked: bool = False
    intervals: Sequence[tuple[float, float]] = ()
    hollow: bool = False
    point_labels: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines between limits.

    Attributes:
        levels: {label: y} of dashed horizontal lines.
        name: for screen readers.
    """

    lines: Sequence[Line]
    name: str
    levels: dict[str, float] = dataclasses.field(default_factory=dict)
    limits: tuple[float, float] | None = None
    log_x: bool = False
    log_y: bool = False
    width: int = WIDTH
    height: int = HEIGHT


@dataclasses.dataclass(frozen=True)
class _Axis:
    """Maps values to pixels; logarithmic axes take positive values alone."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, value = (
            (math.log10(x) if self.log else x) for x in (self.low, self.high, value)
        )
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Returns (value, label): about one for each 55 pixels across, each 28 up."""
        across = self.end > self.start
        count = max(2, int(abs(self.end - self.start) / (55 if across else 28)))
        if self.log and len(values := log_ticks(self.low, self.high, count)) > 2:
            return [(value, number(value)) for value in values]
        values, step = linear_ticks(self.low, self.high, count)
        return [(value, _rounded(value, step)) for value in values if value > 0 or not self.log]


def draw(chart: Chart) -> str:
    """Draws the `svg` element of `chart`; it scales with the width of its container."""
    log_y = chart.log_y and any(y > LEAST for line in chart.lines for _, y in line.points)
    lines = [_drawable(line, chart.log_x, log_y) for line in chart.lines]
    x = _axis([x for line in lines for x, _ in line.points], None, chart.log_x)
    ys = [y for line in lines for _, y in line.points] + list(chart.levels.values())
    ys += [end for line in lines for interval in line.intervals for end in interval]
    y = _axis(ys, chart.limits, log_y)
    x = dataclasses.replace(x, start=LEFT, end=chart.width - RIGHT)
    y = dataclasses.replace(y, start=chart.height - BOTTOM, end=TOP)
    parts = [*_axes(x, y, chart)]
    for label, level in chart.levels.items():
        height = f"{y(level):.1f}"
        parts.append(
            f'<g><title>{html.escape(label)}: {number(level)}</title><line class="level" '
            f'x1="{LEFT}" x2="{chart.width - RIGHT}" y1="{height}" y2="{height}"/></g>'
        )
    for line in lines:
        parts += _line(line, x, y)
    name = html.escape(chart.name, quote=True)
    return (
        f'<svg viewBox="0 0 {chart.width} {chart.height}" role="img" aria-label="{name}">'
        f"{''.join(parts)}</svg>"
    )


def linear_ticks(low: float, high: float, count: int) -> tuple[list[float], float]:
    """Returns round numbers within [low, high], about `count`, and the step between them."""
    locator = MaxNLocator(count, steps=[1, 2, 5, 10], min_n_ticks=2)
    ticks = locator.tick_values(low, high)
    step = float(ticks[1] - ticks[0])
    slack = 1e-6 * step
    return [float(tick) for tick in ticks if low - slack <= tick <= high + slack], step


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Returns powers of ten within [low, high], at most `count`; of fewer than three also their
    twos and fives.
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 2:
        candidates = (m * 10.0**e for e in range(first - 1, last + 2) for m in (1, 2, 5))
        return [value for value in candidates if low <= value <= high]
    stride = -(-(last - first + 1) // count)
    return [10.0**power for power in range(first, last + 1, stride)]


def number(value: float) -> str:
    """Formats a value shortly: `0.25`, `12k`, `3e-05`."""
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3:
        return f"{value:.3g}"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.4g}"


def _rounded(value: float, step: float) -> str:
    """Formats `value` with the digits that distinguish it from its neighbours at `step`."""
    size = max(abs(value), step)
    if size >= 1e4 or size < 1e-3:
        return number(round(value / step) * step)
    digits = next(digits for digits in range(12) if math.isclose(round(step, digits), step))
    return f"{value:.{digits}f}"


def _drawable(line: Line, log_x: bool, log_y: bool) -> Line:
    """Drops the points that its axes cannot show, and those finer than pixels."""
    intervals = list(line.intervals) or [(y, y) for _, y in line.points]
    labels = list(line.point_labels) or [line.label] * len(line.points)
    kept = [
        (point, interval, label)
        for point, interval, label in zip(line.points, intervals, labels, strict=True)
        if all(map(math.isfinite, point))
        and (not log_x or point[0] > LEAST)
        and (not log_y or point[1] > LEAST)
    ]
    stride = -(-len(kept) // MAX_POINTS) or 1
    kept = [*kept[::stride], *(kept[-1:] if (len(kept) - 1) % stride else [])]
    return dataclasses.replace(
        line,
        points=[point for point, _, _ in kept],
        intervals=[interval for _, interval, _ in kept] if line.intervals else (),
        point_labels=[label for _, _, label in kept],
    )


def _axis(values: list[float], limits: tuple[float, float] | None, log: bool) -> _Axis:
    """Returns an axis over `values` with a margin; over [0, 1] or [1, 10] without any."""
    low, high = limits or ((min(values), max(values)) if values else ((1, 10) if log else (0, 1)))
    if log:
        margin = (high / low) ** 0.04 if high > low else 2.0
        return _Axis(low / margin, high * margin, 0, 1, True)
    is_flat = high - low < NOISE * abs(high)
    margin = (0.5 * abs(high) if is_flat else 0.04 * (high - low)) or 0.5
    return _Axis(low - margin, high + margin, 0, 1, False)


def _axes(x: _Axis, y: _Axis, chart: Chart) -> list[str]:
    bottom, right = chart.height - BOTTOM, chart.width - RIGHT
    parts = []
    for tick, label in y.ticks():
        place = f"{y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{place}" y2="{place}"/>')
        parts.append(f'<text class="tick y" x="{LEFT - 6}" y="{place}">{label}</text>')
    for tick, label in x.ticks():
        place = f"{x(tick):.1f}"
        parts.append(f'<text class="tick x" x="{place}" y="{bottom + 15}">{label}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    return parts


def _line(line: Line, x: _Axis, y: _Axis) -> list[str]:
    places = [(x(a), y(b)) for a, b in line.points]
    colour = f"s{line.colour % NUM_COLOURS}"
    style = colour + (" faint" if line.faint else "") + (" hollow" if line.hollow else "")
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
    label = html.escape(line.label)
    parts = [f'<g class="{style}">']
    if len(places) > 1:
        parts.append(f'<path d="{path}"><title>{label}</title></path>')
    for (low, high), (a, _) in zip(line.intervals, places, strict=False):
        parts.append(f'<line x1="{a:.1f}" x2="{a:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>')
    if line.marked or len(places) == 1 or (not line.faint and len(places) <= MARKED_POINTS):
        radius = 4 if line.marked else 2
        for (a, b), (at, value), name in zip(places, line.points, line.point_labels, strict=True):
            title = html.escape(f"{name}: {number(at)}, {number(value)}")
            parts.append(
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}"><title>{title}</title></circle>'
            )
    return [*parts, "</g>"]
