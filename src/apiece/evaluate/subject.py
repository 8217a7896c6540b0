"""Subject: what is diagnosed, with all that is known of its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from apiece.evaluate.scenes import Scenes


@dataclass(frozen=True, eq=False)
class Subject:
    """Truth and predictions of the same pictures, read and checked.

    scenes           the objects.
    names            what each picture is called, as in `scenes.image_ids`.
    paths            where each picture lies; None where it isn't known.
    metadata         columns that describe the pictures, such as camera or hour: a text a picture, "" where unknown.
    scored           whether predictions carry scores; False for label images and lists without.
    truth_path       for messages, as the user named it.
    predicted_path   the same.
    notes            sentences about the data that a reader of the figures must know.
    """

    scenes: Scenes
    names: tuple[str, ...]
    paths: tuple[Path | None, ...]
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scored: bool = True
    truth_path: str = "ground truth"
    predicted_path: str = "predictions"
    notes: tuple[str, ...] = ()
