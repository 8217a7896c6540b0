"""Mask2Former against transformers with the same random weights: every quantity from the pixels to the losses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as F

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.synthetic import discs
from apiece.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from apiece.models.mask2former.loss import Mask2FormerLoss
from apiece.models.mask2former.masked_attention import MaskedDecoder, Prediction, attention_mask
from apiece.models.mask2former.net import Mask2Former
from apiece.models.mask2former.pixel_decoder import PixelDecoder
from apiece.models.mask2former.weights import from_transformers
from parity.table import record

ORACLE = f"transformers {'.'.join(transformers.__version__.split('.')[:2])}"
CLASSES, QUERIES, LAYERS = 3, 10, 4
SIZE = (96, 160)  # windows of Swin do not divide its maps


def same(quantity: str, ours, theirs, rtol: float = 1e-4) -> None:
    ours, theirs = (x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in (ours, theirs))
    record(family="mask2former", oracle=ORACLE, quantity=quantity, ours=ours, theirs=theirs, rtol=rtol)


def oracle(backbone: str):
    if backbone == "swin_test":
        config = transformers.SwinConfig(
            embed_dim=16,
            depths=[2, 2, 2, 2],
            num_heads=[1, 2, 2, 4],
            window_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
    else:
        config = transformers.TimmBackboneConfig(backbone=backbone, out_indices=[1, 2, 3, 4])
    torch.manual_seed(0)
    model = transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(
            backbone_config=config,
            num_labels=CLASSES,
            num_queries=QUERIES,
            feature_size=64,
            mask_feature_size=32,
            hidden_dim=64,
            encoder_feedforward_dim=96,
            dim_feedforward=80,
            encoder_layers=2,
            decoder_layers=LAYERS + 1,
            num_attention_heads=4,
            train_num_points=600,
        )
    ).eval()
    # Everything away from its neutral start, so that nothing cancels.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.startswith("criterion") or not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            value += noise.abs() if name.endswith("running_var") else 0.05 * noise
    return model


def ours(backbone: str, model) -> Mask2Former:
    body = Backbone(backbone, levels=(2, 3, 4, 5))
    net = Mask2Former(
        classes=CLASSES,
        backbone=body,
        pixel_decoder=PixelDecoder(
            body.channels, width=64, outputs=32, layers=2, heads=4, hidden=96, points=4
        ),
        decoder=MaskedDecoder(CLASSES, QUERIES, width=64, outputs=32, layers=LAYERS, heads=4, hidden=80),
        candidates=QUERIES,
        score_stride=1,
        points=600,
    )
    net.load_state_dict(from_transformers(model.state_dict()), strict=True)
    return net.eval()


@pytest.fixture(scope="module", params=["swin_test", "test_resnet"])
def pair(request):
    model = oracle(request.param)
    return request.param, ours(request.param, model), model


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(5)
    return [discs(rng, SIZE, count=count) for count in (3, 5)]


def tensor(samples) -> torch.Tensor:
    return torch.from_numpy(np.stack([s.image.transpose(2, 0, 1) for s in samples])).float()


def normalised(images: torch.Tensor) -> torch.Tensor:
    return (images - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


@pytest.fixture(scope="module")
def outputs(pair, pictures):
    """Both sides' outputs, and what their mask predictor gave the attention after each layer."""
    backbone, net, model = pair
    images = tensor(pictures)
    hidden = []
    hook = model.model.transformer_module.decoder.mask_predictor.register_forward_hook(
        lambda module, args, result: hidden.append(result[1])
    )
    with torch.no_grad():
        theirs = model(normalised(images), output_hidden_states=True, output_auxiliary_logits=True)
        maps = net.backbone(net.normalize(images))
        pixels = net.pixel_decoder(maps)
        raw = net.raw(images)
    hook.remove()
    return backbone, maps, pixels, raw, theirs, hidden


def test_features(outputs):
    backbone, maps, pixels, raw, theirs, _ = outputs
    for level in range(4):
        same(f"backbone C{level + 2} ({backbone})", maps[level], theirs.encoder_hidden_states[level])
    for scale, mine, other in zip(
        (32, 16, 8), pixels.scales, theirs.pixel_decoder_hidden_states, strict=True
    ):
        same(f"pixel decoder, stride {scale}", mine, other)
    same("mask features", raw.features, theirs.pixel_decoder_last_hidden_state)


def layers(theirs):
    return [
        *((x["class_queries_logits"], x["masks_queries_logits"]) for x in theirs.auxiliary_logits),
        (theirs.class_queries_logits, theirs.masks_queries_logits),
    ]


def test_predictions_of_every_layer(outputs):
    _, _, pixels, raw, theirs, hidden = outputs
    assert len(raw.predictions) == len(layers(theirs)) == LAYERS + 1
    for i, (mine, (categories, masks)) in enumerate(zip(raw.predictions, layers(theirs), strict=True)):
        same("class logits, every layer", mine.categories, categories)
        same("mask logits, every layer", mine.embeddings @ raw.features.flatten(2), masks.flatten(2))
        size = pixels.scales[i % 3].shape[-2:]
        reduced = F.interpolate(raw.features, size=size, mode="bilinear", align_corners=False).flatten(2)
        # Theirs says who is hidden, once a head, and before empty rows are opened.
        shown = ~hidden[i].reshape(len(categories), 4, QUERIES, -1)[:, 0]
        shown = shown | ~shown.any(dim=2, keepdim=True)
        same("attention masks", attention_mask(mine.embeddings, reduced).float(), shown.float(), rtol=0)


def truths(pictures) -> list[Instances]:
    """Objects of several classes; one at the border, one of a single pixel."""
    made = []
    for sample in pictures:
        dense = sample.instances.masks.to_dense()
        extra = np.zeros((2, *SIZE), dtype=bool)
        extra[0, 60:, 140:] = True
        extra[1, 17, 33] = True
        dense = np.concatenate([dense, extra])
        made.append(
            Instances(
                size=SIZE,
                masks=Masks.from_dense(dense),
                class_ids=np.arange(len(dense)) % CLASSES,
                classes=ClassMap(tuple("abc")),
            )
        )
    return made


def test_losses_at_the_same_points(pair, pictures, monkeypatch):
    _, net, model = pair
    images, instances = tensor(pictures), truths(pictures)
    draw = torch.rand

    def drawing():
        generator = torch.Generator().manual_seed(3)
        monkeypatch.setattr(torch, "rand", lambda *shape, **_: draw(*shape, generator=generator))

    for parameter in (*net.parameters(), *model.parameters()):
        parameter.grad = None
    found = []
    criterion = model.criterion
    original = criterion.forward
    monkeypatch.setattr(criterion, "forward", lambda *a, **k: found.append(original(*a, **k)) or found[-1])
    drawing()
    theirs = model(
        normalised(images),
        mask_labels=[torch.from_numpy(i.masks.to_dense()).float() for i in instances],
        class_labels=[torch.from_numpy(i.class_ids.copy()) for i in instances],
    )
    theirs.loss.backward()
    drawing()
    loss = Mask2FormerLoss(net)
    targets = [loss.targets(i) for i in instances]
    terms = loss(net.raw(images), targets, loss.normalisers(targets))
    torch.stack(list(terms.values())).sum().backward()
    whole = found[-1]
    for term, name in (("category", "loss_cross_entropy"), ("mask", "loss_mask"), ("dice", "loss_dice")):
        # `get_loss_dict` has weighted them in place.
        same(f"loss: {term}", terms[term], sum(v for k, v in whole.items() if k.startswith(name)))
    same("loss", sum(terms.values()), theirs.loss)
    state = {k: v.grad for k, v in model.named_parameters() if v.grad is not None}
    mapped = from_transformers(state)
    for name, parameter in net.named_parameters():
        # A key's bias adds the same to a whole softmax: its gradient is rounding and nothing else.
        if name.endswith("key.bias"):
            continue
        same("gradients of the loss", parameter.grad, mapped[name], rtol=5e-4)


def test_instances_are_the_reference_s(pair, outputs):
    """The whole decode at their resolution: masks of 384 × 384, where their resampling changes nothing."""
    _, net, _ = pair
    raw = outputs[3]
    features = F.interpolate(raw.features[:1], (384, 384), mode="bilinear", align_corners=False)
    last = Prediction(raw.predictions[-1].categories[:1], raw.predictions[-1].embeddings[:1])
    masks = (last.embeddings @ features.flatten(2)).unflatten(2, (384, 384))
    processor = transformers.Mask2FormerImageProcessor()
    found = SimpleNamespace(class_queries_logits=last.categories, masks_queries_logits=masks)
    expected = processor.post_process_instance_segmentation(found, threshold=0.0, return_binary_maps=True)[0]
    net.score_stride = 4
    mine = net.select(last, features)
    net.score_stride = 1
    order = np.argsort([-s["score"] for s in expected["segments_info"]], kind="stable")
    kept = mine.scores[0] > 0
    assert int(kept.sum()) == len(order)
    same("scores", mine.scores[0][kept], [expected["segments_info"][i]["score"] for i in order])
    same("labels", mine.labels[0][kept], [expected["segments_info"][i]["label_id"] for i in order], rtol=0)
    same(
        "masks", (mine.masks[0][kept] > 0).float(), expected["segmentation"][torch.from_numpy(order)], rtol=0
    )


def test_scores_of_an_input_are_the_reference_s(pair):
    """score_stride 1 is the reference's mean over the input's pixels (384 × 384, as it resamples to)."""
    _, net, model = pair
    image = tensor([discs(np.random.default_rng(2), (384, 384), count=6)])
    with torch.no_grad():
        theirs, mine = model(normalised(image)), net(image)
    processor = transformers.Mask2FormerImageProcessor()
    expected = processor.post_process_instance_segmentation(
        theirs, threshold=0.0, return_binary_maps=True, target_sizes=[(384, 384)]
    )[0]
    order = np.argsort([-s["score"] for s in expected["segments_info"]], kind="stable")
    kept = mine.scores[0] > 0
    same(
        "scores, whole network", mine.scores[0][kept], [expected["segments_info"][i]["score"] for i in order]
    )
    labels = [expected["segments_info"][i]["label_id"] for i in order]
    same("labels, whole network", mine.labels[0][kept], labels, rtol=0)
    masks = F.interpolate(mine.masks, (384, 384), mode="bilinear", align_corners=False)[0][kept] > 0
    differ = (masks != expected["segmentation"][torch.from_numpy(order)].bool()).float().mean()
    same("masks, whole network (share of pixels that differ)", 1 + differ, 1.0, rtol=1e-4)
