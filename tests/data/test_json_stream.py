"""JSON in pieces: what json reads whole, windows of any size read too, and what json refuses they refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apiece.data.coco_entries import load_json
from apiece.data.json_stream import JsonText, Span
from apiece.errors import AnnotationError

TEXTS = st.text('ab"\\[]{},:é€😀\n /', max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(TEXTS, VALUES, max_size=4)


def read(text: JsonText) -> dict:
    """The whole document, lists by their items."""
    found = {}
    for key, span in text.members().items():
        if text.kind(span) == "a list":
            items = list(text.items(span))
            found[key] = [value for value, _, _ in items]
            assert text.values([(start, end) for _, start, end in items]) == found[key]
        else:
            found[key] = text.value(span)
        text.check(span)
    return found


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1, "\t"]), st.sampled_from([2, 7, 64, 2**22]))
@example({"a": [], "b": [[], {}]}, True, None, 2)
@example({"a": [1.5, -2e-300, 1234567890], "b": 0.25}, True, None, 7)
def test_windows_of_any_size_read_what_json_reads(tmp_path_factory, document, ascii_only, indent, window):
    path = tmp_path_factory.getbasetemp() / "whole.json"
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    for bom in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(bom + text.encode())
        for held in (0, 2**20):
            assert read(JsonText(path, held=held, window=window)) == document


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS, st.data(), st.sampled_from([3, 64]))
def test_what_is_no_json_gets_the_same_sentence(tmp_path_factory, document, data, window):
    """Cut off, or with a byte exchanged: as json says it, also where the file is never in memory."""
    path = tmp_path_factory.getbasetemp() / "broken.json"
    raw = bytearray(json.dumps(document, ensure_ascii=False, indent=1).encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        del raw[place:]
    else:
        raw[place] = data.draw(st.sampled_from([*b'"[]{},:\\1 x', 0xE9]))
    path.write_bytes(raw)
    try:
        expected = load_json(path)
    except AnnotationError as error:
        expected = error
    for held in (0, 2**20):
        if isinstance(expected, dict):
            assert read(JsonText(path, held=held, window=window)) == expected
            continue
        with pytest.raises(AnnotationError) as caught:
            read(JsonText(path, held=held, window=window))
        if held:
            assert isinstance(expected, AnnotationError)
            assert str(caught.value) == str(expected)
        else:
            assert str(caught.value).startswith(f"{path}: ")
            assert " Remedy: " in str(caught.value)


def test_a_large_file_that_breaks_off_says_where(tmp_path: Path):
    path = tmp_path / "large.json"
    whole = json.dumps({"annotations": [{"id": i, "name": "é" * (i % 5)} for i in range(500)]}, indent=1)
    path.write_text(whole[: len(whole) // 2].rstrip(), encoding="utf-8")
    with pytest.raises(AnnotationError) as caught:
        load_json(path)
    with pytest.raises(AnnotationError) as windowed:
        JsonText(path, held=0, window=256).members()
    assert str(windowed.value) == str(caught.value)
    assert "breaks off at line" in str(caught.value)


def test_other_encodings_are_read_as_json_does(tmp_path: Path):
    path = tmp_path / "a.json"
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        path.write_bytes('{"a": ["é", 1]}'.encode(encoding))
        assert read(JsonText(path, held=0)) == {"a": ["é", 1]}


def test_a_pipe_is_read_once(tmp_path: Path):
    read_end, write_end = os.pipe()
    os.write(write_end, b'{"a": [1]}')
    os.close(write_end)
    assert read(JsonText(Path(f"/dev/fd/{read_end}"), held=0)) == {"a": [1]}
    os.close(read_end)


def test_a_large_file_that_changes_is_refused_and_a_small_one_is_kept(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2]}')
    kept, streamed = JsonText(path), JsonText(path, held=0)
    span = kept.members()["a"]
    path.write_text('{"b": [1, 2, 3]}')
    assert [value for value, _, _ in kept.items(span)] == [1, 2]
    with pytest.raises(AnnotationError, match=r"has changed since it was opened.*open it again"):
        list(streamed.items(span))
    path.unlink()
    with pytest.raises(AnnotationError, match="no such file"):
        streamed.value(span)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "is not JSON that can be read"),
        ('{"a": ' + "1" * 5000 + "}", "is not JSON that can be read"),
        ('{"a": [1 2]}', "Expecting ',' delimiter"),
        ('{"a": [1, ]}', "Expecting value"),
        ('{"a": [1}, "b": [2]}', "Expecting ',' delimiter"),
        ('{"a": 1} x', "Extra data"),
        ('{"a" 1}', "Expecting ':' delimiter"),
        ("{1: 1}", "Expecting property name"),
    ],
)
def test_what_is_wrong_is_said_in_pieces_too(tmp_path: Path, content: str, says: str):
    path = tmp_path / "a.json"
    path.write_text(content)
    for held in (0, 2**25):
        with pytest.raises(AnnotationError, match=says):
            read(JsonText(path, held=held, window=32))


def test_the_last_of_equal_keys_counts(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1], "b": 2, "a": [3]}')
    assert read(JsonText(path)) == {"a": [3], "b": 2}
    assert JsonText(path).members()["a"] == Span(24, 27)
