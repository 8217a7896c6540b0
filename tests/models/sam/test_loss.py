"""SAM's targets and losses."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torchvision.ops import sigmoid_focal_loss

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.synthetic import discs
from apiece.models.sam.automatic import grid
from apiece.models.sam.loss import SAMLoss, _Answer, _Draw, grid_points, make_targets, owners_of
from apiece.models.sam.prompts import INSIDE, OUTSIDE
from tiny.sam import tiny_sam

SIDE = 64
ONE = ClassMap(("object",))


def instances(crops, corners, **columns) -> Instances:
    masks = Masks.from_crops(crops, np.array(corners).reshape(-1, 2).astype(int), (SIDE, SIDE))
    return Instances((SIDE, SIDE), masks, np.zeros(len(masks), int), classes=ONE, columns=columns or None)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return tiny_sam(1).train()


def images(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) * 255


def backward(net, loss, targets, seed=0):
    net.zero_grad()
    terms = loss(net.raw(images(len(targets))), targets, loss.normalisers(targets), seed=seed)
    torch.stack(list(terms.values())).sum().backward()
    return {name: value.item() for name, value in terms.items()}


def test_targets_are_where_the_objects_are():
    truth = discs(np.random.default_rng(0), (SIDE, SIDE), count=4).instances
    made = make_targets(truth, side=8, stride=4)
    for points, owners in ((made.inside, made.owners),):
        for (x, y), owner in zip(np.floor(points + 0.5).astype(int), owners, strict=True):
            crop, (left, top) = truth.masks.crop(int(owner)), truth.masks.offsets[owner]
            assert crop[y - top, x - left]
    everything = truth.masks.union().to_dense()[0]
    for x, y in np.floor(made.outside + 0.5).astype(int):
        assert not everything[y, x]
    on_grid = 8 * 8 - len(made.outside)
    assert len(made.inside) == 4 * 4 + on_grid
    small = truth.masks.resize((16, 16))
    for i, cells in enumerate(made.cells):
        assert np.array_equal(np.flatnonzero(small[[i]].to_dense()), cells)
    assert pickle.loads(pickle.dumps(made)).seed == made.seed


def test_the_grid_is_the_network_s():
    ours = grid(5, (40, 64), torch.device("cpu")).numpy()
    np.testing.assert_allclose(ours, grid_points(5, (40, 64)), atol=1e-5)


def test_the_smallest_object_owns_a_point():
    masks = Masks.from_crops(
        [np.ones((40, 40), bool), np.ones((10, 10), bool)], [[0, 0], [10, 10]], (SIDE, SIDE)
    )
    assert owners_of(np.array([[12.0, 12.0], [30.0, 30.0], [60.0, 60.0]]), masks).tolist() == [1, 0, -1]


def test_crowds_are_neither_objects_nor_ground():
    truth = instances(
        [np.ones((20, 20), bool), np.ones((20, 20), bool)],
        [[0, 0], [40, 40]],
        iscrowd=np.array([False, True]),
    )
    made = make_targets(truth, side=8, stride=2)
    assert len(made.boxes) == 1
    pixels = np.floor(made.outside + 0.5)
    assert not ((pixels >= 40) & (pixels < 60)).all(axis=1).any()


@pytest.mark.parametrize(
    "truth",
    [
        instances([], []),
        instances([np.ones((1, 1), bool)], [[63, 63]]),
        instances([np.ones((1, 60), bool), np.ones((3, 3), bool)], [[0, 0], [61, 30]]),
        instances([np.ones((64, 64), bool)], [[0, 0]]),
    ],
    ids=["none", "one pixel", "at the border", "the whole picture"],
)
def test_every_parameter_has_a_finite_gradient(net, truth):
    loss = SAMLoss(net)
    targets = [loss.targets(truth)] * 2
    terms = backward(net, loss, targets)
    assert all(np.isfinite(v) for v in terms.values())
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_objects_reach_every_kind_of_prompt(net):
    loss = SAMLoss(net)
    truth = discs(np.random.default_rng(0), (SIDE, SIDE), count=4).instances
    for seed in range(4):  # until a correction has said "not here"
        backward(net, loss, [loss.targets(truth)], seed)
        if net.prompt_encoder.point_embeddings[0].weight.grad.abs().sum() > 0:
            break
    # Of the three answers to a point only the best learns, so a kernel's head may rest for a step.
    resting = (
        "no_mask",
        "output_hypernetworks_mlps.1",
        "output_hypernetworks_mlps.2",
        "output_hypernetworks_mlps.3",
    )
    for name, parameter in net.named_parameters():
        if name.startswith(("prompt_encoder", "mask_decoder")) and not any(r in name for r in resting):
            # A bias of the keys moves no softmax.
            assert parameter.grad.abs().sum() > 0 or name.endswith("k_proj.bias"), name
    heads = net.mask_decoder.output_hypernetworks_mlps
    assert any(head.layers[0].weight.grad.abs().sum() > 0 for head in heads[1:])


def test_answers_equal_the_dense_formulas():
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1)) * 3
    truth = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(2)) > 0.6
    cells = [np.flatnonzero(t.numpy()) for t in truth]
    answer = _Answer(logits, cells)
    q = truth.float()
    focal = sigmoid_focal_loss(logits, q, alpha=0.25, gamma=2.0).mean(dim=(1, 2))
    torch.testing.assert_close(answer.focal, focal)
    p = logits.sigmoid()
    dice = 1 - (2 * (p * q).sum((1, 2)) + 1) / (p.sum((1, 2)) + q.sum((1, 2)) + 1)
    torch.testing.assert_close(answer.dice, dice)
    on = logits > 0
    iou = (on & truth).sum((1, 2)) / (on | truth).sum((1, 2))
    torch.testing.assert_close(answer.iou, iou)


def test_corrections_lie_where_the_answer_is_wrong():
    truth = instances([np.ones((16, 16), bool)], [[0, 0]])
    draw = _Draw(make_targets(truth, side=4, stride=4), seed=0)
    cells = draw.targets.cells
    nothing = torch.full((1, 16, 16), -5.0)
    for _ in range(5):
        (x, y), kind = (v[0] for v in draw.corrections(nothing, cells, 4))
        assert kind == INSIDE
        assert max(x, y) < 16
    everything = -nothing
    for _ in range(5):
        (x, y), kind = (v[0] for v in draw.corrections(everything, cells, 4))
        assert kind == OUTSIDE
        assert max(x, y) >= 16
    right = nothing.clone()
    right[:, :4, :4] = 5.0
    points, kind = draw.corrections(right, cells, 4)
    assert kind.tolist() == [INSIDE]
    assert points.max() < 16


def test_a_batch_is_the_mean_of_its_processes(net):
    """Gradients of two processes with a picture each, averaged, are those of one with both."""
    net.eval()  # batch statistics are each process's own
    loss = SAMLoss(net)
    targets = [
        loss.targets(discs(np.random.default_rng(i), (SIDE, SIDE), count=n).instances)
        for i, n in enumerate((2, 5))
    ]
    batch = images(2)
    normalisers = loss.normalisers(targets)
    together = loss(net.raw(batch), targets, normalisers)
    apart = [loss(net.raw(batch[i : i + 1]), targets[i : i + 1], normalisers, processes=2) for i in range(2)]
    for name, value in together.items():
        mean = (apart[0][name] + apart[1][name]) / 2
        torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-5)
    net.train()


def test_max_masks_is_an_estimate_of_the_whole(net):
    net.eval()
    truth = discs(np.random.default_rng(0), (SIDE, SIDE), count=6).instances
    whole = SAMLoss(net)
    targets = [whole.targets(truth)] * 2
    with torch.no_grad():
        raw = net.raw(images(2))
        exact = [whole(raw, targets, whole.normalisers(targets), seed=s) for s in range(4)]
        few = SAMLoss(net, max_masks=8)
        some = [few(raw, targets, few.normalisers(targets), seed=s) for s in range(24)]
    for name in ("dice", "background"):
        mean = np.mean([t[name].item() for t in exact])
        assert np.mean([t[name].item() for t in some]) == pytest.approx(mean, rel=0.15)
    net.train()
