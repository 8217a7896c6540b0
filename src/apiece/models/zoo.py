"""Which networks there are: names, sizes, licences, and where weights come from."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apiece.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from apiece.models.network import Network
    from apiece.models.published import Published


METHODS = ("Faster R-CNN", "Mask R-CNN", "YOLACT", "SOLOv2", "Mask2Former", "SAM", "semantic")
FAMILIES = ("mask_rcnn", "yolact", "solov2", "mask2former", "sam", "semantic")


@dataclass(frozen=True)
class Entry:
    """A network of ours: one line of `apiece models`. Weights of others are in `apiece.models.published`.

    name        as `apiece.load` takes it, where bundled; else the builder's name with dashes.
    method      one of METHODS.
    family      folder under apiece/models.
    builder     function in its net.py, as a recipe's `model.builder` takes it.
    parameters  millions, with one class.
    weights     "bundled" when the wheel carries them, else how to get them.
    licence     of the weights; of the code where there are none.
    origin      who made them, from what; the paper where there are none.
    """

    name: str
    method: str
    family: str
    builder: str
    parameters: float
    weights: str
    licence: str
    origin: str

    @property
    def bundled(self) -> bool:
        """Whether the wheel carries the weights."""
        return self.weights == "bundled"


def _bundled(name: str, origin: str) -> Entry:
    return Entry(name, "SOLOv2", "solov2", "solov2_dense", 4.1, "bundled", "Apache-2.0", origin)


def _trainable(
    method: str, family: str, builder: str, parameters: float, paper: str, recipe: str = ""
) -> Entry:
    how = f"train: recipes/{recipe}.yaml" if recipe else f"train: model.builder: {builder}"
    return Entry(builder.replace("_", "-"), method, family, builder, parameters, how, "Apache-2.0", paper)


_FASTER = "arXiv 1506.01497, FPN 1612.03144"
_MASK = "arXiv 1703.06870, FPN 1612.03144"
_V2 = "the same with the heads of arXiv 2111.11429"
_YOLACT = "arXiv 1904.02689"
_SOLOV2 = "arXiv 2003.10152"
_MASK2FORMER = "arXiv 2112.01527"
_SAM = "arXiv 2304.02643"
_SEMANTIC = "semantic branch of arXiv 1901.02446, connected components"

ENTRIES = (
    _bundled("cells", "recipes/cells.yaml on BBBC038 (CC0), from ImageNet EfficientNet-Lite0"),
    _bundled("things", "recipes/things.yaml on five open sets and synthetic scenes, from `cells`"),
    _trainable("Faster R-CNN", "mask_rcnn", "faster_rcnn_lite0", 4.7, _FASTER, "faster_rcnn-lite0"),
    _trainable("Faster R-CNN", "mask_rcnn", "faster_rcnn_r50", 41.3, _FASTER),
    _trainable("Faster R-CNN", "mask_rcnn", "faster_rcnn_r50_v2", 43.3, _V2),
    _trainable("Mask R-CNN", "mask_rcnn", "mask_rcnn_lite0", 4.9, _MASK, "mask_rcnn-lite0"),
    _trainable("Mask R-CNN", "mask_rcnn", "mask_rcnn_r50", 44.0, _MASK, "mask_rcnn-r50"),
    _trainable("Mask R-CNN", "mask_rcnn", "mask_rcnn_r50_v2", 45.9, _V2, "mask_rcnn-r50_v2"),
    _trainable("Mask R-CNN", "mask_rcnn", "mask_rcnn_r101", 63.0, _MASK),
    _trainable("YOLACT", "yolact", "yolact_lite0", 3.9, _YOLACT, "yolact-lite0"),
    _trainable("YOLACT", "yolact", "yolact_r50", 30.6, _YOLACT, "yolact-r50"),
    _trainable("YOLACT", "yolact", "yolact_r101", 49.6, _YOLACT),
    _trainable("YOLACT", "yolact", "yolact_darknet53", 47.2, _YOLACT),
    _trainable("SOLOv2", "solov2", "solov2_dense", 4.1, f"{_SOLOV2}, docs/decisions/0004", "solov2-dense"),
    _trainable("SOLOv2", "solov2", "solov2_r18_light", 13.0, f"{_SOLOV2}, table 7"),
    _trainable("SOLOv2", "solov2", "solov2_r50", 46.2, f"{_SOLOV2}, table 1", "solov2-r50"),
    _trainable("Mask2Former", "mask2former", "mask2former_lite0", 4.2, _MASK2FORMER, "mask2former-lite0"),
    _trainable("Mask2Former", "mask2former", "mask2former_r50", 44.0, _MASK2FORMER, "mask2former-r50"),
    _trainable("Mask2Former", "mask2former", "mask2former_swin_tiny", 47.4, _MASK2FORMER),
    _trainable("Mask2Former", "mask2former", "mask2former_swin_small", 68.7, _MASK2FORMER),
    _trainable("SAM", "sam", "sam_lite0", 3.9, _SAM, "sam-lite0"),
    _trainable("SAM", "sam", "mobile_sam", 9.8, f"{_SAM}, 2306.14289"),
    _trainable("SAM", "sam", "sam_vit_b", 93.7, _SAM),
    _trainable("SAM", "sam", "sam_vit_l", 312.3, _SAM),
    _trainable("SAM", "sam", "sam_vit_h", 641.1, _SAM),
    _trainable("semantic", "semantic", "semantic_lite0", 3.7, _SEMANTIC, "semantic-lite0"),
    _trainable("semantic", "semantic", "semantic_dense", 3.7, _SEMANTIC),
    _trainable("semantic", "semantic", "semantic_r18", 12.3, _SEMANTIC),
    _trainable("semantic", "semantic", "semantic_r50", 28.5, _SEMANTIC, "semantic-r50"),
)


def method_of(entry: Entry | Published) -> str:
    """One of METHODS. Faster R-CNN and Mask R-CNN share a family: one is the other without its mask head."""
    return next(own.method for own in ENTRIES if own.builder == entry.builder)


def build(family: str, builder: str, classes: int) -> Network:
    """A network with random weights: the function `builder` of the family's net.py. Imports torch.

    raises  ModelError when family or builder is unknown.
    """
    if family not in FAMILIES:
        raise ModelError(f"family: no family {family!r}. {did_you_mean(family, FAMILIES)}")
    builders = {entry.builder for entry in ENTRIES if entry.family == family}
    if builder not in builders:
        raise ModelError(
            f"builder: the family {family} has no {builder!r}. {did_you_mean(builder, builders)}"
        )
    module = importlib.import_module(f"apiece.models.{family}.net")
    net: Network = getattr(module, builder)(classes)
    return net
