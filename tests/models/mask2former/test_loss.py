"""Targets and losses where nothing is ordinary: no objects, too many, one pixel, a border, crowds, two processes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.models.mask2former.loss import Mask2FormerLoss, important_points, on_device, read, read_crops
from tiny.mask2former import tiny_mask2former

SIZE = (64, 96)


def instances(boxes, classes=None, **columns) -> Instances:
    """Filled boxes (x1, y1, x2, y2)."""
    crops = [np.ones((y2 - y1, x2 - x1), dtype=bool) for x1, y1, x2, y2 in boxes]
    corners = np.array([box[:2] for box in boxes], dtype=np.int64).reshape(-1, 2)
    return Instances(
        size=SIZE,
        masks=Masks.from_crops(crops, corners, SIZE),
        class_ids=np.array(classes if classes is not None else np.zeros(len(boxes)), dtype=np.int64),
        classes=ClassMap(("a", "b")),
        columns=columns or None,
    )


@pytest.fixture
def net():
    torch.manual_seed(0)
    return tiny_mask2former(2).eval()


def images(batch: int) -> torch.Tensor:
    return torch.rand(batch, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 255


def test_crops_read_as_their_full_frames():
    rng = np.random.default_rng(0)
    dense = np.zeros((4, *SIZE), dtype=bool)
    dense[0, 10:30, 20:50] = rng.random((20, 30)) > 0.4
    dense[1, :7, :9] = True
    dense[2, -1, -1] = True
    dense[3, 5, :] = True
    made = Instances(
        size=SIZE,
        masks=Masks.from_dense(dense),
        class_ids=np.zeros(4, dtype=np.int64),
        classes=ClassMap(("a",)),
    )
    crops = on_device(Mask2FormerLoss(tiny_mask2former(1)).targets(made), torch.device("cpu"))
    points = torch.rand(4, 3000, 2, generator=torch.Generator().manual_seed(0))
    points[:, 0], points[:, 1], points[:, 2] = 0.0, 1.0, torch.tensor([1.0, 0.0])
    expected = read(torch.from_numpy(dense).float()[:, None], points)[:, 0]
    torch.testing.assert_close(read_crops(crops, torch.arange(4), points), expected, atol=1e-5, rtol=0)
    # One set of points for all objects.
    shared = read_crops(crops, torch.arange(4), points[:1])
    torch.testing.assert_close(shared[0], expected[0], atol=1e-5, rtol=0)


def test_crowds_and_empty_masks_are_no_targets(net):
    boxes = [(0, 0, 10, 10), (5, 5, 5, 5), (20, 20, 30, 30)]
    made = instances(boxes, [0, 1, 1], iscrowd=np.array([False, False, True]))
    targets = Mask2FormerLoss(net).targets(made)
    assert targets.classes.tolist() == [0]
    assert targets.shapes.tolist() == [[10, 10]]


def test_no_objects_reach_every_parameter(net):
    loss = Mask2FormerLoss(net)
    targets = [loss.targets(instances([])), loss.targets(instances([]))]
    terms = loss(net.raw(images(2)), targets, loss.normalisers(targets))
    assert terms["mask"] == terms["dice"] == 0
    assert terms["category"] > 0
    sum(terms.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_more_objects_than_queries(net):
    loss = Mask2FormerLoss(net)
    boxes = [(x, y, x + 3, y + 3) for x in range(0, 40, 8) for y in range(0, 40, 8)]
    targets = [loss.targets(instances(boxes))]
    assert len(boxes) > net.decoder.count
    terms = loss(net.raw(images(1)), targets, loss.normalisers(targets))
    assert all(torch.isfinite(value) for value in terms.values())


@pytest.mark.parametrize("autocast", [False, True])
def test_one_pixel_and_borders(net, autocast):
    loss = Mask2FormerLoss(net)
    targets = [loss.targets(instances([(3, 3, 4, 4), (0, 0, 96, 2), (95, 63, 96, 64)], [0, 1, 0]))]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        terms = loss(net.raw(images(1)), targets, loss.normalisers(targets))
    assert all(torch.isfinite(value) and value.dtype == torch.float32 for value in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_two_processes_are_one_with_both_pictures(net, monkeypatch):
    """Their mean is the whole batch's loss; all read the same points, so that the sums can be compared."""
    loss = Mask2FormerLoss(net)
    pictures = images(2)
    fixed = torch.rand(1, 3 * net.points, 2, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(torch, "rand", lambda n, p, _, **__: fixed[:, :p].expand(n, -1, -1))
    targets = [
        loss.targets(instances([(3, 3, 30, 40), (50, 5, 90, 60)], [0, 1])),
        loss.targets(instances([(10, 10, 40, 50)], [1])),
    ]
    raw = [net.raw(pictures[i : i + 1]) for i in (0, 1)]
    whole = loss(net.raw(pictures), targets, loss.normalisers(targets))
    total = loss.normalisers(targets[:1]) + loss.normalisers(targets[1:])
    torch.testing.assert_close(total, loss.normalisers(targets))
    parts = [loss(r, [t], total, processes=2) for r, t in zip(raw, targets, strict=True)]
    for name, value in whole.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, value, rtol=1e-4, atol=1e-5)


def test_a_subset_of_masks_is_the_same_in_expectation(net):
    targets = [
        Mask2FormerLoss(net).targets(instances([(3, 3, 30, 40), (50, 5, 90, 60), (30, 30, 50, 60)]))
    ] * 2
    with torch.no_grad():
        raw = net.raw(images(2))
        full = Mask2FormerLoss(net)(raw, targets, Mask2FormerLoss(net).normalisers(targets))
        few = Mask2FormerLoss(net, max_masks=3)
        drawn = [few(raw, targets, few.normalisers(targets), seed=seed) for seed in range(30)]
    for name in ("mask", "dice"):
        mean = float(torch.stack([d[name] for d in drawn]).mean())
        assert mean == pytest.approx(float(full[name]), rel=0.05)


def test_points_are_where_the_mask_is_least_certain():
    logits = torch.linspace(-8, 8, 32).expand(1, 1, 32, 32).contiguous()
    points = important_points(logits, 400, torch.Generator().manual_seed(0))
    assert points.shape == (1, 400, 2)
    certain = read(logits, points)[0, 0].abs()
    # Of 1200 the 300 nearest to the outline: a quarter of the way to the certain ends.
    assert certain[:300].max() < 2.5
    assert certain[300:].max() > 5
