"""Published names -> ours, on complete lists of names and shapes, without tensors in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from apiece.errors import WeightsError
from apiece.models.yolact.net import yolact_darknet53, yolact_r50, yolact_r101
from apiece.models.yolact.weights import from_yolact

CLASSES = 80


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = {
        "weight": (channels,),
        "bias": (channels,),
        "running_mean": (channels,),
        "running_var": (channels,),
    }
    return {f"{name}.{part}": shape for part, shape in (parts | {"num_batches_tracked": ()}).items()}


def resnet(depths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of dbolya/yolact's ResNet with bottlenecks."""
    names: dict[str, tuple[int, ...]] = {}
    inputs = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for block in range(depth):
            at = f"backbone.layers.{stage}.{block}"
            for i, shape in enumerate(
                ((width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)), 1
            ):
                names[f"{at}.conv{i}.weight"] = shape
                names |= norm(f"{at}.bn{i}", shape[0])
            if block == 0:
                names[f"{at}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                names |= norm(f"{at}.downsample.1", 4 * width)
            inputs = 4 * width
    return names | {"backbone.conv1.weight": (64, 3, 7, 7)} | norm("backbone.bn1", 64)


def darknet() -> dict[str, tuple[int, ...]]:
    """Names and shapes of dbolya/yolact's Darknet-53."""
    names = {"backbone._preconv.0.weight": (32, 3, 3, 3)} | norm("backbone._preconv.1", 32)
    for stage, depth in enumerate((1, 2, 8, 8, 4)):
        width = 32 * 2**stage
        at = f"backbone.layers.{stage}"
        names[f"{at}.0.0.weight"] = (2 * width, width, 3, 3)
        names |= norm(f"{at}.0.1", 2 * width)
        for block in range(1, depth + 1):
            names[f"{at}.{block}.conv1.0.weight"] = (width, 2 * width, 1, 1)
            names |= norm(f"{at}.{block}.conv1.1", width)
            names[f"{at}.{block}.conv2.0.weight"] = (2 * width, width, 3, 3)
            names |= norm(f"{at}.{block}.conv2.1", 2 * width)
    return names


def rest(channels: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of everything but the backbone; its channels fine to coarse."""
    convs: dict[str, tuple[int, ...]] = {f"proto_net.{i}": (256, 256, 3, 3) for i in (0, 2, 4, 8)}
    convs["proto_net.10"] = (32, 256, 1, 1)
    for i, inputs in enumerate(reversed(channels)):
        convs[f"fpn.lat_layers.{i}"] = (256, inputs, 1, 1)
        convs[f"fpn.pred_layers.{i}"] = (256, 256, 3, 3)
    for i in (0, 1):
        convs[f"fpn.downsample_layers.{i}"] = (256, 256, 3, 3)
    convs["prediction_layers.0.upfeature.0"] = (256, 256, 3, 3)
    for name, values in (("bbox", 4), ("conf", 1 + CLASSES), ("mask", 32)):
        convs[f"prediction_layers.0.{name}_layer"] = (3 * values, 256, 3, 3)
    convs["semantic_seg_conv"] = (CLASSES, 256, 1, 1)
    return {f"{n}.weight": s for n, s in convs.items()} | {f"{n}.bias": s[:1] for n, s in convs.items()}


PUBLISHED = {
    "r50": (yolact_r50, lambda: resnet((3, 4, 6, 3)) | rest((512, 1024, 2048))),
    "r101": (yolact_r101, lambda: resnet((3, 4, 23, 3)) | rest((512, 1024, 2048))),
    "darknet53": (yolact_darknet53, lambda: darknet() | rest((256, 512, 1024))),
}


def meta(names: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in names.items()}


@pytest.mark.parametrize("which", sorted(PUBLISHED))
def test_every_tensor_of_theirs_fills_one_of_ours(which: str):
    build, names = PUBLISHED[which]
    theirs = names()
    mapped = from_yolact(meta(theirs))
    assert len(mapped) == len(theirs)
    with torch.device("meta"):
        ours = build(CLASSES).state_dict()
    assert {n: tuple(t.shape) for n, t in mapped.items()} == {n: tuple(t.shape) for n, t in ours.items()}


@pytest.mark.needs_shared
def test_the_list_of_r50_is_the_fixture_s(shared: Path):
    entries = json.loads((shared / "fixtures/golden/yolact_r50_state.json").read_text())["tensors"]
    assert {e["name"]: tuple(e["shape"]) for e in entries} == PUBLISHED["r50"][1]()


def test_what_old_files_hold_twice_or_too_much_is_left_out():
    names = PUBLISHED["r50"][1]()
    more = {"backbone.layer1.0.conv1.weight": (64, 64, 1, 1), "fpn.downsample_layers.2.bias": (256,)}
    assert set(from_yolact(meta(names | more))) == set(from_yolact(meta(names)))


def test_other_networks_are_refused():
    with pytest.raises(WeightsError, match="maskiou_net"):
        from_yolact(meta(PUBLISHED["r50"][1]() | {"maskiou_net.0.weight": (8, 1, 3, 3)}))
