"""What every family must keep, whatever it is (ARCHITECTURE, "The contract that every model keeps")."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apiece.core.frame import Frame
from apiece.data.sample import Sample
from apiece.data.synthetic import discs
from apiece.evaluate import evaluate_instances
from apiece.models.contract import Candidates
from apiece.models.decode import decode
from apiece.train.checkpoint import load_weights, save_weights
from apiece.train.losses import loss_of
from tiny import FAMILY_OF, build, confident

SIDE = 128
FIELDS = ("scores", "labels", "boxes", "masks")


@pytest.fixture(params=sorted(FAMILY_OF))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def net(name: str):
    torch.manual_seed(7)
    return confident(name, build(name, 2)).eval()


def noise(batch: int) -> torch.Tensor:
    return torch.rand(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7)) * 255


def contract(net, found) -> Candidates:
    return Candidates(*(value.numpy() for value in found), mask_frame=net.mask_frame)


@torch.inference_mode()
def test_shapes_and_order(net):
    found = contract(net, net(noise(2)))
    assert len(found) == 2
    assert found.capacity == net.candidates
    assert found.scores.dtype == np.float32
    assert found.labels.dtype == np.int64
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert found.scores.max() > 0.05, "nothing was found, so the other checks would compare nothing"
    assert ((found.labels >= 0) & (found.labels < 2)).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= SIDE).all()


@torch.inference_mode()
def test_an_empty_picture_is_ordinary(name):
    net = build(name, 2).eval()
    found = contract(net, net(torch.zeros(1, 3, SIDE, SIDE)))
    decoded = decode(
        found,
        0,
        Frame.letterbox((SIDE, SIDE), (SIDE, SIDE)),
        classes(2),
        threshold=0.5,
        boxes_from=net.boxes_from,
    )
    assert len(decoded.instances) == 0
    assert not decoded.instances.truncated


@torch.inference_mode()
def test_a_picture_gives_the_same_candidates_alone_and_in_a_batch(net):
    images = noise(3)
    together, alone = net(images), net(images[1:2])
    for field in FIELDS:
        torch.testing.assert_close(getattr(together, field)[1:2], getattr(alone, field), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_saved_and_loaded_weights_are_the_same_network(net, name, tmp_path: Path):
    save_weights(tmp_path / "w.safetensors", net)
    torch.manual_seed(99)
    other = build(name, 2).eval()
    load_weights(tmp_path / "w.safetensors", other)
    images = noise(1)
    for field in FIELDS:
        torch.testing.assert_close(getattr(net(images), field), getattr(other(images), field), rtol=0, atol=0)


@torch.inference_mode()
def test_k_reached_is_reported(net):
    found = contract(net, net(noise(1)))
    full = np.flatnonzero(found.scores[0] > 0)
    if len(full) < found.capacity:
        scores = np.full_like(found.scores, 0.9)
        found = Candidates(scores, found.labels, found.boxes, found.masks, found.mask_frame)
    decoded = decode(
        found,
        0,
        Frame.letterbox((SIDE, SIDE), (SIDE, SIDE)),
        classes(2),
        threshold=1e-4,
        boxes_from=net.boxes_from,
    )
    assert decoded.instances.truncated


def classes(count: int):
    from apiece.core.classes import ClassMap

    return ClassMap(tuple(f"class {i}" for i in range(count)))


def scene(rng: np.random.Generator) -> Sample:
    return discs(rng, (SIDE, SIDE), count=6)


@pytest.mark.slow
def test_one_picture_is_learnt_by_heart(name):
    """Mask AP of at least 0.9 on the one picture that the network is trained on."""
    torch.manual_seed(0)
    net = build(name, 1)
    # Large enough for masks of stride 4: half a pixel of outline must not cost more than 5 % of IoU.
    sample = discs(np.random.default_rng(3), (SIDE, SIDE), count=4, radius=(18, 26))
    loss = loss_of(FAMILY_OF[name], net, None)
    targets = [loss.targets(sample.instances)] * 2
    image = (
        torch.from_numpy(sample.image.transpose(2, 0, 1).copy())
        .float()[None]
        .expand(2, -1, -1, -1)
        .contiguous()
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.0)
    best = 0.0
    steps = 400
    for step in range(steps):
        net.train()
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        terms = loss(net.raw(image), targets, loss.normalisers(targets))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        if step >= 150 and step % 50 == 49:
            net.eval()
            with torch.inference_mode():
                found = contract(net, net(image[:1]))
            decoded = decode(
                found,
                0,
                Frame.letterbox(sample.size, sample.size),
                sample.instances.classes,
                threshold=0.05,
                boxes_from=net.boxes_from,
            )
            best = evaluate_instances([sample.instances], [decoded.instances], threshold=0.5).segm["AP"]
            if best >= 0.9:
                break
    assert best >= 0.9


@pytest.mark.slow
def test_the_exported_graph_equals_the_network(net, name, tmp_path: Path):
    from apiece.deploy.export import write_card
    from apiece.deploy.parity import FLOAT32, compare
    from apiece.models.card import ModelCard
    from apiece.models.to_onnx import to_onnx
    from apiece.predict.runtime_onnx import OnnxRuntime

    card = ModelCard(
        name="tiny",
        family=FAMILY_OF[name],
        builder=name,
        classes=classes(2),
        input_size=(SIDE, SIDE),
        mask_frame=net.mask_frame,
        boxes_from=net.boxes_from,
        threshold=0.3,
        licence="Apache-2.0",
        origin="random",
        data="none",
    )
    to_onnx(net, card.input_size, tmp_path / "tiny.onnx")
    write_card(tmp_path / "tiny.onnx", card)
    runtime = OnnxRuntime(tmp_path / "tiny.onnx")
    assert runtime.card == card
    rng = np.random.default_rng(0)
    images = np.concatenate(
        [
            np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8),
            rng.integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8),
            np.stack([scene(rng).image for _ in range(2)]),
        ]
    )

    class Eager:
        def __init__(self) -> None:
            self.card = card

        @torch.inference_mode()
        def __call__(self, batch):
            return contract(net, net(torch.from_numpy(batch).permute(0, 3, 1, 2).float()))

    parity = compare(Eager(), runtime, images, FLOAT32)
    assert parity.objects > 0
    assert parity.passed, parity.to_text()
    # Dynamic batch: the same pictures at once.
    together = runtime(images)
    for i, image in enumerate(images):
        np.testing.assert_allclose(
            together.scores[i : i + 1], runtime(image[None]).scores, rtol=1e-4, atol=1e-5
        )
