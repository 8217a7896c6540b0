"""Turns a training run into the bundled model: threshold, export, figures, card, checksum.

    python recipes/bundle.py runs/cells recipes/cells.yaml [--int8]
    python recipes/bundle.py runs/things recipes/things.yaml --by-group --pictures runs/things-data/synthetic

The threshold is chosen on training pictures; the figures are the exported file's own, on the held-out pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.frame import Frame
from apiece.core.instances import Instances
from apiece.data.dataset import Dataset
from apiece.deploy.export import export, write_card
from apiece.evaluate import Evaluation, best_count_threshold, evaluate_instances
from apiece.models.card import ModelCard
from apiece.predict.load import WEIGHTS
from apiece.predict.predictor import Model
from apiece.predict.runtime_onnx import OnnxRuntime
from apiece.train.recipe import Recipe, read_recipe
from apiece.train.run import open_data

LOWEST = 0.05
Pair = tuple[Instances, Instances]


def pairs(model: Model, data: Dataset) -> list[Pair]:
    """Truth and prediction of every picture."""
    return [(sample.instances, model(sample.image, threshold=LOWEST)) for sample in data]


def figures(found: Sequence[Pair], threshold: float) -> dict[str, Any]:
    """The figures of the card."""
    e: Evaluation = evaluate_instances([t for t, _ in found], [p for _, p in found], threshold=threshold)
    assert e.segm is not None
    assert e.segm_uncapped is not None
    return {
        "images": len(found),
        "objects": int(e.count["true"]),
        "counted": int(e.count["predicted"]),
        "AP": round(e.segm_uncapped["AP"], 4),
        "AP50": round(e.segm_uncapped["AP50"], 4),
        "AP75": round(e.segm_uncapped["AP75"], 4),
        "AP_with_cap_100": round(e.segm["AP"], 4),
        "count_MAE": round(e.count["MAE"], 3),
        "count_bias": round(e.count["bias"], 3),
        "count_relative": round(e.count["relative"], 4),
        "count_relative_per_image": round(e.count["relative_per_image"], 4),
    }


def by_modality(found: Sequence[Pair], groups: Sequence[str], threshold: float) -> dict[str, dict[str, Any]]:
    """The same for each modality: the group's name up to its picture size."""
    names = [group.split("-")[0] for group in groups]
    return {
        name: figures([p for p, n in zip(found, names, strict=True) if n == name], threshold)
        for name in sorted(set(names))
    }


def threshold_by_group(found: Sequence[Pair], groups: Sequence[str]) -> float:
    """The threshold with the smallest relative counting error, every group counting alike: where sets differ in
    density, the densest would decide alone."""
    errors = []
    candidates = [n / 100 for n in range(5, 81)]
    for threshold in candidates:
        relative = []
        for name in sorted(set(groups)):
            own = [pair for pair, group in zip(found, groups, strict=True) if group == name]
            wrong = sum(abs(int((p.scores >= threshold).sum()) - len(t)) for t, p in own)
            relative.append(wrong / sum(len(t) for t, _ in own))
        errors.append(sum(relative) / len(relative))
    return candidates[errors.index(min(errors))]


def diameters(data: Dataset, input_size: tuple[int, int]) -> dict[str, float]:
    """How large the objects of a data set are at the network's input: 5 %, 50 % and 95 % quantile of the diameter of a
    disc of their area, in pixels of the input into which each picture is scaled to fit."""
    found = []
    for sample in data:
        frame = Frame.letterbox(sample.instances.size, input_size)
        areas = sample.instances.masks.areas * (frame.sx * frame.sy)
        found.append(np.sqrt(4 / np.pi * areas[areas > 0]))
    low, median, high = np.quantile(np.concatenate(found), (0.05, 0.5, 0.95))
    return {"5%": round(float(low), 1), "median": round(float(median), 1), "95%": round(float(high), 1)}


def with_object_size(card: ModelCard, training: Dataset) -> ModelCard:
    """The card with the size of the training objects, which sets the scale of large pictures."""
    sizes = diameters(training, card.input_size)
    metrics = {**card.metrics, "training_object_diameter": sizes}
    return card.replace(object_size=sizes["median"], metrics=metrics)


def page(card: ModelCard, size: int, chosen: str) -> str:
    """docs/models/<name>.md."""
    held_out: Mapping[str, Any] = card.metrics["held_out"]
    modalities: Mapping[str, Mapping[str, Any]] = card.metrics["held_out_by_modality"]
    keys = ("images", "objects", "counted", "AP", "AP50", "AP75", "count_MAE", "count_bias", "count_relative")
    rows = [("all", held_out), *modalities.items()]
    table = ["| held-out pictures | " + " | ".join(keys) + " |", "| --- |" + " ---: |" * len(keys)]
    table += [f"| {name} | " + " | ".join(str(row[k]) for k in keys) + " |" for name, row in rows]
    notes = "\n".join(f"- {note}" for note in card.notes)
    sizes: Mapping[str, float] = card.metrics["training_object_diameter"]
    return f"""# {card.name}

Generated by `recipes/bundle.py`; the same facts are in the file's metadata.

- **Finds**: {", ".join(card.classes.names)}. **Family**: {card.family}, builder `{card.builder}`.
- **Input**: {card.input_size[0]} × {card.input_size[1]}; pictures are scaled to fit. **File**: {size / 1e6:.1f} MB.
- **Licence**: {card.licence}. **Origin**: {card.origin}.
- **Data**: {card.data}.
- **Object size**: {card.object_size:g} pixels at the network's input, the median of the training objects (5 % are under
  {sizes["5%"]:g}, 5 % over {sizes["95%"]:g}): the diameter of a disc of their area. Pixel width in training: \
{"unknown or mixed" if card.microns is None else f"{card.microns:g} µm"}.
- **Threshold**: {card.threshold}, the one with the smallest {chosen} on training pictures.

{chr(10).join(table)}

AP figures are COCO's mask AP without the cap of 100 objects a picture (with it: {held_out["AP_with_cap_100"]}).
count_MAE: mean |counted - true| a picture; count_bias: mean counted - true; count_relative: |total counted - total
true| / total true. All at the threshold above, measured on the bundled file itself.

## Known limits

{notes}
"""


def renewed(recipe: Recipe, target: Path) -> ModelCard:
    """The card of the bundled file with the recipe's words; its figures stay."""
    card = OnnxRuntime(target).card
    # Training adds what the weights started from; that stays, too.
    origin = card.origin if card.origin.startswith(recipe.origin) else recipe.origin
    return card.replace(origin=origin, notes=recipe.notes, data=recipe.data, licence=recipe.licence)


def measured(recipe: Recipe, target: Path, arguments: argparse.Namespace) -> ModelCard:
    """Export the run, choose the threshold, measure the exported file."""
    assert recipe.validation is not None
    pictures = arguments.pictures or recipe.train.path / "images"
    print(
        export(
            arguments.run, target, arguments.int8, pictures if arguments.int8 else None, pictures
        ).to_text()
    )

    model = Model(OnnxRuntime(target))
    training = open_data(recipe.train, recipe.classes)
    third = training.select(range(0, len(training), 3))
    seen = pairs(model, third)
    if arguments.by_group:
        assert third.groups is not None
        threshold = threshold_by_group(seen, third.groups)
    else:
        threshold = best_count_threshold([len(t) for t, _ in seen], [p.scores.tolist() for _, p in seen])

    held_out = open_data(recipe.validation, recipe.classes)
    assert held_out.groups is not None
    found = pairs(model, held_out)
    return model.card.replace(
        threshold=threshold,
        notes=(*model.card.notes, *(n for n in recipe.notes if n not in model.card.notes)),
        metrics={
            "held_out": figures(found, threshold),
            "held_out_by_modality": by_modality(found, held_out.groups, threshold),
            "training_third": figures(seen, threshold),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument(
        "--card-only", action="store_true", help="renew the words of the card, measure nothing"
    )
    parser.add_argument("--by-group", action="store_true", help="every group counts alike for the threshold")
    parser.add_argument("--pictures", type=Path, help="a folder of training pictures, for the export's proof")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    assert recipe.validation is not None
    target = WEIGHTS / f"{recipe.name}.onnx"
    card = renewed(recipe, target) if arguments.card_only else measured(recipe, target, arguments)
    card = with_object_size(card, open_data(recipe.train, recipe.classes))
    write_card(target, card)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    record = {
        "sha256": digest,
        "bytes": target.stat().st_size,
        "licence": card.licence,
        "card": json.loads(card.to_json()),
    }
    target.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    document = Path(__file__).parents[1] / "docs" / "models" / f"{recipe.name}.md"
    document.parent.mkdir(exist_ok=True)
    chosen = "relative count error, every set counting alike," if arguments.by_group else "count error"
    document.write_text(page(card, target.stat().st_size, chosen))
    print(document.read_text())


if __name__ == "__main__":
    main()
