"""View: one picture's objects as the checks see them, and Finding: what a check says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from apiece.core.instances import Instances
from apiece.data.problems import Severity


class Finding(NamedTuple):
    """What a check found on one picture; the caller adds the file.

    code     short, stable name of the kind.
    objects  positions of the objects concerned, the one to mend first; empty for the whole picture.
    """

    severity: Severity
    code: str
    objects: tuple[int, ...]
    message: str
    remedy: str


@dataclass(frozen=True, eq=False)
class View:
    """One picture's objects.

    objects  as read.
    entries  COCO's own annotations, one an object, where the source is COCO; else None.
    painted  whether masks come from a label image, where an object in several parts is mostly a slip.
    picture  name to put before an object's, where the annotation file holds more than one picture; else "".
    """

    objects: Instances
    entries: list[dict[str, Any]] | None = None
    painted: bool = False
    picture: str = ""

    def name(self, i: int) -> str:
        """Object i as a person finds it in the file."""
        columns = self.objects.columns
        before = f"{self.picture}: " if self.picture else ""
        if "label" in columns:
            return f"{before}object {columns['label'][i]}"
        kind = self.objects.classes.name_of(int(self.objects.class_ids[i]))
        if "annotation_id" in columns:
            return f'annotation {columns["annotation_id"][i]} ("{kind}")'
        return f'{before}object {i + 1} ("{kind}")'

    @property
    def crowd(self) -> npt.NDArray[np.bool_]:
        """Whether each is a region of many objects, bool (N,)."""
        none = np.zeros(len(self.objects), np.bool_)
        return np.asarray(self.objects.columns.get("iscrowd", none), np.bool_)

    @property
    def boxed(self) -> npt.NDArray[np.bool_]:
        """Whether each is a drawn rectangle, or has no mask at all, bool (N,)."""
        none = np.zeros(len(self.objects), np.bool_)
        drawn = np.asarray(self.objects.columns.get("box_mask", none), np.bool_)
        empty: npt.NDArray[np.bool_] = self.objects.masks.areas == 0
        return drawn | empty
