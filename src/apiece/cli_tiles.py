"""Options of `apiece segment` and `apiece count` for pictures of any size, and what they say about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apiece.errors import ApieceError, UsageError

if TYPE_CHECKING:
    from apiece.predict.predictor import Model, Result

WORK = ".apiece-work"  # below --out: finished rows of tiles
SHRUNK = 3.0  # a longer side so many times the network's input makes objects tiny: more than `cells` met in training

TileOption = Annotated[
    bool, typer.Option("--tile", help="Segment by overlapping tiles: for pictures of any size.")
]
OverlapOption = Annotated[
    int | None,
    typer.Option(help="With --tile: pixels that neighbouring tiles share, at least an object's size."),
]
ScaleOption = Annotated[
    float | None, typer.Option(help="With --tile: pixels of the network's input per pixel of the picture.")
]
ObjectSizeOption = Annotated[
    float | None, typer.Option(help="With --tile: an object's typical diameter in pixels; sets the scale.")
]
MicronsOption = Annotated[
    float | None,
    typer.Option(help="With --tile: width of a pixel in µm, instead of the file's; sets the scale."),
]
ScalesOption = Annotated[
    str | None, typer.Option(help="With --tile: factors of the scale such as 0.5,1,2; results are merged.")
]


@dataclass(frozen=True)
class TileOptions:
    """See `Model.segment_large`."""

    overlap: int | None
    scale: float | None
    object_size: float | None
    microns: float | None
    scales: tuple[float, ...]


def tile_options(
    tile: bool,
    overlap: int | None,
    scale: float | None,
    object_size: float | None,
    microns: float | None,
    scales: str | None,
) -> TileOptions | None:
    """None without --tile.

    raises  UsageError for options that need it, and for --scales that are no numbers.
    """
    given = {
        "--overlap": overlap,
        "--scale": scale,
        "--object-size": object_size,
        "--microns": microns,
        "--scales": scales,
    }
    names = [name for name, value in given.items() if value is not None]
    if not tile:
        if names:
            raise UsageError(f"{names[0]}: sets how tiles lie or look; add --tile.")
        return None
    try:
        factors = tuple(float(text) for text in scales.split(",")) if scales is not None else (1.0,)
    except ValueError:
        raise UsageError(
            f"--scales: expected numbers with commas between them, such as 0.5,1,2; got {scales!r}."
        ) from None
    return TileOptions(overlap, scale, object_size, microns, factors)


def large_pictures(paths: list[Path]) -> list[Path]:
    """As `find_images`; a folder that is a Zarr picture is one."""
    from apiece.core.image import find_images
    from apiece.core.windows_zarr import is_zarr

    found: dict[Path, None] = {}
    for path in paths:
        found |= dict.fromkeys([path] if is_zarr(path) else find_images([path]))
    return list(found)


def tiled_results(
    model: Model,
    files: list[Path],
    threshold: float | None,
    options: TileOptions,
    store: Path | None,
    progress: Callable[[Path, int, int], None],
) -> Iterator[Result]:
    """Results in the order of `files`. A picture that fails gives a Result with its error, and the rest goes on."""
    from apiece.predict.predictor import Result

    for path in files:
        try:
            tiled = model.segment_large(
                path,
                threshold=threshold,
                overlap=options.overlap,
                scale=options.scale,
                object_size=options.object_size,
                microns=options.microns,
                scales=options.scales,
                store=store,
                progress=lambda done, total, path=path: progress(path, done, total),  # type: ignore[misc]
            )
        except UsageError:
            raise  # it is the same for all
        except ApieceError as error:
            text = str(error)
            yield Result(path, None, None, text if str(path) in text else f"{path}: {text}")
        except MemoryError:
            yield Result(
                path, None, None, f"{path}: not enough memory for a row of its tiles. Use a larger --scale."
            )
        else:
            yield Result(path, None, tiled.instances, None, tiled.empty, tiled.seconds, tiled)


def tiling_of(result: Result) -> dict[str, Any]:
    """What the JSON documents say about a picture that was tiled."""
    if result.tiled is None:
        return {}
    tiled = result.tiled
    return {
        "tiling": {
            "tiles": tiled.tiles,
            "scales": list(tiled.scales),
            "why": tiled.why,
            "fragments_dropped": tiled.fragments,
            "full": [list(window) for window in tiled.full],
        }
    }


def remarks(result: Result, model: Model) -> list[str]:
    """What a person should know about how the picture was shown to the network."""
    assert result.instances is not None
    name, size = model.card.name, model.card.input_size
    if result.tiled is not None:
        tiled = result.tiled
        scales = ", ".join(f"{scale:g}" for scale in tiled.scales)
        said = [f"{result.path}: {tiled.tiles} tiles at scale {scales}: {tiled.why}."]
        if tiled.fragments:
            said.append(
                f"{result.path}: {tiled.fragments} fragments at seams were dropped: pieces of objects that another "
                "tile saw better."
            )
        if tiled.full:
            some = [f"x {w.x} to {w.right}, y {w.y} to {w.bottom}" for w in tiled.full[:5]]
            more = f"; and {len(tiled.full) - 5} more" if len(tiled.full) > 5 else ""
            said.append(
                f"TRUNCATED: {result.path}: {name} found all that it can find at once even in the smallest parts of "
                f"tiles, so objects are missing and the count is a lower bound. Where: {'; '.join(some)}{more}. "
                "Use a larger --scale."
            )
        return said
    said = []
    if result.instances.truncated:
        said.append(
            f"TRUNCATED: {result.path}: {len(result.instances)} objects is all that {name} can find in one picture; "
            "there are probably more, so the count is a lower bound. Cut the picture into tiles: --tile."
        )
    ratio = max(a / b for a, b in zip(result.instances.size, size, strict=True))
    if ratio > SHRUNK:
        said.append(
            f"HINT: {result.path}: shrunk {ratio:.1f} times to fit the {size[1]} x {size[0]} pixels that {name} sees; "
            "small objects vanish or melt together. --tile looks at it piece by piece."
        )
    return said
