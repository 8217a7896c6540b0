"""Kinds of failure in words: a sentence each, with the thresholds in use."""

from __future__ import annotations

from collections.abc import Mapping

from apiece.evaluate.ledger import KINDS, Rules

# On which side of the count a kind's objects stand; the others are right or do not count.
OF_PREDICTIONS = frozenset({"duplicate", "spurious"})
ERRORS = tuple(kind for kind in KINDS if kind not in ("matched", "ignored"))


def sentences(rules: Rules) -> Mapping[str, str]:
    """What each kind means, a sentence."""
    found, near, covered = f"{rules.found:g}", f"{rules.near:g}", f"{100 * rules.covered:g} %"
    return {
        "matched": f"One prediction of the right class with IoU of at least {found}.",
        "loose": (
            f"The right object with a poor outline: IoU below {found}, but each covers {covered} of the other or, "
            f"with nothing else near, IoU of at least {near}."
        ),
        "confused": f"The right outline (IoU of at least {found}) with the wrong class.",
        "duplicate": "A prediction of an object that another prediction has already: one object, counted again.",
        "merged": f"One prediction that covers {covered} or more of each of several objects, counted once.",
        "split": f"Several predictions, each lying to {covered} or more in one object, which is counted several times.",
        "tangled": "Several predictions that hang together with several objects.",
        "spurious": "A prediction with no object behind it.",
        "missed": "An object that no prediction stands for.",
        "ignored": (
            "Crowd regions, which are no objects, and predictions that lie in them: neither right nor wrong, though "
            "such predictions are in the count."
        ),
    }
