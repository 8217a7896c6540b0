"""Our Swin Transformer against timm's and transformers': names, shapes, values, and any picture size."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from apiece.models.backbones import Backbone
from apiece.models.swin import SIZES, Swin, shift_mask


def timm_swin():
    size = SIZES["swin_test"]
    torch.manual_seed(0)
    return timm.models.SwinTransformer(
        img_size=64,
        window_size=size.window,
        embed_dim=size.width,
        depths=size.depths,
        num_heads=size.heads,
        strict_img_size=False,
        always_partition=True,
    ).eval()


def test_timm_s_weights_give_timm_s_maps_where_windows_divide_the_map():
    theirs, ours = timm_swin(), Swin(SIZES["swin_test"], (0, 1, 2, 3), drop=0.0).eval()
    state = theirs.state_dict()
    ours.load_state_dict({name: state[name] for name in ours.state_dict()})
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.forward_intermediates(images, intermediates_only=True)
        # The last map is one window: its shift is none for timm only where it is told to shrink, so all agree.
        for a, b in zip(ours(images), expected, strict=True):
            torch.testing.assert_close(a.permute(0, 3, 1, 2), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224"])
def test_names_and_shapes_are_timm_s(name):
    with torch.device("meta"):
        theirs = timm.create_model(name).state_dict()
        ours = Backbone(name, levels=(2, 3, 4, 5)).body.state_dict()
    rest = {k for k in theirs if k not in ours}
    assert rest == {"norm.weight", "norm.bias", "head.fc.weight", "head.fc.bias"}
    assert all(theirs[k].shape == v.shape for k, v in ours.items())


def test_any_size_and_any_levels():
    backbone = Backbone("swin_test", levels=(3, 5)).eval()
    assert backbone.channels == (32, 128)
    with torch.no_grad():
        fine, coarse = backbone(torch.randn(1, 3, 96, 160))
    assert fine.shape == (1, 32, 12, 20)
    assert coarse.shape == (1, 128, 3, 5)


def test_a_shifted_window_hides_what_was_not_its_neighbour():
    hidden = shift_mask(8, 8, 4, torch.device("cpu"))
    assert hidden.shape == (4, 16, 16)
    assert (hidden[0] == 0).all()
    assert set(hidden[3].unique().tolist()) == {-100.0, 0.0}


def test_other_backbones_have_no_norms():
    assert not any(n.startswith("norms") for n in Backbone("test_resnet", levels=(2, 3)).state_dict())


@pytest.mark.slow
def test_the_exported_graph_takes_any_batch(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")

    from apiece.models.to_onnx import to_onnx
    from tiny.mask2former import confident, tiny_mask2former

    torch.manual_seed(0)
    net = confident(tiny_mask2former(2, "swin_test")).eval()
    to_onnx(net, (96, 160), tmp_path / "swin.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "swin.onnx"))
    images = torch.randint(
        0, 256, (3, 96, 160, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    for batch in (images[:1], images):
        scores, labels, boxes, masks = session.run(None, {"images": batch.numpy()})
        with torch.inference_mode():
            expected = net(batch.permute(0, 3, 1, 2).float())
        torch.testing.assert_close(torch.from_numpy(scores), expected.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(labels), expected.labels)
        torch.testing.assert_close(torch.from_numpy(masks), expected.masks, rtol=1e-3, atol=1e-3)
        assert boxes.shape == (len(batch), net.candidates, 4)
