"""The command line as a user meets it: outputs, exit codes, one sentence for every bad input."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

pytest.importorskip("onnx")

from toy import SCORES, toy_card, write_toy

from apiece import cli

SOURCE = str(Path(__file__).resolve().parents[1] / "src")


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object):
    """Exit code, stdout, stderr of `apiece …`, in this process."""
    monkeypatch.setattr(sys, "argv", ["apiece", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return stop.value.code, out, err


@pytest.fixture
def apiece(capsys, monkeypatch):
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write_toy(tmp_path / "toy.onnx")


def picture(path: Path, value: int = 120, size: tuple[int, int] = (64, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), value, dtype=np.uint8))
    return path


def test_segment_writes_every_format_and_they_agree(apiece, toy: Path, tmp_path: Path):
    source = picture(tmp_path / "in" / "a.png", size=(128, 96))
    code, out, err = apiece(
        "segment", source, "-m", toy, "--out", tmp_path / "o", "--as", "coco,overlay,labels,csv"
    )
    assert code == 0, err
    assert "3 objects" in out
    document = json.loads((tmp_path / "o" / "predictions.json").read_text())
    assert [(i["id"], i["file_name"], i["height"], i["width"]) for i in document["images"]] == [
        (1, str(source), 128, 96)
    ]
    assert [c["name"] for c in document["categories"]] == ["square", "round"]
    assert [a["score"] for a in document["annotations"]] == pytest.approx(SCORES[:3].tolist())
    labels = tifffile.imread(tmp_path / "o" / "a.labels.tif")
    assert labels.shape == (128, 96)
    areas = [int((labels == i + 1).sum()) for i in range(3)]
    assert areas == [a["area"] for a in document["annotations"]]
    rows = (tmp_path / "o" / "objects.csv").read_text().splitlines()
    assert len(rows) == 4
    assert [int(r.split(",")[4]) for r in rows[1:]] == areas
    drawn = cv2.imread(str(tmp_path / "o" / "a.overlay.png"))
    assert drawn.shape == (128, 96, 3)
    assert (drawn != 120).any()
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "a.labels.tif",
        "a.overlay.png",
        "objects.csv",
        "predictions.json",
    ]


def test_pictures_of_one_name_do_not_collide(apiece, toy: Path, tmp_path: Path):
    for folder in ("x", "y"):
        picture(tmp_path / folder / "a.png")
    code, _, _ = apiece(
        "segment", tmp_path / "x", tmp_path / "y", "-m", toy, "--out", tmp_path / "o", "--as", "labels"
    )
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["a-2.labels.tif", "a.labels.tif"]


def test_count_json_has_the_stable_keys_and_an_empty_picture_is_ordinary(apiece, toy: Path, tmp_path: Path):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", value=0)
    code, out, _ = apiece("count", a, b, "-m", toy, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["schema"] == "apiece/count/1"
    assert document["total"] == 3
    assert [i["count"] for i in document["images"]] == [3, 0]
    assert document["images"][0]["by_class"] == {"square": 2, "round": 1}
    assert document["images"][0] | {"path": "", "by_class": ""} == {
        "path": "",
        "by_class": "",
        "count": 3,
        "truncated": False,
        "error": None,
    }


def test_a_threshold_is_obeyed(apiece, toy: Path, tmp_path: Path):
    a = picture(tmp_path / "a.png")
    for option in ("--score", "--threshold"):
        assert json.loads(apiece("count", a, "-m", toy, option, 0.85, "--json")[1])["total"] == 1


def test_a_full_list_is_said_loudly(apiece, tmp_path: Path):
    full = write_toy(tmp_path / "full.onnx", scores=np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32))
    code, out, err = apiece("count", picture(tmp_path / "a.png"), "-m", full, "--json")
    assert code == 0
    assert json.loads(out)["images"][0]["truncated"] is True
    assert "TRUNCATED" in err


def huge_png(path: Path) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(50_001) * 4000, 9)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


def bad_pictures(folder: Path) -> dict[str, Path]:
    good = picture(folder / "good.png", size=(40, 40)).read_bytes()
    out = {"missing": folder / "missing.png", "huge": huge_png(folder / "huge.png")}
    for name, data in {"empty": b"", "truncated": good[: len(good) // 2], "text": b"not a picture"}.items():
        out[name] = folder / f"{name}.png"
        out[name].write_bytes(data)
    return out


@pytest.mark.parametrize("kind", ["missing", "huge", "empty", "truncated", "text"])
def test_a_bad_picture_is_one_sentence_and_exit_2(apiece, toy: Path, tmp_path: Path, kind: str):
    bad = bad_pictures(tmp_path)[kind]
    code, _, err = apiece("count", bad, "-m", toy)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert str(bad) in err


def test_bad_pictures_do_not_stop_the_others_and_are_named(apiece, toy: Path, tmp_path: Path):
    bad = bad_pictures(tmp_path / "bad")
    good = picture(tmp_path / "z.png")
    code, out, err = apiece("segment", *bad.values(), good, "-m", toy, "--out", tmp_path / "o", "--json")
    assert code == 2
    rows = json.loads(out)["images"]
    assert [r["error"] is None for r in rows] == [False] * 5 + [True]
    assert rows[-1]["count"] == 3
    for path in bad.values():
        assert str(path) in err
    assert (tmp_path / "o" / "z.overlay.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["segmnt"], "Did you mean 'segment'"),
        (["count", "--jsn"], "--json"),
        (["count"], "Missing argument"),
        (["count", "IMAGE", "-m", "cels"], "Did you mean 'cells'"),
        (["count", "IMAGE", "-m", "nothere.onnx"], "nothere.onnx"),
        (["count", "IMAGE", "-m", "solov2-r50"], "no weights"),
        (["count", "IMAGE", "-m", "TEXT.onnx"], "not an ONNX model"),
        (["count", "IMAGE", "-m", "FOREIGN.onnx"], "card"),
        (["count", "IMAGE", "-m", "WRONG.onnx"], "expected the input"),
        (["count", "IMAGE", "-m", "TOY", "--score", "0"], "threshold"),
        (["count", "IMAGE", "-m", "TOY", "--score", "x"], "--score"),
        (["segment", "IMAGE", "-m", "TOY", "--out", "TEXT.onnx"], "TEXT.onnx"),
        (["segment", "IMAGE", "-m", "TOY", "--as", "geo"], "no format 'geo'"),
        (["segment", "IMAGE", "-m", "TOY", "--as", ","], "got none"),
        (["demo", "--picture", "coin"], "Did you mean 'coins'"),
        (["count", "EMPTY_FOLDER", "-m", "TOY"], "EMPTY_FOLDER"),
        (["segment", "IMAGE", "-m", "TOY", "--as", "coc"], "Did you mean 'coco'"),
        (["segment", "IMAGE", "-m", "TOY", "--images-of", "TEXT.onnx"], "JSON"),
        (["evaluate", "nothere.json", "nothere.json"], "nothere.json"),
        (["train", "nothere.yaml"], "nothere.yaml"),
        (["export", "nothere", "--out", "x.onnx"], "nothere"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_and_exit_2(apiece, toy: Path, tmp_path: Path, arguments, says):
    (tmp_path / "TEXT.onnx").write_text("hello")
    (tmp_path / "EMPTY_FOLDER").mkdir()
    write_toy(tmp_path / "FOREIGN.onnx", card=False)  # type: ignore[arg-type]
    write_toy(tmp_path / "WRONG.onnx", card=toy_card(input_size=(32, 32)))
    picture(tmp_path / "IMAGE.png")
    places = {
        "IMAGE": tmp_path / "IMAGE.png",
        "TOY": toy,
        **{n: tmp_path / n for n in ("TEXT.onnx", "FOREIGN.onnx", "WRONG.onnx", "EMPTY_FOLDER")},
    }
    code, _, err = apiece(*(places.get(a, a) for a in arguments))
    assert code == 2
    assert len(err.strip().splitlines()) == 1, err
    assert says in err


def test_predictions_with_the_ids_of_a_truth_evaluate_directly(apiece, toy: Path, tmp_path: Path):
    source = picture(tmp_path / "p.png")
    apiece("segment", source, "-m", toy, "--out", tmp_path / "o", "--as", "coco")
    truth = json.loads((tmp_path / "o" / "predictions.json").read_text())
    truth["images"][0] |= {"id": 77, "file_name": "p.png"}
    truth["categories"] = [{"id": 5, "name": "round"}, {"id": 9, "name": "square"}]
    for annotation in truth["annotations"]:
        annotation |= {"image_id": 77, "category_id": {1: 9, 2: 5}[annotation["category_id"]]}
        del annotation["score"]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    code, _, err = apiece(
        "segment",
        source,
        "-m",
        toy,
        "--out",
        tmp_path / "again",
        "--as",
        "coco",
        "--images-of",
        tmp_path / "gt.json",
    )
    assert code == 0, err
    code, out, _ = apiece("evaluate", tmp_path / "gt.json", tmp_path / "again" / "predictions.json", "--json")
    assert code == 0
    figures = json.loads(out)
    assert figures["schema"] == "apiece/evaluate/1"
    assert figures["segm"]["AP"] == pytest.approx(1.0)
    assert figures["bbox"]["AP"] == pytest.approx(1.0)
    assert figures["count"]["MAE"] == 0


def test_models_lists_families_and_licences(apiece):
    code, out, _ = apiece("models", "--json")
    assert code == 0
    entries = json.loads(out)["models"]
    assert {"cells", "solov2-dense", "solov2-r50"} <= {e["name"] for e in entries}
    assert all(e["licence"] and e["origin"] for e in entries)


def test_models_lists_seven_methods_with_size_licence_and_origin(apiece):
    from apiece.models.zoo import METHODS

    code, out, _ = apiece("models", "--json")
    assert code == 0
    document = json.loads(out)
    entries = [*document["models"], *document["published"]]
    assert len(METHODS) == 7
    assert {entry["method"] for entry in entries} == set(METHODS)
    assert len(entries) >= 14
    assert all(e["parameters"] > 0.1 and e["licence"] and e["origin"] for e in entries)
    code, out, _ = apiece("models")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert len(names) == len(set(names)) == len({e["name"] for e in entries})
    assert "non-commercial" in next(line for line in out.splitlines() if "solov2-r50-coco" in line)


def test_masks_that_are_boxes_say_so(apiece, tmp_path: Path):
    model = write_toy(tmp_path / "boxes.onnx", toy_card(box_masks=True))
    code, _, err = apiece("segment", picture(tmp_path / "a.png"), "-m", model, "--out", tmp_path / "o")
    assert code == 0
    assert "every mask is its whole box" in err
    annotations = json.loads((tmp_path / "o" / "predictions.json").read_text())["annotations"]
    assert annotations
    assert all(a["box_mask"] is True for a in annotations)


def isolated(code: str, *, forbid: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which importing `forbid` fails."""
    guard = (
        "import sys\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {forbid.split(',')!r}: raise ImportError('forbidden ' + name)\n"
        "sys.meta_path.insert(0, Guard())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", guard + code],
        env=os.environ | {"PYTHONPATH": SOURCE},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_everything_but_training_works_without_torch(toy: Path, tmp_path: Path):
    source = picture(tmp_path / "a.png")
    code = (
        "from apiece import cli\n"
        "def call(*a):\n"
        "    sys.argv = ['apiece', *a]\n"
        "    try: cli.main()\n"
        "    except SystemExit as s: return s.code\n"
        f"assert call('--help') == 0\n"
        f"arguments = [{str(source)!r}, '-m', {str(toy)!r}, '--out', 'o']\n"
        "assert call('segment', *arguments, '--as', 'coco,overlay,labels,csv') == 0\n"
        f"assert call('evaluate', 'o/predictions.json', 'o/predictions.json', '--json') == 0\n"
        f"assert call('train', 'r.yaml') == 2\n"
        f"assert call('export', 'r', '--out', 'x.onnx') == 2\n"
        "import apiece\n"
        "for name in apiece.__all__: getattr(apiece, name)\n"
    )
    done = isolated(code, forbid="torch,torchvision,timm,lightning_fabric", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pip install 'apiece[train]'" in done.stderr


def test_importing_apiece_imports_neither_torch_nor_numpy(tmp_path: Path):
    done = isolated("import apiece", forbid="torch,numpy,cv2,onnxruntime,scipy,PIL", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_check_lists_every_problem_and_exits_1(apiece, tmp_path: Path):
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "labels" / f"{name}.png"), np.full((64, 64), 3, np.uint16))
    assert apiece("check", tmp_path)[0] == 0
    cv2.imwrite(str(tmp_path / "labels" / "a.png"), np.full((32, 64), 3, np.uint16))
    (tmp_path / "labels" / "b.png").unlink()
    code, out, _ = apiece("check", tmp_path, "--json")
    assert code == 1
    report = json.loads(out)
    assert report["errors"] == 2
    assert all(p["remedy"] for p in report["problems"])


def test_training_refuses_bad_data_before_its_first_step(apiece, tmp_path: Path):
    picture(tmp_path / "d" / "images" / "a.png")
    (tmp_path / "d" / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "d" / "labels" / "a.png"), np.full((32, 64), 3, np.uint16))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: x\nclasses: [c]\ntrain: {path: d}\naugment: {size: [64, 64]}\n"
        "input_size: [64, 64]\nepochs: 1\nbatch: 1\n"
    )
    code, _, err = apiece("train", recipe, "--out", tmp_path / "run")
    assert code == 2
    assert "a.png" in err
    assert "expected the same size" in err


def test_a_run_into_the_folder_of_its_pictures_changes_none_of_them(apiece, toy: Path, tmp_path: Path):
    a = picture(tmp_path / "a.png")
    first = apiece("segment", tmp_path, "-m", toy, "--out", tmp_path, "--as", "coco,overlay")
    assert first[0] == 0
    before = {p: p.read_bytes() for p in tmp_path.glob("*.png")}
    assert len(before) == 2
    # Now the overlay is a picture of the folder, too, and must not be written over.
    code, out, err = apiece("segment", tmp_path, "-m", toy, "--out", tmp_path, "--as", "overlay", "--json")
    assert code == 2
    assert "Choose another --out" in err
    assert {p: p.read_bytes() for p in before} == before
    rows = {Path(r["path"]).name: r for r in json.loads(out)["images"]}
    assert rows["a.png"]["error"] is not None
    assert rows["a.png"]["count"] is None
    assert rows["a.overlay.png"]["files"] == [str(tmp_path / "a.overlay.overlay.png")]
    assert json.loads(out)["total"] == rows["a.overlay.png"]["count"]
    assert a.is_file()


def test_a_misspelt_path_does_not_empty_earlier_results(apiece, toy: Path, tmp_path: Path):
    apiece("segment", picture(tmp_path / "a.png"), "-m", toy, "--out", tmp_path / "o")
    before = (tmp_path / "o" / "predictions.json").read_bytes()
    code, out, err = apiece("segment", tmp_path / "b.png", "-m", toy, "--out", tmp_path / "o")
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert (tmp_path / "o" / "predictions.json").read_bytes() == before


def test_a_folder_called_like_the_bundled_model_is_a_folder_of_pictures(
    apiece, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    picture(tmp_path / "cells" / "a.png", value=0)
    monkeypatch.chdir(tmp_path)
    code, out, err = apiece("count", "cells", "--json")
    assert code == 0, err
    assert json.loads(out)["model"] == "cells"


def test_the_demo_writes_every_format_and_opens_nothing_unwatched(
    apiece, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: list[str] = []
    monkeypatch.setattr(cli.typer, "launch", opened.append)
    code, out, err = apiece("demo", "--out", tmp_path / "o", "--open")
    assert code == 0, err
    names = {"coins.overlay.png", "coins.labels.tif", "predictions.json", "objects.csv"}
    assert {p.name for p in (tmp_path / "o").iterdir()} == names
    assert all(name in out for name in names)
    assert "Next:" in out
    assert opened == []
    assert "no viewer was opened" in err
    labels = tifffile.imread(tmp_path / "o" / "coins.labels.tif")
    assert f"{labels.max()} objects" in out
    assert labels.max() >= 20


def test_a_file_the_system_refuses_is_one_sentence(apiece, toy: Path, tmp_path: Path, monkeypatch):
    from apiece.predict import write

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "somewhere")

    monkeypatch.setattr(write.Writer, "finish", refuse)
    code, _, err = apiece("segment", picture(tmp_path / "a.png"), "-m", toy, "--out", tmp_path / "o")
    assert code == 2
    assert err.strip() == "apiece: somewhere: Permission denied"


def test_an_interruption_exits_130(apiece, toy: Path, tmp_path: Path, monkeypatch):
    from apiece.predict import predictor

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(predictor.Model, "_segment", stop)
    code, _, err = apiece("count", picture(tmp_path / "a.png"), "-m", toy)
    assert code == 130
    assert err.strip() == "apiece: interrupted"


@pytest.mark.skipif(os.name != "posix", reason="pipes end in a signal on POSIX only")
def test_a_reader_that_has_enough_gets_no_complaint(tmp_path: Path):
    command = [sys.executable, "-m", "apiece", "models"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": SOURCE},
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_version_and_bare_call(apiece):
    from apiece import __version__

    assert apiece("--version")[1].strip() == f"apiece {__version__}"
    code, out, _ = apiece()
    assert code == 0
    assert all(
        f"  {name} " in out for name in ("demo", "segment", "count", "evaluate", "export", "train", "check")
    )


@pytest.mark.parametrize("code", ["import apiece", "from apiece import cli"])
def test_imports_are_quick(code: str, tmp_path: Path):
    """Half a second is the promise; on a busy machine the best of three counts."""
    times = []
    for _ in range(3):
        probe = f"import time; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
        done = subprocess.run(
            [sys.executable, "-c", probe],
            env=os.environ | {"PYTHONPATH": SOURCE},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        times.append(float(done.stdout))
    assert min(times) < 0.5
