"""What each printed figure means, in a sentence."""

from __future__ import annotations

from apiece.evaluate.caps import Caps


def definitions(caps: Caps, threshold: float) -> dict[str, str]:
    """A sentence for every figure, by the key that it has in the JSON document."""
    ranking = "the predictions of a class over all images, ranked by score"
    capped = f"only the {caps.coco} highest-scoring predictions of each image and class are scored"
    uncapped = (
        f"up to {caps.uncapped} predictions of each image and class are scored, so that none is left out"
    )
    areas = (
        "a true object's area is the file's `area`, else its mask's pixels, else its box; a prediction's is its mask's "
        "pixels (segm) or width × height of its box (bbox); objects of other areas count neither for nor against"
    )
    small, medium, large = "area ≤ 32² pixels", "32² ≤ area ≤ 96² pixels", "area ≥ 96² pixels"
    counted = f"predictions with score ≥ {threshold:g}; crowd regions are not true objects"
    return {
        "segm": "IoU is that of masks: shared pixels over pixels of either.",
        "bbox": "IoU is that of boxes.",
        "AP": (
            f"Average precision: precision of {ranking}, each matched to the true object of its class with which its "
            "IoU is highest, if that reaches the threshold and no prediction of higher score took it; interpolated "
            "and averaged at 101 recall levels 0, 0.01, …, 1, over the IoU thresholds 0.50, 0.55, …, 0.95 and over "
            f"the classes that have true objects; {capped}. COCO's definition, equal to pycocotools."
        ),
        "AP50": f"AP at IoU threshold 0.50 alone; {capped}.",
        "AP75": f"AP at IoU threshold 0.75 alone; {capped}.",
        "APs": f"AP of small objects, {small}; {areas}; {capped}.",
        "APm": f"AP of medium objects, {medium}; areas and cap as for APs.",
        "APl": f"AP of large objects, {large}; areas and cap as for APs.",
        "AR1": (
            "Average recall: the share of true objects found, averaged over IoU thresholds 0.50, 0.55, …, 0.95 and "
            "classes, with only the highest-scoring prediction of each image and class."
        ),
        "AR10": "Average recall as AR1, with the 10 highest-scoring predictions of each image and class.",
        "AR100": f"Average recall as AR1, where {capped}.",
        "ARs": f"AR100 of small objects, {small}; areas as for APs.",
        "ARm": f"AR100 of medium objects, {medium}; areas as for APs.",
        "ARl": f"AR100 of large objects, {large}; areas as for APs.",
        "AP_uncapped": f"AP where {uncapped}.",
        "segm_uncapped": f"The same twelve figures of masks, where {uncapped}; AR100 keeps its name.",
        "bbox_uncapped": f"The same twelve figures of boxes, where {uncapped}; AR100 keeps its name.",
        "by_class": "AP, AP50, AP75, AR100 and AP_uncapped of each class alone, with its true objects and predictions.",
        "undefined": "-1 (JSON) or – (text): there is no true object of that kind, so that nothing can be said.",
        "crowd": (
            "A region with iscrowd = 1 is not an object to be found: predictions that match nothing else and cover it "
            "(IoU counted over the prediction's own area) count neither for nor against, in any number. `ignore` "
            "without iscrowd has no effect, as in pycocotools."
        ),
        "threshold": f"Objects are counted at an operating threshold: {counted}. It has no part in AP and AR.",
        "true": "True objects in all images, without crowd regions.",
        "predicted": f"Objects counted in all images: predictions with score ≥ {threshold:g}.",
        "MAE": f"Mean over images of |predicted - true| number of objects, all classes together; {counted}.",
        "RMSE": f"Root of the mean over images of (predicted - true)²; {counted}.",
        "bias": f"Mean over images of predicted - true: positive where too many are counted; {counted}.",
        "relative": f"|total predicted - total true| / total true over all images; {counted}.",
        "relative_per_image": (
            f"Mean of |predicted - true| / true over the images that have true objects; {counted}."
        ),
        "caps": (
            f"In COCO's figures {capped}: `images_cut` and `predictions_cut` say how many; "
            f"`truths_beyond` true objects lie beyond the {caps.coco}th of their class in `images_beyond` images and "
            "cannot be found under it. `suspected` is the number at which the predictions seem to have been cut "
            "before evaluation; `truncated` images are known to have been cut by the model."
        ),
    }
