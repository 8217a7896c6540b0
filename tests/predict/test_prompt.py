"""Prompts on two ONNX graphs: equal to the network in torch, and usable without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apiece.core.classes import ClassMap
from apiece.core.frame import Frame
from apiece.core.masks import Masks
from apiece.data.synthetic import discs
from apiece.errors import ModelError, UsageError
from apiece.models.card import ModelCard
from apiece.models.sam.mask_decoder import MULTI
from apiece.models.sam.prompt_encoder import points_and_boxes
from apiece.models.sam.to_onnx import write_prompt_graphs
from apiece.predict.prompt import PromptModel, mask_nms
from tiny.sam import confident, tiny_sam

SIDE = 128
SIZE = (90, 150)  # letterboxed: 150 to 128 columns, 77 rows, the rest is padding


def card(name: str = "tiny") -> ModelCard:
    return ModelCard(
        name=name,
        family="sam",
        builder="tiny",
        classes=ClassMap(("object",)),
        input_size=(SIDE, SIDE),
        mask_frame="image",
        boxes_from="masks",
        threshold=0.3,
        licence="Apache-2.0",
        origin="random",
        data="none",
    )


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(5)
    return confident(tiny_sam(1)).eval()


@pytest.fixture(scope="module")
def paths(net, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("prompt")
    write_prompt_graphs(net, card(), folder / "encoder.onnx", folder / "decoder.onnx")
    return folder / "encoder.onnx", folder / "decoder.onnx"


@pytest.fixture(scope="module")
def model(paths) -> PromptModel:
    return PromptModel(*paths, threads=1, batch=3)


@pytest.fixture(scope="module")
def image():
    return discs(np.random.default_rng(1), SIZE, count=5).image


@pytest.fixture(scope="module")
def picture(model, image):
    return model.embed(image)


@pytest.fixture(scope="module")
def raw(net, image):
    padded = Frame.letterbox(SIZE, (SIDE, SIDE)).apply(image)
    with torch.no_grad():
        return net.raw(torch.from_numpy(padded).permute(2, 0, 1)[None].float())


def test_the_embedding_equals_torch_s(picture, raw):
    np.testing.assert_allclose(picture.maps["embedding"], raw.picture, rtol=1e-4, atol=1e-4)
    for i, finer in enumerate(raw.finer):
        np.testing.assert_allclose(picture.maps[f"finer_{i}"], finer, rtol=1e-4, atol=1e-4)


POINTS = np.array([[[30.0, 20.0], [100.5, 60.0]], [[70.0, 40.0], [10.0, 80.0]]])
LABELS = np.array([[1, 0], [1, 1]])
BOXES = np.array([[20.0, 10.0, 60.0, 50.0], [50.0, 30.0, 120.0, 90.0]])


@pytest.mark.parametrize("kind", ["points", "boxes", "points, boxes", "points, mask", "points, boxes, mask"])
@torch.no_grad()
def test_answers_equal_torch_s(net, picture, raw, kind):
    frame = Frame.letterbox(SIZE, (SIDE, SIDE))
    previous = np.random.default_rng(0).normal(0, 5, (2, SIDE // 2, SIDE // 2)).astype(np.float32)
    given = {}
    if "points" in kind:
        given |= {"points": POINTS, "labels": LABELS}
    if "boxes" in kind:
        given["boxes"] = BOXES
    if "mask" in kind:
        given["mask"] = previous
    to_torch = lambda values: torch.from_numpy(np.asarray(values, np.float32))[None]  # noqa: E731
    prompts = points_and_boxes(
        to_torch(frame.to_input(POINTS)) if "points" in kind else None,
        torch.from_numpy(LABELS)[None] if "points" in kind else None,
        to_torch(frame.boxes_to_input(BOXES)) if "boxes" in kind else None,
    )
    masked = torch.full((1, 2), "mask" in kind)
    theirs = net.prompt(raw, *prompts, to_torch(previous), masked)
    single = picture.segment(**given)
    for i, prompt in enumerate(single.columns["prompt"]):
        logits = theirs.masks(slice(0, 1))[0, prompt, 0].numpy()
        np.testing.assert_allclose(single.columns["logits"][i], logits, rtol=1e-3, atol=1e-3)
        assert single.scores[i] == pytest.approx(float(theirs.iou[0, prompt, 0].clamp(0, 1)), abs=1e-4)
    three = picture.segment(**given, multimask=True)
    assert len(three)
    for prompt in (0, 1):
        mine = three.scores[three.columns["prompt"] == prompt]
        best = theirs.iou[0, prompt, MULTI].clamp(0, 1).sort(descending=True).values.numpy()
        np.testing.assert_allclose(mine, best[: len(mine)], atol=1e-4)


def test_a_lone_point_is_answered_by_the_best_of_three(picture):
    one = picture.segment(points=[[30, 20]])
    three = picture.segment(points=[[30, 20]], multimask=True)
    np.testing.assert_array_equal(one.columns["logits"][0], three.columns["logits"][0])
    assert (np.diff(three.scores) <= 0).all()


def test_prompts_do_not_touch_each_other(picture):
    """Seven prompts in batches of three are seven prompts one by one."""
    points = np.random.default_rng(2).uniform(0, 89, (7, 1, 2))
    together = picture.segment(points=points)
    for i in range(7):
        alone = picture.segment(points=points[i])
        mine = together[np.flatnonzero(together.columns["prompt"] == i)]
        assert len(alone) == len(mine)
        np.testing.assert_allclose(alone.columns["logits"], mine.columns["logits"], rtol=1e-3, atol=1e-3)


def test_logits_are_fed_back(picture):
    first = picture.segment(points=[[30, 20]])
    again = picture.segment(points=[[30, 20]], mask=first.columns["logits"][0])
    assert again.size == SIZE
    assert not np.allclose(first.columns["logits"], again.columns["logits"])


def test_masks_lie_on_the_picture(picture, model):
    """A mask of the left half of the input is the left half of the picture."""
    logits = np.full((1, *model.mask_size), -9.0, dtype=np.float32)
    logits[:, :, : model.mask_size[1] // 2] = 9.0
    masks, index = picture._cut(logits)
    assert index.tolist() == [0]
    assert masks == Masks.from_crops([np.ones((90, 75), bool)], [[0, 0]], SIZE)


def test_automatic_keeps_unlike_masks_and_says_when_there_are_more(picture):
    everything = picture.automatic(side=5, iou=0.0, stability=0.0, nms=0.6)
    assert len(everything) > 1
    assert not everything.truncated
    assert (np.diff(everything.scores) <= 0).all()
    overlap = everything.masks.iou(everything.masks).toarray()
    np.fill_diagonal(overlap, 0)
    assert overlap.max() <= 0.6
    fewer = picture.automatic(side=5, iou=0.0, stability=0.0, nms=0.6, most=1)
    assert fewer.truncated
    assert fewer.masks == everything.masks[:1]
    large = picture.automatic(side=5, iou=0.0, stability=0.0, nms=0.6, min_area=500)
    assert (large.masks.areas >= 500).all()
    assert len(picture.automatic(side=2, iou=2.0)) == 0


def test_mask_nms():
    crop = np.ones((10, 10), bool)
    masks = Masks.from_crops([crop, crop, crop], [[0, 0], [1, 0], [20, 20]], (40, 40))
    assert mask_nms(masks, np.array([0.5, 0.9, 0.1], np.float32), 0.7).tolist() == [1, 2]
    assert mask_nms(masks, np.array([0.5, 0.9, 0.1], np.float32), 0.9).tolist() == [1, 0, 2]
    assert mask_nms(Masks.empty((4, 4)), np.zeros(0, np.float32), 0.5).tolist() == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "at least one prompt"),
        ({"points": [1, 2, 3]}, "points: expected shape"),
        ({"points": [[1, 2]], "labels": [5]}, "labels: expected"),
        ({"labels": [1]}, "without points"),
        ({"boxes": [5, 5, 1, 9]}, "boxes: expected x1"),
        ({"points": [[np.nan, 2]]}, "finite"),
        ({"points": [[1, 2]], "boxes": [[0, 0, 1, 1]] * 2}, "as many of each"),
        ({"points": [[1, 2]], "mask": np.zeros((3, 3))}, "mask: expected shape"),
    ],
)
def test_prompts_that_cannot_be_meant(picture, given, says):
    with pytest.raises(UsageError, match=says):
        picture.segment(**given)


def test_files_that_do_not_belong_together(paths, net, tmp_path):
    with pytest.raises(ModelError, match="no such model file"):
        PromptModel(tmp_path / "none.onnx", paths[1])
    with pytest.raises(ModelError, match="prompt-encoder"):
        PromptModel(paths[1], paths[0])


def test_it_runs_without_torch(paths):
    code = (
        "import sys, numpy as np\n"
        "sys.modules['torch'] = None\n"
        "from apiece.predict.prompt import PromptModel\n"
        f"model = PromptModel({str(paths[0])!r}, {str(paths[1])!r}, threads=1)\n"
        "picture = model.embed(np.full((60, 100, 3), 90, np.uint8))\n"
        "assert len(picture.segment(boxes=[[5, 5, 50, 50]])) <= 1\n"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    )
