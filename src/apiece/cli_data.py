"""The commands that look at, convert, divide and make data sets; `cli` takes them in."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from apiece.errors import UsageError

if TYPE_CHECKING:
    from apiece.core.label_image import Policy

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
ImagesOption = Annotated[Path | None, typer.Option(help="The picture folder, where pictures lie elsewhere.")]
FORMATS_HELP = (
    "coco, coco-panoptic, yolo, labelme, voc, cityscapes, cvat, labelstudio, labels, mask-files, imagej, geojson or "
    "mots"
)

PLAIN = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "≥": ">=",
        "≤": "<=",
        "×": "x",
        "√": "sqrt",
        "±": "+/-",
        "…": "...",
        "─": "-",
        "²": "^2",
    }
)
UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@contextmanager
def progress_bar(label: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr where a person is watching; yields what is to be called with steps done and of all."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def check(
    data: Annotated[
        list[Path],
        typer.Argument(help="Files or folders of annotations; several are splits that share no picture."),
    ],
    images: ImagesOption = None,
    subset: Annotated[Path | None, typer.Option(help="Text file with the pictures to look at.")] = None,
    given: Annotated[
        str | None, typer.Option("--format", help=f"{FORMATS_HELP}; detected by default.")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Data that must not share a picture with this; repeatable.")
    ] = None,
    cap: Annotated[
        int | None, typer.Option(min=1, help="Most objects of a picture that a model finds; warns of more.")
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(min=1, help="Longer side of a network's input; counts objects too small for it."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as one HTML file with pictures.")
    ] = None,
    show: Annotated[
        Path | None,
        typer.Option("--show-augmented", help="Write a sheet of augmented pictures (.png), and stop."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe whose augmentation --show-augmented shows; all without.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of --show-augmented.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """List every problem of a data set, with file, object and remedy; exit 1 when there are errors."""
    from apiece.data.check import check as look

    if show is not None:
        from apiece.data.show import show_augmented

        if len(data) > 1:
            raise UsageError("--show-augmented: shows one data set; name one.")
        _refuse_sheet(show, data[0], images)
        print(show_augmented(data[0], show, recipe, seed, images=images, subset=subset, format=given))
        return
    if recipe is not None:
        raise UsageError("--recipe: has a meaning with --show-augmented only.")
    if html is not None:
        refuse_page(html)
    with progress_bar("checking", as_json) as progress:
        report = look(
            data,
            images,
            subset,
            format=given,
            against=against or (),
            cap=cap,
            input_size=input_size,
            progress=progress,
        )
    if html is not None:
        from apiece.data.checks.page import write_page

        write_page(report, html)
    print(json.dumps(report.to_json()) if as_json else printable(report.to_text()))
    if not report.ok:
        raise typer.Exit(1)


def printable(text: str) -> str:
    """Without what names from files may do to a terminal, and with "?" for what its encoding doesn't have."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = UNPRINTABLE.sub("\ufffd", text)
    try:
        return shown.encode(encoding).decode(encoding)
    except UnicodeEncodeError:  # a minus sign must not become a question mark
        return shown.translate(PLAIN).encode(encoding, "replace").decode(encoding)


def _refuse_sheet(sheet: Path, data: Path, images: Path | None) -> None:
    """A sheet may be written over, a picture of the data set not."""
    near = [folder for folder in (data, images) if folder is not None and folder.is_dir()]
    if data.is_file():  # its pictures lie below; beside it sheets may
        near += [path for path in data.parent.iterdir() if path.is_dir()]
    place = sheet.resolve()
    if sheet.exists() and any(place.is_relative_to(folder.resolve()) for folder in near):
        raise UsageError(f"--show-augmented: {sheet} is a file of the data set. Remedy: choose another name.")


def refuse_page(html: Path) -> None:
    """Before a long check: a page may be written over, annotations and pictures not."""
    if html.exists() and (html.is_dir() or html.suffix.lower() not in (".html", ".htm")):
        raise UsageError(f"--html: {html} exists already and is no page. Remedy: choose another name.")
    if not html.parent.is_dir():
        raise UsageError(f"--html: the folder {html.parent} isn't there. Remedy: make it, or choose another.")


def convert(
    source: Annotated[Path, typer.Argument(help="A file or folder of annotations.")],
    out: Annotated[
        Path, typer.Argument(help="A folder, or for formats of one document its file. Must be new.")
    ],
    to: Annotated[str, typer.Option("--to", help=f"{FORMATS_HELP}.")],
    given: Annotated[
        str | None, typer.Option("--from", help="The source's format; detected by default.")
    ] = None,
    images: ImagesOption = None,
    overlap: Annotated[
        str,
        typer.Option(help="Who keeps a pixel where the format holds no overlaps: smaller, first or last."),
    ] = "smaller",
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if anything would be lost; exit 1.")
    ] = False,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Copy the pictures along.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Write annotations in another format, and say what that loses, object by object."""
    from apiece.data.convert import LossError
    from apiece.data.convert import convert as run_conversion
    from apiece.data.formats import detect_format, format_of, open_source

    format_of(to)
    name = given or detect_format(source)
    opened = open_source(source, images, name, strict=False)
    try:
        with progress_bar("converting", as_json) as progress:
            done = run_conversion(
                opened,
                name,
                to,
                out,
                overlap=cast("Policy", overlap),
                strict=strict,
                pictures=pictures,
                progress=progress,
            )
    except LossError as refused:
        if as_json:
            print(json.dumps(refused.conversion.to_json()))
        raise
    print(json.dumps(done.to_json()) if as_json else printable(done.to_text()))


def formats(as_json: JsonOption = False) -> None:
    """List annotation formats: where their files lie, and what each can hold of an object."""
    from apiece.data.formats.table import HEAD, table

    lines = table()
    if as_json:
        rows = [
            {"format": line.name, "title": line.title, "layout": line.layout}
            | dict(zip(HEAD[1:], line.cells, strict=True))
            for line in lines
        ]
        print(json.dumps({"schema": "apiece/formats/1", "formats": rows}))
        return
    for line in lines:
        print(printable(f"{line.name:16}{line.title}\n{'':16}{line.layout}"))
        lacks = [
            f"{head}: {cell}"
            for head, cell in zip(HEAD[1:], line.cells, strict=True)
            if cell not in ("yes", "any", "kept")
        ]
        print(f"{'':16}{'; '.join(lacks) or 'holds everything'}")


def synthetic(
    out: Annotated[Path, typer.Argument(help="The data set's folder. Must be new.")],
    pictures: Annotated[int, typer.Option(min=1, help="Pictures to make.")] = 10,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of each in pixels.")] = "600x800",
    objects: Annotated[int, typer.Option(min=0, help="Objects on each picture, exactly.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Another one gives other pictures.")] = 0,
    shapes: Annotated[
        str, typer.Option(help="disc, blob, polygon, star, rod, worm, ring, letter; each is a class.")
    ] = "disc",
    touching: Annotated[float, typer.Option(help="Share of objects put against another one.")] = 0.0,
    overlap: Annotated[float, typer.Option(help="Share of objects laid partly over others.")] = 0.0,
    light: Annotated[float, typer.Option(help="Share by which brightness falls over the picture.")] = 0.0,
    noise: Annotated[float, typer.Option(help="Deviation of the noise in grey levels.")] = 6.0,
    to: Annotated[str, typer.Option("--to", help=f"{FORMATS_HELP}.")] = "coco",
    as_json: JsonOption = False,
) -> None:
    """Make pictures of objects whose masks are known exactly."""
    from apiece.data.synthetic import Scene, write_synthetic

    try:
        height, width = (int(side) for side in size.lower().split("x"))
    except ValueError:
        raise UsageError(f"--size {size!r}: expected HEIGHTxWIDTH in pixels, such as 600x800.") from None
    names = tuple(name.strip() for name in shapes.split(","))
    config = Scene(shapes=names, touching=touching, overlap=overlap, light=light, noise=noise)
    with progress_bar("making", as_json) as progress:
        notes = write_synthetic(
            out, pictures, (height, width), objects, seed, config, format=to, progress=progress
        )
    if as_json:
        made = {"schema": "apiece/synthetic/1", "out": str(out), "format": to, "seed": seed, "notes": notes}
        print(json.dumps(made | {"pictures": pictures, "objects": pictures * objects}))
        return
    print(f"{out}: {pictures} pictures of {height} x {width} with {objects} objects each ({to}).")
    for note in notes:
        print(f"note: {note}")


def split(
    data: Annotated[Path, typer.Argument(help="A file or folder of annotations.")],
    out: Annotated[Path, typer.Option(help="Folder for train.txt, val.txt … and split.json.")],
    fractions: Annotated[str, typer.Option(help="Parts and their shares of pictures.")] = "train=.8,val=.2",
    images: ImagesOption = None,
    given: Annotated[
        str | None, typer.Option("--format", help=f"{FORMATS_HELP}; detected by default.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="image or group; group where groups are given.")] = None,
    groups: Annotated[
        Path | None, typer.Option(help="Table of picture and group (CSV); groups aren't parted.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Regular expression whose (…) finds the group in a name.")
    ] = None,
    folder: Annotated[
        int | None, typer.Option(help="The folder of a name that is the group: 0 the first, -1 the last.")
    ] = None,
    stratify: Annotated[str, typer.Option(help="What to balance: class,density or none.")] = "class,density",
    seed: Annotated[int, typer.Option(help="Another one gives another split.")] = 0,
    fold_count: Annotated[
        int | None, typer.Option("--folds", min=2, help="Make so many folds instead of parts by shares.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Divide a data set so that parts are alike and share no group; nothing is copied."""
    from apiece.data import splits
    from apiece.data.dataset import open_dataset

    if sum(one is not None for one in (groups, pattern, folder)) > 1:
        raise UsageError(
            "--groups, --pattern and --folder each say what the groups are; expected one of them."
        )
    if by not in (None, "image", "group"):
        raise UsageError(f"--by {by!r}: expected image or group.")
    opened = open_dataset(data, images, format=given)
    with progress_bar("counting", as_json) as progress:
        counted = splits.tally(opened, progress)
    found: dict[str, str] | None = None
    if groups is not None:
        found = splits.groups_from_csv(groups)
    elif pattern is not None:
        found = splits.groups_from_pattern(counted.names, pattern)
    elif folder is not None:
        found = splits.groups_from_folder(counted.names, folder)
    kinds = () if stratify == "none" else tuple(kind.strip() for kind in stratify.split(","))
    chosen = cast("splits.By | None", by)
    if fold_count is None:
        shares = splits.fractions_of(fractions)
        made = [splits.split(counted, shares, by=chosen, groups=found, stratify=kinds, seed=seed)]
        places = [out]
    else:
        made = splits.folds(counted, fold_count, by=chosen, groups=found, stratify=kinds, seed=seed)
        places = [out / f"fold-{k}" for k in range(1, fold_count + 1)]
    for one, place in zip(made, places, strict=True):
        one.to_files(place)
    if as_json:
        document = {"schema": "apiece/splits/1", "splits": [one.to_json(pictures=False) for one in made]}
        print(json.dumps(document if fold_count is not None else made[0].to_json(pictures=False)))
        return
    for one, place in zip(made, places, strict=True):
        print(f"{place}\n{one.to_text()}")
