"""What `apiece check` and `apiece convert` refuse, and that JSON is there where it is asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from apiece.cli import main
from apiece.core.image import write_image
from apiece.data.formats import FORMATS


@pytest.fixture
def apiece(capsys, monkeypatch):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["apiece", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, error = capsys.readouterr()
        return int(stop.value.code or 0), out, error

    return run


@pytest.fixture
def labelme(tmp_path: Path) -> Path:
    """Two overlapping squares."""
    folder = tmp_path / "set"
    folder.mkdir()
    write_image(folder / "x.png", np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8))
    shapes = [
        {"label": "a", "points": [[x, 2], [x + 12, 2], [x + 12, 14], [x, 14]], "shape_type": "polygon"}
        for x in (3, 9)
    ]
    document = {"shapes": shapes, "imagePath": "x.png", "imageHeight": 30, "imageWidth": 40}
    (folder / "x.json").write_text(json.dumps(document))
    return folder


def test_a_page_is_not_written_over_annotations(apiece, labelme):
    before = (labelme / "x.json").read_bytes()
    code, _, error = apiece("check", labelme, "--html", labelme / "x.json")
    assert code == 2
    assert "is no page" in error
    assert (labelme / "x.json").read_bytes() == before
    code, _, error = apiece("check", labelme, "--html", labelme / "nowhere" / "x.html")
    assert code == 2
    assert "isn't there" in error
    page = labelme.parent / "x.html"
    for _ in range(2):  # a page may be
        assert apiece("check", labelme, "--html", page)[0] == 0
    assert page.read_text().startswith("<!doctype html>")


def test_a_sheet_is_not_written_over_a_picture(apiece, labelme):
    before = (labelme / "x.png").read_bytes()
    for data in (labelme, labelme / "x.json"):
        places = ((), ("--images", labelme))[data.is_file()]
        code, _, error = apiece("check", data, *places, "--show-augmented", labelme / "x.png")
        assert code == 2
        assert "is a file of the data set" in error
    assert (labelme / "x.png").read_bytes() == before


def test_what_strict_refuses_is_a_document_too(apiece, labelme, tmp_path):
    code, out, error = apiece("convert", labelme, tmp_path / "out", "--to", "voc", "--strict", "--json")
    assert code == 1
    assert "--strict allows no loss" in error
    report = json.loads(out)
    assert (report["schema"], report["refused"], report["losses"]) == (
        "apiece/convert/1",
        True,
        {"overlaps": 1},
    )
    assert not (tmp_path / "out").exists()
    code, out, _ = apiece("convert", labelme, tmp_path / "out", "--to", "voc", "--json")
    assert code == 0
    assert json.loads(out)["refused"] is False


@pytest.mark.parametrize("to", FORMATS)
def test_file_names_that_are_no_text_give_no_traceback(apiece, tmp_path, to):
    """Bytes that are no UTF-8, and what colours a terminal."""
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for i, name in enumerate((b"\xff\xfe.png", b"esc\x1b[31m.png")):
            pixels = np.random.default_rng(i).integers(0, 255, (30, 40, 3), np.uint8)
            labels = np.zeros((30, 40), np.uint8)
            labels[1:3, 1:3] = 1
            _, data = cv2.imencode(".png", pixels if kind == "images" else labels)
            (tmp_path / "set" / kind / os.fsdecode(name)).write_bytes(data.tobytes())
    code, out, _ = apiece("convert", tmp_path / "set", tmp_path / "out", "--to", to)
    assert code == 0
    assert "2 of 2 masks come back" in out
    for data in ("set", "out"):
        code, out, _ = apiece("check", tmp_path / data, "--html", tmp_path / "x.html")
        assert code == 0
        assert "tiny" in (tmp_path / "x.html").read_text()
        assert "\x1b" not in out
        out.encode()


def test_a_terminal_without_unicode_gets_what_it_can_show(labelme, tmp_path):
    (labelme / "x.png").rename(labelme / "日本.png")
    document = json.loads((labelme / "x.json").read_text())
    (labelme / "x.json").write_text(json.dumps(document | {"imagePath": "日本.png"}))
    plain = os.environ | {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    for arguments in (
        ("formats",),
        ("check", labelme, "--cap", "1"),
        ("convert", labelme, tmp_path / "out", "--to", "voc"),
    ):
        command = [sys.executable, "-m", "apiece", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, env=plain, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii()
        # An ellipsis and signs have spellings, foreign letters have none.
        assert (b"..." if arguments == ("formats",) else b"?") in done.stdout


def test_several_formats_are_told_with_the_options_of_both_commands(apiece, labelme, tmp_path):
    (labelme / "tasks.json").write_text('[{"data": {"image": "x.png"}, "annotations": []}]')
    code, _, error = apiece("convert", labelme, tmp_path / "out", "--to", "coco")
    assert code == 2
    assert "labelme or labelstudio" in error
    assert "--from" in error
    code, _, error = apiece(
        "convert", labelme, tmp_path / "out", "--to", "coco", "--images", tmp_path / "nowhere"
    )
    assert code == 2
    assert not (tmp_path / "out").exists()
