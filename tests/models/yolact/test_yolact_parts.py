"""Properties of YOLACT's parts that hold whatever the weights."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.synthetic import discs
from apiece.models.yolact.anchors import AnchorLayout, decode_boxes, encode_boxes
from apiece.models.yolact.darknet import Darknet53
from apiece.models.yolact.fast_nms import fast_nms, pairwise_iou
from apiece.models.yolact.loss import YOLACTLoss
from apiece.models.yolact.matching import closest_pairs, crop_window, match, shrink, touched_window
from apiece.models.yolact.net import assemble
from tiny.yolact import confident, tiny_yolact


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 0.7, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.02, 0.3, (count, 2))], axis=1).astype(np.float32)


def test_anchors_follow_the_map_sizes_of_the_network():
    net = tiny_yolact(2).eval()
    for height, width in ((128, 128), (96, 131), (70, 33)):
        with torch.no_grad():
            raw = net.raw(torch.zeros(1, 3, height, width))
        anchors = net.anchors.boxes(height, width)
        assert raw.boxes.shape[1] == len(anchors)
        rows, columns = net.anchors.cells(height, width)[0]
        assert tuple(raw.prototypes.shape[-2:]) == (2 * rows, 2 * columns)
        assert tuple(raw.semantic.shape[-2:]) == (rows, columns)


def test_anchors_keep_area_and_ratio_unless_square():
    layout = AnchorLayout(levels=(3,), scales=((24,),), ratios=(1.0, 0.5, 2.0), square=False)
    w, h = (layout.boxes(100, 200)[:3, 2:] * torch.tensor([200.0, 100.0])).T
    torch.testing.assert_close(w * h, torch.full((3,), 576.0))
    torch.testing.assert_close(w / h, torch.tensor([1.0, 0.5, 2.0]))
    w, h = (layout._replace(square=True).boxes(100, 200)[:3, 2:] * torch.tensor([200.0, 100.0])).T
    torch.testing.assert_close(w, h)


def test_box_code_is_invertible(rng: np.random.Generator):
    anchors = tiny_yolact(1).anchors.boxes(128, 96)
    boxes = torch.from_numpy(random_boxes(rng, len(anchors)))
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes)


def test_fast_nms_is_its_definition(rng: np.random.Generator):
    boxes = torch.from_numpy(random_boxes(rng, 60)).reshape(2, 30, 4)
    found = fast_nms(boxes, 0.2)
    overlap = pairwise_iou(boxes, boxes).numpy()
    for group in range(2):
        expected = [all(overlap[group, j, i] <= 0.2 for j in range(i)) for i in range(30)]
        assert found[group].tolist() == expected
    assert 0 < int(found.sum()) < 60


def test_fast_nms_lets_boxes_without_area_pass_and_stays_finite():
    boxes = torch.tensor([[0.1, 0.1, 0.1, 0.3], [0.1, 0.1, 0.1, 0.3], [0.0, 0.0, 1.0, 1.0]])
    assert fast_nms(boxes, 0.5).tolist() == [True, True, True]


def test_a_mask_is_positive_only_in_its_box_grown_by_a_cell():
    prototypes = torch.ones(1, 1, 20, 30)
    boxes = torch.tensor([[[0.5, 0.25, 0.75, 0.5], [-0.3, 0.9, -0.1, 1.4]]])
    logits = assemble(torch.full((1, 2, 1), 5.0), prototypes, boxes)[0]
    y, x = np.nonzero((logits[0] > 0).numpy())
    assert (x.min(), x.max(), y.min(), y.max()) == (14, 23, 4, 10)
    assert not (logits[1] > 0).any()


def test_closest_pairs_are_the_greedy_ones(rng: np.random.Generator):
    for count, anchors in ((5, 40), (12, 12), (7, 4)):
        overlap = rng.random((count, anchors)).round(2).astype(np.float32)
        left, expected = overlap.copy(), np.full(count, -1)
        for _ in range(min(count, anchors)):
            best = left.max(axis=1)
            i = int(best.argmax())
            expected[i] = left[i].argmax()
            left[:, expected[i]] = -1
            left[i] = -1
        np.testing.assert_array_equal(closest_pairs(overlap), expected)


def test_every_object_has_an_anchor_of_its_own(rng: np.random.Generator):
    anchors = tiny_yolact(1).anchors.boxes(128, 128).numpy()
    boxes = random_boxes(rng, 40)
    boxes[1] = boxes[0]  # twice the same object
    boxes[2] = [0.5, 0.5, 0.5 + 1 / 128, 0.5 + 1 / 128]  # one pixel
    found = match(anchors, boxes, np.arange(40), crowds=np.zeros((0, 4), np.float32))
    positive = found.state > 0
    assert set(found.objects[positive].tolist()) == set(range(40))
    np.testing.assert_array_equal(found.state[positive], found.objects[positive] + 1)


def test_crowds_are_neither_objects_nor_background():
    anchors = tiny_yolact(1).anchors.boxes(128, 128).numpy()
    crowd = np.array([[0.0, 0.0, 0.5, 1.0]], dtype=np.float32)
    found = match(anchors, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), crowd)
    half = anchors[:, 2:] / 2
    inside = (anchors[:, :2] >= half).all(1) & (anchors[:, 0] + half[:, 0] <= 0.5)
    inside &= anchors[:, 1] + half[:, 1] <= 1
    assert inside.any()
    assert (found.state[inside] == -1).all()
    assert (found.state[anchors[:, 0] - anchors[:, 2] / 2 > 0.5] == 0).all()
    assert (found.state <= 0).all()


@pytest.mark.parametrize(
    ("old", "new"), [((550, 550), (138, 138)), ((96, 131), (24, 34)), ((64, 64), (8, 8))]
)
def test_a_shrunk_crop_equals_the_resized_frame(old, new, rng: np.random.Generator):
    coarse = rng.random((-(-old[0] // 7), -(-old[1] // 7))) > 0.5
    dense = np.kron(coarse, np.ones((7, 7), bool))[: old[0], : old[1]] ^ (rng.random(old) > 0.9)
    for top, left, bottom, right in ((0, 0, *old), (13, 9, 50, 61), (0, 40, 33, old[1]), (30, 30, 31, 31)):
        frame = np.zeros(old, bool)
        crop = frame[top:bottom, left:right] = dense[top:bottom, left:right]
        values = torch.from_numpy(frame).float()[None, None]
        expected = F.interpolate(values, size=new, mode="bilinear", align_corners=False)[0, 0].numpy() > 0.5
        window = touched_window(crop, (left, top), old, new)
        mine = np.zeros(new, bool)
        mine[window.y : window.y + window.height, window.x : window.x + window.width] = shrink(
            crop, (left, top), old, new, window
        )
        np.testing.assert_array_equal(mine, expected)


def test_the_crop_window_holds_the_mask_of_a_tight_box(rng: np.random.Generator):
    sample = discs(rng, (128, 128), count=8)
    for box, (crop, corner) in zip(sample.instances.boxes, sample.instances.masks, strict=True):
        window = crop_window((box / 128).astype(np.float32), (32, 32))
        inside = shrink(crop, corner, (128, 128), (32, 32), window)
        reach = touched_window(crop, corner, (128, 128), (32, 32))
        assert inside.sum() == shrink(crop, corner, (128, 128), (32, 32), reach).sum()


def odd_instances() -> Instances:
    """One pixel, a border object, one without pixels, a crowd, and a common one, on 96 × 130."""
    crops = [np.ones(shape, bool) for shape in ((1, 1), (40, 30), (0, 0), (20, 60), (30, 30))]
    return Instances(
        size=(96, 130),
        masks=Masks.from_crops(crops, np.array([[129, 95], [100, 56], [0, 0], [0, 0], [20, 40]]), (96, 130)),
        class_ids=np.array([0, 1, 1, 0, 1]),
        classes=ClassMap(("a", "b")),
        columns={"iscrowd": np.array([False, False, False, True, False])},
    )


@pytest.mark.parametrize("autocast", [False, True])
def test_odd_objects_have_a_finite_loss_of_float32(autocast: bool):
    torch.manual_seed(0)
    net = tiny_yolact(2)
    loss = YOLACTLoss(net)
    instances = odd_instances()
    targets = [
        pickle.loads(pickle.dumps(loss.targets(i)))
        for i in (instances, Instances.empty((96, 130), instances.classes))
    ]
    assert len(targets[0].windows) == 3
    assert targets[0].masks[0].any() or targets[0].areas[0] == 1
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        terms = loss(net.raw(torch.rand(2, 3, 96, 130) * 255), targets, loss.normalisers(targets))
    assert all(value.dtype == torch.float32 for value in terms.values())
    total = torch.stack(list(terms.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_a_batch_without_objects_has_a_finite_loss_that_reaches_every_parameter():
    torch.manual_seed(0)
    net = tiny_yolact(1)
    loss = YOLACTLoss(net)
    targets = [loss.targets(Instances.empty((64, 64), ClassMap(("a",))))] * 2
    terms = loss(net.raw(torch.rand(2, 3, 64, 64) * 255), targets, loss.normalisers(targets))
    torch.stack(list(terms.values())).sum().backward()
    assert terms["category"] > 0
    assert terms["box"] == terms["mask"] == 0
    assert all(p.grad is not None for p in net.parameters())


def test_two_processes_give_the_gradient_of_one(rng: np.random.Generator):
    torch.manual_seed(0)
    net = tiny_yolact(1).eval()  # batch norm would see another batch
    loss = YOLACTLoss(net)
    samples = [discs(rng, (64, 64), count=n) for n in (1, 4, 0)]
    images = torch.from_numpy(np.stack([s.image.transpose(2, 0, 1) for s in samples])).float()
    targets = [loss.targets(s.instances) for s in samples]
    normalisers = loss.normalisers(targets)
    assert normalisers.tolist() == (loss.normalisers(targets[:2]) + loss.normalisers(targets[2:])).tolist()
    whole = loss(net.raw(images), targets, normalisers)
    parts = [
        loss(net.raw(images[part]), targets[part], normalisers, processes=2)
        for part in (slice(0, 2), slice(2, 3))
    ]
    for name, value in whole.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, value)


def test_a_subset_of_masks_has_the_mean_of_all(rng: np.random.Generator):
    torch.manual_seed(0)
    net = tiny_yolact(1).eval()
    sample = discs(rng, (128, 128), count=6)
    image = torch.from_numpy(sample.image.transpose(2, 0, 1).copy()).float()[None]
    targets = [YOLACTLoss(net).targets(sample.instances)]
    with torch.no_grad():
        raw = net.raw(image)
        every = YOLACTLoss(net)
        expected = every(raw, targets, every.normalisers(targets))["mask"]
        some = YOLACTLoss(net, max_masks=4)
        found = [some(raw, targets, some.normalisers(targets), seed=seed)["mask"] for seed in range(200)]
    assert len(targets[0].positives) > 4
    torch.testing.assert_close(torch.stack(found).mean(), expected, rtol=0.05, atol=0)


def test_candidates_of_one_picture_do_not_depend_on_the_class_option_when_there_is_one_class():
    torch.manual_seed(0)
    net = confident(tiny_yolact(1)).eval()
    images = torch.rand(1, 3, 96, 130) * 255
    with torch.inference_mode():
        by_class = net(images)
        net.cross_class = True
        across = net(images)
    for a, b in zip(by_class, across, strict=True):
        torch.testing.assert_close(a, b)
    assert (by_class.boxes <= torch.tensor([130.0, 96, 130, 96])).all()


def test_darknet_gives_the_levels_that_were_asked_for():
    backbone = Darknet53(levels=(3, 4), width=4, depths=(1, 1, 2, 1, 1)).eval()
    maps = backbone(torch.rand(1, 3, 70, 96))
    assert backbone.channels == (32, 64)
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 9, 12), (64, 5, 6)]
