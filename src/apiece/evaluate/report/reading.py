"""Reading the document: any part may be missing or empty, and the page must say so rather than fail."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """A figure and its interval; None where it isn't known."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return self.low is not None and self.high is not None


UNKNOWN = Figure(None)


def number(given: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        return None
    return float(given)


def figure(given: Any) -> Figure:
    """An interval {"value", "low", "high"} or a bare number."""
    if isinstance(given, Mapping):
        return Figure(number(given.get("value")), number(given.get("low")), number(given.get("high")))
    return Figure(number(given))


def whole(given: Any) -> int:
    """A whole number; 0 where there is none."""
    found = number(given)
    return 0 if found is None else round(found)


def words(given: Any) -> str:
    """A text; "" for None."""
    return "" if given is None else str(given)


def part(document: Any, *keys: str) -> Mapping[str, Any]:
    """The mapping under these keys; empty where there is none."""
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def rows(given: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; empty where there is none."""
    return [one for one in given if isinstance(one, Mapping)] if isinstance(given, list | tuple) else []


def texts(given: Any) -> list[str]:
    """The texts of a list; empty where there is none."""
    return [words(one) for one in given] if isinstance(given, list | tuple) else []


def numbers(given: Any) -> list[float | None]:
    """The numbers of a list, None where one isn't known; empty where there is none."""
    return [number(one) for one in given] if isinstance(given, list | tuple) else []
