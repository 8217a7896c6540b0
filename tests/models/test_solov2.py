"""Properties of SOLOv2's parts that hold whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.synthetic import discs
from apiece.models.layers import mask_boxes
from apiece.models.solov2.loss import SOLOv2Loss, assign, dice, shrink_mask
from apiece.models.solov2.matrix_nms import matrix_nms
from tiny.solov2 import tiny_solov2, tiny_solov2_dense


@torch.inference_mode()
def test_masks_in_boxes_equal_the_full_logits_sampled_there():
    """Sampling the features and then multiplying is the same as multiplying and then sampling."""
    torch.manual_seed(1)
    net = tiny_solov2_dense(1).eval()
    net.local = False
    features = torch.rand(2, 16, 48, 64)
    kernels = torch.randn(2, 5, 18)
    cells = torch.rand(2, 5, 4) * 60 + 10
    corner = torch.rand(2, 5, 2) * 40
    boxes = torch.cat([corner, corner + 20], dim=-1)
    mine = net.masks_in_boxes(kernels, cells, features, boxes)
    full = net.mask_logits(kernels, cells, features, 2.0)
    m = net.box_grid
    at = (torch.arange(m) + 0.5) / m
    for b in range(2):
        for k in range(5):
            x = boxes[b, k, 0] + at * 20
            y = boxes[b, k, 1] + at * 20
            grid = torch.stack(
                [(2 * x / 128 - 1).expand(m, m), (2 * y / 96 - 1)[:, None].expand(m, m)], dim=-1
            )
            sampled = torch.nn.functional.grid_sample(
                full[b : b + 1, k : k + 1], grid[None], padding_mode="border", align_corners=False
            )
            torch.testing.assert_close(mine[b, k], sampled[0, 0], rtol=1e-4, atol=1e-4)


def test_a_local_mask_starts_as_a_disc_around_its_cell():
    net = tiny_solov2_dense(1)
    kernels = torch.zeros(1, 1, 18)
    kernels[..., -2] = 2.0
    logits = net.mask_logits(
        kernels, torch.tensor([[[40.0, 30.0, 12.0, 8.0]]]), torch.zeros(1, 16, 48, 64), 2.0
    )
    y, x = np.nonzero((logits[0, 0] > 0).numpy())
    radius = np.hypot((x + 0.5) * 2 - 40, (y + 0.5) * 2 - 30)
    assert radius.max() <= 12 * np.sqrt(2) + 1e-3
    assert len(x) == pytest.approx(np.pi * 2 * 12**2 / 4, rel=0.05)


def test_mask_boxes_are_the_masks_own(rng: np.random.Generator):
    dense = rng.random((1, 30, 20, 24)) > 0.97
    dense[0, 0] = False
    expected = Masks.from_dense(dense[0]).boxes
    np.testing.assert_array_equal(mask_boxes(torch.from_numpy(dense).float())[0].numpy(), expected)


def test_matrix_nms_leaves_disjoint_masks_and_other_classes_alone_and_decays_copies():
    masks = torch.zeros(1, 4, 8, 8)
    masks[0, 0, :4] = masks[0, 1, :4] = masks[0, 2, :4] = 1
    masks[0, 3, 5:] = 1
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    labels = torch.tensor([[0, 0, 1, 0]])
    out = matrix_nms(scores, labels, masks)[0]
    assert out[0] == 0.9
    assert out[1] == pytest.approx(0.8 * np.exp(-2.0))
    assert out[2] == 0.7
    assert out[3] == 0.6


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_a_shrunk_mask_does_not_depend_on_how_it_was_cropped(stride: int, rng: np.random.Generator):
    dense = rng.random((32, 48)) > 0.4
    whole = shrink_mask(dense, (0, 0), stride, (32 // stride, 48 // stride))
    dense[:5], dense[:, :7] = False, False
    cut = shrink_mask(dense[5:, 7:], (7, 5), stride, (32 // stride, 48 // stride))
    again = shrink_mask(dense, (0, 0), stride, (32 // stride, 48 // stride))
    np.testing.assert_array_equal(cut, again)
    assert len(whole) > len(cut) > 0


@pytest.mark.parametrize("build", [tiny_solov2, tiny_solov2_dense])
def test_every_object_has_a_cell_and_a_perfect_mask_has_no_loss(build, rng: np.random.Generator):
    net = build(1)
    sample = discs(rng, (128, 128), count=8)
    targets = assign(sample.instances, net.levels, net.mask_stride)
    visible = {i for i, p in enumerate(targets.pixels) if len(p)}
    assert set(targets.samples[:, 2].tolist()) == visible
    side = 128 // net.mask_stride
    logits = torch.full((len(targets.pixels), side * side), -30.0)
    for i, pixels in enumerate(targets.pixels):
        logits[i, torch.from_numpy(pixels)] = 30.0
    kept = sorted(visible)
    assert dice(logits[kept], [targets.pixels[i] for i in kept]).abs().max() < 1e-4


def test_crowd_regions_and_invisible_objects_are_no_targets():
    masks = Masks.from_crops([np.ones((20, 20), bool), np.ones((30, 30), bool), np.ones((1, 1), bool)],
                             np.array([[4, 4], [40, 40], [90, 90]]), (128, 128))  # fmt: skip
    instances = Instances(
        size=(128, 128),
        masks=masks,
        class_ids=np.zeros(3, dtype=np.int64),
        classes=ClassMap(("a",)),
        columns={"iscrowd": np.array([False, True, False])},
    )
    net = tiny_solov2(1)
    targets = assign(instances, net.levels, net.mask_stride)
    assert set(targets.samples[:, 2].tolist()) == {0}


def test_a_batch_without_objects_has_a_finite_loss_that_reaches_every_parameter():
    torch.manual_seed(0)
    net = tiny_solov2_dense(1)
    empty = Instances.empty((64, 64), ClassMap(("a",)))
    loss = SOLOv2Loss(net)
    targets = [loss.targets(empty)] * 2
    terms = loss(net.raw(torch.rand(2, 3, 64, 64) * 255), targets, loss.normalisers(targets))
    torch.stack(list(terms.values())).sum().backward()
    assert torch.isfinite(terms["category"])
    assert terms["mask"] == 0
    assert all(p.grad is not None for p in net.parameters())
