"""`apiece check`: everything that is wrong or odd in a dataset, with file, object and remedy; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from apiece.data.checks.geometry import TINY
from apiece.data.checks.report import Report
from apiece.data.checks.run import Part, Progress, Run
from apiece.data.checks.sizes import SMALL, Sizes
from apiece.data.checks.sources import open_lenient
from apiece.data.dataset import read_subset
from apiece.data.problems import Problem, problem_of
from apiece.errors import DataError, UsageError

__all__ = ["Report", "check"]

Paths = str | Path | Sequence[str | Path]


def check(
    path: Paths,
    images: str | Path | None = None,
    subset: str | Path | None = None,
    *,
    format: str | None = None,
    against: Paths = (),
    cap: int | None = None,
    input_size: int | None = None,
    small: float = SMALL,
    pictures: bool = True,
    tiny: int = TINY,
    progress: Progress | None = None,
) -> Report:
    """Look at every picture and object of a dataset of any format.

    path        the dataset; or several, such as its training and validation parts, which should share no picture.
    images      the picture folder, where pictures lie elsewhere.
    subset      a text file with the pictures to look at; None for all.
    format      of apiece.data.formats.FORMATS; detected by default.
    against     data that is only compared with: pictures of it must not be among these.
    cap         the most objects of a picture that a model finds; pictures with more are reported.
    input_size  longer side of a network's input in pixels; objects smaller there than `small` pixels (square root
                of the area) are counted.
    pictures    whether every picture is decoded, which is the only way to find one that breaks off, and near
                copies; else only headers are read.
    tiny        objects of fewer pixels are reported.
    progress    called with the number of pictures done and of all.
    raises      DataError only if a path, `images` or `subset` is not there, UsageError if a path is named twice; all
                else is in the report.
    """
    named, others = _paths(path), _paths(against)
    for one in (*named, *others):
        if not one.exists():
            raise DataError(
                f"{one}: not found; expected a folder or file of annotations. Remedy: check the path."
            )
    if images is not None and not Path(images).is_dir():
        raise DataError(f"{images}: not found; expected the picture folder. Remedy: check the path.")
    twice = [one for k, one in enumerate(named) if one.resolve() in {p.resolve() for p in named[:k]}]
    if twice:
        raise UsageError(f"{twice[0]}: is named twice; several data sets are splits. Remedy: name each once.")
    names = None if subset is None else read_subset(subset)
    parts: list[Part] = []
    failed: list[Problem] = []
    for one, known in [*((one, False) for one in named), *((one, True) for one in others)]:
        try:
            source, rows = open_lenient(
                one, None if images is None else Path(images), format, None if known else names
            )
        except (DataError, UsageError) as error:
            failed.append(problem_of(error, _file(error, one), code="unreadable-data"))
            continue
        parts.append(Part(source, rows, str(one) if len(named) + len(others) > 1 else "", known))
    return Run(parts, Sizes(input_size, small), pictures, tiny, cap, progress).report(
        ", ".join(map(str, named)), failed
    )


def _file(error: Exception, path: Path) -> str:
    """The file that an error's message begins with, if it lies in `path`; else `path`."""
    first = str(error).partition(": ")[0]
    return first if first.startswith(f"{path}") else str(path)


def _paths(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(one) for one in paths]
