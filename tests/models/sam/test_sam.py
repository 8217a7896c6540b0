"""SAM's network beyond what the contract and parity tests hold."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apiece.models.sam.automatic import Automatic, distinct, in_content
from apiece.models.sam.image_encoder import Embedding, ImageEncoder, distances
from apiece.models.sam.mask_decoder import MULTI, MaskDecoder, distance_kernels, distance_maps, places
from apiece.models.sam.net import SAM
from apiece.models.sam.prompt_encoder import PromptEncoder, points_and_boxes
from apiece.models.sam.prompts import INSIDE, LOWER_RIGHT, NOTHING, UPPER_LEFT
from apiece.models.sam.tiny_vit import TinyViT
from apiece.train.loop import optimiser
from apiece.train.recipe import OptimiserRecipe
from tiny.sam import confident, tiny_sam

SIDE = 64


def with_encoder(backbone) -> SAM:
    return confident(
        SAM(
            classes=1,
            backbone=backbone,
            neck=Embedding(backbone.channels[-1], 16),
            prompt_encoder=PromptEncoder(16, mask_width=8),
            mask_decoder=MaskDecoder(width=16, heads=2, hidden=32, depth=2, iou_hidden=16),
            mask_stride=4,
            size_divisor=16,
            frozen=True,
            automatic=Automatic(side=3, chunk=4, iou=0.1, stability=0.1),
            candidates=6,
        )
    ).eval()


def vit() -> SAM:
    return with_encoder(
        ImageEncoder(
            image_size=(SIDE, SIDE),
            patch=16,
            width=16,
            depth=2,
            heads=2,
            hidden=32,
            window=3,
            global_layers=(1,),
        )
    )


def tiny_vit() -> SAM:
    return with_encoder(
        TinyViT(
            widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 2, 2), windows=(3, 4, 3), strides=(2, 2, 1)
        )
    )


def picture(side: int = SIDE, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.parametrize("build", [vit, tiny_vit])
@torch.inference_mode()
def test_both_published_encoders_keep_the_contract(build):
    net = build()
    found = net(picture(batch=2))
    assert found.masks.shape == (2, 6, 16, 16)
    assert found.scores.max() > 0.05
    assert (found.scores[:, 1:] <= found.scores[:, :-1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("build", [vit, tiny_vit])
def test_both_published_encoders_export(build, tmp_path):
    import onnxruntime

    from apiece.models.sam.to_onnx import EncoderGraph

    torch.manual_seed(1)
    graph = EncoderGraph(build()).eval()
    torch.onnx.export(
        graph,
        (torch.zeros((2, SIDE, SIDE, 3), dtype=torch.uint8),),
        tmp_path / "net.onnx",
        dynamo=True,
        opset_version=20,
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
        verbose=False,
    )
    images = picture(batch=3).round().byte().permute(0, 2, 3, 1).contiguous()
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (mine,) = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        (theirs,) = graph(images)
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_other_sizes_interpolate_the_positions():
    net = vit()
    torch.nn.init.normal_(net.backbone.pos_embed)
    torch.nn.init.normal_(net.backbone.blocks[1].attn.rel_pos_h)
    assert net.raw(picture(96)).picture.shape == (1, 16, 6, 6)
    table = torch.arange(7.0)[:, None]
    assert distances(table, 4)[..., 0].tolist() == [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]


def test_a_frozen_encoder_is_not_trained():
    net = tiny_vit().train()
    assert not net.backbone.training
    assert net.mask_decoder.training
    trained = {id(p) for group in optimiser(net, OptimiserRecipe()).param_groups for p in group["params"]}
    assert not trained & {id(p) for p in net.backbone.parameters()}
    assert trained == {id(p) for p in [*net.prompt_encoder.parameters(), *net.mask_decoder.parameters()]}


@torch.inference_mode()
def test_chunks_of_the_grid_change_nothing():
    torch.manual_seed(0)
    net = confident(tiny_sam(1)).eval()
    images = picture(128, 2)
    a = net(images)
    net.automatic = net.automatic._replace(chunk=1000)
    b = net(images)
    for mine, theirs in zip(a, b, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_filler_points_say_nothing_new():
    """Prompts of one and of two points in one batch: the shorter is filled up as the published code does."""
    torch.manual_seed(0)
    net = confident(tiny_sam(1)).eval()
    raw = net.raw(picture(128))
    points = torch.tensor([[[[30.0, 20.0], [50.0, 60.0]], [[30.0, 20.0], [0.0, 0.0]]]])
    labels = torch.tensor([[[1, 1], [1, -1]]])
    both = net.prompt(raw, *points_and_boxes(points, labels, None))
    moved = points.clone()
    moved[:, 1, 1] = 99.0
    again = net.prompt(raw, *points_and_boxes(moved, labels, None))
    torch.testing.assert_close(both.iou, again.iou, rtol=0, atol=0)


def test_padding_is_not_asked():
    images = torch.zeros(2, 3, 10, 10)
    images[0, 1, :6, :8] = 5
    points = torch.tensor([[7.4, 5.4], [7.6, 5.0], [7.0, 5.6], [0.0, 0.0]])
    assert in_content(points, images).tolist() == [[True, False, False, True], [False] * 4]


def test_masks_that_overlap_a_better_one_are_dropped():
    masks = torch.full((1, 4, 8, 8), -1.0)
    masks[0, 0, :4] = 1
    masks[0, 1, :4, :7] = 1
    masks[0, 2, 4:] = 1
    masks[0, 3, :4] = 1
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.0]])
    assert distinct(masks, scores, 0.7).tolist() == [[True, False, True, True]]
    assert distinct(masks, scores, 0.9)[0, 1]


@torch.inference_mode()
def test_one_token_is_the_same_alone():
    torch.manual_seed(0)
    net = vit()
    answer = net.prompt(
        net.raw(picture()), *points_and_boxes(torch.rand(1, 3, 1, 2) * 60, torch.ones(1, 3, 1), None)
    )
    token = torch.tensor([[1, 3, 2]])
    alone = answer.chosen(token)
    for i, t in enumerate(token[0]):
        torch.testing.assert_close(alone[0, i], answer.masks(MULTI)[0, i, t - 1])


def test_too_many_candidates_are_refused():
    with pytest.raises(ValueError, match="candidates from 3 masks"):
        SAM(
            classes=1,
            backbone=TinyViT(
                widths=(8,) * 4, depths=(1,) * 4, heads=(1,) * 3, windows=(2,) * 3, strides=(2, 2, 1)
            ),
            neck=Embedding(8, 16),
            prompt_encoder=PromptEncoder(16, mask_width=8),
            mask_decoder=MaskDecoder(width=16, heads=2, hidden=32, depth=1, iou_hidden=16),
            mask_stride=4,
            size_divisor=16,
            frozen=True,
            automatic=Automatic(side=2),
            candidates=13,
        )


def test_an_ellipse_is_drawn_where_the_prompt_is():
    """Before anything is learnt: inside a box's ellipse the logit is positive, outside negative."""
    points = torch.tensor([[[[20.0, 30.0], [59.0, 49.0]], [[80.0, 70.0], [0.0, 0.0]]]])
    labels = torch.tensor([[[UPPER_LEFT, LOWER_RIGHT], [INSIDE, NOTHING]]])
    around = places(points, labels, (100, 100))
    torch.testing.assert_close(around[0, 0], torch.tensor([0.4, 0.4, 0.195, 0.095]))
    torch.testing.assert_close(around[0, 1], torch.tensor([0.805, 0.705, 0.1, 0.1]))
    untouched = torch.tensor([2.0, 0.0, 0.0, 0.0]).expand(2, 1, 4)
    kernels = distance_kernels(untouched, around[0])
    logits = (kernels @ distance_maps(100, 100, kernels.device).flatten(2)).reshape(2, 100, 100)
    y, x = torch.meshgrid(torch.arange(100.0) + 0.5, torch.arange(100.0) + 0.5, indexing="ij")
    box = ((x - 40) / 19.5) ** 2 + ((y - 40) / 9.5) ** 2
    point = ((x - 80.5) / 10) ** 2 + ((y - 70.5) / 10) ** 2
    for logit, distance in ((logits[0], box), (logits[1], point)):
        clear = (distance - 1).abs() > 1e-3
        assert torch.equal((logit > 0)[clear], (distance < 1)[clear])
