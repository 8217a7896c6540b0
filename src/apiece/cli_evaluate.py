"""The commands that measure predictions and say what is wrong with them; `cli` takes them in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from apiece.cli_data import FORMATS_HELP, ImagesOption, JsonOption, printable, refuse_page
from apiece.errors import UsageError

TruthArgument = Annotated[
    Path, typer.Argument(help="Ground truth, in any format that `apiece formats` lists.")
]
PredictionsArgument = Annotated[
    Path,
    typer.Argument(
        help="Predictions: COCO results, any of these formats, or what Ultralytics, Detectron2, MMDetection, "
        "supervision, Roboflow, Cellpose or StarDist write."
    ),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help=f"Of the truth: {FORMATS_HELP}; detected by default.")
]
LayoutOption = Annotated[str | None, typer.Option(help="Layout of the predictions; detected by default.")]
RenameOption = Annotated[
    list[str] | None,
    typer.Option(
        help="PREDICTED=TRUE, a class that is called otherwise; PREDICTED= leaves it out; repeatable."
    ),
]
CommonOption = Annotated[
    bool, typer.Option("--common", help="Compare only the pictures that both sides have.")
]
OneClassOption = Annotated[
    bool, typer.Option("--one-class", help="Take all objects for one class, whatever they are called.")
]


def evaluate(
    truth: TruthArgument,
    predictions: PredictionsArgument,
    threshold: Annotated[
        float, typer.Option("--score", "--threshold", help="Lowest score that counts as an object.")
    ] = 0.5,
    images: ImagesOption = None,
    given: FormatOption = None,
    predictions_format: LayoutOption = None,
    rename: RenameOption = None,
    common: CommonOption = False,
    one_class: OneClassOption = False,
    as_json: JsonOption = False,
) -> None:
    """AP of masks and boxes beside the counting error, each figure with its definition."""
    from apiece.evaluate import evaluate_files

    found = evaluate_files(
        truth,
        predictions,
        threshold=threshold,
        images=images,
        format=given,
        predictions_format=predictions_format,
        rename=renamed(rename or ()),
        common=common,
        one_class=one_class,
    )
    print(json.dumps(found.to_json()) if as_json else printable(found.to_text()))


@contextmanager
def steps(label: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A line on stderr, where a person is watching, that says what is being done."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda step: None
        return
    with console.status(label) as status:
        yield lambda step: status.update(f"{label}: {step}")


def diagnose(
    truth: TruthArgument,
    predictions: PredictionsArgument,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--score", "--threshold", help="Lowest score that counts; chosen on these data by default."
        ),
    ] = None,
    choose: Annotated[
        str, typer.Option(help="By what the threshold is chosen: f1, lrp, bias, mae (of counts) or cost.")
    ] = "f1",
    html: Annotated[
        Path | None, typer.Option(help="Write the report as one HTML file with pictures.")
    ] = None,
    images: ImagesOption = None,
    given: FormatOption = None,
    predictions_format: LayoutOption = None,
    rename: RenameOption = None,
    common: CommonOption = False,
    one_class: OneClassOption = False,
    metadata: Annotated[
        Path | None, typer.Option("--slices", help="CSV of picture and columns such as camera, to slice by.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Column whose values hang together (plate, camera): intervals draw them whole."),
    ] = None,
    live: Annotated[
        Path | None,
        typer.Option(
            help="Predictions on unlabelled pictures: totals with intervals, and whether they drifted."
        ),
    ] = None,
    boxes: Annotated[bool, typer.Option("--boxes", help="Compare boxes instead of masks.")] = False,
    nms: Annotated[
        float | None, typer.Option(help="Suppress candidates whose IoU with a better one is above this.")
    ] = None,
    cap: Annotated[int | None, typer.Option(min=1, help="Most objects of a picture that count.")] = None,
    objective: Annotated[
        str, typer.Option(help="By what options are ranked: mae, gross, ap or cost.")
    ] = "mae",
    cost_miss: Annotated[float, typer.Option(min=0, help="Cost of a missed object.")] = 1.0,
    cost_false: Annotated[float, typer.Option(min=0, help="Cost of a false alarm.")] = 1.0,
    max_miss: Annotated[float, typer.Option(help="Share of misses that a guarantee allows.")] = 0.1,
    max_false: Annotated[float, typer.Option(help="Share of false alarms that a guarantee allows.")] = 0.1,
    level: Annotated[float, typer.Option(help="Level of intervals and guarantees.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(help="Exit 1 if this holds, such as 'count_bias>0.05'; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what fails, what it costs, and what each option would change, from truth and results alone."""
    from apiece.evaluate.diagnosis import Settings, diagnose_files
    from apiece.evaluate.gate import broken, figures_of, parse_condition
    from apiece.evaluate.operating import Suppression

    conditions = [parse_condition(text) for text in fail_if or ()]
    settings = Settings(
        threshold=threshold,
        choose=cast("Any", choose),
        boxes=boxes,
        nms=None if nms is None else Suppression(nms),
        cap=cap,
        group=group,
        objective=cast("Any", objective),
        cost_miss=cost_miss,
        cost_false=cost_false,
        max_miss=max_miss,
        max_false=max_false,
        level=level,
        seed=seed,
    )
    if html is not None:
        refuse_page(html)
    with steps("diagnosing", as_json) as progress:
        found = diagnose_files(
            truth,
            predictions,
            settings,
            images=images,
            format=given,
            predictions_format=predictions_format,
            rename=renamed(rename or ()),
            common=common,
            one_class=one_class,
            metadata=metadata,
            live=live,
            progress=progress,
        )
        if html is not None:
            progress("writing the report")
            found.write_html(html)
    document = found.to_json()
    print(json.dumps(document, allow_nan=False) if as_json else printable(found.to_text()))
    if html is not None and not as_json:
        print(f"\n{html}: the same with pictures")
    failures = broken(conditions, figures_of(document))
    for sentence in failures:
        typer.echo(f"FAILED: {sentence}", err=True)
    if failures:
        raise typer.Exit(1)


def renamed(pairs: list[str] | tuple[()]) -> dict[str, str]:
    """The classes that --rename names, as predicted → true."""
    found: dict[str, str] = {}
    for pair in pairs:
        old, sign, new = pair.partition("=")
        if not sign or not old.strip():
            raise UsageError(
                f"--rename {pair!r}: expected PREDICTED=TRUE, such as automobile=car, or PREDICTED=."
            )
        found[old.strip()] = new.strip()
    return found
