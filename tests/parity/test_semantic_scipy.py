"""The semantic baseline's candidates against SciPy's components, and its losses against the formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from apiece.models.semantic.components import components
from apiece.models.semantic.loss import SemanticLoss
from parity.table import record
from tiny.semantic import tiny

ORACLE = "scipy.ndimage.label"
SQUARE = np.ones((3, 3))


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    """Two smooth random fields and background (1, 3, 48, 60): some twenty ragged components of two classes."""
    rng = np.random.default_rng(0)
    fields = [ndimage.gaussian_filter(rng.normal(size=(48, 60)), 1.5) * 12 for _ in range(3)]
    fields[0] += 0.8
    return np.stack(fields)[None].astype(np.float32)


@pytest.fixture(scope="module")
def theirs(logits) -> list[dict]:
    """Objects as SciPy cuts them, best score first."""
    p = np.exp(logits[0].astype(np.float64))
    p /= p.sum(0)
    kind = logits[0].argmax(0)
    ranked = np.sort(logits[0], axis=0)
    found = []
    for c in (1, 2):
        labels, count = ndimage.label(kind == c, SQUARE)
        scores = ndimage.mean(p[c], labels, np.arange(1, count + 1))
        for i, (rows, columns) in enumerate(ndimage.find_objects(labels)):
            own = labels == i + 1
            lead = np.where(kind == c, ranked[2] - ranked[1], logits[0, c] - ranked[2])
            found.append(
                {
                    "scores": scores[i],
                    "labels": c - 1,
                    "boxes": np.array([columns.start, rows.start, columns.stop, rows.stop]) * 4,
                    "masks": np.where(own, lead, -np.abs(lead)),
                }
            )
    return sorted(found, key=lambda one: -one["scores"])


@pytest.mark.parametrize("field", ["scores", "labels", "boxes", "masks"])
def test_candidates(field, logits, theirs):
    with torch.inference_mode():
        found = tiny(2).select(torch.from_numpy(logits))
    count = min(len(theirs), 20)
    assert count >= 15
    record(
        family="semantic",
        oracle=ORACLE,
        quantity=field,
        ours=getattr(found, field)[0, :count].numpy(),
        theirs=np.array([one[field] for one in theirs[:count]]),
        rtol=1e-5,
    )


def test_components():
    image = np.random.default_rng(1).integers(0, 3, (90, 130))
    expected = np.zeros(image.shape, dtype=np.int64)
    index = np.arange(image.size).reshape(image.shape)
    for c in range(3):
        labels, count = ndimage.label(image == c, SQUARE)
        first = np.asarray(ndimage.minimum(index, labels, np.arange(1, count + 1)))
        expected[labels > 0] = first[labels[labels > 0] - 1]
    record(
        family="semantic",
        oracle=ORACLE,
        quantity="components",
        ours=components(torch.from_numpy(image)[None])[0].numpy(),
        theirs=expected,
        rtol=0,
    )


@pytest.mark.parametrize("term", ["pixel", "class"])
def test_losses(term, logits):
    rng = np.random.default_rng(2)
    labels = rng.integers(-1, 3, (1, 48, 60)).astype(np.int16)
    loss = SemanticLoss(tiny(2))
    targets = list(labels)
    ours = loss(torch.from_numpy(logits), targets, loss.normalisers(targets))[term].item()
    p = np.exp(logits[0].astype(np.float64))
    p /= p.sum(0)
    taught = labels[0] >= 0
    if term == "pixel":
        picked = np.take_along_axis(p, np.maximum(labels, 0).astype(np.int64), 0)[0]
        expected = -np.log(picked[taught]).mean()
    else:
        dice = []
        for c in (1, 2):
            q = labels[0] == c
            dice.append(1 - 2 * p[c][q].sum() / ((p[c] ** 2)[taught].sum() + q.sum()))
        expected = np.mean(dice)
    record(
        family="semantic",
        oracle="the formulas in NumPy, float64",
        quantity=f"loss: {term}",
        ours=[ours],
        theirs=[expected],
    )
