"""Charts as inline SVG in the page's colours; each has a title, a description and its numbers in words or a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apiece.evaluate.report.markup import safe, short
from apiece.evaluate.report.reading import Figure

BAR_WIDTH, BAR_HEIGHT = 180, 20
WIDTH, HEIGHT = 380, 300  # of a plot
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 42
POINTS = 2000  # of a scatter plot; more are drawn at random


@dataclass(frozen=True)
class Scale:
    """A scale from low to high that bars of one column share."""

    low: float
    high: float

    @classmethod
    def of(cls, figures: Iterable[Figure]) -> Scale:
        """A scale that holds 0, every figure and its interval."""
        ends = [0.0]
        for one in figures:
            ends += [end for end in one if end is not None]
        low, high = min(ends), max(ends)
        return cls(low, high) if high > low else cls(0.0, 1.0)

    def x(self, value: float) -> float:
        """Where a value lies, in the bar's own units."""
        return 4 + (BAR_WIDTH - 8) * (value - self.low) / (self.high - self.low)

    def bar(self, given: Figure, tone: str = "") -> str:
        """A bar from 0 with its interval; hidden from screen readers, as its numbers stand beside it.

        tone  "more" or "less" colours it as too many or too few.
        """
        if given.value is None:
            return ""
        zero, end = self.x(0), self.x(given.value)
        parts = [
            f'<rect class="bar {tone}" x="{min(zero, end):.1f}" y="5" height="10" '
            f'width="{max(abs(end - zero), 0.8):.1f}"/>'
        ]
        if given.low is not None and given.high is not None:
            low, high = self.x(given.low), self.x(given.high)
            parts.append(
                f'<path class="whisker" d="M{low:.1f} 10H{high:.1f}M{low:.1f} 6.5v7M{high:.1f} 6.5v7"/>'
            )
        return self._svg(parts, zero)

    def dot(self, given: Figure, tone: str = "") -> str:
        """A point with its interval, for what may lie on either side of 0."""
        if given.value is None:
            return ""
        parts = []
        if given.low is not None and given.high is not None:
            low, high = self.x(given.low), self.x(given.high)
            parts.append(f'<path class="whisker" d="M{low:.1f} 10H{high:.1f}M{low:.1f} 6v8M{high:.1f} 6v8"/>')
        parts.append(f'<circle class="dot {tone}" cx="{self.x(given.value):.1f}" cy="10" r="4.2"/>')
        return self._svg(parts, self.x(0))

    def _svg(self, parts: Sequence[str], zero: float) -> str:
        line = f'<path class="zero" d="M{zero:.1f} 0V{BAR_HEIGHT}"/>'
        return (
            f'<svg class="inline" viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}" aria-hidden="true" focusable="false">'
            f"{line}{''.join(parts)}</svg>"
        )


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from low to high, about as many as wanted."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((power * factor for factor in (1, 2, 5) if power * factor >= raw), power * 10)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Plot:
    """A plot of x against y.

    key          distinct on the page: ids begin with it.
    title        what is shown, for screen readers.
    description  what can be read from it, for screen readers.
    x, y         (low, high) of the axes.
    x_label      below.
    y_label      beside.
    """

    key: str
    title: str
    description: str
    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point's place in the drawing."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> str:
        """A line through points."""
        if len(points) < 2:
            return ""
        told = " ".join(f"{x:.1f} {y:.1f}" for x, y in (self.at(*point) for point in points))
        return f'<path class="{kind}" d="M{told}"/>'

    def dots(self, points: Iterable[tuple[float, float]], radius: float = 3, kind: str = "point") -> str:
        """Points, as one path of circles, which keeps a page of many small."""
        arc = f"a{radius:g} {radius:g} 0 1 0"
        told = "".join(
            f"M{x - radius:.1f} {y:.1f}{arc} {2 * radius:g} 0{arc} {-2 * radius:g} 0"
            for x, y in (self.at(*point) for point in points)
        )
        return f'<path class="{kind}" d="{told}"/>' if told else ""

    def whisker(self, x: float, low: float, high: float) -> str:
        """An upright interval."""
        (px, py), (_, qy) = self.at(x, low), self.at(x, high)
        ends = f"M{px - 3:.1f} {py:.1f}h6M{px - 3:.1f} {qy:.1f}h6"
        return f'<path class="whisker" d="M{px:.1f} {py:.1f}V{qy:.1f}{ends}"/>'

    def column(self, x1: float, x2: float, y: float, kind: str = "bar") -> str:
        """A column from the bottom up to y."""
        left, top = self.at(x1, y)
        right, bottom = self.at(x2, self.y[0])
        width, height = max(0.5, right - left - 1), max(0.0, bottom - top)
        return f'<rect class="{kind}" x="{left + 0.5:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'

    def svg(self, *parts: str) -> str:
        """The plot with its axes."""
        left, bottom = self.at(self.x[0], self.y[0])
        right, top = self.at(self.x[1], self.y[1])
        frame = []
        for value in ticks(*self.y):
            y = self.at(self.x[0], value)[1]
            frame.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
            frame.append(
                f'<text class="tick end" x="{left - 6:.1f}" y="{y + 4:.1f}">{short_tick(value)}</text>'
            )
        for value in ticks(*self.x):
            x = self.at(value, self.y[0])[0]
            frame.append(f'<path class="grid" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>')
            frame.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15:.1f}">{short_tick(value)}</text>')
        frame.append(
            f'<text class="axis" x="{(left + right) / 2:.1f}" y="{HEIGHT - 8}">{safe(self.x_label)}</text>'
        )
        middle = (top + bottom) / 2
        frame.append(
            f'<text class="axis" x="12" y="{middle:.1f}" transform="rotate(-90 12 {middle:.1f})">'
            f"{safe(self.y_label)}</text>"
        )
        return (
            f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{self.key}-t {self.key}-d">'
            f'<title id="{self.key}-t">{safe(self.title)}</title>'
            f'<desc id="{self.key}-d">{safe(self.description)}</desc>{"".join(frame)}{"".join(parts)}'
            f'<path class="frame" d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}"/></svg>'
        )


def short_tick(value: float) -> str:
    """A tick's number: as short as it can be."""
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f}k".replace("-", "−")
    told = f"{value:.10g}" if abs(value) >= 1e-9 else "0"
    return (told if len(told) <= 7 else short(value)).replace("-", "−")


def waterfall(true: int, too_many: int, too_few: int, predicted: int) -> str:
    """From the true count down by what is too few, up by what is too many, to the predicted count.

    Bars stretch with the page and words do not, so that they can be read on a phone.
    """
    low = true - too_few
    top = max(true, predicted, low + too_many, 1)
    lines = (
        ("true objects", 0, true, "", f"{true:,}"),
        ("too few", low, true, "less", f"−{too_few:,}" if too_few else "0"),
        ("too many", low, low + too_many, "more", f"+{too_many:,}" if too_many else "0"),
        ("predicted", 0, predicted, "", f"{predicted:,}"),
    )
    rows = []
    for label, start, end, tone, value in lines:
        a, b = (1000 * max(0, edge) / top for edge in (start, end))
        rows.append(
            f'<span>{label}</span><svg viewBox="0 0 1000 22" preserveAspectRatio="none" aria-hidden="true" '
            f'focusable="false"><rect class="bar {tone}" x="{a:.1f}" width="{max(b - a, 2):.1f}" height="22"/></svg>'
            f"<b>{value}</b>"
        )
    told = (
        f"How the predicted count comes about: {true:,} true objects, less {too_few:,} counted too few, plus "
        f"{too_many:,} counted too many, makes {predicted:,} predicted."
    )
    return f'<div class="waterfall" role="img" aria-label="{told}">{"".join(rows)}</div>'
