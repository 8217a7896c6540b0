"""The verdict: a diagnosis in three sentences, made of its document alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiece.evaluate.kinds import OF_PREDICTIONS
from apiece.evaluate.ledger import KINDS

WHAT = {
    "loose": "found with a poor mask",
    "confused": "found with the wrong class",
    "duplicate": "counted twice",
    "merged": "merged with others",
    "split": "split into pieces",
    "tangled": "tangled with others",
    "spurious": "false alarms",
    "missed": "missed",
}


def verdict(document: Mapping[str, Any]) -> list[str]:
    """Three sentences: how far the count is off, what fails and costs most, and what would change it."""
    return [_count(document), _failures(document), _remedy(document)]


def _count(document: Mapping[str, Any]) -> str:
    count = document["count"]
    true, predicted, gross = count["true"], count["predicted"], count["gross"]
    pictures = len(document["images"])
    where = f"{pictures:,} picture{'' if pictures == 1 else 's'}"
    if not true:
        counted = f"{predicted:,} {'was' if predicted == 1 else 'were'} counted" if predicted else "none was"
        return (
            f"{where} hold{'s' if pictures == 1 else ''} no true object, and {counted}{_in_crowds(document)}."
        )
    off = predicted - true
    counted = f"{predicted:,} object{' was' if predicted == 1 else 's were'} counted"
    if off:
        side = "too many" if off > 0 else "too few"
        net = (
            f"{counted} on {where} where there {'is' if true == 1 else 'are'} {true:,}, {abs(off):,} {side} "
            f"({signed(100 * off / true)} %)"
        )
    else:
        net = f"{counted} on {where}, as many as there are"
    if gross <= abs(off):
        return f"{net}{'; all errors go one way' if gross else ''}{_in_crowds(document)}."
    return (
        f"{net}; but {count['too_many']:,} are counted too many and {count['too_few']:,} too few, together "
        f"{100 * gross / true:.1f} % of the true number, which {'partly ' if off else ''}cancel in the total"
        f"{_in_crowds(document)}."
    )


def _in_crowds(document: Mapping[str, Any]) -> str:
    """Predictions in crowd regions are in the count, though neither right nor wrong."""
    inside = document["ledger"]["ignored"]["prediction"]
    return f"; {inside:,} of those counted lie{'s' if inside == 1 else ''} in crowd regions" if inside else ""


def _failures(document: Mapping[str, Any]) -> str:
    ledger = document["ledger"]
    sizes = {
        kind: ledger[kind]["prediction" if kind in OF_PREDICTIONS else "truth"]
        for kind in KINDS
        if kind in WHAT
    }
    worst = [kind for kind in sorted(sizes, key=lambda kind: -sizes[kind]) if sizes[kind]][:3]
    if not worst:
        return (
            "Every object is matched, once." if document["count"]["true"] else "There is nothing to fail at."
        )
    told = [_told(kind, sizes[kind], document) for kind in worst]
    sentence = "What fails most: " + ", ".join(told)
    causes = document.get("causes") or {}
    if "missed" in worst and not causes.get("note"):
        first = max(causes.get("causes") or [], key=lambda one: one["missed"], default=None)
        if first and first["missed"]:
            sentence += f"; the commonest cause of misses: {first['cause']} ({100 * first['share']:.0f} %)"
    part = document.get("costs") or {}
    known = [one for one in part.get("kinds") or [] if (one.get("AP50") or {}).get("value") is not None]
    dearest = max(known, key=lambda one: one["AP50"]["value"], default=None)
    if dearest and dearest["AP50"]["value"] > 0:
        sentence += (
            f"; repairing what is {dearest['kind']} would raise AP{100 * part.get('iou', 0.5):g} most "
            f"({dearest['AP50']['value']:+.3f})"
        )
    return f"{sentence}."


def signed(value: float) -> str:
    """A number with its sign, a minus sign where it is negative."""
    return f"{value:+.1f}".replace("-", "−")


def _told(kind: str, size: int, document: Mapping[str, Any]) -> str:
    total = document["count"]["predicted" if kind in OF_PREDICTIONS else "true"]
    share = f" ({100 * size / total:.1f} %)" if total else ""
    if kind == "spurious":
        return f"{size:,} false alarm{'' if size == 1 else 's'}{share}"
    if kind == "duplicate":
        return f"{size:,} prediction{'s' if size != 1 else ''} of objects counted before{share}"
    what = WHAT[kind] if document["kind"] == "segm" else WHAT[kind].replace("mask", "box")
    return f"{size:,} object{'' if size == 1 else 's'} {what}{share}"


def _remedy(document: Mapping[str, Any]) -> str:
    part = document.get("options")
    if part is None:
        return f"No option was replayed: {document['reasons'].get('options', 'there is nothing to choose from.')}"
    helping = [one for one in part["options"] if one.get("helps")]
    honest = [one for one in helping if not one.get("cancels")]
    if honest:
        return f"Best option, judged on pictures that did not choose it: {honest[0]['sentence']}"
    beyond = part.get("beyond") or []
    more = f" {beyond[0]['evidence']}" if beyond else ""
    if helping:
        return (
            f"No option makes fewer objects wrong; the nearest count comes so: {helping[0]['sentence']}{more}"
        )
    if part["options"]:
        return f"No option that can be replayed measurably helps.{more}"
    judged = not part["fold_note"].startswith("No option was judged")
    return f"{'No other setting is better on these pictures.' if judged else part['fold_note']}{more}"
