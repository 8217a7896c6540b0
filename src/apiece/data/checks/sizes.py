"""How large, how many and of which classes the objects are: counted as pictures pass by, a few bytes an object."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from apiece.core.frame import Frame
from apiece.data.checks.view import Finding, View
from apiece.data.problems import Severity

SMALL = 8  # pixels of the network's input, square root of the area, below which objects are hardly found
SHARE = 0.01  # of the objects that may be so small before it is a warning
UNEVEN = 100  # objects of the commonest class for one of the rarest, from which it is told
BORDER = 20.0  # objects that are expected at the border before their number says something
CUT = 3.0  # times as many at the border as by chance
EDGES = (0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)  # of the sizes' histogram, pixels
COUNTS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)  # of the histogram of objects a picture


class Sizes:
    """Statistics of all pictures and objects.

    input_size  longer side of the network's input, in pixels; None if it isn't known.
    small       objects below, in pixels of the network's input, are counted.
    """

    def __init__(self, input_size: int | None = None, small: float = SMALL) -> None:
        self.input_size, self.small = input_size, small
        self._roots, self._scaled = array("f"), array("f")
        self._counts = array("l")
        self.objects: Counter[str] = Counter()
        self.pictures: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.at_border, self.by_chance = 0, 0.0
        self.too_small = 0

    def add(self, view: View) -> tuple[int, ...]:
        """Count one picture's objects -> positions of those too small for the network's input, smallest first."""
        objects = view.objects
        sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).astype(np.float64)
        areas = np.where(objects.masks.areas > 0, objects.masks.areas, sides.prod(axis=1))
        roots = np.sqrt(areas)[~view.crowd]
        self._roots.extend(roots.tolist())
        self._counts.append(len(objects))
        names = [objects.classes.name_of(i) for i in objects.class_ids.tolist()]
        self.objects.update(names)
        self.pictures.update(set(names))
        self._add_border(view)
        if self.input_size is None:
            return ()
        scale = Frame.letterbox(objects.size, (self.input_size, self.input_size)).scale
        self._scaled.extend((roots * scale).tolist())
        tiny = np.flatnonzero((np.sqrt(areas) * scale < self.small) & (areas > 0) & ~view.crowd)
        self.too_small += len(tiny)
        return tuple(tiny[np.argsort(areas[tiny], kind="stable")].tolist())

    def _add_border(self, view: View) -> None:
        """Count objects at the border, and how many there would be were the picture a window on a larger scene.

        An object w wide is cut by the left or right of a window W wide in w of the w + W places where any of it
        can be seen, on each side; so it goes for its height.
        """
        masks, (height, width) = view.objects.masks, view.objects.size
        plain = (masks.areas > 0) & ~view.crowd & ~view.boxed
        w, h = masks.shapes[plain, 1].astype(float), masks.shapes[plain, 0].astype(float)
        x, y = masks.offsets[plain].T
        touching = (x == 0) | (y == 0) | (x + w == width) | (y + h == height)
        self.at_border += int(touching.sum())
        inner = np.maximum(width - w, 0) * np.maximum(height - h, 0) / ((width + w) * (height + h))
        self.by_chance += float((1 - inner).sum())

    def findings(self) -> Iterator[Finding]:
        """What the numbers of all pictures say."""
        count = len(self._roots)
        if self.input_size is not None and self.too_small:
            text = (
                f"{self.too_small} of {count} objects ({self.too_small / count:.1%}) are smaller than "
                f"{self.small:g} x {self.small:g} pixels in an input of {self.input_size}; such objects are "
                "hardly found."
            )
            severity: Severity = "warning" if self.too_small >= SHARE * count else "note"
            remedy = "train and run at a larger input, or on tiles."
            yield Finding(severity, "small-for-input", (), text, remedy)
        common = self.objects.most_common()
        if len(common) > 1 and common[0][1] > UNEVEN * common[-1][1]:
            (most, high), (least, low) = common[0], common[-1]
            text = (
                f"class {most!r} has {high} objects, class {least!r} {low}; rare classes are learned badly."
            )
            yield Finding(
                "note", "uneven-classes", (), text, "label more of the rare ones, or sample them more often."
            )
        kinds = [kind for kind, _ in self.kinds.most_common()]
        if len(kinds) > 1:
            shown = ", ".join(f"{self.kinds[kind]} of {kind}" for kind in kinds)
            text = f"pictures are of several kinds: {shown}."
            yield Finding("note", "mixed-kinds", (), text, "nothing, if a model is to take them all.")
        yield from self._border_findings(count)

    def _border_findings(self, count: int) -> Iterator[Finding]:
        if self.by_chance < BORDER:
            return
        if self.at_border > CUT * self.by_chance and self.at_border > count / 3:
            text = (
                f"{self.at_border} of {count} objects touch the picture's border, {self.by_chance:.0f} would by "
                "chance: pictures seem to be cut through their objects."
            )
            yield Finding("warning", "cut-by-border", (), text, "cut larger pictures, or with overlap.")
        if self.at_border < self.by_chance / 10:
            text = (
                f"{self.at_border} of {count} objects touch the picture's border, though {self.by_chance:.0f} would "
                "by chance: those that are cut by it may have been left out, or stop short of it."
            )
            yield Finding("note", "none-at-border", (), text, "label them too, if they are to be found.")

    def to_json(self) -> dict[str, Any]:
        """All numbers, plain Python."""
        roots, scaled, counts = (np.array(held) for held in (self._roots, self._scaled, self._counts))
        document: dict[str, Any] = {
            "classes": [
                {"name": name, "objects": number, "pictures": self.pictures[name]}
                for name, number in self.objects.most_common()
            ],
            "object_size": {
                "unit": "pixels, square root of the area",
                **_histogram(roots, EDGES),
                **_quantiles(roots),
            },
            "objects_per_picture": {**_histogram(counts, COUNTS), **_quantiles(counts)},
            "pictures_by_kind": dict(self.kinds.most_common()),
            "at_border": {"objects": self.at_border, "expected_by_chance": round(self.by_chance, 1)},
        }
        if self.input_size is not None:
            document["object_size_in_input"] = {
                "unit": f"pixels of an input of {self.input_size}, square root of the area",
                **_histogram(scaled, EDGES),
                **_quantiles(scaled),
                "limit": self.small,
                "below_limit": self.too_small,
            }
        return document


def beyond_cap(view: View, cap: int | None) -> Iterator[Finding]:
    """Pictures with more objects than a model can find."""
    count = len(view.objects)
    if cap is not None and count > cap:
        text = f"holds {count} objects, {count - cap} more than the {cap} that the model finds at most."
        remedy = f"take a model with a higher limit, or cut the picture into tiles of at most {cap} objects."
        yield Finding("warning", "over-cap", (), text, remedy)


def _histogram(values: npt.NDArray[Any], edges: tuple[int, ...]) -> dict[str, Any]:
    """Counts between the edges; the last bin takes all above."""
    counts = np.histogram(values, [*edges, np.inf])[0]
    return {"edges": list(edges), "counts": counts.tolist()}


def _quantiles(values: npt.NDArray[Any]) -> dict[str, Any]:
    if not len(values):
        return {"min": None, "p5": None, "median": None, "p95": None, "max": None}
    found = np.quantile(values, (0, 0.05, 0.5, 0.95, 1)).tolist()
    return {key: round(v, 2) for key, v in zip(("min", "p5", "median", "p95", "max"), found, strict=True)}
