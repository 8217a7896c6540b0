"""Published weights: fetched on request, checked, converted once. No network: files and a fake hub."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from apiece.core.classes import ClassMap
from apiece.errors import ExportError, ModelError, UsageError, WeightsError
from apiece.models import checkpoints, published, zoo
from apiece.models.solov2.weights import _SOLO
from apiece.predict import fetch
from apiece.predict.load import load, load_prompt
from tiny.solov2 import confident, tiny_solov2


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APIECE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch):
    """A tiny SOLOv2 with random weights, which the zoo builds under the name "tiny"."""
    monkeypatch.setattr(zoo, "build", lambda family, builder, classes: tiny_solov2(classes))
    torch.manual_seed(3)
    return confident(tiny_solov2(2)).eval()


def their_names(state: dict) -> dict:
    """Our state dict of a SOLOv2 under the names of WXinlong/SOLO, found by trying its converter's own patterns."""
    theirs = {}
    towers = {"category": "cate", "kernel": "kernel"}
    for name, value in state.items():
        head = re.fullmatch(r"kernel_head\.(category|kernel)_tower\.(\d)\.([01])\.(.+)", name)
        level = re.fullmatch(r"mask_features\.levels\.(\d)\.(\d)\.([01])\.(.+)", name)
        if head:
            new = f"bbox_head.{towers[head[1]]}_convs.{head[2]}.{('conv', 'gn')[int(head[3])]}.{head[4]}"
        elif level:
            kind = ("conv", "gn")[int(level[3])]
            new = f"mask_feat_head.convs_all_levels.{level[1]}.conv{level[2]}.{kind}.{level[4]}"
        else:
            new = name
            for ours, other in (
                ("backbone.body.", "backbone."),
                ("neck.lateral.", "neck.lateral_convs."),
                ("neck.output.", "neck.fpn_convs."),
                ("mask_features.project.", "mask_feat_head.conv_pred.0.conv."),
                ("mask_features.norm.", "mask_feat_head.conv_pred.0.gn."),
                ("kernel_head.category.", "bbox_head.solo_cate."),
                ("kernel_head.kernel.", "bbox_head.solo_kernel."),
            ):
                if name.startswith(ours):
                    new = other + name.removeprefix(ours)
            new = re.sub(r"^(neck\.(?:lateral|fpn)_convs\.\d)\.", r"\1.conv.", new)
        assert any(re.fullmatch(pattern, new) for pattern, _ in _SOLO), new
        theirs[new] = value
    return theirs


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entry_of(path: Path, **changes) -> published.Published:
    facts = {
        "name": "tiny-coco",
        "builder": "tiny",
        "classes": ClassMap(("round", "square")),
        "input_size": (128, 128),
        "address": path.as_uri(),
        "repository": None,
        "parameters": 0.1,
        "checksum": f"sha256:{digest(path)[:8]}" if path.is_file() else "sha256:00000000",
    }
    return dataclasses.replace(published.find("solov2-r50-coco"), **(facts | changes))


@pytest.fixture
def file(tmp_path: Path, net) -> Path:
    """A checkpoint as WXinlong/SOLO writes them."""
    path = tmp_path / "SOLOv2_tiny.pth"
    torch.save({"meta": {"epoch": 36}, "state_dict": their_names(net.state_dict()), "optimizer": {}}, path)
    return path


def leftovers(folder: Path) -> list[str]:
    return [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]


@pytest.mark.slow
def test_a_published_name_is_fetched_converted_once_and_loaded_without_torch(
    file, net, home, monkeypatch, capsys
):
    monkeypatch.setattr(published, "PUBLISHED", (entry_of(file),))
    model = load("tiny-coco", threads=1)
    said = capsys.readouterr().err
    assert "Licence: BSD-2-Clause for academic use only" in said
    assert "Non-commercial" in said
    assert said.index("Licence") < said.index("fetching")
    assert model.card.licence == "BSD-2-Clause for academic use only"
    assert model.card.notes[0].startswith("Non-commercial")
    assert model.card.metrics == {"mask AP, COCO val2017 (authors' figure)": 37.5}
    assert sorted(leftovers(home)) == ["models/tiny-coco/tiny-coco.onnx", "weights/tiny-coco/SOLOv2_tiny.pth"]

    image = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = net(torch.from_numpy(image).permute(0, 3, 1, 2).float())
    assert expected.scores.max() > 0.1
    np.testing.assert_allclose(model.runtime(image).scores, expected.scores.numpy(), rtol=1e-3, atol=1e-5)

    for name in [n for n in sys.modules if n.split(".")[0] == "torch"] + ["torch"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(fetch, "checkpoint", lambda entry: pytest.fail("fetched twice"))
    assert load("tiny-coco").card == model.card
    assert capsys.readouterr().err == ""


def test_a_model_too_large_for_one_onnx_file_runs_in_torch(file, home, monkeypatch):
    monkeypatch.setattr(published, "PUBLISHED", (entry_of(file, parameters=641.1),))
    assert type(load("tiny-coco").runtime).__name__ == "TorchRuntime"
    assert sorted(p.name for p in (home / "models" / "tiny-coco").iterdir()) == [
        "card.json",
        "weights.safetensors",
    ]
    with pytest.raises(UsageError, match="threads"):
        load("tiny-coco", threads=1)


@pytest.mark.slow
def test_a_promptable_model_is_two_graphs(tmp_path: Path, home, monkeypatch, capsys):
    from tiny.sam import confident as sure
    from tiny.sam import tiny_sam

    torch.manual_seed(5)
    net = sure(tiny_sam(1)).eval()
    monkeypatch.setattr(zoo, "build", lambda family, builder, classes: tiny_sam(classes))
    # Published files hold our names for all but the image encoder, which is of another kind in the tiny network.
    monkeypatch.setattr("apiece.models.sam.weights.from_segment_anything", dict)
    path = tmp_path / "sam.pth"
    torch.save(net.state_dict(), path)
    entry = entry_of(
        path,
        family="sam",
        converter="apiece.models.sam.weights:from_segment_anything",
        classes=ClassMap(("object",)),
        key="",
        forbids="",
        licence="Apache-2.0",
    )
    monkeypatch.setattr(published, "PUBLISHED", (entry,))
    model = load_prompt("tiny-coco", threads=1)
    assert sorted(leftovers(home)) == [
        "models/tiny-coco-prompt/decoder.onnx",
        "models/tiny-coco-prompt/encoder.onnx",
        "weights/tiny-coco/sam.pth",
    ]
    assert "Licence: Apache-2.0" in capsys.readouterr().err
    image = np.random.default_rng(0).integers(0, 256, (90, 128, 3), dtype=np.uint8)
    assert len(model.embed(image).segment(points=[[40, 30]])) <= 1
    monkeypatch.setattr(fetch, "checkpoint", lambda entry: pytest.fail("fetched twice"))
    assert load_prompt("tiny-coco").card == model.card


def test_what_takes_no_prompts_is_refused(file, monkeypatch):
    large = dataclasses.replace(published.find("sam-vit-h"), name="large-coco")
    monkeypatch.setattr(published, "PUBLISHED", (entry_of(file), large))
    for name, says in (("tiny-coco", "takes no prompts"), ("large-coco", "2 GiB"), ("tiny", "no promptable")):
        with pytest.raises(ModelError, match=says):
            load_prompt(name)


def test_without_network_one_sentence_says_what_to_fetch_and_where_to_put_it(file, home, monkeypatch):
    entry = entry_of(file, address="https://nowhere.invalid/SOLOv2_tiny.pth")
    monkeypatch.setattr(published, "PUBLISHED", (entry,))
    place = home / "weights" / "tiny-coco" / "SOLOv2_tiny.pth"
    with pytest.raises(WeightsError) as stop:
        load("tiny-coco")
    message = str(stop.value)
    assert "\n" not in message
    assert message.count(". ") == 0, "one sentence"
    for part in (entry.address, entry.checksum, f"put it at {place}"):
        assert part in message
    assert leftovers(home) == []
    # It is put there: nothing is downloaded.
    place.write_bytes(file.read_bytes())
    assert fetch.checkpoint(entry) == place


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_is_refused_and_nothing_kept(file, home, kind):
    entry = entry_of(file, checksum=f"{kind}:0123abcd")
    with pytest.raises(WeightsError, match=rf"{kind} begins \w+, the one of tiny-coco 0123abcd"):
        fetch.checkpoint(entry)
    assert leftovers(home) == []
    place = home / "weights" / "tiny-coco" / file.name
    place.write_bytes(b"by hand, and wrong")
    with pytest.raises(WeightsError, match="Delete it"):
        fetch.checkpoint(entry)


def test_an_md5_that_is_right_is_taken(file):
    found = hashlib.md5(file.read_bytes()).hexdigest()
    assert fetch.checkpoint(entry_of(file, checksum=f"md5:{found[:6]}")).is_file()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ConnectionResetError])
def test_an_interrupted_download_leaves_nothing_and_is_begun_again(file, home, monkeypatch, stop):
    def breaks(address: str, path: Path) -> None:
        path.write_bytes(file.read_bytes()[:1000])
        raise stop

    with monkeypatch.context() as broken:
        broken.setattr(checkpoints, "download", breaks)
        with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else WeightsError):
            fetch.checkpoint(entry_of(file))
    assert leftovers(home) == []
    assert digest(fetch.checkpoint(entry_of(file))) == digest(file)


def test_a_server_that_closes_too_early_is_found_out(file, home):
    """torch.hub takes what came for the whole."""
    content = file.read_bytes()

    class Half(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Half) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        entry = entry_of(file, address=f"http://127.0.0.1:{server.server_port}/SOLOv2_tiny.pth")
        with pytest.raises(WeightsError):
            fetch.checkpoint(entry)
        server.shutdown()
    assert leftovers(home) == []


def test_a_conversion_that_breaks_leaves_no_model(file, home, monkeypatch):
    """Killed half way: the next call converts again."""

    def dies(*args, **options) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("apiece.deploy.export.export", dies)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetched(entry_of(file))
    assert not (home / "models" / "tiny-coco").exists()
    assert leftovers(home / "models") == []


def test_a_graph_that_fails_its_proof_is_not_kept_and_the_network_runs_in_torch(file, monkeypatch, capsys):
    def fails(run: Path, out: Path, images: Path) -> None:
        raise ExportError("differs beyond the tolerance")

    monkeypatch.setattr("apiece.deploy.export.export", fails)
    monkeypatch.setattr(published, "PUBLISHED", (entry_of(file),))
    assert type(load("tiny-coco").runtime).__name__ == "TorchRuntime"
    assert "does not equal the network here, so it runs in torch" in capsys.readouterr().err


def test_of_two_conversions_at_once_the_first_stays(file, home, monkeypatch):
    folder = home / "models" / "tiny-coco"

    def slow(run: Path, out: Path, images: Path) -> None:
        assert sorted(p.name for p in images.iterdir()) == list(fetch.PICTURES)
        out.write_text("ours")
        folder.mkdir(parents=True)
        (folder / out.name).write_text("theirs")

    monkeypatch.setattr("apiece.deploy.export.export", slow)
    assert fetch.fetched(entry_of(file)).read_text() == "theirs"
    assert leftovers(home / "models") == ["tiny-coco/tiny-coco.onnx"]


@pytest.mark.parametrize("stated", ["right", "wrong", "git"])
def test_a_file_of_the_hub_is_compared_with_the_hub_s_checksum(file, home, monkeypatch, stated):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    class Facts:
        etag = {"right": digest(file), "wrong": "0" * 64, "git": "1" * 40}[stated]

    def fetches(repository: str, name: str, local_dir: Path) -> str:
        asked.append((repository, name))
        (local_dir / name).write_bytes(file.read_bytes())
        return str(local_dir / name)

    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda address: Facts)
    monkeypatch.setattr(hub, "hf_hub_download", fetches)
    address = f"https://huggingface.co/some/one/resolve/main/{file.name}"
    entry = entry_of(file, repository="some/one", address=address, checksum=None)
    if stated == "wrong":
        with pytest.raises(WeightsError, match="nothing was kept"):
            fetch.checkpoint(entry)
        assert leftovers(home) == []
    else:
        assert digest(fetch.checkpoint(entry)) == digest(file)
    assert asked == [("some/one", file.name)]


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("name", ["bomb.pth", "bomb.pkl", "bomb.safetensors"])
def test_a_pickle_that_runs_code_is_refused(name, tmp_path: Path):
    marker = tmp_path / "exploded"
    document = {"state_dict": {"a": Bomb(marker)}}
    if name.endswith(".pth"):
        torch.save(document, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(document))
    with pytest.raises(WeightsError, match="without running code"):
        checkpoints.read_state(tmp_path / name, "state_dict")
    assert not marker.exists()


def test_a_bomb_with_the_right_checksum_is_refused_too(tmp_path: Path, home, net):
    path = tmp_path / "bomb.pth"
    torch.save({"state_dict": {"a": Bomb(tmp_path / "exploded")}}, path)
    with pytest.raises(WeightsError, match="without running code"):
        fetch.fetched(entry_of(path))
    assert not (tmp_path / "exploded").exists()
    assert not (home / "models").exists()


def test_every_kind_of_file_gives_the_same_tensors(tmp_path: Path):
    state = {"a.weight": torch.randn(3, 2), "n": torch.tensor(4)}
    torch.save({"model": state}, tmp_path / "s.pth")
    save_file(state, tmp_path / "s.safetensors")
    arrays = {"model": {k: v.numpy() for k, v in state.items()}, "__author__": "someone"}
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(arrays))
    # As NumPy 1 wrote it.
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(arrays, 3).replace(b"numpy._core", b"numpy.core"))
    for name, key in (("s.pth", "model"), ("s.safetensors", ""), ("s.pkl", "model"), ("old.pkl", "model")):
        found = checkpoints.read_state(tmp_path / name, key)
        assert found.keys() == state.keys()
        for k, v in state.items():
            torch.testing.assert_close(found[k], v, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("document", "key", "says"),
    [
        ({"weights": {}}, "model", "entry 'model'"),
        ({"model": {}}, "model", "names and tensors"),
        ({"model": {"a": "text"}}, "model", "'a' is str"),
        ([1, 2], "model", "entry 'model'"),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path, document, key, says):
    torch.save(document, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=says):
        checkpoints.read_state(tmp_path / "c.pth", key)


def test_weights_of_another_network_are_refused_by_name(file, net, tmp_path: Path):
    state = torch.load(file, weights_only=True)
    state["state_dict"]["bbox_head.solo_cate.bias"] = torch.zeros(5)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(
        WeightsError, match=r"kernel_head\.category\.bias.* should be \(2,\), the file has \(5,\)"
    ):
        checkpoints.network_of(entry_of(file), tmp_path / "other.pth")
    del state["state_dict"]["bbox_head.solo_cate.bias"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"kernel_head\.category\.bias.*the file has nothing"):
        checkpoints.network_of(entry_of(file), tmp_path / "other.pth")


def test_a_missing_package_is_named_before_anything_is_fetched(file, home, monkeypatch):
    monkeypatch.setattr(fetch, "find_spec", lambda name: None if name == "timm" else object())
    with pytest.raises(ModelError, match=r"needs timm\. Run: pip install 'apiece\[train\]'"):
        fetch.fetched(entry_of(file))
    assert not home.exists()


def test_the_folder(monkeypatch, tmp_path: Path):
    assert fetch.home() == tmp_path / "home"
    monkeypatch.delenv("APIECE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert fetch.home() == tmp_path / "cache" / "apiece"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert fetch.home() == Path.home() / ".cache" / "apiece"
