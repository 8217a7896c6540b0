"""Charts as inline SVG, in the colours of the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 480, 180
FOOT, HEAD = 34, 18
SIDE = 16  # room for the outermost numbers


def bars(
    title: str, edges: Sequence[int], counts: Sequence[int], unit: str, mark: float | None = None
) -> str:
    """A histogram: one bar between each two edges, the last for all above; numbers above the bars.

    mark  a limit to draw, in the edges' unit.
    """
    filled = [i for i, count in enumerate(counts) if count]
    if not filled:
        return ""
    low, high = max(0, filled[0] - 1), min(len(counts), filled[-1] + 2)
    step = WIDTH / (high - low)
    tall = HEIGHT - FOOT - HEAD
    most = max(counts)
    parts = [
        f'<svg viewBox="{-SIDE} 0 {WIDTH + 2 * SIDE} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">',
    ]
    for place, i in enumerate(range(low, high)):
        size = tall * counts[i] / most
        x, y = place * step, HEAD + tall - size
        to = f"{edges[i]} to {edges[i + 1]}" if i + 1 < len(edges) else f"{edges[i]} and more"
        parts.append(
            f'<rect class="bar" x="{x + 1:.1f}" y="{y:.1f}" width="{max(1, step - 2):.1f}" height="{size:.1f}">'
            f"<title>{to} {escape(unit)}: {counts[i]:,}</title></rect>"
        )
        if counts[i]:
            parts.append(f'<text x="{x + step / 2:.1f}" y="{y - 4:.1f}">{counts[i]:,}</text>')
        parts.append(f'<text x="{x:.1f}" y="{HEAD + tall + 13}" class="edge">{edges[i]}</text>')
    if mark is not None:
        inside = [i for i in range(low, high) if edges[i] <= mark]
        if inside:
            i = inside[-1]
            upper = edges[i + 1] if i + 1 < len(edges) else 2 * edges[i]
            x = (i - low + (mark - edges[i]) / (upper - edges[i])) * step
            parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD - 8}" y2="{HEAD + tall}"/>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 5}">{escape(unit)}</text></svg>')
    return "".join(parts)
