"""The command line. Every command imports what it needs when it runs, so that `--help` is immediate."""

from __future__ import annotations

import difflib
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from apiece.cli_data import check, convert, formats, split, synthetic
from apiece.cli_evaluate import diagnose, evaluate
from apiece.cli_tiles import (
    WORK,
    MicronsOption,
    ObjectSizeOption,
    OverlapOption,
    ScaleOption,
    ScalesOption,
    TileOption,
    TileOptions,
    large_pictures,
    remarks,
    tile_options,
    tiled_results,
    tiling_of,
)
from apiece.errors import ApieceError, DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apiece.predict.predictor import Model, Result


class Commands(TyperGroup):
    """Unknown commands are refused with the nearest known one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Look a command up."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"no such command {args[0]!r}.{hint} `apiece --help` lists them.")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", help="A bundled model's name, an .onnx file, or a training run's folder."),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option("--score", "--threshold", help="Lowest score of an object; the model's own by default."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def main() -> None:
    """Entry point: errors become one sentence and an exit code, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not know every letter of a file's name
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # typer makes a number of the keyboard's interruption
            say("apiece: interrupted")
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except ApieceError as error:
        say(f"apiece: {error}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        say("apiece: interrupted")
        sys.exit(130)
    except TyperException as error:
        # A wrong option or argument; typer's own class for it is private, its sentence is not.
        message = getattr(error, "format_message", error.__str__)()
        say(f"apiece: {message} `apiece --help` lists commands, `apiece COMMAND --help` their options.")
        sys.exit(2)
    except BrokenPipeError:
        # `apiece count … | head -1`: the reader has what it wants. Python would complain at its last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        say(f"apiece: {error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(2)


def say(text: str) -> None:
    """A line for the person, on stderr; stdout is for results."""
    print(text, file=sys.stderr)


@app.callback(invoke_without_command=True)
def about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Every object its own mask, and a true account of how far to trust the count."""
    if version:
        from apiece import __version__

        print(f"apiece {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("apiece-out"),
    picture: Annotated[str, typer.Option(help="coins, ihc, or a picture of your own.")] = "coins",
    show: Annotated[bool, typer.Option("--open", help="Open the overlay in the system's viewer.")] = False,
) -> None:
    """Segment and count a real picture with the bundled model."""
    from apiece.predict.load import load
    from apiece.predict.write import Writer

    started = time.perf_counter()
    path = shipped_picture(picture)
    model = load(DEMO_MODELS.get(picture, "things"))
    writer = Writer(out, ("coco", "overlay", "labels", "csv"), model.card.classes, inputs=[path])
    result = next(model.predict([path], keep_images=True))
    if result.instances is None:
        raise DataError(result.error)
    writer.add(result)
    writer.finish()
    seconds = time.perf_counter() - started
    print(f"{path.name}: {len(result.instances)} objects, each with its own mask, in {seconds:.1f} s")
    for written in writer.written:
        print(f"  {written}")
    warn(result, model)
    for note in writer.notes:
        say(note)
    print(
        f"The model: {model.card.name} finds objects of the class {model.card.classes.names[0]}. "
        f"{DEMO_NOTES.get(picture, '')}"
    )
    print("\nNext:")
    print("  apiece segment YOUR_PICTURES --out results     masks, overlays and a table of your own pictures")
    print("  apiece count YOUR_PICTURES --json              counts only")
    print(
        "  apiece train recipe.yaml                       a model of your own objects (pip install 'apiece[train]')"
    )
    if show and sys.stdout.isatty():
        typer.launch(str(next(w for w in writer.written if w.name.endswith(".overlay.png"))))
    elif show:
        say("--open: nobody is watching (stdout is not a terminal), so no viewer was opened.")


DEMO_MODELS = {"ihc": "cells"}
DEMO_NOTES = {
    "coins": "It was never shown a photograph of a coin, only painted discs; near enough here, check it elsewhere.",
    "ihc": "This stain is not in its data: look at the overlay, it misses most nuclei. That is what a model looks "
    "like outside its data.",
}


def shipped_picture(name: str) -> Path:
    """A picture that scikit-image ships, found without importing it, or the user's own.

    raises  UsageError when it is neither.
    """
    from importlib.util import find_spec

    if name not in DEMO_NOTES:
        if not Path(name).exists():
            raise UsageError(
                f"--picture: no file {name!r} and no shipped picture. {did_you_mean(name, DEMO_NOTES)}"
            )
        return Path(name)
    spec = find_spec("skimage")
    path = Path(spec.origin if spec and spec.origin else "").parent / "data" / f"{name}.png"
    if not path.is_file():
        raise UsageError(
            f"the demo's picture {name!r} comes with scikit-image, which is missing or not whole. "
            "Run: pip install --force-reinstall scikit-image, or name your own with --picture FILE."
        )
    return path


@app.command()
def segment(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    model: ModelOption = "cells",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("apiece-out"),
    formats: Annotated[
        str, typer.Option("--as", help="Any of coco,overlay,labels,csv,geojson,imagej.")
    ] = "coco,overlay",
    threshold: ThresholdOption = None,
    images_of: Annotated[
        Path | None, typer.Option(help="A COCO ground truth whose image and category ids are kept.")
    ] = None,
    tile: TileOption = False,
    overlap: OverlapOption = None,
    scale: ScaleOption = None,
    object_size: ObjectSizeOption = None,
    microns: MicronsOption = None,
    scales: ScalesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write masks of every object: COCO JSON, overlays, label images, a table."""
    from apiece.core.image import find_images
    from apiece.data.coco import read_coco
    from apiece.predict.load import load
    from apiece.predict.write import SCHEMA, Writer, counts
    from apiece.predict.write_large import LargeWriter

    tiles = tile_options(tile, overlap, scale, object_size, microns, scales)
    files = find_images(paths) if tiles is None else large_pictures(paths)
    loaded = load(model)
    wanted = [f.strip() for f in formats.split(",") if f.strip()]
    truth = read_coco(images_of) if images_of else None
    writer: Writer | LargeWriter = (Writer if tiles is None else LargeWriter)(
        out, wanted, loaded.card.classes, truth, inputs=files
    )
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    for result in results(
        loaded,
        files,
        threshold,
        keep_images="overlay" in wanted,
        quiet=as_json,
        tiles=tiles,
        store=out / WORK,
    ):
        error, own = result.error, []
        if result.instances is not None:
            try:
                own = writer.add(result)
            except ApieceError as problem:
                error = str(problem)
        rows.append({**row(result, error), "files": [str(path) for path in own]})
        if error is not None:
            failed.append(error)
            continue
        assert result.instances is not None
        warn(result, loaded)
        if not as_json:
            by_class = ", ".join(f"{n} {name}" for name, n in counts(result.instances).items())
            print(f"{result.path}: {len(result.instances)} objects ({by_class})")
    writer.finish()
    for note in writer.notes:
        say(note)
    total = sum(r["count"] or 0 for r in rows)
    if as_json:
        document = {"schema": SCHEMA, "model": loaded.card.name, "images": rows, "total": total}
        print(json.dumps(document | {"out": str(out), "files": [str(path) for path in writer.written]}))
    elif writer.written:
        print(f"{len(rows) - len(failed)} pictures, {total} objects, written to {out}")
    finish(failed, len(rows))


@app.command()
def count(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    model: ModelOption = "cells",
    threshold: ThresholdOption = None,
    tile: TileOption = False,
    overlap: OverlapOption = None,
    scale: ScaleOption = None,
    object_size: ObjectSizeOption = None,
    microns: MicronsOption = None,
    scales: ScalesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count objects, picture by picture and in total."""
    from apiece.core.image import find_images
    from apiece.predict.load import load

    tiles = tile_options(tile, overlap, scale, object_size, microns, scales)
    files = find_images(paths) if tiles is None else large_pictures(paths)
    loaded = load(model)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    for result in results(loaded, files, threshold, keep_images=False, quiet=as_json, tiles=tiles):
        rows.append(row(result, result.error))
        if result.error is not None:
            failed.append(result.error)
            continue
        warn(result, loaded)
        if not as_json:
            print(f"{rows[-1]['count']:7d}  {result.path}")
    total = sum(r["count"] or 0 for r in rows)
    if as_json:
        print(
            json.dumps(
                {"schema": "apiece/count/1", "model": loaded.card.name, "images": rows, "total": total}
            )
        )
    else:
        print(f"{total:7d}  total of {len(rows) - len(failed)} pictures")
    finish(failed, len(rows))


def results(
    model: Model,
    files: list[Path],
    threshold: float | None,
    *,
    keep_images: bool,
    quiet: bool,
    tiles: TileOptions | None = None,
    store: Path | None = None,
) -> Iterator[Result]:
    """Go through pictures, whole or by tiles, with a progress bar where a person is watching."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    hidden = quiet or (len(files) < 2 and tiles is None) or not console.is_terminal
    with Progress(console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task("segmenting", total=len(files))
        if tiles is not None:

            def show(path: Path, done: int, total: int) -> None:
                progress.update(task, description=f"{path.name}, tiles", completed=done, total=total)

            yield from tiled_results(model, files, threshold, tiles, store, show)
            return
        for result in model.predict(files, threshold=threshold, keep_images=keep_images):
            progress.advance(task)
            yield result


def row(result: Result, error: str | None) -> dict[str, Any]:
    """One picture in the JSON documents."""
    from apiece.predict.write import counts

    found = result.instances if error is None else None
    return {
        "path": str(result.path),
        "count": None if found is None else len(found),
        "by_class": None if found is None else dict(counts(found)),
        "truncated": None if found is None else found.truncated,
        "error": error,
        **tiling_of(result),
    }


def warn(result: Result, model: Model) -> None:
    """Say loudly what the count does not say."""
    assert result.instances is not None
    for remark in remarks(result, model):
        say(remark)
    if model.card.box_masks:
        say(
            f"{result.path}: {model.card.name} predicts boxes only; every mask is its whole box, not an outline."
        )
    if result.empty:
        say(f"{result.path}: {result.empty} candidates had a mask without a pixel and are not counted.")


def finish(failed: list[str], total: int) -> None:
    """Name every picture that failed; exit 2 when there was one."""
    for error in failed:
        say(f"apiece: {error}")
    if failed:
        if total > 1:
            say(f"apiece: {len(failed)} of {total} pictures failed; the others are done.")
        raise typer.Exit(2)


@app.command()
def models(as_json: JsonOption = False) -> None:
    """List the zoo: family, size, licence, where weights come from."""
    import dataclasses

    from apiece.models.published import PUBLISHED
    from apiece.models.zoo import ENTRIES, METHODS, method_of

    if as_json:
        published = [
            {**dataclasses.asdict(entry), "classes": list(entry.classes.names), "method": method_of(entry)}
            for entry in PUBLISHED
        ]
        networks = [dataclasses.asdict(entry) for entry in ENTRIES]
        print(json.dumps({"schema": "apiece/models/1", "models": networks, "published": published}))
        return
    theirs = {entry.name for entry in PUBLISHED}
    width = max(len(entry.name) for entry in (*ENTRIES, *PUBLISHED)) + 2
    for method in METHODS:
        print(method)
        for own in ENTRIES:
            if own.method == method and own.name not in theirs:
                print(
                    f"  {own.name:{width}}{own.parameters:6.1f} M  {own.licence}; {own.weights}; {own.origin}"
                )
        for entry in PUBLISHED:
            if method_of(entry) == method:
                size = f"{entry.megabytes:,.0f} MB" if entry.megabytes else "size not stated"
                check = entry.checksum[:20] if entry.checksum else "checksum not stated"
                print(
                    f"  {entry.name:{width}}{entry.parameters:6.1f} M  {entry.licence}"
                    f"{' (non-commercial)' if entry.forbids else ''}; published by {entry.origin}; {size}; {check}; "
                    f"{entry.stated}"
                )
    print(
        "\nBundled models are in the wheel. `--model NAME` of a published one fetches it from its authors when it is "
        "first used, and says under which licence. The others are networks to train: pip install 'apiece[train]'."
    )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key.sub=value, over the recipe; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/<name> by default.")] = None,
) -> None:
    """Train a network by a recipe."""
    needs_torch("train")
    from apiece.train.run import train as run_training

    run = run_training(recipe, overrides or [], resume, out)
    print(f"{run}: weights.safetensors, card.json, metrics.csv")
    print(f"Next: apiece export {run} --out {run.name}.onnx")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A training run's folder, or its weights.safetensors.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="Quantise convolutions; needs --calibrate.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of training pictures that sets int8 ranges.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of pictures for the proof of equality.")] = None,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="For SAM: two graphs, NAME.encoder.onnx and NAME.decoder.onnx.")
    ] = False,
) -> None:
    """Write ONNX with everything it needs inside; refuses when the graph does not equal its source."""
    needs_torch("export")
    from apiece.deploy.export import export as run_export
    from apiece.deploy.export import export_prompts

    if prompts:
        if int8:
            raise UsageError("--prompts and --int8: the two graphs are float32 only. Leave one out.")
        encoder, decoder = export_prompts(model, out)
        print(f"{encoder}, {decoder}: equal to {model}. Next: apiece.predict.prompt.PromptModel in Python")
        return
    report = run_export(model, out, int8, calibrate, images)
    print(report.to_text())
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB. Next: apiece segment PICTURES --model {out}")


app.command()(evaluate)
app.command()(diagnose)
app.command()(check)
app.command()(convert)
app.command()(formats)
app.command()(split)
app.command()(synthetic)


def needs_torch(command: str) -> None:
    """Refuse in one sentence where the training extra is missing."""
    missing = [n for n in ("torch", "torchvision", "timm", "lightning_fabric", "onnx") if not installed(n)]
    if missing:
        raise UsageError(f"`apiece {command}` needs {missing[0]}. Run: pip install 'apiece[train]'")


def installed(name: str) -> bool:
    """Whether a package can be found, without importing it."""
    from importlib.util import find_spec

    try:
        return find_spec(name) is not None
    except ImportError:
        return False


if __name__ == "__main__":
    main()
