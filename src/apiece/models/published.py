"""Weights that others have published and that apiece can use: what they are, whose, and where they lie.

Data only. `apiece.predict.fetch` gets them, `apiece.models.checkpoints` reads them. Addresses, figures and notices
are those of the authors' pages, most of them checked in November 2026 against stored copies; the SHA-256 of SAM's and
MobileSAM's files are those of micro-sam's registry, as their authors publish none. What isn't stated is None, "not
stated" in lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from apiece.core.classes import ClassMap


@dataclass(frozen=True)
class Published:
    """One published model.

    name        as `apiece.load` takes it.
    family      folder under apiece/models, and builder: the function in its net.py.
    converter   "module:function" that maps the published state dict to ours.
    classes     the classes in the network's order.
    input_size  (height, width) of the converted graph's input; pictures are letterboxed into it.
    threshold   score from which a candidate counts as an object by default.
    address     https address of the file.
    repository  Hugging Face repository of the file, where it lies in one; None: fetched with torch.hub.
    key         entry of the file that holds the state dict; "" when the file is the state dict itself.
    checksum    "sha256:…" or "md5:…", the whole digest or its beginning; None where none is published. Files of a
                Hugging Face repository are compared with the hub's own SHA-256 too.
    megabytes   size of the file, 10^6 bytes; None where not stated.
    parameters  millions.
    licence     of the weights, SPDX where there is an identifier.
    forbids     what the licence does not allow, one sentence; "" where it allows commercial use.
    origin      who made them.
    page        where the facts here are stated.
    figures     what their authors state, by its name: AP in percent. Empty: not stated.
    data        what they were trained on.
    notes       what a user must know, one sentence each.
    """

    name: str
    family: str
    builder: str
    converter: str
    classes: ClassMap
    input_size: tuple[int, int]
    threshold: float
    address: str
    licence: str
    origin: str
    page: str
    data: str
    parameters: float
    repository: str | None = None
    key: str = ""
    checksum: str | None = None
    megabytes: float | None = None
    forbids: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Name of the file, as its authors call it."""
        return self.address.rsplit("/", 1)[-1]

    @property
    def stated(self) -> str:
        """The authors' figures in one line, or "not stated"."""
        return ", ".join(f"{name} {value:g}" for name, value in self.figures.items()) or "not stated"


COCO = ClassMap(
    (
        *(
            "person",
            "bicycle",
            "car",
            "motorcycle",
            "airplane",
            "bus",
            "train",
            "truck",
            "boat",
            "traffic light",
        ),
        *(
            "fire hydrant",
            "stop sign",
            "parking meter",
            "bench",
            "bird",
            "cat",
            "dog",
            "horse",
            "sheep",
            "cow",
        ),
        *(
            "elephant",
            "bear",
            "zebra",
            "giraffe",
            "backpack",
            "umbrella",
            "handbag",
            "tie",
            "suitcase",
            "frisbee",
        ),
        *(
            "skis",
            "snowboard",
            "sports ball",
            "kite",
            "baseball bat",
            "baseball glove",
            "skateboard",
            "surfboard",
        ),
        *(
            "tennis racket",
            "bottle",
            "wine glass",
            "cup",
            "fork",
            "knife",
            "spoon",
            "bowl",
            "banana",
            "apple",
        ),
        *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
        *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard"),
        *("cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase"),
        *("scissors", "teddy bear", "hair drier", "toothbrush"),
    ),
    # The ids of the data set, which left out 11 of its first 90 names.
    tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)),
)

COCO_DATA = "COCO 2017 train (annotations CC BY 4.0, pictures under the terms of Flickr)"
SA_1B = "SA-1B (its own research licence)"
LETTERBOXED = "Pictures are letterboxed into a fixed input; the authors measured with a scaling of their own."
BOXES_ONLY = "Predicts boxes only: every mask is its whole box."
PROMPTABLE = "This is the automatic mode, a grid of points; classes are not told apart."

_TORCHVISION_PAGE = "https://docs.pytorch.org/vision/stable/models.html"
_MASK2FORMER_PAGE = "https://github.com/facebookresearch/Mask2Former/blob/main/MODEL_ZOO.md"
_MASK2FORMER_NOTICE = (
    "Non-commercial: the model zoo licenses the weights under CC BY-NC 4.0, though the code is MIT."
)
_YOLACT_PAGE = "https://github.com/dbolya/yolact"
_SAM_PAGE = "https://github.com/facebookresearch/segment-anything"


def _torchvision(
    name: str, builder: str, file: str, parameters: float, megabytes: float, figures: dict[str, float]
) -> Published:
    boxes_only = name.startswith("faster")
    return Published(
        name=name,
        family="mask_rcnn",
        builder=builder,
        converter="apiece.models.mask_rcnn.weights:from_torchvision_coco",
        classes=COCO,
        input_size=(1024, 1024),
        threshold=0.5,
        address=f"https://download.pytorch.org/models/{file}",
        checksum="sha256:" + file.removesuffix(".pth").rsplit("-", 1)[1],
        megabytes=megabytes,
        parameters=parameters,
        licence="BSD-3-Clause",
        origin="torchvision (PyTorch Foundation)",
        page=_TORCHVISION_PAGE,
        figures=figures,
        data=COCO_DATA,
        notes=(LETTERBOXED, BOXES_ONLY) if boxes_only else (LETTERBOXED,),
    )


def _yolact(name: str, builder: str, repository: str, file: str, parameters: float, ap: float) -> Published:
    return Published(
        name=name,
        family="yolact",
        builder=builder,
        converter="apiece.models.yolact.weights:from_yolact",
        classes=COCO,
        input_size=(550, 550),
        threshold=0.3,
        address=f"https://huggingface.co/{repository}/resolve/main/{file}",
        repository=repository,
        parameters=parameters,
        licence="MIT",
        origin="dbolya/yolact (Daniel Bolya)",
        page=_YOLACT_PAGE,
        figures={"mask AP, COCO test-dev": ap},
        data=COCO_DATA,
        notes=("Its authors stretch pictures to 550 × 550, here they keep their shape in a letterbox.",),
    )


def _mask2former_swin(size: str, parameters: float, megabytes: float, ap: float) -> Published:
    repository = f"facebook/mask2former-swin-{size}-coco-instance"
    return Published(
        name=f"mask2former-swin-{size}-coco-instance",
        family="mask2former",
        builder=f"mask2former_swin_{size}",
        converter="apiece.models.mask2former.weights:from_transformers",
        classes=COCO,
        input_size=(1024, 1024),
        threshold=0.5,
        address=f"https://huggingface.co/{repository}/resolve/main/model.safetensors",
        repository=repository,
        megabytes=megabytes,
        parameters=parameters,
        licence="CC-BY-NC-4.0",
        forbids=_MASK2FORMER_NOTICE,
        origin="facebookresearch/Mask2Former, converted by Hugging Face",
        page=_MASK2FORMER_PAGE,
        figures={"mask AP, COCO val2017": ap},
        data=COCO_DATA,
        notes=(LETTERBOXED,),
    )


def _sam(name: str, builder: str, file: str, checksum: str, parameters: float, megabytes: float) -> Published:
    return Published(
        name=name,
        family="sam",
        builder=builder,
        converter="apiece.models.sam.weights:from_segment_anything",
        classes=ClassMap(("object",)),
        input_size=(1024, 1024),
        threshold=0.5,
        address=f"https://dl.fbaipublicfiles.com/segment_anything/{file}",
        checksum=f"sha256:{checksum}",
        megabytes=megabytes,
        parameters=parameters,
        licence="Apache-2.0",
        origin="facebookresearch/segment-anything (Meta AI)",
        page=_SAM_PAGE,
        data=SA_1B,
        notes=(PROMPTABLE,),
    )


PUBLISHED = (
    _torchvision(
        "mask-rcnn-r50-coco",
        "mask_rcnn_r50",
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        44.4,
        169.8,
        {"mask AP, COCO val2017": 34.6, "box AP, COCO val2017": 37.9},
    ),
    _torchvision(
        "mask-rcnn-r50-v2-coco",
        "mask_rcnn_r50_v2",
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        46.4,
        177.2,
        {"mask AP, COCO val2017": 41.8, "box AP, COCO val2017": 47.4},
    ),
    _torchvision(
        "faster-rcnn-r50-coco",
        "faster_rcnn_r50",
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        41.8,
        159.7,
        {"box AP, COCO val2017": 37.0},
    ),
    _torchvision(
        "faster-rcnn-r50-v2-coco",
        "faster_rcnn_r50_v2",
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        43.7,
        167.1,
        {"box AP, COCO val2017": 46.7},
    ),
    _yolact(
        "yolact-r50-coco", "yolact_r50", "dbolya/yolact-resnet50", "yolact_resnet50_54_800000.pth", 31.2, 28.2
    ),
    _yolact("yolact-r101-coco", "yolact_r101", "dbolya/yolact-base", "yolact_base_54_800000.pth", 50.2, 29.8),
    _yolact(
        "yolact-darknet53-coco",
        "yolact_darknet53",
        "dbolya/yolact-darknet53",
        "yolact_darknet53_54_800000.pth",
        47.8,
        28.7,
    ),
    Published(
        name="solov2-r50-coco",
        family="solov2",
        builder="solov2_r50",
        converter="apiece.models.solov2.weights:from_solo",
        classes=COCO,
        input_size=(1024, 1024),
        threshold=0.3,
        address="https://huggingface.co/xinlongwang/SOLO/resolve/main/SOLOv2_R50_3x.pth",
        repository="xinlongwang/SOLO",
        key="state_dict",
        megabytes=372,
        parameters=46.2,
        licence="BSD-2-Clause for academic use only",
        forbids=(
            "Non-commercial: the authors license code and weights for academic use; for commercial use they ask to be "
            "contacted. apiece's own SOLOv2 is written from the paper and is Apache-2.0."
        ),
        origin="WXinlong/SOLO (Xinlong Wang)",
        page="https://github.com/WXinlong/SOLO",
        figures={"mask AP, COCO val2017": 37.5},
        data=COCO_DATA,
        notes=(LETTERBOXED,),
    ),
    Published(
        name="mask2former-r50-coco-instance",
        family="mask2former",
        builder="mask2former_r50",
        converter="apiece.models.mask2former.weights:from_mask2former",
        classes=COCO,
        input_size=(1024, 1024),
        threshold=0.5,
        address=(
            "https://dl.fbaipublicfiles.com/maskformer/mask2former/coco/instance/maskformer2_R50_bs16_50ep/"
            "model_final_3c8ec9.pkl"
        ),
        key="model",
        checksum="md5:3c8ec9",
        parameters=44,
        licence="CC-BY-NC-4.0",
        forbids=_MASK2FORMER_NOTICE,
        origin="facebookresearch/Mask2Former (Meta AI)",
        page=_MASK2FORMER_PAGE,
        figures={"mask AP, COCO val2017": 43.7},
        data=COCO_DATA,
        notes=(LETTERBOXED,),
    ),
    _mask2former_swin("tiny", 47, 190, 45.0),
    _mask2former_swin("small", 69, 276, 46.3),
    _sam(
        "sam-vit-b",
        "sam_vit_b",
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        93.7,
        375.0,
    ),
    _sam(
        "sam-vit-l",
        "sam_vit_l",
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        312.3,
        1249,
    ),
    _sam(
        "sam-vit-h",
        "sam_vit_h",
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        641.1,
        2564.6,
    ),
    Published(
        name="mobile-sam",
        family="sam",
        builder="mobile_sam",
        converter="apiece.models.sam.weights:from_mobile_sam",
        classes=ClassMap(("object",)),
        input_size=(1024, 1024),
        threshold=0.5,
        address="https://huggingface.co/dhkim2810/MobileSAM/resolve/main/mobile_sam.pt",
        repository="dhkim2810/MobileSAM",
        checksum="sha256:6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        megabytes=40.7,
        parameters=9.8,
        licence="Apache-2.0",
        origin="ChaoningZhang/MobileSAM (Kyung Hee University)",
        page="https://github.com/ChaoningZhang/MobileSAM",
        data="1 % of " + SA_1B,
        notes=(PROMPTABLE,),
    ),
)


def find(name: str) -> Published | None:
    """The published model of this name."""
    return next((entry for entry in PUBLISHED if entry.name == name), None)
