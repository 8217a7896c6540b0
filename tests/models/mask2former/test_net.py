"""What inference leaves out changes nothing, and seeded queries start as discs about their cells."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from apiece.models.mask2former.masked_attention import UNIT, append_distances
from tiny.mask2former import tiny_mask2former


@pytest.mark.parametrize("light", [False, True])
def test_inference_is_the_last_layer_of_training(light):
    torch.manual_seed(0)
    net = tiny_mask2former(2, light=light).eval()
    images = torch.rand(2, 3, 64, 96) * 255
    with torch.no_grad():
        raw, found = net.raw(images), net(images)
        expected = net.select(raw.predictions[-1], raw.features)
    assert len(raw.predictions) == len(net.decoder.layers) + 1
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert found.masks.shape == (2, net.candidates, 16, 24)


def test_seeded_masks_start_as_discs_about_their_cells():
    torch.manual_seed(0)
    net = tiny_mask2former(1, light=True).eval()
    # A cell of stride 16 with its centre at x 24, y 40.
    cells = torch.tensor([[[24.0, 40.0, 16.0]]]) / UNIT
    features = append_distances(torch.zeros(1, 32, 16, 24))
    with torch.no_grad():
        embeddings = net.decoder._embeddings(torch.randn(1, 1, 32), cells)
        logits = (embeddings @ features.flatten(2)).reshape(16, 24)
    y, x = (4.0 * torch.arange(16) + 2)[:, None], 4.0 * torch.arange(24) + 2
    expected = 2 - ((x - 24) ** 2 + (y - 40) ** 2) / 48**2
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_scores_over_finer_pixels_are_close():
    torch.manual_seed(0)
    net = tiny_mask2former(2).eval()
    images = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        coarse = net(images).scores
        net.score_stride = 1
        fine = net(images).scores
    torch.testing.assert_close(coarse, fine, rtol=0.1, atol=1e-3)
