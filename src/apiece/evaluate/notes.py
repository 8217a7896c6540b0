"""Notes: what a reader of the figures must know of the data."""

from __future__ import annotations

from apiece.evaluate.caps import Caps
from apiece.evaluate.counting import Counting
from apiece.evaluate.scenes import Objects, Scenes


def notes_of(scenes: Scenes, counts: Counting, caps: Caps) -> list[str]:
    """Sentences on boxes that are derived, empty counts, thresholds and caps of the producer, and crowds."""
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
    if len(predicted) and predicted.scores.min() > 0.1:
        notes.append(
            f"The lowest score is {predicted.scores.min():.3g}: whatever scored less was left out before "
            "evaluation, so AP and AR are lower than those of all predictions would be."
        )
    if caps.suspected is not None:
        notes.append(
            f"{caps.images_at_suspected} of {caps.images} images have exactly {caps.suspected} predictions and none "
            f"has more: the producer probably keeps at most {caps.suspected} an image, which hides objects in full "
            "images. Raise its limit and predict again."
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


def _images(truth: Objects) -> int:
    return len(set(truth.images[truth.crowd].tolist()))
