"""SAM against transformers' SamModel with random weights: embedding, masks and predicted IoU, all kinds of prompts."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from apiece.models.sam.automatic import Automatic
from apiece.models.sam.image_encoder import Embedding, ImageEncoder
from apiece.models.sam.mask_decoder import MULTI, SINGLE, MaskDecoder
from apiece.models.sam.net import SAM
from apiece.models.sam.prompt_encoder import PromptEncoder, points_and_boxes
from apiece.models.sam.weights import from_transformers
from parity.table import record

ORACLE = f"transformers {transformers.__version__}"
SIDE = 112  # seven patches a side: the last window of 4 is padded


def oracle():
    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(
            hidden_size=32,
            output_channels=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=16,
            window_size=4,
            global_attn_indexes=[1, 3],
            num_pos_feats=8,
            mlp_dim=64,
        ).to_dict(),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(
            hidden_size=16, image_size=SIDE, patch_size=16, mask_input_channels=8
        ).to_dict(),
        mask_decoder_config=transformers.SamMaskDecoderConfig(
            hidden_size=16,
            mlp_dim=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            iou_head_hidden_dim=24,
            layer_norm_eps=1e-5,  # segment-anything's own; transformers has 1e-6 here
        ).to_dict(),
    )
    model = transformers.SamModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Its initialisation leaves positions and relative positions at 0, where mistakes would not show.
            parameter.normal_(std=0.3)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
    model.tie_weights()
    return model


def ours(state) -> SAM:
    net = SAM(
        classes=1,
        backbone=ImageEncoder(
            image_size=(SIDE, SIDE),
            patch=16,
            width=32,
            depth=4,
            heads=2,
            hidden=64,
            window=4,
            global_layers=(1, 3),
        ),
        neck=Embedding(32, 16),
        prompt_encoder=PromptEncoder(16, mask_width=8),
        mask_decoder=MaskDecoder(width=16, heads=2, hidden=32, depth=2, iou_hidden=24),
        mask_stride=4,
        size_divisor=16,
        frozen=False,
        automatic=Automatic(side=4),
        candidates=8,
    )
    net.load_state_dict(from_transformers(state), strict=True)
    return net.eval()


@pytest.fixture(scope="module")
def pair():
    model = oracle()
    return model, ours(model.state_dict())


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 255


def compare(quantity, mine, theirs):
    record(
        family="sam",
        oracle=ORACLE,
        quantity=quantity,
        ours=mine.detach().numpy(),
        theirs=theirs.detach().numpy(),
    )


@torch.no_grad()
def test_image_embedding(pair, images):
    model, net = pair
    compare(
        "image embedding (windows, global attention, relative positions)",
        net.raw(images).picture,
        model.get_image_embeddings(net.normalize(images)),
    )


@torch.no_grad()
def test_position_map(pair):
    model, net = pair
    compare(
        "position map",
        net.prompt_encoder.pe_layer.grid(SIDE // 16, SIDE // 16),
        model.get_image_wide_positional_embeddings(),
    )


POINTS = torch.tensor(
    [
        [[[10.0, 20.0], [55.5, 80.25]], [[0.0, 0.0], [111.0, 3.0]], [[70.0, 70.0], [40.0, 90.0]]],
        [[[33.0, 12.0], [99.0, 50.0]], [[61.0, 44.0], [5.0, 100.0]], [[20.0, 20.0], [21.0, 22.0]]],
    ]
)
LABELS = torch.tensor([[[1, 0], [1, 1], [1, -1]], [[0, 1], [1, 0], [1, 1]]])
BOXES = torch.tensor(
    [
        [[5.0, 6.0, 60.0, 70.0], [0.0, 0.0, 112.0, 112.0], [30.5, 40.25, 50.0, 44.0]],
        [[15.0, 6.0, 66.0, 71.0], [80.0, 3.0, 111.0, 110.0], [1.0, 2.0, 3.0, 4.0]],
    ]
)


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("kind", ["one point", "points", "boxes", "points and boxes"])
@torch.no_grad()
def test_prompts(pair, images, kind, multimask):
    model, net = pair
    points, labels = (POINTS, LABELS) if "point" in kind else (None, None)
    if kind == "one point":
        points, labels = POINTS[:, :, :1], torch.ones_like(LABELS[:, :, :1])
    boxes = BOXES if "boxes" in kind else None
    theirs = model(
        pixel_values=net.normalize(images),
        input_points=points,
        input_labels=labels,
        input_boxes=boxes,
        multimask_output=multimask,
    )
    mine = net.prompt(net.raw(images), *points_and_boxes(points, labels, boxes))
    tokens = MULTI if multimask else SINGLE
    name = f"{kind}, {'three masks' if multimask else 'one mask'}"
    compare(f"mask logits of {name}", mine.masks(tokens), theirs.pred_masks)
    compare(f"predicted IoU of {name}", mine.iou[:, :, tokens], theirs.iou_scores)


@pytest.mark.parametrize("multimask", [False, True])
@torch.no_grad()
def test_previous_mask(pair, images, multimask):
    """transformers takes one mask for all prompts of a picture, so one prompt each."""
    model, net = pair
    points, labels = POINTS[:, :1], LABELS[:, :1]
    previous = torch.randn(2, 1, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(2)) * 5
    theirs = model(
        pixel_values=net.normalize(images),
        input_points=points,
        input_labels=labels,
        input_masks=previous,
        multimask_output=multimask,
    )
    mine = net.prompt(
        net.raw(images),
        *points_and_boxes(points, labels, None),
        previous,
        torch.ones(2, 1, dtype=torch.bool),
    )
    tokens = MULTI if multimask else SINGLE
    name = f"points and a previous mask, {'three masks' if multimask else 'one mask'}"
    compare(f"mask logits of {name}", mine.masks(tokens), theirs.pred_masks)
    compare(f"predicted IoU of {name}", mine.iou[:, :, tokens], theirs.iou_scores)
    # A prompt without a mask beside one with a mask is as if it were alone.
    both = net.prompt(
        net.raw(images),
        *points_and_boxes(POINTS[:, :2], LABELS[:, :2], None),
        previous.expand(-1, 2, -1, -1),
        torch.tensor([[True, False]] * 2),
    )
    alone = net.prompt(net.raw(images), *points_and_boxes(POINTS[:, 1:2], LABELS[:, 1:2], None))
    torch.testing.assert_close(both.masks(tokens)[:, 1:], alone.masks(tokens), rtol=1e-4, atol=1e-4)
