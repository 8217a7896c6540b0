"""NMS in fixed shapes: equal to torchvision's, and to itself in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime
from torchvision.ops import batched_nms

from apiece.models.nms import nms_keep, nms_keep_by_class, nms_keep_by_label, translations


def scene(batch: int, n: int, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, n, 2, generator=g) * 60
    boxes = torch.cat([corner, corner + 5 + torch.rand(batch, n, 2, generator=g) * 30], dim=-1)
    # Two decimals, so that there are ties; a fifth of the slots is empty.
    scores = (torch.rand(batch, n, generator=g) * 100).round() / 100
    scores[torch.rand(batch, n, generator=g) < 0.2] = 0.0
    return boxes, scores, torch.randint(0, 3, (batch, n), generator=g)


@pytest.mark.parametrize("seed", range(5))
def test_survivors_are_torchvision_s(seed):
    boxes, scores, labels = scene(3, 80, seed)
    keep = nms_keep_by_label(boxes, scores, labels, 0.4)
    for b in range(3):
        full = torch.nonzero(scores[b] > 0)[:, 0]
        expected = full[batched_nms(boxes[b, full], scores[b, full], labels[b, full], 0.4)]
        assert set(torch.nonzero(keep[b])[:, 0].tolist()) == set(expected.tolist())
    assert torch.equal(nms_keep_by_class(boxes, scores, labels, 3, 0.4), keep)


def textbook(boxes, scores, labels, iou: float) -> np.ndarray:
    """Greedy suppression of one picture in float64."""
    boxes, scores, labels = boxes.double().numpy(), scores.numpy(), labels.numpy()
    keep = np.zeros(len(boxes), dtype=bool)
    for i in np.argsort(-scores, kind="stable"):
        better = np.flatnonzero(keep & (labels == labels[i]))
        low = np.maximum(boxes[i, :2], boxes[better, :2])
        high = np.minimum(boxes[i, 2:], boxes[better, 2:])
        both = np.prod(np.clip(high - low, 0, None), axis=1)
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        keep[i] = scores[i] > 0 and not (both > iou * (area[i] + area[better] - both)).any()
    return keep


@pytest.mark.parametrize("seed", range(5))
def test_survivors_are_the_textbook_s(seed):
    boxes, scores, labels = scene(2, 60, seed)
    boxes[:, 1] = boxes[:, 0]  # the same box twice
    boxes[:, 5, 2:] = boxes[:, 5, :2]  # no area
    for b in range(2):
        one = slice(b, b + 1)
        alone, by_class = (
            nms_keep(boxes[one], scores[one], 0.4),
            nms_keep_by_class(boxes[one], scores[one], labels[one], 3, 0.4),
        )
        np.testing.assert_array_equal(alone[0], textbook(boxes[b], scores[b], labels[b] * 0, 0.4))
        np.testing.assert_array_equal(by_class[0], textbook(boxes[b], scores[b], labels[b], 0.4))
    assert nms_keep(boxes[:, :0], scores[:, :0], 0.5).shape == (2, 0)


def test_empty_slots_suppress_nothing():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10]]])
    assert nms_keep(boxes, torch.tensor([[0.0, 0.5]]), 0.5).tolist() == [[False, True]]
    assert not nms_keep(boxes, torch.zeros(1, 2), 0.5).any()


def test_the_graph_equals_torch_for_any_batch(tmp_path: Path):
    class Net(torch.nn.Module):
        def forward(self, boxes, scores, labels):
            exact = nms_keep_by_class(boxes, scores, labels, 3, 0.4)
            return nms_keep_by_label(boxes, scores, labels, 0.4), exact

    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        Net(),
        scene(2, 40),
        dynamo=True,
        opset_version=20,
        input_names=["boxes", "scores", "labels"],
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
        custom_translation_table=translations(),
        verbose=False,
    )
    program.save(str(tmp_path / "nms.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "nms.onnx"))
    for size in (1, 2, 5):
        boxes, scores, labels = scene(size, 40, seed=size)
        for blank in (False, True):
            scores = torch.zeros_like(scores) if blank else scores
            found, exact = session.run(
                None, {"boxes": boxes.numpy(), "scores": scores.numpy(), "labels": labels.numpy()}
            )
            np.testing.assert_array_equal(found, nms_keep_by_label(boxes, scores, labels, 0.4).numpy())
            np.testing.assert_array_equal(exact, nms_keep_by_class(boxes, scores, labels, 3, 0.4).numpy())
