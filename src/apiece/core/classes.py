"""ClassMap: the one place where category ids and contiguous class indices meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apiece.errors import AnnotationError, did_you_mean


@dataclass(frozen=True)
class ClassMap:
    """Names of classes, and the category ids by which files call them.

    names  one name a class; a class's place is its index, contiguous from 0, as in `Instances.class_ids`.
    ids    the category id of each class in files; any distinct whole numbers, 1..n by default.
    raises AnnotationError for a missing or repeated name or id.

    There is no background class anywhere.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()
    _index: Mapping[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = tuple(self.names)
        ids = tuple(self.ids) if len(self.ids) or not names else tuple(range(1, len(names) + 1))
        if len(ids) != len(names):
            raise AnnotationError(f"{len(ids)} category ids for {len(names)} class names; expected as many.")
        for place, name in enumerate(names):
            if not isinstance(name, str) or not name.strip():
                raise AnnotationError(f"class {place} is called {name!r}; expected a name.")
        for value in ids:
            if isinstance(value, bool) or int(value) != value:
                raise AnnotationError(f"category id is {value!r}; expected a whole number.")
        for what, values in (("class name", names), ("category id", ids)):
            twice = sorted(repr(value) for value, times in Counter(values).items() if times > 1)
            if twice:
                raise AnnotationError(
                    f"{what} {twice[0]} occurs more than once; expected it once. "
                    "Remedy: rename or merge the categories."
                )
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "ids", tuple(int(v) for v in ids))
        object.__setattr__(self, "_index", {int(v): i for i, v in enumerate(ids)})

    @classmethod
    def from_coco(cls, categories: Iterable[Mapping[str, Any]]) -> ClassMap:
        """From the `categories` of a COCO document, by increasing id, so that file order does not matter.

        raises  AnnotationError if a category lacks `id` or `name`, or one occurs twice.
        """
        found: list[tuple[int, str]] = []
        for place, category in enumerate(categories):
            if not isinstance(category, Mapping):
                raise AnnotationError(
                    f"categories[{place}] is {category!r}; expected an object with id and name."
                )
            for key, kind in (("id", int), ("name", str)):
                value = category.get(key)
                if not isinstance(value, kind) or isinstance(value, bool):
                    raise AnnotationError(
                        f"categories[{place}] has {key} {value!r}; expected "
                        f"{'a whole number' if kind is int else 'a name'}. Remedy: complete the category list."
                    )
            found.append((category["id"], category["name"]))
        found.sort()
        return cls(tuple(name for _, name in found), tuple(number for number, _ in found))

    def to_coco(self) -> list[dict[str, Any]]:
        """The `categories` of a COCO document."""
        return [{"id": number, "name": name} for number, name in zip(self.ids, self.names, strict=True)]

    def __len__(self) -> int:
        return len(self.names)

    def index_of(self, category_id: int) -> int:
        """The contiguous index of a category id; raises AnnotationError if no class has it."""
        index = self._index.get(category_id)
        if index is None:
            raise AnnotationError(
                f"category id {category_id!r} is not in the class list "
                f"{dict(zip(self.ids, self.names, strict=True))}. "
                "Remedy: add the category, or correct the annotation."
            )
        return index

    def index_of_name(self, name: str) -> int:
        """The contiguous index of a class name; raises AnnotationError with the nearest name."""
        if name not in self.names:
            raise AnnotationError(f"no class is called {name!r}. {did_you_mean(name, self.names)}")
        return self.names.index(name)

    def id_of(self, index: int) -> int:
        """The category id of the class at this index."""
        return self.ids[self._checked(index)]

    def name_of(self, index: int) -> str:
        """The name of the class at this index."""
        return self.names[self._checked(index)]

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self.names):
            raise AnnotationError(f"class index {index} is not in 0..{len(self.names) - 1}.")
        return index
