"""Do options do on new pictures what was predicted? Predicted against measured effects, for the bundled models.

    python recipes/things_data.py ../shared/data runs/things-data      once
    python benchmarks/options.py [--only cells mandarins ...]

Pictures that no model was trained on (recipes/cells-heldout.txt, things-heldout.txt), candidates of score 0.05 and
more, kept in runs/options. One half of each set, alike in true counts, is diagnosed: options are chosen, and their
effects predicted, on it alone. The three best are then applied to the other half, which had no part in it, and measured
there. Two baselines: the model's own threshold ("own"), and one set far too low ("low"), where much can be gained.
`agrees`: predicted and measured effect differ by no more than both intervals together allow (root of the sum of squared
half-widths); None where one has no interval. `in_interval`: the measured effect lies in the predicted interval, which
allows for the diagnosed half's images only. Writes benchmarks/results/options.json.

Sets: `cells` of the model cells (nuclei); of the model things `mandarins`, `mushrooms` and `things` (all real ones).
Nine held-out mushroom pictures are too few to choose and judge apart; `mushrooms-cells` are all 35 of them with the
model `cells`, which never saw one (and does poorly).
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.operating import OperatingPoint
from apiece.evaluate.options import measure, options
from apiece.evaluate.options.folds import halves
from apiece.evaluate.options.report import objective_of
from apiece.evaluate.overlaps import Overlaps, overlaps_of

ROOT = Path(__file__).parents[1]
DATA, GROUPS = ROOT / "runs/things-data", ROOT / "runs/things-data/groups.csv"
CACHE = ROOT / "runs/options"
RESULTS = Path(__file__).parent / "results" / "options.json"
LOWEST = 0.05
SETS = {
    "cells": ("cells", {"nuclei"}),
    "mandarins": ("things", {"mandarins"}),
    "mushrooms": ("things", {"mushrooms"}),
    "things": ("things", {"balloons", "mushrooms", "mandarins", "fruits", "nuclei"}),
    "mushrooms-cells": ("cells", {"mushrooms"}),
}
WHOLE = {
    "mushrooms-cells"
}  # of which no picture was in the model's training: those of things' training count, too
LOW = 0.15  # the threshold that is set too low
OBJECTIVES = ("mae", "gross", "ap")
TOP = 3


def truth_of(groups: set[str], whole: bool) -> dict[str, Any]:
    """The held-out pictures of these groups, or all, as a COCO document."""
    with GROUPS.open(newline="", encoding="utf-8") as file:
        group = {row["image"]: row["group"] for row in csv.DictReader(file)}
    document = json.loads((DATA / "heldout.json").read_text(encoding="utf-8"))
    if whole:
        more, step = json.loads((DATA / "train.json").read_text(encoding="utf-8")), 10**7
        document["images"] += [{**image, "id": image["id"] + step} for image in more["images"]]
        document["annotations"] += [
            {**one, "id": one["id"] + step, "image_id": one["image_id"] + step} for one in more["annotations"]
        ]
    document["images"] = [i for i in document["images"] if group[Path(i["file_name"]).stem] in groups]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in kept]
    return document


def candidates(name: str, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a model finds on each picture, with low scores; kept from one run to the next."""
    import apiece

    folder = CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    model, results = None, []
    for image in images:
        path = folder / f"{Path(image['file_name']).stem}.json"
        if not path.is_file():
            model = apiece.load(name) if model is None else model
            found = model(ROOT.parent / image["file_name"], threshold=LOWEST)
            rows = zip(found.masks.to_coco(), found.boxes.tolist(), found.scores.tolist(), strict=True)
            entries = [
                {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": score, "segmentation": rle}
                for rle, (x1, y1, x2, y2), score in rows
            ]
            path.write_text(json.dumps({"entries": entries, "truncated": found.truncated}))
        kept = json.loads(path.read_text())["entries"]
        results += [{"image_id": image["id"], "category_id": 1, **entry} for entry in kept]
    return results


def compared(known: Overlaps, new: Overlaps, base: str, limit: float, objective: Any) -> dict[str, Any]:
    """Options chosen and judged on the known images, and what they do on the new ones."""
    point = OperatingPoint(limit)
    started = time.perf_counter()
    found = options(known, point, objective=objective)
    seconds = time.perf_counter() - started
    rows = []
    for option in found.options[:TOP]:
        predicted = objective_of(option.effect, objective)
        measured = objective_of(measure(option.setting, new, point), objective)
        apart = np.hypot(predicted.high - predicted.low, measured.high - measured.low) / 2
        rows.append(
            {
                "name": option.name,
                "setting": found.to_json()["options"][option.rank - 1]["setting"],
                "sentence": option.sentence,
                "helps": option.helps,
                "judged_on": option.judged_on,
                "predicted": predicted.to_json(),
                "measured": measured.to_json(),
                "in_interval": bool(predicted.low <= measured.value <= predicted.high),
                "agrees": bool(abs(predicted.value - measured.value) <= apart)
                if np.isfinite(apart)
                else None,
            }
        )
    return {
        "baseline": base,
        "threshold": limit,
        "objective": objective,
        "seconds": round(seconds, 2),
        "note": found.fold_note,
        "rows": rows,
        "beyond": [one.to_json() for one in found.beyond],
    }


def run(name: str) -> dict[str, Any]:
    from apiece.predict.load import WEIGHTS

    model, groups = SETS[name]
    truth = truth_of(groups, name in WHOLE)
    threshold = json.loads((WEIGHTS / f"{model}.json").read_text())["card"]["threshold"]
    overlaps = overlaps_of(scenes_of_coco(truth, candidates(model, truth["images"])))
    objects = overlaps.scenes.truth
    images = len(overlaps.scenes.image_ids)
    first = halves(np.bincount(objects.images[~objects.crowd], minlength=images), seed=2018)
    known, new = (overlaps.only(np.flatnonzero(side)) for side in (first, ~first))
    baselines = {"own": threshold, "low": LOW}
    return {
        "set": name,
        "model": model,
        "images_diagnosed": int(first.sum()),
        "images_untouched": int((~first).sum()),
        "objects": len(objects),
        "candidates": len(overlaps.scenes.predicted),
        "parts": [
            compared(known, new, base, limit, objective)
            for base, limit in baselines.items()
            for objective in OBJECTIVES
        ],
    }


def shown(figure: dict[str, float | None]) -> str:
    low, high = figure["low"], figure["high"]
    between = "" if low is None or high is None else f" ({low:+.3f} to {high:+.3f})"
    return f"{figure['value']:+.3f}{between}"


def main(names: list[str]) -> None:
    found = []
    for name in names:
        one = run(name)
        found.append(one)
        print(f"\n{name}: {one['images_diagnosed']} diagnosed, {one['images_untouched']} untouched")
        for part in one["parts"]:
            note = "" if part["rows"] else f": {part['note']}"
            print(
                f"  {part['baseline']} {part['threshold']}, {part['objective']} ({part['seconds']} s){note}"
            )
            for row in part["rows"]:
                inside = {True: "agrees", False: "differs", None: "no interval"}[row["agrees"]]
                predicted, measured = shown(row["predicted"]), shown(row["measured"])
                print(f"    {row['name']:<22} predicted {predicted:<28} measured {measured:<28} {inside}")
                print(f"      {row['sentence']}")
    document = {
        "schema": "apiece/benchmark/1",
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ("apiece", "numpy", "scikit-image")},
        "sets": found,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    main(parser.parse_args().only)
