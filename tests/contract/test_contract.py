"""What every family must keep, whatever it is (ARCHITECTURE, "The contract that every model keeps")."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lightning_fabric import Fabric

from apiece.core.classes import ClassMap
from apiece.core.frame import Frame
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.sample import Sample
from apiece.data.synthetic import discs
from apiece.evaluate import evaluate_instances
from apiece.models.contract import Candidates
from apiece.models.decode import decode
from apiece.train.batches import Plan, batches
from apiece.train.checkpoint import load_weights, save_weights
from apiece.train.log import Log
from apiece.train.loop import Schedule, fit
from apiece.train.losses import loss_of
from apiece.train.recipe import OptimiserRecipe
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
    return ClassMap(tuple(f"class {i}" for i in range(count)))


def scene(rng: np.random.Generator) -> Sample:
    return discs(rng, (SIDE, SIDE), count=6)


def edge_cases() -> Instances:
    """A disc in each corner and on each side, cut by the border; one pixel; one object that fills the picture."""
    y, x = np.mgrid[:SIDE, :SIDE]
    ends = (0, SIDE // 2, SIDE - 1)
    centres = [(a, b) for a in ends for b in ends]
    masks = [np.hypot(x - a, y - b) < 20 for a, b in centres]
    masks += [(x == SIDE - 1) & (y == 3), np.ones((SIDE, SIDE), dtype=bool)]
    return Instances(
        (SIDE, SIDE), Masks.from_dense(np.stack(masks)), np.zeros(len(masks), np.int64), classes=classes(2)
    )


@pytest.mark.parametrize("batch", ["border", "empty", "mixed"])
def test_objects_at_the_border_and_none_at_all_can_be_learnt(net, name, batch):
    """The loss is finite, and so is the gradient, which reaches every parameter that is trained."""
    nothing = Instances.empty((SIDE, SIDE), classes(2))
    truth = {"border": [edge_cases()] * 2, "empty": [nothing] * 2, "mixed": [nothing, edge_cases()]}[batch]
    net.train()
    loss = loss_of(FAMILY_OF[name], net, 64)
    targets = [loss.targets(instances) for instances in truth]
    terms = loss(net.raw(noise(2)), targets, loss.normalisers(targets), 1, 0)
    total = torch.stack(list(terms.values())).sum()
    assert torch.isfinite(total)
    assert all(value >= 0 for value in terms.values())
    total.backward()
    trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
    assert trained
    for parameter in trained.values():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    if batch != "empty":
        assert sum(float(p.grad.abs().sum()) > 0 for p in trained.values()) > 0.8 * len(trained)


def test_training_goes_on_where_it_was_stopped(name, tmp_path: Path):
    """Two steps, a crash, two more from the checkpoint: the very weights of four steps without a crash."""
    samples = [scene(np.random.default_rng(i)) for i in range(4)]
    plan = Plan(np.full(4, 0.25), batch=2, epoch_samples=4, seed=0)

    def run(folder: Path, crash: bool, resume: bool = False) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        net = build(name, 1)
        loss = loss_of(FAMILY_OF[name], net, 32)
        folder.mkdir(exist_ok=True)

        def stream(step: int):
            for batch in batches(samples, plan, lambda sample, _: sample, loss.targets, first=step, last=4):
                if crash and step == 2:
                    raise KeyboardInterrupt
                yield batch
                step += 1

        fit(
            Fabric(accelerator="cpu", devices=1),
            net,
            loss,
            stream,
            Schedule(last=4, per_epoch=2, validate_every=100, checkpoint_every=2),
            OptimiserRecipe(warmup_steps=1),
            run=folder,
            log=Log(folder, active=False),
            resume=resume,
            channels_last=False,
            frozen_norm=False,
            seed=0,
        )
        return net.state_dict()

    whole = run(tmp_path / "whole", crash=False)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", crash=True)
    resumed = run(tmp_path / "stopped", crash=False, resume=True)
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


@pytest.mark.slow
def test_one_picture_is_learnt_by_heart(name):
    """Mask AP (where there are no outlines, box AP) of at least 0.9 on the one picture that it is trained on."""
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
            figures = evaluate_instances([sample.instances], [decoded.instances], threshold=0.5)
            best = (figures.bbox if net.box_masks else figures.segm)["AP"]
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
