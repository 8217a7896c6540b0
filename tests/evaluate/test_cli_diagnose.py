"""`apiece diagnose` as a user meets it: outputs, exit codes, one sentence for every bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pycocotools_oracle as oracle
import pytest

from apiece import cli


@pytest.fixture
def diagnose(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Exit code, stdout, stderr of `apiece diagnose …`, in this process."""

    def run(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["apiece", "diagnose", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return stop.value.code, out, err

    return run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    truth, results = oracle.scene(7)
    paths = tmp_path / "truth.json", tmp_path / "results.json"
    for path, document in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(document))
    return paths


def test_text_names_the_ledger_and_the_verdict(diagnose, files):
    code, out, err = diagnose(*files, "--score", 0.5)
    assert code == 0, err
    for word in ("matched", "spurious", "missed", "the threshold was given", "Definitions"):
        assert word in out


def test_json_is_one_document_and_nothing_else(diagnose, files):
    code, out, err = diagnose(*files, "--json")
    assert code == 0
    assert err == ""
    assert json.loads(out)["schema"] == "apiece/diagnose/1"


def test_the_page_is_written_and_may_be_written_over(diagnose, files, tmp_path):
    for _ in range(2):
        code, out, _ = diagnose(*files, "--html", tmp_path / "report.html")
        assert code == 0
        assert "report.html" in out
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_a_page_never_takes_the_place_of_an_input(diagnose, files):
    before = files[0].read_bytes()
    code, _, err = diagnose(*files, "--html", files[0])
    assert code == 2
    assert "choose another name" in err
    assert files[0].read_bytes() == before


def test_fail_if_decides_the_exit_code_and_says_why(diagnose, files):
    code, out, err = diagnose(*files, "--score", 0.5, "--fail-if", "AP>=0", "--fail-if", "count_gross>1e9")
    assert code == 1
    assert "AP is" in err
    assert "count_gross" not in err
    assert "matched" in out
    assert diagnose(*files, "--score", 0.5, "--fail-if", "count_gross>1e9")[0] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--fail-if", "count_bais>1"), "Did you mean 'count_bias'"),
        (("--choose", "f2"), "f1"),
        (("--objective", "map"), "objective"),
        (("--rename", "car"), "PREDICTED=TRUE"),
        (("--group", "camera"), "no such column"),
        (("--predictions-format", "coko"), "coco"),
        (("--html", "nowhere/report.html"), "nowhere"),
        (("--live", "nowhere.json"), "nowhere.json"),
        (("--slices", "nowhere.csv"), "nowhere.csv"),
        (("--level", "95"), "level"),
        (("--nms", "1.5"), "nms"),
        (("--scroe", "0.5"), "--score"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(diagnose, files, options, says):
    code, out, err = diagnose(*files, *options)
    assert code == 2
    assert says in err
    assert out == ""


def test_an_interval_that_is_not_known_is_no_pass(diagnose, files):
    truth = json.loads(files[0].read_text())
    truth["annotations"] = []
    files[0].write_text(json.dumps(truth))
    code, _, err = diagnose(*files, "--fail-if", "AP<0.5")
    assert code == 2
    assert "AP is not known" in err


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[{]", b"\x80\x04K\x01.", b"null", b"[1, 2]", b'{"images": 3}', b'[{"image_id": 1}]'],
    ids=["empty", "cut", "broken", "pickle", "null", "numbers", "odd", "bare"],
)
@pytest.mark.parametrize("side", [0, 1])
def test_damaged_files_are_named(diagnose, files, side: int, damage: bytes):
    files[side].write_bytes(damage)
    code, _, err = diagnose(*files)
    assert code == 2
    assert files[side].name in err
    assert len(err.splitlines()) < 20
