"""Notes: what a reader of the figures must know of the data."""

from __future__ import annotations

import numpy as np

from apiece.evaluate.caps import Caps
from apiece.evaluate.counting import Counting
from apiece.evaluate.scenes import Objects, Scenes

PAST = 0.1  # of a side that a box may reach beyond the picture
ODD = 0.1  # share of such boxes from which they are no accident


def notes_of(scenes: Scenes, counts: Counting, caps: Caps) -> list[str]:
    """Sentences on boxes that are derived or odd, empty counts, scores, caps of the producer, and crowds."""
    notes: list[str] = []
    truth, predicted = scenes.truth, scenes.predicted
    for side, objects in (("true", truth), ("predicted", predicted)):
        if objects.derived_boxes:
            notes.append(
                f"{objects.derived_boxes} of {len(objects)} {side} objects have no box of their own (`bbox`); "
                "bbox figures take the box around the mask."
            )
    if not len(predicted):
        notes.append("There are no predictions.")
    elif not counts.total.predicted:
        notes.append(
            f"No prediction reaches the score threshold {counts.threshold:g}, so every count is 0; "
            f"the highest score is {predicted.scores.max():.3g}."
        )
    # Where all scores are the same they stand for none, and nothing was left out by them.
    if len(predicted) and 0.1 < predicted.scores.min() < predicted.scores.max():
        notes.append(
            f"The lowest score is {predicted.scores.min():.3g}: whatever scored less was left out before "
            "evaluation, so AP and AR are lower than those of all predictions would be."
        )
    if len(predicted) and (predicted.scores.min() < 0 or predicted.scores.max() > 1):
        notes.append(
            f"Scores go from {predicted.scores.min():g} to {predicted.scores.max():g}; expected 0 to 1, as calibration "
            "and thresholds with a guarantee take them. Remedy: divide percentages by 100."
        )
    notes += _odd_boxes(scenes)
    if caps.suspected is not None:
        held = np.bincount(predicted.images, minlength=caps.images)
        full = ((held == caps.suspected) & (counts.predicted.sum(axis=1) == held)).any()
        notes.append(
            f"{caps.images_at_suspected} of {caps.images} images have exactly {caps.suspected} predictions and none "
            f"has more: the producer probably keeps at most {caps.suspected} an image"
            + (
                ", which hides objects in full images. Raise its limit and predict again."
                if full
                else f". All of these images have predictions below {counts.threshold:g}, so that what was cut is "
                "missing in AP, not in counts."
            )
        )
    if caps.truncated:
        notes.append(
            f"The model's own cap cut the predictions of {caps.truncated} of {caps.images} images: "
            "their counts are lower bounds."
        )
    if truth.crowd.any():
        notes.append(
            f"{int(truth.crowd.sum())} crowd regions in {_images(truth)} images are not counted as true objects, but "
            "predictions inside them are counted, so counts on those images may seem too high."
        )
    if truth.no_effect:
        notes.append(
            f"{truth.no_effect} true objects carry `ignore` without `iscrowd`; as in COCO's evaluation this has no "
            "effect: they must be found like any other."
        )
    return notes


def _odd_boxes(scenes: Scenes) -> list[str]:
    """Sentences on predicted boxes that look as if they were written in another way than x, y, width, height."""
    predicted = scenes.predicted
    if not len(predicted):
        return []
    low, high = predicted.boxes[:, :2], predicted.boxes[:, :2] + predicted.boxes[:, 2:]
    sides = np.array([(np.inf, np.inf) if size is None else size[::-1] for size in scenes.sizes], np.float64)
    past = float((high > (1 + PAST) * sides[predicted.images]).any(axis=1).mean())
    notes = []
    if past >= ODD:
        notes.append(
            f"{100 * past:.0f} % of the predicted boxes reach beyond their picture by more than {100 * PAST:.0f} % of "
            "a side. Remedy: check that boxes are x, y, width, height in pixels of these pictures, not two corners."
        )
    if low.min() >= 0 and high.max() <= 2:
        notes.append(
            f"All predicted boxes lie in the first {high.max():.3g} pixels of their pictures. Remedy: multiply boxes "
            "that are shares of the sides by width and height."
        )
    return notes


def _images(truth: Objects) -> int:
    return len(set(truth.images[truth.crowd].tolist()))
