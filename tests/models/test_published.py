"""The list of published weights: complete, consistent, and true where a source is at hand."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from apiece.models import zoo
from apiece.models.published import COCO, PUBLISHED, find

NAMES = {
    "mask-rcnn-r50-coco",
    "mask-rcnn-r50-v2-coco",
    "faster-rcnn-r50-coco",
    "faster-rcnn-r50-v2-coco",
    "yolact-r50-coco",
    "yolact-r101-coco",
    "yolact-darknet53-coco",
    "solov2-r50-coco",
    "mask2former-r50-coco-instance",
    "mask2former-swin-tiny-coco-instance",
    "mask2former-swin-small-coco-instance",
    "sam-vit-b",
    "sam-vit-l",
    "sam-vit-h",
    "mobile-sam",
}


@pytest.fixture(params=PUBLISHED, ids=lambda entry: entry.name)
def entry(request: pytest.FixtureRequest):
    return request.param


def test_the_names():
    assert {entry.name for entry in PUBLISHED} == NAMES
    assert len(PUBLISHED) == len(NAMES)
    assert all(find(name).name == name for name in NAMES)
    assert find("cells") is None
    assert not NAMES & {entry.name for entry in zoo.ENTRIES if entry.bundled}


def test_an_entry_can_be_checked_and_says_what_it_must(entry):
    assert entry.family in zoo.FAMILIES
    assert entry.address.startswith("https://")
    assert entry.checksum or entry.repository, "nothing would tell a damaged file"
    assert entry.checksum is None or re.fullmatch(r"sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{6,32}", entry.checksum)
    if entry.repository:
        assert entry.address == f"https://huggingface.co/{entry.repository}/resolve/main/{entry.file}"
    assert entry.file.endswith((".pth", ".pt", ".pkl", ".safetensors"))
    assert entry.parameters > 1
    assert entry.licence
    assert entry.origin
    assert entry.page.startswith("https://")
    assert entry.stated == "not stated" or all(0 < value < 100 for value in entry.figures.values())


def test_a_licence_that_forbids_something_says_so(entry):
    restricted = "NC" in entry.licence or "academic" in entry.licence
    assert restricted == bool(entry.forbids)
    assert restricted == (entry.family in ("solov2", "mask2former"))
    assert not restricted or entry.forbids.startswith("Non-commercial")


def test_builder_and_converter_exist(entry):
    pytest.importorskip("torch")
    module, function = entry.converter.split(":")
    assert module == f"apiece.models.{entry.family}.weights"
    assert callable(getattr(importlib.import_module(module), function))
    assert callable(getattr(importlib.import_module(f"apiece.models.{entry.family}.net"), entry.builder))


def test_a_builder_has_the_stated_number_of_parameters(entry):
    torch = pytest.importorskip("torch")
    # timm's Swin reads numbers from tensors when it is built, which those without values don't allow.
    with torch.device("cpu" if "swin" in entry.builder else "meta"):
        net = importlib.import_module(f"apiece.models.{entry.family}.net")
        built = getattr(net, entry.builder)(len(entry.classes))
    count = sum(p.numel() for p in built.parameters()) / 1e6
    assert count == pytest.approx(entry.parameters, rel=0.02)
    assert not any(side % built.size_divisor for side in entry.input_size)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("mask-rcnn-r50-coco", "MaskRCNN_ResNet50_FPN_Weights"),
        ("mask-rcnn-r50-v2-coco", "MaskRCNN_ResNet50_FPN_V2_Weights"),
        ("faster-rcnn-r50-coco", "FasterRCNN_ResNet50_FPN_Weights"),
        ("faster-rcnn-r50-v2-coco", "FasterRCNN_ResNet50_FPN_V2_Weights"),
    ],
)
def test_torchvision_s_facts_are_torchvision_s(name: str, weights: str):
    detection = pytest.importorskip("torchvision.models.detection")
    theirs = getattr(detection, weights).COCO_V1
    entry = find(name)
    metrics = theirs.meta["_metrics"]["COCO-val2017"]
    expected = {"mask AP, COCO val2017": metrics.get("mask_map"), "box AP, COCO val2017": metrics["box_map"]}
    assert entry.address == theirs.url
    assert entry.figures == {key: value for key, value in expected.items() if value is not None}
    assert entry.megabytes == pytest.approx(theirs.meta["_file_size"], abs=0.1)
    assert entry.parameters == pytest.approx(theirs.meta["num_params"] / 1e6, abs=0.06)
    named = {i: n for i, n in enumerate(theirs.meta["categories"]) if i and n != "N/A"}
    assert dict(zip(COCO.ids, COCO.names, strict=True)) == named


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("mask-rcnn-r50-coco", "maskrcnn_resnet50_fpn"),
        ("mask-rcnn-r50-v2-coco", "maskrcnn_resnet50_fpn_v2"),
        ("faster-rcnn-r50-coco", "fasterrcnn_resnet50_fpn"),
        ("faster-rcnn-r50-v2-coco", "fasterrcnn_resnet50_fpn_v2"),
    ],
)
def test_a_file_in_torchvision_s_layout_fills_the_network(name: str, builder: str, tmp_path: Path):
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision.models.detection")
    from apiece.models.checkpoints import network_of

    theirs = getattr(detection, builder)(weights=None, weights_backbone=None, num_classes=91)
    torch.save(theirs.state_dict(), tmp_path / find(name).file)
    net = network_of(find(name), tmp_path / find(name).file)
    assert net.classes == 80
    assert net.box_masks == name.startswith("faster")


def test_the_list_needs_no_torch():
    code = "import sys, apiece.models.published, apiece.predict.load; sys.exit('torch' in sys.modules)"
    here = str(Path(zoo.__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": here}, check=False).returncode == 0
