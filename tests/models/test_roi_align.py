"""RoIAlign over a pyramid: torchvision's values, eager and in ONNX Runtime, at every batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ops = pytest.importorskip("torchvision.ops")

from apiece.models.roi_align import align, levels_of, sample_rois, translations, walk, with_picture


def pyramid_and_boxes(batch: int, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    pyramid = [torch.randn(batch, 3, 256 // s, 320 // s, generator=g) for s in (4, 8, 16, 32)]
    corner = torch.rand(batch, 9, 2, generator=g) * 200
    boxes = torch.cat([corner, corner + 2 + torch.rand(batch, 9, 2, generator=g) * 60], dim=-1)
    boxes[:, 0] = torch.tensor([0.0, 0.0, 320.0, 256.0])
    boxes[:, 1] = torch.tensor([3.0, 4.0, 3.0, 4.0])  # no area
    boxes[:, 2] = torch.tensor([0.0, 0.0, 112.0, 112.0])  # exactly between two levels
    boxes[:, 3] = torch.tensor([40.0, 10.0, 264.0, 234.0])
    boxes[:, 4] = torch.tensor([300.0, 230.0, 330.0, 270.0])  # partly outside
    return pyramid, boxes


def test_values_and_gradients_are_torchvision_s():
    pyramid, boxes = pyramid_and_boxes(2)
    theirs = ops.MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    mine = [maps.clone().requires_grad_(True) for maps in pyramid]
    other = [maps.clone().requires_grad_(True) for maps in pyramid]
    found = sample_rois(mine, with_picture(boxes), 7)
    expected = theirs({str(i): m for i, m in enumerate(other)}, list(boxes), [(256, 320)] * 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_level_by_size():
    sides = torch.tensor([0.0, 100.0, 112.0, 223.0, 224.0, 448.0, 5000.0])
    rois = torch.stack([sides * 0, sides * 0, sides * 0, sides, sides], dim=1)
    assert levels_of(rois, 4, 2).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_neighbours_follow_each_other():
    _, boxes = pyramid_and_boxes(3)
    rois = with_picture(boxes)
    level = levels_of(rois, 4, 2)
    order = walk(rois, level, 2)
    assert sorted(order.tolist()) == list(range(len(rois)))
    assert (level[order].diff() >= 0).all()
    for k in range(4):
        pictures = rois[order][level[order] == k, 0]
        assert (pictures.diff() >= 0).all()


class Align(torch.nn.Module):
    def forward(self, pyramid, boxes):
        features, order = align(pyramid, with_picture(boxes), 7)
        return features[torch.argsort(order)]


def test_onnxruntime_equals_eager_at_any_batch(tmp_path: Path):
    ort = pytest.importorskip("onnxruntime")
    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        Align().eval(),
        pyramid_and_boxes(2),
        dynamo=True,
        opset_version=20,
        input_names=["p2", "p3", "p4", "p5", "boxes"],
        dynamic_shapes=([{0: batch}] * 4, {0: batch}),
        custom_translation_table=translations(),
        verbose=False,
    )
    program.save(str(tmp_path / "roi.onnx"))
    session = ort.InferenceSession(str(tmp_path / "roi.onnx"), providers=["CPUExecutionProvider"])
    for size in (1, 2, 3):
        pyramid, boxes = pyramid_and_boxes(size, seed=1)
        inputs = dict(zip(("p2", "p3", "p4", "p5"), (m.numpy() for m in pyramid), strict=True))
        found = session.run(None, inputs | {"boxes": boxes.numpy()})[0]
        expected = sample_rois(pyramid, with_picture(boxes), 7)
        torch.testing.assert_close(Align()(pyramid, boxes), expected, rtol=0, atol=0)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        # All regions in one level: the others get none.
        few = boxes[:, 1:2].clone()
        found = session.run(None, inputs | {"boxes": few.repeat(1, 9, 1).numpy()})[0]
        np.testing.assert_allclose(
            found[:1], sample_rois(pyramid, with_picture(few), 7)[:1], rtol=1e-4, atol=1e-5
        )
