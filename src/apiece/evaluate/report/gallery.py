"""Pictures: entries of each kind, suspected label errors, and the worst pictures, with filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array

from apiece.evaluate.ledger import IGNORED, KINDS, MATCHED, MISSED, NOT_COUNTED, Ledger
from apiece.evaluate.operating import Reason
from apiece.evaluate.report.choosing import Chosen, choose, entries_of
from apiece.evaluate.report.counts import pictures_table
from apiece.evaluate.report.crops import Drawn, Wish, draw
from apiece.evaluate.report.figure import LEGEND, figure
from apiece.evaluate.report.markup import absent, safe, section
from apiece.evaluate.report.reading import number, numbers, part, rows, texts, whole, words
from apiece.evaluate.scenes import Int64, Objects
from apiece.evaluate.subject import Subject

LABEL_ERRORS = 4  # pictures of each list
PICTURES = 6  # worst ones
OUTLINES = 400  # of a side on a whole picture
TOLD = {
    Reason.SMALL: "smaller than counted",
    Reason.BORDER: "dropped at the border",
    Reason.BELOW: "below the threshold",
    Reason.SUPPRESSED: "suppressed by another",
    Reason.CUT: "cut by the cap",
}
LISTS = (
    ("missing", "Likely missing labels", "Predictions that look like objects which were never labelled."),
    ("wrong_class", "Likely wrong classes", "Objects whose label the predictions contradict."),
    ("poor_outline", "Likely poor outlines", "Objects whose outline the predictions contradict."),
    ("doubtful", "Doubtful labels", "Labels that no prediction, however weak, confirms."),
)


@dataclass(frozen=True)
class Entry:
    """An entry that is shown: what is drawn, and what is said of it."""

    wish: Wish
    caption: str
    classes: frozenset[int]
    random: bool


class Gallery:
    """The pictures of a page: chosen and drawn once, then put where they belong."""

    def __init__(self, document: Mapping[str, Any], subject: Subject, ledger: Ledger) -> None:
        """Chooses and draws, picture by picture."""
        self.document, self.subject, self.ledger = document, subject, ledger
        scenes, overlaps = subject.scenes, ledger.overlaps
        shape = len(scenes.truth), len(scenes.predicted)
        across = overlaps.across
        self._iou = coo_array((overlaps.iou, (across.first, across.second)), shape=shape).tocsr()
        self.chosen = choose(entries_of(ledger))
        self._entries = {
            number: self._entry(number, one.kind, number in one.random)
            for one in self.chosen
            for number in (*one.worst, *one.random)
        }
        self._labels = {key: self._label_errors(key) for key, _, _ in LISTS}
        self._worst = self._worst_pictures()
        wishes = [entry.wish for entry in self._entries.values()]
        wishes += [wish for shown in self._labels.values() for wish, _ in shown]
        wishes += [wish for wish, _ in self._worst]
        counted = ledger.predicted_kind != NOT_COUNTED
        self.drawn: Drawn = draw(subject, wishes, counted, overlaps.kind)

    def by_kind(self, meanings: Mapping[str, str]) -> str:
        """Pictures of each kind, with filters by kind, class and picture name."""
        if not self.chosen:
            return section(
                "pictures", "Pictures of each kind", "<p>There are no objects and no predictions.</p>"
            )
        groups = "".join(self._group(one, meanings) for one in self.chosen)
        notes = "".join(f"<li>{safe(note)}</li>" for note in self.drawn.notes)
        told = f'<ul class="notes">{notes}</ul>' if notes else ""
        return section(
            "pictures",
            "Pictures of each kind",
            f'{self._filters()}{LEGEND}{told}<div id="gallery">{groups}</div>',
        )

    def label_errors(self) -> str:
        """Suspected errors of the labels, as pictures."""
        given = part(self.document, "label_errors")
        if not given:
            reason = words(part(self.document, "reasons").get("label_errors"))
            return section("label-errors", "Label errors", absent(reason)) if reason else ""
        groups = []
        for key, title, meaning in LISTS:
            total = max(len(rows(given.get(key))), whole(part(given, "totals").get(key)))
            if not self._labels[key]:
                continue
            figures = "".join(
                self._figure(wish, caption, 'class="crop"', what=title) for wish, caption in self._labels[key]
            )
            shown = len(self._labels[key])
            told = (
                f'<span class="dim">Shown of {total:,}: the {shown} most suspicious.</span>'
                if total > shown
                else ""
            )
            groups.append(
                f'<h3>{title}: {total:,}</h3><p>{meaning} {told}</p><div class="grid">{figures}</div>'
            )
        if not groups:
            groups = ["<p>No label is suspected.</p>"]
        groups += [f'<p class="dim">{safe(note)}</p>' for note in texts(given.get("notes"))]
        lead = "Where predictions and labels disagree, the label may be wrong. Look before you change it."
        return section("label-errors", "Label errors", "".join(groups), lead)

    def worst_pictures(self) -> str:
        """The pictures furthest off, and a table of more."""
        listed = pictures_table(self.document)
        if not listed:
            return ""
        figures = "".join(
            self._figure(wish, caption, 'class="crop whole"', what="whole picture")
            for wish, caption in self._worst
        )
        lead = (
            "By gross error: objects counted too many plus objects counted too few, entry by entry. Outlined are "
            "objects in error only."
        )
        drawn = f'<div class="grid large">{figures}</div>' if figures else ""
        return section("worst", "Worst pictures", drawn + listed, lead)

    # ---- entries

    def _entry(self, number: int, kind: int, random: bool) -> Entry:
        truth, predicted = self.ledger.members(number)
        scenes = self.subject.scenes
        shown_truth, candidates = truth.tolist(), []
        if KINDS[kind] == "duplicate":
            shown_truth = [i for i in self.ledger.partner[predicted].tolist() if i >= 0]
        if kind == MISSED:
            candidates = [self._candidate(i) for i in truth.tolist()]
            candidates = [i for i in candidates if i >= 0]
        image = int(scenes.truth.images[truth[0]] if len(truth) else scenes.predicted.images[predicted[0]])
        wish = Wish(
            f"entry-{number}", image, tuple(shown_truth), tuple(predicted.tolist()), tuple(candidates)
        )
        labels = {int(scenes.truth.labels[i]) for i in shown_truth}
        labels |= {int(scenes.predicted.labels[i]) for i in predicted.tolist()}
        return Entry(
            wish, self._told(kind, shown_truth, predicted.tolist(), candidates), frozenset(labels), random
        )

    def _candidate(self, truth: int) -> int:
        """The prediction that does not count and fits this object best, of its class; -1 for none."""
        start, end = self._iou.indptr[truth], self._iou.indptr[truth + 1]
        found, iou = self._iou.indices[start:end], self._iou.data[start:end]
        scenes = self.subject.scenes
        fits = (self.ledger.predicted_kind[found] == NOT_COUNTED) & (iou >= self.ledger.rules.near)
        fits &= scenes.predicted.labels[found] == scenes.truth.labels[truth]
        return int(found[fits][np.argmax(iou[fits])]) if fits.any() else -1

    def _told(self, kind: int, truth: list[int], predicted: list[int], candidates: list[int]) -> str:
        """What an entry is, in words: classes, scores, IoU."""
        scenes = self.subject.scenes
        true = self._objects(scenes.truth, truth)
        if kind == MISSED:
            if not candidates:
                return f"{true}: no candidate of its class with IoU ≥ {self.ledger.rules.near:g}"
            i = candidates[0]
            why = TOLD.get(Reason(int(self.ledger.selection.reason[i])), "not counted")
            return f"{true}: best candidate {why}{self._score(i)}, IoU {self._iou[truth[0], i]:.2f}"
        if len(predicted) == 1:
            i = predicted[0]
            found = f"{self._class(scenes.predicted, i)}{self._score(i)}"
            if KINDS[kind] == "spurious":
                return f"predicted {found}: no object behind it"
            if KINDS[kind] == "duplicate" and truth:
                return f"predicted {found} again for {true}, IoU {self._iou[truth[0], i]:.2f}"
            if len(truth) == 1:
                return f"{true}, predicted {found}, IoU {self._iou[truth[0], i]:.2f}"
            return f"{true} under one prediction {found}" if truth else f"predicted {found}"
        if not predicted:
            return true
        told = f"{len(predicted)} predictions"
        if self.subject.scored:
            scores = sorted((float(self.ledger.selection.scores[i]) for i in predicted), reverse=True)
            told += (
                f" ({', '.join(f'{score:.2f}' for score in scores[:4])}{', …' if len(scores) > 4 else ''})"
            )
        best = max((float(self._iou[g, p]) for g in truth for p in predicted), default=0.0)
        return f"{true} in {told}, best IoU {best:.2f}"

    def _objects(self, objects: Objects, places: list[int]) -> str:
        if len(places) == 1:
            return self._class(objects, places[0])
        classes = {self._class(objects, i) for i in places}
        return f"{len(places)} × {classes.pop()}" if len(classes) == 1 else f"{len(places)} objects"

    def _class(self, objects: Objects, place: int) -> str:
        return str(self.subject.scenes.classes[int(objects.labels[place])][1])

    def _score(self, predicted: int) -> str:
        return f" {float(self.ledger.selection.scores[predicted]):.2f}" if self.subject.scored else ""

    # ---- label errors and worst pictures

    def _label_errors(self, key: str) -> list[tuple[Wish, str]]:
        scenes = self.subject.scenes
        shown = []
        for rank, one in enumerate(rows(part(self.document, "label_errors").get(key))[:LABEL_ERRORS]):
            truth, predicted = (
                _place(one.get("truth"), len(scenes.truth)),
                _place(one.get("prediction"), len(scenes.predicted)),
            )
            given = [end for end in numbers(one.get("box")) if end is not None]
            box = (given[0], given[1], given[2], given[3]) if len(given) == 4 else None
            image = self._image(one, truth, predicted)
            if image is None or (box is None and not truth and not predicted):
                continue
            score = number(one.get("score"))
            told, other = words(one.get("class")), words(one.get("predicted_class"))
            told += f", predicted {other}" if other and other != told else ""
            told += f" {score:.2f}" if score is not None else ""
            why = words(one.get("why"))
            wish = Wish(f"label-{key}-{rank}", image, truth, predicted, box=box)
            shown.append((wish, f"{told}: {why}" if why else told))
        return shown

    def _image(
        self, one: Mapping[str, Any], truth: tuple[int, ...], predicted: tuple[int, ...]
    ) -> int | None:
        scenes = self.subject.scenes
        if truth:
            return int(scenes.truth.images[truth[0]])
        if predicted:
            return int(scenes.predicted.images[predicted[0]])
        given = words(one.get("name"))
        return self.subject.names.index(given) if given in self.subject.names else None

    def _worst_pictures(self) -> list[tuple[Wish, str]]:
        errors = self.ledger.errors
        gross = errors.sum(axis=1)
        ranked = np.argsort(-gross, kind="stable")[:PICTURES]
        scenes = self.subject.scenes
        bad_truth = ~np.isin(self.ledger.truth_kind, (MATCHED, IGNORED))
        bad_predicted = ~np.isin(self.ledger.predicted_kind, (MATCHED, IGNORED, NOT_COUNTED))
        shown = []
        for image in ranked[gross[ranked] > 0].tolist():
            truth = np.flatnonzero((scenes.truth.images == image) & bad_truth)
            predicted = np.flatnonzero((scenes.predicted.images == image) & bad_predicted)
            more, fewer = errors[image].tolist()
            told = f"{more:,} too many, {fewer:,} too few"
            if max(len(truth), len(predicted)) > OUTLINES:
                told += f"; the {OUTLINES} largest of each side are outlined"
                truth, predicted = (
                    self._largest(scenes.truth, truth),
                    self._largest(scenes.predicted, predicted),
                )
            wish = Wish(f"worst-{image}", image, tuple(truth.tolist()), tuple(predicted.tolist()), whole=True)
            shown.append((wish, told))
        return shown

    def _largest(self, objects: Objects, places: Int64) -> Int64:
        sizes = objects.boxes[places, 2] * objects.boxes[places, 3]
        return np.sort(places[np.argsort(-sizes, kind="stable")][:OUTLINES])

    # ---- markup

    def _filters(self) -> str:
        kinds = "".join(
            f'<button type="button" class="chip" data-kind="{KINDS[one.kind]}" aria-pressed="false">'
            f'{KINDS[one.kind]} <span class="dim">{one.entries:,}</span></button>'
            for one in self.chosen
        )
        present = sorted(set().union(*(entry.classes for entry in self._entries.values())))
        options = "".join(
            f'<option value="{label}">{safe(str(self.subject.scenes.classes[label][1]))}</option>'
            for label in present
        )
        total = len(self._entries)
        return (
            '<form class="filters scripted" id="filters" aria-label="Filter pictures">'
            '<div class="field" role="group" aria-label="Kind"><span class="label" aria-hidden="true">Kind</span>'
            f'<div class="chips">{kinds}</div></div>'
            f'<div class="fields"><div class="field"{"" if len(present) > 1 else " hidden"}>'
            '<label for="filter-class">Class</label>'
            f'<select id="filter-class"><option value="">all classes</option>{options}</select></div>'
            '<div class="field grow"><label for="filter-name">Picture name contains</label>'
            '<input id="filter-name" type="search" autocomplete="off" spellcheck="false"></div>'
            '<button type="button" class="plain" id="filter-reset">Show all</button></div>'
            '<div class="fields toggles"><label><input type="checkbox" id="show-truth" checked> truth outlines</label>'
            '<label><input type="checkbox" id="show-prediction" checked> prediction outlines</label>'
            '<label><input type="checkbox" id="show-near" checked> objects near by</label>'
            '<label><input type="checkbox" id="show-large"> larger pictures</label></div>'
            f'<p id="filter-status" role="status" aria-live="polite">All {total} pictures are shown.</p></form>'
        )

    def _group(self, one: Chosen, meanings: Mapping[str, str]) -> str:
        kind = KINDS[one.kind]
        figures = "".join(self._entry_figure(number, kind) for number in (*one.worst, *one.random))
        unit = "entry" if one.entries == 1 else "entries"
        return (
            f'<div class="group" id="kind-{kind}" data-kind="{kind}" role="group" aria-labelledby="kind-{kind}-title">'
            f'<h3 id="kind-{kind}-title">{kind} <span class="dim">{one.entries:,} {unit}</span></h3>'
            f'<p>{safe(meanings.get(kind, ""))} <span class="dim">{safe(one.told)}</span></p>'
            f'<div class="grid">{figures}</div></div>'
        )

    def _entry_figure(self, entry: int, kind: str) -> str:
        shown = self._entries[entry]
        image = self.subject.names[shown.wish.image]
        classes = " ".join(str(label) for label in sorted(shown.classes))
        attributes = (
            f'class="crop" data-kind="{kind}" data-classes="{classes}" data-name="{safe(image.lower())}"'
        )
        tag = "random" if shown.random else ""
        return self._figure(shown.wish, shown.caption, attributes, what=kind, tag=tag)

    def _figure(self, wish: Wish, caption: str, attributes: str, what: str = "", tag: str = "") -> str:
        image = self.subject.names[wish.image]
        return figure(self.drawn.crops[wish.key], image, caption, attributes=attributes, what=what, tag=tag)


def _place(given: Any, count: int) -> tuple[int, ...]:
    """Places of objects from what a document gives: one, several or none."""
    places = given if isinstance(given, list | tuple) else [given]
    found = [whole(one) for one in places if number(one) is not None]
    return tuple(i for i in found if 0 <= i < count)
