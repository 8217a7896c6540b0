"""Slices: the ledger by class, size, border, crowding, density and everything known of the pictures.

By class, size, border and crowding the objects are sliced; by density and by the columns of metadata, the pictures.
Every true object and every prediction that counts lies in one slice of each division, so that predicted less true is
the signed sum of the ledger's kinds in every slice:

    class      each object by its own class, so that a confused prediction and its object lie in different slices.
    size, border, crowding
               true objects by their own; a prediction that is about a true object (`Ledger.partner`) lies where that
               lies, any other by its own. Entries of several objects may lie in several slices.
    density, metadata
               by the picture.

An entry's gross error lies with its first true object or, without one, its prediction. Size is by the area that COCO
sorts by: small below 32² pixels, medium below 96², large from there. Density: pictures by their number of true
objects, cut at quartiles. An object is crowded if its box, grown on each side by a tenth of its size (√(width ×
height), at least 2 pixels), meets the box of another true object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from apiece.evaluate.bootstrap import FEWEST, Interval, Resamples
from apiece.evaluate.costs import entries_of
from apiece.evaluate.ledger import DUPLICATE, IGNORED, KINDS, LOOSE, MATCHED, NOT_COUNTED, SPURIOUS, Ledger
from apiece.evaluate.operating import at_border
from apiece.evaluate.scenes import Float64, Int64, Key
from apiece.evaluate.subject import Subject

Bool = NDArray[np.bool_]

SIZES = ("small", "medium", "large")
SMALL, LARGE = 32.0**2, 96.0**2
BINS = 4
MOST_VALUES = 20
LEVEL = 0.05
NEAR = 0.1  # of an object's size
NAN = float("nan")
FIGURES = ("recall", "precision", "bias", "gross")
BY_PREDICTION = (DUPLICATE, SPURIOUS)
WIDTH = 2 * len(KINDS) + 2  # tallies of a part
BLOCK = 200  # parts worked on at once, so that memory does not grow with classes

DEFINITIONS = {
    "slices": (
        "The ledger of parts of the objects or pictures. Predictions lie in the slice of the true object that they are "
        "about (by class: of their own class), else in that of their own size, border and crowding."
    ),
    "slices.images": "Pictures of the slice; for slices of objects, those that hold one of its objects.",
    "slices.true": "True objects, without crowd regions.",
    "slices.predicted": "Predictions that count at the operating threshold.",
    "slices.recall": "Share of true objects that are matched or loose: a prediction of their class means it alone.",
    "slices.precision": "Share of the predictions, without ignored ones, that are matched or loose.",
    "slices.bias": "Predicted less true count, a picture of the slice.",
    "slices.gross": "Objects counted too many and too few, in which nothing cancels, a true object.",
    "slices.kinds": "Share of the true objects of each kind; of duplicate and spurious, of the predictions.",
    "slices.size": "small: area below 32² pixels; medium: below 96²; large: from 96². Area as in COCO's APs, APm, APl.",
    "slices.border": "Whether the object's box reaches the picture's edge, to half a pixel.",
    "slices.crowding": (
        "crowded: the object's box, grown on each side by a tenth of √(width × height), at least 2 pixels, meets the "
        "box of another true object."
    ),
    "slices.density": "Pictures by their number of true objects, cut at quartiles.",
    "slices.interval": (
        "Percentiles of bootstrap draws of whole images or groups; none where a slice has objects in fewer than 5."
    ),
    "slices.differs": (
        "Figures in which the slice differs from all images: Student's t of their difference over its bootstrap "
        "standard error, with one degree of freedom less than the slice has images or groups, and p ≤ 0.05 after "
        "Holm's correction over all slices and figures. Bias is compared for slices of pictures only."
    ),
}


@dataclass(frozen=True)
class Slice:
    """The ledger of a part.

    by                what divides: "all", "class", "size", "border", "crowding", "density", or "metadata: COLUMN".
    name              the part.
    images            pictures with an object in it.
    true, predicted   true objects and counted predictions.
    recall, precision, bias, gross   see DEFINITIONS; NaN where nothing can be said.
    kinds             share of each kind.
    p                 of the figures compared with all images, corrected; NaN where that can't be done.
    few               why there are no intervals; None where there are.
    """

    by: str
    name: str
    images: int
    true: int
    predicted: int
    recall: Interval
    precision: Interval
    bias: Interval
    gross: Interval
    kinds: dict[str, Interval]
    p: dict[str, float]
    few: str | None

    @property
    def differs(self) -> tuple[str, ...]:
        """The figures in which it differs from all images."""
        return tuple(name for name, p in self.p.items() if p <= LEVEL)

    def to_json(self) -> dict[str, Any]:
        """Plain values; None where nothing can be said."""
        return {
            "by": self.by,
            "name": self.name,
            "images": self.images,
            "true": self.true,
            "predicted": self.predicted,
            **{figure: getattr(self, figure).to_json() for figure in FIGURES},
            "kinds": {kind: share.to_json() for kind, share in self.kinds.items()},
            "p": {figure: None if np.isnan(p) else p for figure, p in self.p.items()},
            "differs": list(self.differs),
            "few": self.few,
        }


@dataclass(frozen=True)
class Slices:
    """All slices, the whole first.

    notes  sentences on what was left out.
    """

    slices: tuple[Slice, ...]
    notes: tuple[str, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values, in order."""
        return [part.to_json() for part in self.slices]


@dataclass(frozen=True, eq=False)
class Division:
    """How objects are divided.

    truth      int64 (T,), the part of each true object.
    predicted  int64 (P,), the part of each prediction.
    pictures   int64 (images,), the part of each picture; None where objects are divided.
    """

    by: str
    names: tuple[str, ...]
    truth: Int64
    predicted: Int64
    pictures: Int64 | None = None


def slices(subject: Subject, ledger: Ledger, draws: Resamples) -> Slices:
    """The ledger by every division that the subject allows.

    draws  draws of the subject's images.
    """
    found, notes = divisions(subject, ledger)
    everything = np.zeros(len(subject.scenes.image_ids), np.int64)
    whole = _pictures(ledger, "all", ("all images",), everything)
    return Slices(_measured(ledger, draws, [whole, *found]), tuple(notes))


def divisions(subject: Subject, ledger: Ledger) -> tuple[list[Division], list[str]]:
    """The divisions, and a sentence for each column of metadata that gives none."""
    scenes, kind = subject.scenes, ledger.overlaps.kind
    truth, predicted = scenes.truth, scenes.predicted
    classes = tuple(name for _, name in scenes.classes)

    def paired(by: str, names: tuple[str, ...], of_truth: Int64, own: Int64) -> Division:
        partner = ledger.partner
        return Division(by, names, of_truth, np.where(partner >= 0, np.append(of_truth, -1)[partner], own))

    def sized(areas: Float64) -> Int64:
        return np.searchsorted([SMALL, LARGE], areas, side="right").astype(np.int64)

    edges = [at_border(ledger.overlaps, side).astype(np.int64) for side in ("truth", "predicted")]
    close = crowded(ledger)
    found = [
        Division("class", classes, truth.labels, predicted.labels),
        paired("size", SIZES, sized(truth.areas(kind)), sized(predicted.areas(kind))),
        paired("border", ("inside", "at the border"), edges[0], edges[1]),
        paired("crowding", ("apart", "crowded"), close[0], close[1]),
    ]
    real = truth.images[~truth.crowd]
    number = np.bincount(real, minlength=len(scenes.image_ids)).astype(np.float64)
    of, names = _binned(number)
    if len(names) > 1:
        named = tuple(f"{name} object{'' if name == '1' else 's'}" for name in names)
        found.append(_pictures(ledger, "density", named, of))
    notes = []
    for column, values in subject.metadata.items():
        divided = _column(values)
        if isinstance(divided, str):
            notes.append(f"Metadata column {column!r} is not sliced by: {divided}")
        else:
            found.append(_pictures(ledger, f"metadata: {column}", divided[1], divided[0]))
    return found, notes


def crowded(ledger: Ledger) -> tuple[Int64, Int64]:
    """Whether (1 or 0) each true object, int64 (T,), and each prediction, (P,), nearly touches another true object.

    Boxes are swept from left to right, picture by picture, so that only those whose columns meet are compared.
    """
    scenes = ledger.overlaps.scenes
    truth, predicted = scenes.truth, scenes.predicted
    others = np.flatnonzero((ledger.predicted_kind != NOT_COUNTED) & (ledger.partner < 0))
    boxes = np.concatenate([truth.boxes, predicted.boxes[others]])
    images = np.concatenate([truth.images, predicted.images[others]])
    real = np.append(~truth.crowd, np.zeros(len(others), np.bool_))
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    reach = np.maximum(2.0, NEAR * np.sqrt(np.maximum(boxes[:, 2] * boxes[:, 3], 0)))
    close = np.zeros(len(boxes), np.bool_)
    if len(boxes):
        order = np.lexsort((low[:, 0], images))
        widest = np.zeros(len(scenes.image_ids))
        np.maximum.at(widest, images, reach)
        # Pictures side by side, far enough apart, make one line to sweep.
        span = float(high[:, 0].max() - low[:, 0].min() + 2 * reach.max() + 1)
        left = images * span + low[:, 0]
        right = np.searchsorted(
            left[order], (images * span + high[:, 0] + widest[images])[order], side="right"
        )
        ahead = np.maximum(right - np.arange(len(order)) - 1, 0)
        for begin, end in _blocks(ahead, 5_000_000):
            number = ahead[begin:end]
            a = np.repeat(np.arange(begin, end), number)
            b = a + 1 + np.arange(len(a)) - np.repeat(np.cumsum(number) - number, number)
            a, b = order[a], order[b]
            apart = np.maximum(low[b] - high[a], low[a] - high[b]).max(axis=1)
            same = images[a] == images[b]
            close[a[same & real[b] & (apart <= reach[a])]] = True
            close[b[same & real[a] & (apart <= reach[b])]] = True
    of_predicted = np.zeros(len(predicted), np.int64)
    of_predicted[others] = close[len(truth) :]
    return close[: len(truth)].astype(np.int64), of_predicted


def _blocks(number: Int64, most: int) -> list[tuple[int, int]]:
    """Ranges whose numbers sum to about `most`."""
    part = np.cumsum(number) // most
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(number)], strict=True))


def _pictures(ledger: Ledger, by: str, names: tuple[str, ...], of: Int64) -> Division:
    scenes = ledger.overlaps.scenes
    return Division(by, names, of[scenes.truth.images], of[scenes.predicted.images], of)


def _binned(values: Float64) -> tuple[Int64, tuple[str, ...]]:
    """The quantile bin of each value, and the bins' names; -1 for NaN. Equal values share a bin."""
    known = ~np.isnan(values)
    cuts = np.unique(np.quantile(values[known], np.arange(1, BINS) / BINS, method="lower"))
    bins = np.where(known, np.searchsorted(cuts, values, side="left"), -1)
    kept = np.unique(bins[known])
    of = np.where(known, np.searchsorted(kept, bins), -1).astype(np.int64)
    names = []
    for i in range(len(kept)):
        low, high = (float(f"{x:g}") + 0.0 for x in (values[of == i].min(), values[of == i].max()))  # no -0
        names.append(f"{low:g}" if low == high else f"{low:g}–{high:g}")
    return of, tuple(names)


def _column(values: Sequence[str]) -> tuple[Int64, tuple[str, ...]] | str:
    """The part of each picture and the parts' names; or why there is none."""
    distinct = sorted({value for value in values if value})
    if len(distinct) < 2:
        return f"it has {len(distinct)} distinct values; at least 2 are needed."
    numbers = _numbers(values)
    if len(distinct) > MOST_VALUES:
        if numbers is None:
            return f"it has {len(distinct)} distinct values that are not numbers; at most {MOST_VALUES} are sliced by."
        of, names = _binned(numbers)
    else:
        if numbers is not None:
            distinct.sort(key=float)
        place = {value: i for i, value in enumerate(distinct)}
        of, names = np.array([place.get(value, -1) for value in values], np.int64), tuple(distinct)
    if (of < 0).any():
        of, names = np.where(of < 0, len(names), of), (*names, "(unknown)")
    return of, names


def _numbers(values: Sequence[str]) -> Float64 | None:
    """The values as numbers, NaN for ""; None if one isn't a finite number."""
    try:
        numbers = np.array([float(value) if value else NAN for value in values])
    except ValueError:
        return None
    given = np.array([bool(value) for value in values])
    return numbers if np.isfinite(numbers[given]).all() else None


def _measured(ledger: Ledger, draws: Resamples, found: Sequence[Division]) -> tuple[Slice, ...]:
    """Every part's figures, but for parts in which there is nothing."""
    table = _table(ledger, found)
    parts = [(division, name) for division in found for name in division.names]
    weights = np.vstack([np.ones(table.shape[1]), draws.weights])
    by_image = np.ascontiguousarray(weights.T)
    units = _units(table, draws.unit, len(parts))
    figures = np.empty((len(parts), len(FIGURES), len(weights)))
    made = []
    for begin in range(0, len(parts), BLOCK):
        end = min(begin + BLOCK, len(parts))
        sums = (table[begin * WIDTH : end * WIDTH] @ by_image).reshape(end - begin, WIDTH, len(weights))
        figures[begin:end], shares = _figures(sums)
        for place in range(begin, end):
            division, name = parts[place]
            made.append(
                _slice(
                    draws,
                    division.by,
                    name,
                    sums[place - begin, :, 0],
                    figures[place],
                    shares[place - begin],
                    int(units[place]),
                )
            )
    compared = np.array([[d.pictures is not None or f != "bias" for f in FIGURES] for d, _ in parts])
    compared[0] = False
    p = _different(figures, units, compared)
    return tuple(
        replace(part, p=dict(zip(FIGURES, row.tolist(), strict=True)))
        for part, row in zip(made, p, strict=True)
        if part.images
    )


def _table(ledger: Ledger, found: Sequence[Division]) -> csr_array:
    """Tallies (parts × WIDTH, images): true objects by kind, predictions by kind, gross error, pictures."""
    scenes = ledger.overlaps.scenes
    truth, predicted = scenes.truth, scenes.predicted
    images, kinds = len(scenes.image_ids), len(KINDS)
    entries = entries_of(ledger)
    counted = np.flatnonzero(ledger.predicted_kind != NOT_COUNTED)
    real = ~truth.crowd
    true_kind = ledger.truth_kind.astype(np.int64)
    found_kind = ledger.predicted_kind[counted].astype(np.int64)
    rows, columns, values = [], [], []
    offset = 0

    def add(part: Int64, what: Int64 | int, image: Int64, value: Int64 | None = None) -> None:
        rows.append((offset + part) * WIDTH + what)
        columns.append(image)
        values.append(np.ones(len(part)) if value is None else value.astype(np.float64))

    for division in found:
        true_part, found_part = division.truth, division.predicted[counted]
        of_entry = np.zeros(len(entries.kind), np.int64)
        # Written backwards, so that the first object of an entry decides; truth before predictions.
        of_entry[ledger.predicted_entry[counted][::-1]] = found_part[::-1]
        of_entry[ledger.truth_entry[::-1]] = true_part[::-1]
        add(true_part, true_kind, truth.images)
        add(found_part, found_kind + kinds, predicted.images[counted])
        add(of_entry, 2 * kinds, entries.image, np.abs(entries.surplus))
        part = division.pictures
        image = np.arange(images)
        if part is None:
            held = np.concatenate([true_part[real], found_part]) * images
            held += np.concatenate([truth.images[real], predicted.images[counted]])
            part, image = np.divmod(np.unique(held), images)
        add(part, WIDTH - 1, image)
        offset += len(division.names)
    return csr_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(offset * WIDTH, images),
    )


def _figures(sums: Float64) -> tuple[Float64, Float64]:
    """From sums (S, tallies, 1 + B): FIGURES (S, 4, 1 + B), and the share of each kind (S, kinds, 1 + B)."""
    kinds = len(KINDS)
    of_truth, of_predicted = sums[:, :kinds], sums[:, kinds : 2 * kinds]
    gross, pictures = sums[:, 2 * kinds], sums[:, 2 * kinds + 1]
    true = of_truth.sum(axis=1) - of_truth[:, IGNORED]
    predicted = of_predicted.sum(axis=1)
    judged = predicted - of_predicted[:, IGNORED]
    figures = np.stack(
        [
            _ratio(of_truth[:, MATCHED] + of_truth[:, LOOSE], true),
            _ratio(of_predicted[:, MATCHED] + of_predicted[:, LOOSE], judged),
            _ratio(predicted - true, pictures),
            _ratio(gross, true),
        ],
        axis=1,
    )
    shares = _ratio(of_truth, true[:, None])
    for kind in (*BY_PREDICTION, IGNORED):
        shares[:, kind] = _ratio(of_predicted[:, kind], predicted)
    return figures, shares


def _ratio(part: Float64, whole: Float64) -> Float64:
    """part / whole; NaN where whole is 0."""
    there = whole > 0
    ratio: Float64 = np.where(there, part / np.where(there, whole, 1), np.nan)
    return ratio


def _units(table: csr_array, unit: Int64, parts: int) -> Int64:
    """In how many units each part has a picture."""
    pictures = table[np.arange(parts) * WIDTH + WIDTH - 1].tocoo()
    pairs = np.unique(pictures.coords[0].astype(np.int64) * len(unit) + unit[pictures.coords[1]])
    return np.bincount(pairs // len(unit), minlength=parts).astype(np.int64)


def _different(figures: Float64, units: Int64, compared: Bool) -> Float64:
    """Corrected p of each part's figures (S, 4) being those of the whole, which comes first.

    source  Student's t from a bootstrap standard error: Efron and Tibshirani 1993, chapter 12. Holm, Scand. J.
            Statist. 6 (1979) 65. A bootstrap's own p is at least 1 / draws, which no correction over 300 leaves small.
    """
    from scipy.special import stdtr

    difference = figures - figures[:1]
    drawn = difference[:, :, 1:]
    known = ~np.isnan(drawn)
    number = known.sum(axis=2)
    mean = np.where(known, drawn, 0).sum(axis=2) / np.maximum(number, 1)
    square = np.where(known, drawn - mean[:, :, None], 0) ** 2
    error = np.sqrt(square.sum(axis=2) / np.maximum(number - 1, 1))
    # Where every draw says the same (all found, of few), its own spread is not known.
    varies = np.nan_to_num(np.ptp(np.where(known, figures[:, :, 1:], figures[:, :, :1]), axis=2)) > 0
    usable = compared & (units >= FEWEST)[:, None] & varies & (error > 0) & ~np.isnan(difference[:, :, 0])
    statistic = np.where(usable, np.abs(difference[:, :, 0]), 0) / np.where(usable, error, 1)
    raw = 2 * stdtr(np.maximum(units - 1, 1)[:, None].astype(np.float64), -statistic)
    corrected = np.full(raw.shape, np.nan)
    corrected[usable] = holm(raw[usable])
    return corrected


def holm(p: Float64) -> Float64:
    """Holm's step-down correction of M p-values, float64 (M,); at most 1."""
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(raised, 1)
    return corrected


def _slice(
    draws: Resamples,
    by: str,
    name: str,
    tallies: Float64,
    figures: Float64,
    shares: Float64,
    units: int,
) -> Slice:
    kinds = len(KINDS)
    few = None
    if units < FEWEST:
        few = f"objects in {units} images or groups; intervals need at least {FEWEST}."

    def interval(row: Float64) -> Interval:
        value = float(row[0])
        return Interval(value, NAN, NAN) if np.isnan(value) else draws.interval(value, row[1:], units)

    true = tallies[:kinds].sum() - tallies[IGNORED]
    return Slice(
        by,
        name,
        images=int(tallies[-1]),
        true=int(true),
        predicted=int(tallies[kinds : 2 * kinds].sum()),
        recall=interval(figures[0]),
        precision=interval(figures[1]),
        bias=interval(figures[2]),
        gross=interval(figures[3]),
        kinds={kind: interval(shares[i]) for i, kind in enumerate(KINDS)},
        p=dict.fromkeys(FIGURES, NAN),
        few=few,
    )


@dataclass(frozen=True)
class ImageErrors:
    """A picture's errors.

    place      in `Scenes.image_ids`; `id` is that id.
    too_many   objects counted too many; too_few likewise.
    kinds      (true objects, predictions) of each kind that is there.
    """

    place: int
    id: Key
    true: int
    predicted: int
    too_many: int
    too_few: int
    kinds: dict[str, tuple[int, int]]

    @property
    def gross(self) -> int:
        """Objects counted too many and too few."""
        return self.too_many + self.too_few

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "place": self.place,
            "id": self.id,
            "true": self.true,
            "predicted": self.predicted,
            "too_many": self.too_many,
            "too_few": self.too_few,
            "gross": self.gross,
            "kinds": {kind: list(pair) for kind, pair in self.kinds.items()},
        }


def worst_images(ledger: Ledger, n: int) -> list[ImageErrors]:
    """The n pictures of largest gross error, largest first; then by how many failures, then in order of ids.

    Pictures without any failure are not named.
    """
    scenes = ledger.overlaps.scenes
    errors = ledger.errors
    true, found = (ledger.table(side).sum(axis=1) for side in ("truth", "prediction"))
    gross = errors.sum(axis=1)
    good = [MATCHED, IGNORED]
    failures = (true + found).sum(axis=1) - (true + found)[:, good].sum(axis=1)
    order = np.lexsort((np.arange(len(gross)), -failures, -gross))[: max(n, 0)]
    return [
        ImageErrors(
            i,
            scenes.image_ids[i],
            int(true[i].sum() - true[i, IGNORED]),
            int(found[i].sum()),
            int(errors[i, 0]),
            int(errors[i, 1]),
            {
                kind: (int(true[i, k]), int(found[i, k]))
                for k, kind in enumerate(KINDS)
                if true[i, k] or found[i, k]
            },
        )
        for i in order.tolist()
        if failures[i]
    ]
