"""The report as one HTML file: nothing fetched, light and dark, for keyboard, screen reader, phone and paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from apiece.errors import DataError
from apiece.evaluate.kinds import sentences
from apiece.evaluate.ledger import Ledger
from apiece.evaluate.report import beyond, counts, plots, tables
from apiece.evaluate.report.gallery import Gallery
from apiece.evaluate.report.markup import embedded, name, safe
from apiece.evaluate.report.reading import part, rows, words
from apiece.evaluate.report.script import SCRIPT
from apiece.evaluate.report.style import STYLE
from apiece.evaluate.subject import Subject

CONTENTS = (
    ("count", "Count"),
    ("ledger", "Ledger"),
    ("pictures", "Pictures"),
    ("causes", "Causes"),
    ("costs", "Costs"),
    ("options", "Options"),
    ("risk", "Risk"),
    ("calibration", "Calibration"),
    ("counting", "Counting"),
    ("quality", "Outlines"),
    ("slices", "Slices"),
    ("label-errors", "Label errors"),
    ("worst", "Worst pictures"),
    ("notes", "Notes"),
    ("definitions", "Definitions"),
)
EMBEDDED = 400_000  # characters of the document that the page carries; beyond, without its longest lists


def write_report(document: Mapping[str, Any], subject: Subject, ledger: Ledger, path: str | Path) -> None:
    """Write a diagnosis as one HTML file; pictures are inside, so it can be sent on.

    document  `apiece/diagnose/1`; any part may be missing, `document["reasons"]` then says why.
    subject   whose pictures are shown, where their files are found.
    ledger    the entries that are shown.
    raises    DataError where the file can't be written.
    """
    text = page_of(document, subject, ledger)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}). Remedy: does its folder exist?"
        ) from None


def page_of(document: Mapping[str, Any], subject: Subject, ledger: Ledger) -> str:
    """The page as text."""
    gallery = Gallery(document, subject, ledger)
    meanings = sentences(ledger.rules)
    parts = {
        "verdict": counts.verdict(document),
        "count": counts.counted(document),
        "ledger": counts.ledger_table(document, meanings),
        "pictures": gallery.by_kind(meanings),
        "causes": tables.causes(document),
        "costs": tables.costs(document),
        "options": tables.options(document),
        "risk": beyond.risk(document),
        "calibration": plots.calibration(document),
        "counting": plots.counting(document),
        "quality": plots.quality(document),
        "slices": tables.slices(document),
        "label-errors": gallery.label_errors(),
        "worst": gallery.worst_pictures(),
        "notes": beyond.notes(document),
        "definitions": beyond.definitions(document, meanings),
    }
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title in CONTENTS if parts[key])
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"Diagnosis of {safe(words(document.get('predicted_path')) or 'predictions')}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>"
        '<a class="skip" href="#main">Skip to the verdict</a><div class="page">'
        f'{_header(document, subject)}<nav class="contents" aria-label="Contents"><ul>{links}</ul></nav>'
        f'<main id="main">{"".join(parts.values())}</main>'
        "<footer>Written by apiece diagnose; no data was changed. This file holds its pictures and needs no network."
        "</footer></div>"
        f'<script type="application/json" id="document">{_embedded(document)}</script>'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _header(document: Mapping[str, Any], subject: Subject) -> str:
    point = part(document, "operating_point")
    pictures = len(rows(document.get("images"))) or len(subject.names)
    kind = {"segm": "masks", "bbox": "boxes"}.get(words(document.get("kind")), words(document.get("kind")))
    facts = [
        ("ground truth", name(words(document.get("truth_path")) or subject.truth_path)),
        ("predictions", name(words(document.get("predicted_path")) or subject.predicted_path)),
        ("pictures", f"{pictures:,}"),
        ("compared", safe(kind)),
        ("operating point", safe(beyond.point_in_words(point, document.get("threshold")))),
    ]
    called = PurePath(words(document.get("predicted_path")) or subject.predicted_path).name or "predictions"
    told = "".join(f"<div><dt>{term}</dt><dd>{value}</dd></div>" for term, value in facts if value)
    return f'<header><h1>Diagnosis of {name(called)}</h1><dl class="facts">{told}</dl></header>'


def _embedded(document: Mapping[str, Any]) -> str:
    """The document for machines; without its lists of pictures where these are long."""
    whole = embedded(dict(document))
    if len(whole) <= EMBEDDED:
        return whole
    left_out = ("images", "label_errors", "by_class")
    return embedded(
        {**{key: value for key, value in document.items() if key not in left_out}, "left_out": list(left_out)}
    )
