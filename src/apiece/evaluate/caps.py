"""Caps: what limits on the number of detections hid, COCO's own and the one the predictions came with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apiece.evaluate.average_precision import COCO_CAP
from apiece.evaluate.scenes import Int64, Scenes

SMALLEST_SUSPECT = 10
USUAL_CAPS = frozenset({20, 50, 100, 150, 200, 250, 300, 500, 1000, 1500, 2000, 3000})


@dataclass(frozen=True)
class Caps:
    """COCO scores the 100 highest-scoring predictions of each class in each image, and no others.

    coco                  that cap, 100; the figures AP … ARl are under it.
    uncapped              the cap of AP_uncapped and AR_uncapped: the fullest image and class, at least 100.
    images                how many images are evaluated.
    images_cut            images in which COCO's cap left predictions out.
    predictions_cut       predictions that it left out.
    images_beyond         images with more than 100 true objects of one class.
    truths_beyond         true objects beyond the 100th, which cannot be found under COCO's cap.
    suspected             N where the predictions look cut at N an image by what made them; else None.
    images_at_suspected   images with exactly N predictions.
    truncated             images whose predictions are known to be cut, because the model said so.
    """

    coco: int
    uncapped: int
    images: int
    images_cut: int
    predictions_cut: int
    images_beyond: int
    truths_beyond: int
    suspected: int | None
    images_at_suspected: int
    truncated: int

    @property
    def hides(self) -> bool:
        """Whether COCO's cap hid any prediction or true object."""
        return self.images_cut > 0 or self.images_beyond > 0


def find_caps(scenes: Scenes) -> Caps:
    """What caps did to these scenes; see Caps."""
    shape = len(scenes.image_ids), len(scenes.classes)
    predicted = scenes.predicted.per_image(*shape)
    true = scenes.truth.where(~scenes.truth.crowd).per_image(*shape)
    cut, beyond = np.maximum(predicted - COCO_CAP, 0), np.maximum(true - COCO_CAP, 0)
    suspected, at_suspected = _suspect(predicted.sum(axis=1), true.sum(axis=1))
    return Caps(
        coco=COCO_CAP,
        uncapped=max(COCO_CAP, int(predicted.max()), int(true.max())),
        images=shape[0],
        images_cut=int(cut.any(axis=1).sum()),
        predictions_cut=int(cut.sum()),
        images_beyond=int(beyond.any(axis=1).sum()),
        truths_beyond=int(beyond.sum()),
        suspected=suspected,
        images_at_suspected=at_suspected,
        truncated=scenes.truncated,
    )


def _suspect(predicted: Int64, true: Int64) -> tuple[int | None, int]:
    """The number N of predictions at which images stop as if cut, and on how many; (None, 0) without suspicion.

    N is the most that any image has, and at least 10. It is suspect if every image stops at it; or if it is a
    usual setting of detectors, and two images share it or an image with N predictions holds more true objects.
    """
    most = int(predicted.max())
    stopped = predicted == most
    count = int(stopped.sum())
    every = count > 1 and count == len(predicted)
    usual = most in USUAL_CAPS and (count > 1 or bool((true[stopped] > most).any()))
    return (most, count) if most >= SMALLEST_SUSPECT and (every or usual) else (None, 0)
