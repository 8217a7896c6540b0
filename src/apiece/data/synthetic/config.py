"""Scene: what a synthetic picture is to show."""

from __future__ import annotations

from dataclasses import dataclass

from apiece.core.classes import ClassMap
from apiece.data.synthetic.shapes import SHAPES
from apiece.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Scene:
    """What a synthetic picture is to show. Lengths are in pixels, shares from 0 to 1.

    shapes       of shapes.SHAPES; each object has one of these at random.
    radius       range of half axes; by default about a tenth of the smaller side, less where there are many. Where no
                 place is left, objects get smaller.
    touching     share of objects put against an earlier one: at least one pixel of it is an edge neighbour of
                 another's, and none is shared.
    overlap      share of objects laid partly over earlier ones. A pixel belongs to the last object on it.
    cluster      the most objects that touching and overlap may join to a group; groups then keep apart. None for no
                 limit.
    gap          pixels of ground, at least, between objects that don't touch on purpose.
    min_visible  the least share of its pixels that every object keeps in view.
    fence        (period, width): parallel bars of ground this wide, one each period, lie in front of everything, so
                 that objects are seen in several parts. None for none.
    classes      each object is of one of these at random; None: each shape is a class.
    colours      "class": with several classes a hue for each; "random": any bright colour.
    texture      relative deviation of brightness within an object: grain, stripes or clouds.
    ground       range of the ground's grey levels, which change slowly over the picture.
    ground_texture  relative deviation of the ground's brightness.
    light        by what share brightness falls from one end of the picture to the other.
    blur         standard deviation of the picture's blur; 0 for none.
    photons      photons that a grey level of 255 stands for; the fewer, the more Poisson noise. 0 for none.
    noise        standard deviation of Gaussian noise in grey levels; 0 for none.

    raises  UsageError naming what cannot be meant.
    """

    shapes: tuple[str, ...] = ("disc",)
    radius: tuple[float, float] | None = None
    touching: float = 0.0
    overlap: float = 0.0
    cluster: int | None = None
    gap: int = 1
    min_visible: float = 0.25
    fence: tuple[float, float] | None = None
    classes: ClassMap | None = None
    colours: str = "class"
    texture: float = 0.1
    ground: tuple[float, float] = (10.0, 50.0)
    ground_texture: float = 0.1
    light: float = 0.0
    blur: float = 0.7
    photons: float = 0.0
    noise: float = 6.0

    def __post_init__(self) -> None:
        if not self.shapes or len(set(self.shapes)) != len(self.shapes):
            raise UsageError(f"scene: shapes are {self.shapes}; expected one or more, each once.")
        for shape in self.shapes:
            if shape not in SHAPES:
                raise UsageError(f"scene: no shape is called {shape!r}. {did_you_mean(shape, SHAPES)}")
        for name in ("touching", "overlap", "min_visible", "light"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"scene: {name} is {getattr(self, name)}; expected a share from 0 to 1.")
        for name in ("gap", "texture", "ground_texture", "blur", "photons", "noise"):
            if not 0 <= getattr(self, name) < 1e6:
                raise UsageError(f"scene: {name} is {getattr(self, name)}; expected 0 or more.")
        if self.touching + self.overlap > 1:
            raise UsageError(
                f"scene: touching {self.touching} and overlap {self.overlap} are more than 1 together; expected shares "
                "of all objects."
            )
        if self.cluster is not None and (
            self.cluster < 1 or self.touching + self.overlap > 1 - 1 / self.cluster + 1e-9
        ):
            raise UsageError(
                f"scene: groups of at most {self.cluster} with {self.touching + self.overlap:g} of all objects joined "
                "to others; expected at most 1 - 1 / cluster. Remedy: a larger cluster, or less touching and overlap."
            )
        if self.radius is not None and not 0 < self.radius[0] <= self.radius[1] < 1e6:
            raise UsageError(f"scene: radius is {self.radius}; expected a range above 0.")
        if self.fence is not None and not 0 < self.fence[1] < self.fence[0] < 1e9:
            raise UsageError(f"scene: fence is {self.fence}; expected a period longer than the bars' width.")
        if not 0 <= self.ground[0] <= self.ground[1] <= 255:
            raise UsageError(f"scene: ground is {self.ground}; expected a range within 0 to 255.")
        if self.colours not in ("class", "random"):
            raise UsageError(f"scene: colours is {self.colours!r}; expected 'class' or 'random'.")

    @property
    def class_map(self) -> ClassMap:
        """The classes of the objects."""
        return ClassMap(self.shapes) if self.classes is None else self.classes
