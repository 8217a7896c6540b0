"""Mask R-CNN and Faster R-CNN against torchvision, v1 and v2, with the same random weights on the same pictures."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead as TheirRPNHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.models.backbones import Backbone
from apiece.models.fpn import FPN
from apiece.models.layers import batch_norm
from apiece.models.mask_rcnn import net as ours
from apiece.models.mask_rcnn.heads import BoxHead, MaskHead, NormalisedFPN, RPNHead
from apiece.models.mask_rcnn.loss import MaskRCNNLoss, as_rois
from apiece.models.mask_rcnn.weights import COCO_IDS, from_torchvision, from_torchvision_coco
from parity.table import record

SIZE = (192, 256)
WIDTH = 32
BEFORE, AFTER, K = 150, 120, 60
SIDES = (16.0, 32.0, 64.0, 128.0, 256.0)
ALL = 1_000_000
ORACLE = f"torchvision {torchvision.__version__.split('+')[0]}"


def reference(outputs: int, *, v2: bool, masks: bool, frozen: bool) -> Any:
    """torchvision's network on ResNet-18 with narrow heads. `frozen`: as the published v1 weights, epsilon 0."""
    norm = functools.partial(FrozenBatchNorm2d, eps=0.0) if frozen else nn.BatchNorm2d
    body = torchvision.models.resnet18(norm_layer=norm)
    backbone = BackboneWithFPN(
        body,
        {f"layer{i + 1}": str(i) for i in range(4)},
        [64, 128, 256, 512],
        WIDTH,
        extra_blocks=LastLevelMaxPool(),
        norm_layer=nn.BatchNorm2d if v2 else None,
    )
    settings: dict[str, Any] = {
        "min_size": SIZE[0],
        "max_size": SIZE[1],
        "rpn_anchor_generator": AnchorGenerator(
            tuple((int(s),) for s in SIDES), ((0.5, 1.0, 2.0),) * len(SIDES)
        ),
        "rpn_head": TheirRPNHead(WIDTH, 3, conv_depth=2 if v2 else 1),
        "rpn_pre_nms_top_n_train": BEFORE,
        "rpn_pre_nms_top_n_test": BEFORE,
        "rpn_post_nms_top_n_train": AFTER,
        "rpn_post_nms_top_n_test": AFTER,
        "rpn_batch_size_per_image": 2 * ALL,
        "box_batch_size_per_image": 4 * ALL,
        "box_detections_per_img": K,
        "box_head": FastRCNNConvFCHead((WIDTH, 7, 7), [WIDTH] * 4, [48], norm_layer=nn.BatchNorm2d)
        if v2
        else TwoMLPHead(WIDTH * 49, 48),
        "box_predictor": FastRCNNPredictor(48, outputs),
    }
    if masks:
        settings["mask_head"] = MaskRCNNHeads(
            WIDTH, [WIDTH] * 4, 1, norm_layer=nn.BatchNorm2d if v2 else None
        )
        settings["mask_predictor"] = MaskRCNNPredictor(WIDTH, WIDTH, outputs)
    net = (MaskRCNN if masks else FasterRCNN)(backbone, **settings)
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
                module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=g))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=g))
                module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=g))
                module.bias.copy_(0.1 * torch.randn(module.bias.shape, generator=g))
    return net.eval()


@torch.no_grad()
def spread(net: Any, pictures: torch.Tensor) -> None:
    """Give each output of the last layers a mean of 0 and these standard deviations over the pictures, so that
    scores and classes differ and none is 0 or 1."""
    rpn, roi = net.rpn.head, net.roi_heads
    layers = [(rpn.cls_logits, 2.0), (rpn.bbox_pred, 0.3)]
    layers += [(roi.box_predictor.cls_score, 3.0), (roi.box_predictor.bbox_pred, 1.0)]
    if roi.mask_predictor is not None:
        layers.append((roi.mask_predictor.mask_fcn_logits, 1.0))
    for layer, std in layers:
        outputs = []
        hook = layer.register_forward_hook(
            lambda _, __, out, outputs=outputs: outputs.append(out.movedim(1, 0).flatten(1))
        )
        run(net, pictures)
        hook.remove()
        values = torch.cat(outputs, dim=1)
        scale = std / values.std(dim=1)
        layer.weight *= scale.view(-1, *[1] * (layer.weight.ndim - 1))
        layer.bias.sub_(values.mean(dim=1)).mul_(scale)
    if roi.box_predictor.cls_score.out_features == 91:
        # Nothing in COCO has the eleven unused ids; their trained scores vanish.
        unused = [i for i in range(1, 91) if i not in COCO_IDS]
        roi.box_predictor.cls_score.bias[unused] = -100.0
        roi.box_predictor.cls_score.weight[unused] = 0.0


def network(classes: int, *, v2: bool, masks: bool) -> ours.MaskRCNN:
    body = Backbone("resnet18", levels=(2, 3, 4, 5))
    norm = batch_norm if v2 else None
    box = {"hidden": (48,), "convs": 4, "norm": norm} if v2 else {"hidden": (48, 48)}
    return ours.MaskRCNN(
        classes=classes,
        backbone=body,
        neck=NormalisedFPN(body.channels, WIDTH, 1, batch_norm) if v2 else FPN(body.channels, WIDTH, extra=1),
        anchor_sides=SIDES,
        rpn_head=RPNHead(WIDTH, anchors=3, depth=2 if v2 else 1),
        box_head=BoxHead(WIDTH, size=7, classes=classes, **box),
        mask_head=MaskHead(WIDTH, width=WIDTH, size=14, classes=classes, norm=norm) if masks else None,
        training_proposals=ours.Proposals(BEFORE, AFTER),
        proposals=ours.Proposals(BEFORE, AFTER),
        sampling=ours.Sampling(anchors=2 * ALL, rois=4 * ALL),
        candidates=K,
    ).eval()


class Case(NamedTuple):
    name: str
    theirs: Any
    mine: ours.MaskRCNN
    ids: tuple[int, ...]  # their label of each of our classes


@pytest.fixture(scope="module", params=["v1", "v2", "v1 of COCO", "Faster R-CNN v1", "Faster R-CNN v2"])
def case(request: pytest.FixtureRequest, pictures: torch.Tensor) -> Case:
    torch.manual_seed(3)
    v2, masks, coco = "v2" in request.param, "Faster" not in request.param, "COCO" in request.param
    theirs = reference(91 if coco else 4, v2=v2, masks=masks, frozen=coco)
    spread(theirs, pictures)
    mine = network(80 if coco else 3, v2=v2, masks=masks)
    state = theirs.state_dict()
    mine.load_state_dict(from_torchvision_coco(state) if coco else from_torchvision(state), strict=True)
    return Case(request.param, theirs, mine, COCO_IDS if coco else (1, 2, 3))


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    g = torch.Generator().manual_seed(11)
    coarse = torch.rand(2, 3, 12, 16, generator=g) * 255
    smooth = nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")
    return (smooth + 20 * torch.randn(2, 3, *SIZE, generator=g)).clamp(0, 255).round()


def same(case: Case, quantity: str, mine, theirs, rtol: float = 1e-4) -> None:
    a, b = (v.detach().numpy() if isinstance(v, torch.Tensor) else v for v in (mine, theirs))
    record(
        family="mask_rcnn", oracle=ORACLE, quantity=f"{case.name}: {quantity}", ours=a, theirs=b, rtol=rtol
    )


class Theirs(NamedTuple):
    features: OrderedDict
    objectness: list
    codes: list
    anchors: torch.Tensor
    proposals: list
    logits: torch.Tensor
    box_codes: torch.Tensor
    found: list


@torch.no_grad()
def run(net: Any, pictures: torch.Tensor) -> Theirs:
    images, _ = net.transform(list(pictures / 255))
    assert images.tensors.shape[-2:] == SIZE
    features = net.backbone(images.tensors)
    objectness, codes = net.rpn.head(list(features.values()))
    proposals, _ = net.rpn(images, features)
    captured = []
    hook = net.roi_heads.box_predictor.register_forward_hook(lambda _, __, out: captured.append(out))
    found, _ = net.roi_heads(features, proposals, images.image_sizes)
    hook.remove()
    anchors = net.rpn.anchor_generator(ImageList(images.tensors[:1], [SIZE]), list(features.values()))[0]
    return Theirs(features, objectness, codes, anchors, proposals, *captured[0], found)


@torch.no_grad()
def test_every_quantity_of_inference(case, pictures):
    theirs, net = run(case.theirs, pictures), case.mine
    raw = net.raw(pictures)
    for level, (mine, other) in enumerate(zip(raw.pyramid, theirs.features.values(), strict=True)):
        same(case, f"P{level + 2}", mine, other)
    for mine, other in zip(raw.objectness, theirs.objectness, strict=True):
        same(case, "proposal logits", mine, other.permute(0, 2, 3, 1).flatten(1))
    for mine, other in zip(raw.codes, theirs.codes, strict=True):
        batch, _, h, w = other.shape
        same(
            case,
            "proposal codes",
            mine,
            other.reshape(batch, 3, 4, h, w).permute(0, 3, 4, 1, 2).flatten(1, 3),
        )
    same(case, "anchors", torch.cat(net.anchors(SIZE)), theirs.anchors, rtol=0)
    proposals, scores = net.propose(raw, net.proposals)
    for b, other in enumerate(theirs.proposals):
        assert int((scores[b] > 0).sum()) == len(other) == AFTER
        same(case, "proposals", proposals[b, nearest(proposals[b], other)], other)
    logits, codes = net.box_head(net.sample(raw, as_rois(theirs.proposals), 7))
    same(case, "class logits", logits, theirs.logits[:, [0, *case.ids]])
    same(case, "box codes", codes, theirs.box_codes.reshape(2 * AFTER, -1, 4)[:, list(case.ids)])
    found = net.detect(raw)
    for b, other in enumerate(theirs.found):
        count = len(other["scores"])
        assert count > 5
        assert int((found.scores[b] > 0).sum()) == count
        label = torch.tensor(case.ids)[found.labels[b, :count]]
        apart = 1e4 * torch.stack([label, other["labels"][:count]])
        order = nearest(
            torch.cat([found.boxes[b, :count], apart[0, :, None]], dim=1),
            torch.cat([other["boxes"], apart[1, :, None]], dim=1),
        )
        assert torch.equal(label[order], other["labels"])
        same(case, "scores", found.scores[b, order], other["scores"])
        same(case, "boxes", found.boxes[b, order], other["boxes"])
        if net.mask_head is not None:
            same(case, "masks", found.masks[b, order].sigmoid(), other["masks"][:, 0])
    assert len(torch.unique(found.labels)) > 1


def nearest(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Which of ours is each of theirs, one to one: two whose scores are equal may have changed places."""
    order = (mine[None] - theirs[:, None]).abs().amax(dim=-1).argmin(dim=1)
    assert len(torch.unique(order)) == len(theirs)
    return order


def scene(seed: int) -> Instances:
    """Ellipses, one at each edge of the picture, one of a single pixel, one large with a hole, one crowd region."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    dense = []
    for cx, cy in ((10, 60), (250, 100), (90, 3), (140, 188), *rng.uniform(40, 150, (4, 2))):
        a, b = rng.uniform(10, 30, 2)
        dense.append(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1)
    dense.append((x == 77) & (y == 33))
    ring = ((x - 128) / 100) ** 2 + ((y - 96) / 80) ** 2
    dense.append((ring < 1) & (ring > 0.3))
    dense.append((x > 200) & (y > 150))
    crowd = np.arange(len(dense)) == len(dense) - 1
    return Instances(
        size=SIZE,
        masks=Masks.from_dense(np.stack(dense)),
        class_ids=rng.integers(0, 3, len(dense)),
        classes=ClassMap(("a", "b", "c")),
        columns={"iscrowd": crowd},
    )


@pytest.mark.parametrize("blank", [False, True])
def test_losses_and_gradients(case, pictures, blank):
    """All anchors and regions are sampled on both sides. `blank`: the second picture has no object."""
    net, theirs = case.mine, case.theirs
    truths = [scene(0), Instances.empty(SIZE, scene(0).classes) if blank else scene(1)]
    targets = []
    for truth in truths:
        keep = [i for i in range(len(truth)) if not truth.columns["iscrowd"][i]] if len(truth) else []
        targets.append(
            {
                "boxes": torch.from_numpy(truth.masks.boxes[keep].reshape(-1, 4)),
                "labels": torch.tensor(case.ids)[torch.from_numpy(truth.class_ids[keep])],
                "masks": torch.from_numpy(truth.masks.to_dense()[keep].astype(np.uint8)),
            }
        )
    theirs.train()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    # All positives of a picture are fewer than the share of the samples that they may have.
    expected = theirs(list(pictures / 255), targets)
    theirs.eval()
    loss = MaskRCNNLoss(net)
    mine = [loss.targets(truth) for truth in truths]
    terms = loss(net.raw(pictures), mine, loss.normalisers(mine))
    pairs = {
        "objectness": "loss_objectness",
        "proposal": "loss_rpn_box_reg",
        "category": "loss_classifier",
        "box": "loss_box_reg",
        "mask": "loss_mask",
    }
    assert set(terms) == {name for name in pairs if pairs[name] in expected}
    label = ", one picture empty" if blank else ""
    for name, value in terms.items():
        same(case, f"loss: {name}{label}", [value.item()], [expected[pairs[name]].item()])
    parameters = [theirs.backbone.fpn.layer_blocks[0][0].weight, theirs.backbone.body.layer3[0].conv1.weight]
    own = [net.neck.output[0], net.backbone.body.layer3[0].conv1]
    own = [(m[0] if isinstance(m, nn.Sequential) else m).weight for m in own]
    for what, a, b in zip(
        ("of P2's convolution", "of the backbone"),
        torch.autograd.grad(sum(terms.values()), own),
        torch.autograd.grad(sum(expected.values()), parameters),
        strict=True,
    ):
        same(case, f"gradient {what}{label}", a, b, rtol=1e-3)
