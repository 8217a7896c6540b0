"""Groups of pictures: laboratory, camera, background; one CSV of `image,group`."""

from __future__ import annotations

import csv
from pathlib import Path

from apiece.errors import RecipeError


def read_groups(path: Path) -> dict[str, str]:
    """File stem -> group.

    raises  RecipeError if the file can't be read or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"{path}: not a readable CSV ({error})") from None
    if not rows or set(rows[0]) != {"image", "group"}:
        raise RecipeError(f"{path}: expected a CSV with the columns image,group")
    return {row["image"]: row["group"] for row in rows}
