"""Charts as inline SVG text: pure functions from numbers to markup, coloured by the page's style sheet, readable without scripts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 290
LEFT, RIGHT, TOP, BOTTOM = 50, 506, 48, 244
"""Edges of the plot. Above it are the legend and the name of the marked step, so that neither ever covers a curve."""
MOST_POINTS = 300
"""More points than pixels help nobody; neighbours are averaged."""
SMOOTHED_FROM = 40
"""From this many points on a noisy curve also gets its running mean."""

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve. `kind` is its CSS class: `train` (many noisy points) or `evaluation` (few exact ones, drawn as dots)."""

    name: str
    kind: str
    points: Sequence[Point]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A position on the x axis that gets a line and a name."""

    x: float
    label: str


def line_chart(title: str, series: Sequence[Series], *, x_label: str, show: Callable[[float], str], mark: Mark | None = None) -> str:
    """Curves over a common x axis that begins at 0; `show` writes the y values. Empty when there is nothing finite to draw."""
    drawn = [Series(name=curve.name, kind=curve.kind, points=_finite(curve.points)) for curve in series]
    drawn = [curve for curve in drawn if curve.points]
    if not drawn:
        return ""
    xs = [x for curve in drawn for x, _ in curve.points]
    ys = [y for curve in drawn for _, y in curve.points]
    y_ticks = ticks(min(ys), max(ys))
    horizontal, vertical = _scale(0, max(*xs, 1), LEFT, RIGHT), _scale(y_ticks[0], y_ticks[-1], BOTTOM, TOP)
    parts = _axes([(horizontal(x), f"{x:g}") for x in ticks(0, max(*xs, 1)) if x <= max(*xs, 1)], [(vertical(y), show(y)) for y in y_ticks], x_label)
    if mark:
        parts += _marked(horizontal(mark.x), mark.label)
    for curve in drawn:
        parts += _curve(curve, horizontal, vertical, show, mark)
    return _svg(title, [*parts, *_legend(drawn)])


def bar_chart(title: str, bars: Sequence[tuple[str, float]], *, x_label: str) -> str:
    """Counts in classes. Empty when there are none."""
    if not any(count > 0 for _, count in bars):
        return ""
    y_ticks = ticks(0, max(count for _, count in bars), whole=True)
    vertical = _scale(0, y_ticks[-1], BOTTOM, TOP)
    slot = (RIGHT - LEFT) / len(bars)
    every = math.ceil(len(bars) * 38 / (RIGHT - LEFT))  # a label of five digits needs about 38 units
    labels = [(LEFT + (index + 0.5) * slot, label) for index, (label, _) in enumerate(bars) if index % every == 0]
    parts = _axes(labels, [(vertical(y), f"{y:,.0f}") for y in y_ticks], x_label)
    for index, (label, count) in enumerate(bars):
        top = vertical(count)
        parts.append(
            f'<rect class="bar" x="{LEFT + index * slot + slot * 0.1:.1f}" y="{top:.1f}" width="{slot * 0.8:.1f}" height="{BOTTOM - top:.1f}" rx="2">'
            f"<title>{escape(label)}: {count:,.0f}</title></rect>"
        )
    return _svg(title, parts, top=TOP - 14)


def ticks(low: float, high: float, *, target: int = 5, whole: bool = False) -> list[float]:
    """About `target` round numbers, 1, 2 or 5 times a power of ten apart, that enclose `low` and `high`."""
    span = high - low
    if span < 1e-9 * max(1.0, abs(low), abs(high)):  # a flat curve
        span = abs(high) if abs(high) > 1e-9 else 1.0
    rough = span / target
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, max(last, first + 1) + 1)]


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points: means of neighbours."""
    size = math.ceil(len(points) / most)
    groups = [points[start : start + size] for start in range(0, len(points), size)] if points else []
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each point as the mean of its neighbours, up to `window` on each side.

    At the steep beginning equally many on both sides, so that the curve is not bent; at the flat end all there are, so that the
    last points are no noisier than the others.
    """
    smooth = []
    for index, (x, _) in enumerate(points):
        reach = min(window, index)
        near = points[index - reach : index + reach + 1]
        smooth.append((x, sum(y for _, y in near) / len(near)))
    return smooth


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _curve(
    curve: Series, horizontal: Callable[[float], float], vertical: Callable[[float], float], show: Callable[[float], str], mark: Mark | None
) -> list[str]:
    def path(points: Sequence[Point], css: str) -> str:
        return f'<polyline class="{css}" points="{" ".join(f"{horizontal(x):.1f},{vertical(y):.1f}" for x, y in points)}"/>'

    name = escape(curve.kind)
    if curve.kind == "train":
        points = thin(curve.points)
        if len(points) < SMOOTHED_FROM:
            return [path(points, f"line {name}")]
        return [path(points, f"line {name} raw"), path(running_mean(points, len(points) // 30 + 1), f"line {name}")]
    parts = [path(curve.points, f"line {name}")]
    for x, y in curve.points:
        chosen = mark is not None and x == mark.x
        parts.append(
            f'<circle class="dot {name}{" chosen" if chosen else ""}" cx="{horizontal(x):.1f}" cy="{vertical(y):.1f}" r="{5.5 if chosen else 3}">'
            f"<title>{escape(curve.name)}, step {x:g}: {escape(show(y))}</title></circle>"
        )
    return parts


def _axes(x_labels: Sequence[tuple[float, str]], y_labels: Sequence[tuple[float, str]], x_label: str) -> list[str]:
    parts = [f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>' for y, _ in y_labels]
    parts += [f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>' for y, text in y_labels]
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    parts += [f'<text class="tick" x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{escape(text)}</text>' for x, text in x_labels]
    parts.append(f'<text class="label" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 38}" text-anchor="middle">{escape(x_label)}</text>')
    return parts


def _marked(x: float, label: str) -> list[str]:
    anchor = "start" if x < LEFT + 90 else "end" if x > RIGHT - 90 else "middle"
    return [
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{BOTTOM}"/>',
        f'<text class="mark-label" x="{x:.1f}" y="{TOP - 13}" text-anchor="{anchor}">{escape(label)}</text>',
    ]


def _legend(series: Sequence[Series]) -> list[str]:
    parts, x = [], float(LEFT)
    for curve in series:
        parts.append(f'<line class="line {escape(curve.kind)}" x1="{x:.1f}" x2="{x + 18:.1f}" y1="12" y2="12"/>')
        if curve.kind != "train":
            parts.append(f'<circle class="dot {escape(curve.kind)}" cx="{x + 9:.1f}" cy="12" r="3"/>')
        parts.append(f'<text class="legend" x="{x + 24:.1f}" y="16">{escape(curve.name)}</text>')
        x += 44 + 6.6 * len(curve.name)
    return parts


def _svg(title: str, parts: Sequence[str], *, top: int = 0) -> str:
    view = f"0 {top} {WIDTH} {HEIGHT - top}"
    return f'<svg viewBox="{view}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
