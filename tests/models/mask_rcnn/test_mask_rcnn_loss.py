"""Targets of Mask R-CNN and how a step samples them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torchvision.ops import roi_align

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.synthetic import discs
from apiece.models.mask_rcnn.boxes import ROI_WEIGHTS, decode, encode
from apiece.models.mask_rcnn.loss import MaskRCNNLoss
from apiece.models.mask_rcnn.matching import choose_regions, cut_masks, draw, match_anchors
from apiece.models.mask_rcnn.net import Sampling
from tiny.mask_rcnn import confident, tiny

SIZE = (96, 128)
CLASSES = ClassMap(("a", "b"))


def instances(dense: np.ndarray, **columns) -> Instances:
    masks = Masks.from_dense(dense)
    return Instances(SIZE, masks, np.arange(len(dense)) % 2, classes=CLASSES, columns=columns or None)


def odd_shapes() -> np.ndarray:
    """At each corner, over the whole picture, one pixel, two parts."""
    dense = np.zeros((7, *SIZE), dtype=bool)
    dense[0, :9, :7] = dense[1, 80:, 100:] = dense[2, 60:, :30] = dense[3, :20, 90:] = True
    dense[4] = True
    dense[5, 40, 64] = True
    dense[6, 30:40, 30:50] = dense[6, 50:70, 60:61] = True
    return dense


@pytest.mark.parametrize("size", [14, 28])
def test_cut_masks_equals_the_whole_frame(size):
    dense = odd_shapes()
    masks = Masks.from_dense(dense)
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(len(dense)), 40)
    low = np.column_stack([rng.uniform(0, 120, len(owners)), rng.uniform(0, 90, len(owners))])
    high = np.minimum(low + rng.uniform(1, 100, low.shape), [SIZE[1], SIZE[0]])
    boxes = torch.from_numpy(np.hstack([low, high]).astype(np.float32))
    boxes[::8] = torch.from_numpy(masks.boxes[owners[::8]])
    boxes[1::8] = torch.tensor([0.0, 0.0, SIZE[1], SIZE[0]])
    frames = torch.from_numpy(dense[:, None].astype(np.float32))
    rois = torch.cat([torch.from_numpy(owners)[:, None].float(), boxes], dim=1)
    expected = roi_align(frames, rois, (size, size), 1.0)[:, 0]
    found = cut_masks(masks, owners, boxes, size)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected[owners == 5].amax() > 0


def test_no_masks_are_ordinary():
    assert cut_masks(Masks.empty(SIZE), [], torch.zeros(0, 4), 28).shape == (0, 28, 28)


def test_codes_there_and_back():
    g = torch.Generator().manual_seed(0)
    low = torch.rand(50, 2, generator=g) * 100
    boxes = torch.cat([low, low + 1 + torch.rand(50, 2, generator=g) * 50], dim=1)
    references = boxes.roll(1, dims=0)
    codes = encode(boxes, references, ROI_WEIGHTS)
    near = codes[:, 2:].abs().amax(dim=1) < 5 * 4  # growth is limited
    torch.testing.assert_close(
        decode(codes, references, ROI_WEIGHTS)[near], boxes[near], rtol=1e-4, atol=1e-3
    )


def test_matching_in_blocks_of_objects_is_matching_at_once(monkeypatch):
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 100, (70, 2))
    boxes = np.hstack([low, low + rng.uniform(2, 60, (70, 2))]).astype(np.float32)
    low = rng.uniform(0, 120, (3000, 2))
    anchors = np.hstack([low, low + rng.uniform(4, 80, (3000, 2))]).astype(np.float32)
    whole = match_anchors(anchors, boxes)
    monkeypatch.setattr("apiece.models.mask_rcnn.matching.AT_ONCE", 7)
    blocks = match_anchors(anchors, boxes)
    for a, b in zip(whole, blocks, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(whole.positives) >= 60
    assert len(whole.ignored) > 0
    assert len(whole.negatives()) == 3000 - len(whole.positives) - len(whole.ignored)


def test_each_object_has_an_anchor_and_crowds_have_none():
    net = tiny(2)
    loss = MaskRCNNLoss(net)
    dense = odd_shapes()
    crowd = np.arange(len(dense)) == 4
    target = loss.targets(instances(dense, iscrowd=crowd))
    assert len(target.boxes) == 6
    assert set(target.anchors.owners) == set(range(6))
    assert target.anchors.total == 3 * (24 * 32 + 12 * 16 + 6 * 8 + 3 * 4 + 2 * 2)
    empty = loss.targets(instances(np.zeros((2, *SIZE), dtype=bool)))
    assert len(empty.boxes) == len(empty.anchors.positives) == len(empty.anchors.ignored) == 0


def test_draw_keeps_count_and_share():
    rng = np.random.default_rng(0)
    for positives, negatives, expected in ((1000, 1000, (64, 192)), (3, 1000, (3, 253)), (500, 10, (64, 10))):
        a, b = draw(rng, positives, negatives, 256, 0.25)
        assert (len(a), len(b)) == expected
        assert len(set(a)) == len(a)


def test_regions_are_the_objects_own_boxes_too():
    truth = torch.tensor([[10.0, 10, 30, 40], [50, 50, 90, 90]])
    far = torch.tensor([[100.0, 0, 120, 20], [52, 52, 90, 88]])
    regions = choose_regions(far, truth, np.random.default_rng(0), 100)
    assert regions.owners.tolist() == [1, 0, 1]
    assert regions.boxes.shape == (4, 4)
    none = choose_regions(far, truth[:0], np.random.default_rng(0), 1)
    assert none.boxes.shape == (1, 4)
    assert len(none.owners) == 0


def batch(net, seeds=(0, 1)):
    samples = [discs(np.random.default_rng(s), SIZE, count=c) for s, c in zip(seeds, (9, 3), strict=False)]
    loss = MaskRCNNLoss(net)
    images = torch.from_numpy(np.stack([s.image.transpose(2, 0, 1) for s in samples])).float()
    return loss, images, [loss.targets(s.instances) for s in samples]


def frozen(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return net


def test_a_step_can_be_repeated_and_another_seed_is_another_sample():
    torch.manual_seed(0)
    net = frozen(confident(tiny(1)))
    net.sampling = Sampling(anchors=16, rois=8)
    loss, images, targets = batch(net)
    raw = net.raw(images)
    totals = [
        sum(loss(raw, targets, loss.normalisers(targets), seed=seed).values()).item() for seed in (4, 4, 5)
    ]
    assert totals[0] == totals[1] != totals[2]
    assert loss.normalisers(targets).tolist() == [32.0]


def test_few_masks_stand_for_all():
    torch.manual_seed(0)
    net = frozen(confident(tiny(1)))
    loss, images, targets = batch(net)
    raw = net.raw(images)
    whole = loss(raw, targets, loss.normalisers(targets))["mask"].item()
    few = MaskRCNNLoss(net, max_masks=4)
    means = [few(raw, targets, few.normalisers(targets), seed=s)["mask"].item() for s in range(40)]
    assert len(set(means)) > 10
    assert np.mean(means) == pytest.approx(whole, rel=0.1)


def test_the_mean_over_two_processes_is_the_whole_batch(monkeypatch):
    """As two processes would compute it, their counts added up by a stand-in for the connection."""
    torch.manual_seed(0)
    net = frozen(confident(tiny(1)))
    loss, images, targets = batch(net)
    whole = loss(net.raw(images), targets, loss.normalisers(targets))
    distributed = torch.distributed
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(distributed, "all_reduce", lambda counts: seen.append(counts.clone()))
    for rank in (0, 1):  # first the counts of each
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        one = slice(rank, rank + 1)
        loss(net.raw(images[one]), targets[one], loss.normalisers(targets), processes=2)
    total = torch.stack(seen).sum(0)
    assert seen[0].tolist() != seen[1].tolist()
    monkeypatch.setattr(distributed, "all_reduce", lambda counts: counts.copy_(total))
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        one = slice(rank, rank + 1)
        parts.append(loss(net.raw(images[one]), targets[one], loss.normalisers(targets), processes=2))
    for name, value in whole.items():
        assert (parts[0][name] + parts[1][name]).item() / 2 == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("objects", [True, False])
def test_every_parameter_is_reached_in_bfloat16(v2, objects):
    torch.manual_seed(0)
    net = tiny(2, v2=v2).train()
    loss = MaskRCNNLoss(net)
    dense = odd_shapes() if objects else np.zeros((0, *SIZE), dtype=bool)
    targets = [loss.targets(instances(dense))] * 2
    images = (torch.rand(2, 3, *SIZE) * 255).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        terms = loss(net.raw(images), targets, loss.normalisers(targets))
    total = sum(terms.values())
    assert total.dtype == torch.float32
    total.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert (terms["mask"].item() > 0) == objects


def test_faster_rcnn_says_that_its_masks_are_boxes():
    torch.manual_seed(0)
    net = confident(tiny(2, masks=False)).eval()
    assert net.box_masks
    assert not tiny(2).box_masks
    with torch.inference_mode():
        found = net(torch.rand(1, 3, *SIZE) * 255)
    assert found.masks.shape == (1, net.candidates, 2, 2)
    assert (found.masks > 0).all()


def test_slots_beyond_what_there_is_are_empty():
    """A small input has fewer boxes than K."""
    torch.manual_seed(0)
    net = confident(tiny(1)).eval()
    net.candidates = 500
    with torch.inference_mode():
        found = net(torch.rand(2, 3, 32, 32) * 255)
    assert found.scores.shape == (2, 500)
    assert found.masks.shape == (2, 500, 28, 28)
    empty = found.scores == 0
    assert empty.any()
    assert (found.boxes[empty] == 0).all()
