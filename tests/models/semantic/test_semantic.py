"""The semantic baseline: targets, losses, and the masks that leave the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apiece.core.classes import ClassMap
from apiece.core.frame import Frame
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.models.contract import Candidates
from apiece.models.decode import decode
from apiece.models.semantic import net as builders
from apiece.models.semantic.loss import IGNORED, SemanticLoss, label_map
from tiny.semantic import confident, tiny

CLASSES = ClassMap(("a", "b"))


def truth(dense, class_ids, **columns) -> Instances:
    dense = np.asarray(dense, dtype=bool)
    return Instances(
        size=dense.shape[1:],
        masks=Masks.from_dense(dense) if len(dense) else Masks.empty(dense.shape[1:]),
        class_ids=np.array(class_ids, dtype=np.int64),
        classes=CLASSES,
        columns={name: np.array(value) for name, value in columns.items()},
    )


def block(y1: int, x1: int, y2: int, x2: int, side: int = 64) -> np.ndarray:
    dense = np.zeros((side, side), dtype=bool)
    dense[y1:y2, x1:x2] = True
    return dense


def test_the_smaller_of_overlapping_objects_wins_and_of_equals_the_later():
    large, small = block(0, 0, 32, 32), block(8, 8, 16, 16)
    for order in ([large, small], [small, large]):
        ids = [0, 1] if order[0] is large else [1, 0]
        labels = label_map(truth(order, ids), (32, 32))
        assert (labels[4:8, 4:8] == 2).all()
        assert (labels == 1).sum() == 16 * 16 - 4 * 4
    same = label_map(truth([small, small], [0, 1]), (32, 32))
    assert set(np.unique(same)) == {0, 2}


def test_an_object_of_one_pixel_and_one_at_the_border_are_taught():
    labels = label_map(truth([block(20, 21, 21, 22), block(60, 60, 64, 64)], [0, 1]), (16, 16))
    assert (labels == 1).sum() == 1
    assert labels[5, 5] == 1
    assert labels[15, 15] == 2


def test_crowd_regions_teach_nothing_but_objects_in_them_do():
    instances = truth([block(0, 0, 32, 32), block(8, 8, 16, 16)], [0, 1], iscrowd=[True, False])
    labels = label_map(instances, (32, 32))
    assert set(np.unique(labels)) == {IGNORED, 0, 2}
    loss = SemanticLoss(tiny(2))
    target = loss.targets(instances)
    assert loss.normalisers([target]).tolist() == [32 * 32 - 16 * 16 + 4 * 4, 1]
    raw = torch.randn(1, 3, 16, 16, requires_grad=True)
    sum(loss(raw, [target], loss.normalisers([target])).values()).backward()
    assert (raw.grad[0, :, :3, 6] == 0).all(), "a pixel inside the crowd region alone has a gradient"
    assert (raw.grad[0, :, 3, 3] != 0).all()


def test_the_terms_are_cross_entropy_and_dice():
    """By the formulas, in NumPy; at stride 1 of the labels nothing is interpolated."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 8, 8))
    labels = rng.integers(0, 3, (2, 8, 8)).astype(np.int16)
    labels[1][labels[1] == 2] = 0
    loss = SemanticLoss(tiny(2))
    terms = loss(torch.from_numpy(logits), list(labels), loss.normalisers(list(labels)))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    picked = np.take_along_axis(p, labels[:, None].astype(np.int64), 1)
    assert terms["pixel"].item() == pytest.approx(-np.log(picked).mean(), rel=1e-5)
    dice = [
        1 - 2 * p[b, c][labels[b] == c].sum() / ((p[b, c] ** 2).sum() + (labels[b] == c).sum())
        for b, c in ((0, 1), (0, 2), (1, 1))
    ]
    assert terms["class"].item() == pytest.approx(np.mean(dice), rel=1e-4)


def test_two_processes_together_have_the_gradient_of_one():
    loss = SemanticLoss(tiny(2))
    pictures = [truth([block(0, 0, 32, 32)], [0]), truth(np.zeros((0, 64, 64)), [])]
    targets = [loss.targets(p) for p in pictures]
    raw = torch.randn(2, 3, 16, 16, requires_grad=True)
    counts = loss.normalisers(targets)
    sum(loss(raw, targets, counts).values()).backward()
    whole, raw.grad = raw.grad.clone(), None
    shares = [sum(loss(raw[i : i + 1], targets[i : i + 1], counts, 2).values()) for i in (0, 1)]
    (sum(shares) / 2).backward()
    torch.testing.assert_close(raw.grad, whole)


def test_a_batch_without_objects_reaches_every_parameter():
    net = tiny(2)
    loss = SemanticLoss(net)
    targets = [loss.targets(truth(np.zeros((0, 64, 64)), []))]
    sum(loss(net.raw(torch.rand(1, 3, 64, 64) * 255), targets, loss.normalisers(targets)).values()).backward()
    assert all(p.grad is not None for p in net.parameters())


def scene() -> tuple[np.ndarray, torch.Tensor]:
    """Logits (1, 3, 32, 32) of two discs of class 0, one of class 1 that touches the first, and a spot."""
    y, x = np.mgrid[:32, :32] + 0.5
    a = np.maximum(6 - np.hypot(x - 9, y - 9), 5 - np.hypot(x - 24, y - 24))
    a = np.maximum(a, 0.8 - np.hypot(x - 30.5, y - 2.5))
    b = 5 - np.hypot(x - 19, y - 9)
    logits = np.stack([np.zeros_like(a), a, b])[None].astype(np.float32)
    return logits, torch.from_numpy(logits)


@pytest.mark.parametrize("box_grid", [None, 24])
def test_each_component_is_one_candidate_with_its_own_pixels(box_grid):
    _, raw = scene()
    net = tiny(2, box_grid=box_grid)
    found = net.select(raw)
    assert int((found.scores > 0).sum()) == 4
    assert (found.masks[0, 4:] < 0).all()
    decoded = decode(
        Candidates(*(v.numpy() for v in found), mask_frame=net.mask_frame),
        0,
        Frame.letterbox((128, 128), (128, 128)),
        CLASSES,
        threshold=0.01,
    ).instances
    assert sorted(decoded.class_ids.tolist()) == [0, 0, 0, 1]
    # The picture that the argmax of the interpolated logits makes, cut into components.
    fine = torch.nn.functional.interpolate(raw, scale_factor=4, mode="bilinear")[0].argmax(0).numpy()
    for mask, kind in zip(decoded.masks.to_dense(), decoded.class_ids, strict=True):
        inside = mask & (fine != kind + 1)
        assert inside.sum() <= 0.06 * mask.sum()
    covered = decoded.masks.union().areas[0]
    assert covered == pytest.approx((fine > 0).sum(), rel=0.05)
    assert decoded.masks.overlapping_pixels() == 0


def test_the_score_is_the_mean_probability_of_the_class():
    logits, raw = scene()
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(0)
    found = tiny(2).select(raw)
    kind = logits[0].argmax(0)
    for score, label, mask in zip(found.scores[0, :4], found.labels[0, :4], found.masks[0, :4], strict=True):
        on = mask.numpy() > 0
        assert (kind[on] == int(label) + 1).all()
        assert float(score) == pytest.approx(p[int(label) + 1][on].mean(), rel=1e-5)


@pytest.mark.parametrize("box_grid", [None, 16])
def test_boxes_hold_their_masks(box_grid):
    _, raw = scene()
    found = tiny(2, box_grid=box_grid).select(raw)
    tight = tiny(2).select(raw)
    for box, mask in zip(found.boxes[0, :4].numpy(), tight.masks[0, :4].numpy(), strict=True):
        rows, columns = np.nonzero(mask > 0)
        edge = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 4
        grown = np.clip(edge + np.array([-4, -4, 4, 4]), 0, 128)
        np.testing.assert_array_equal(box, edge if box_grid is None else grown)


@pytest.mark.slow
def test_the_dense_layout_exports(tmp_path: Path):
    import onnxruntime

    from apiece.models.to_onnx import to_onnx

    torch.manual_seed(0)
    net = confident(tiny(2, stride=2, box_grid=14)).eval()
    to_onnx(net, (64, 64), tmp_path / "dense.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "dense.onnx"))
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = net(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    assert (expected.scores[:, 0] > 0).all()
    for ours, theirs in zip(session.run(None, {"images": images}), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("builder", ["semantic_r50", "semantic_r18", "semantic_lite0", "semantic_dense"])
def test_the_builders_keep_the_contract_s_shapes(builder):
    net = getattr(builders, builder)(3).eval()
    with torch.inference_mode():
        raw = net.raw(torch.zeros(1, 3, 64, 96))
    assert raw.shape == (1, 4, 64 // net.stride, 96 // net.stride)
    assert raw.softmax(1)[:, 0].mean() > 0.5, "an untrained network should see background"
