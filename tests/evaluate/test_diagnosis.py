"""The whole of a diagnosis: what it says, what it refuses, and that its numbers hang together."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools_oracle as oracle
import pytest

import apiece
from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import ApieceError, UsageError
from apiece.evaluate import Diagnosis, Settings, diagnose_files, diagnose_instances
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.diagnose import diagnose
from apiece.evaluate.gate import FIGURES, figures_of
from apiece.evaluate.ledger import KINDS
from apiece.evaluate.subject import Subject

CLASSES = ClassMap(("nucleus", "debris"))
SIDE = 12
SCORED = ("evaluation", "boundary", "tide", "calibration", "label_errors")


def picture(rng: np.random.Generator, miss: float = 0.15, false: float = 0.1) -> tuple[Instances, Instances]:
    """Squares on a grid, most of them found; scores are lower for what is wrong."""
    places = [(x, y) for x in range(4, 160, 20) for y in range(4, 120, 20)]
    rng.shuffle(places)
    true = places[: int(rng.integers(4, 30))]
    labels = (rng.random(len(true)) < 0.2).astype(int)
    found, classes, scores = [], [], []
    for place, label in zip(true, labels.tolist(), strict=True):
        if rng.random() < miss:
            if rng.random() < 0.5:
                found.append(place), classes.append(label), scores.append(rng.uniform(0.05, 0.4))
            continue
        found.append((place[0] + int(rng.integers(-1, 2)), place[1])), classes.append(label)
        scores.append(rng.uniform(0.45, 1))
    for place in places[30:]:
        if rng.random() < false:
            found.append(place), classes.append(0), scores.append(rng.uniform(0.05, 0.8))
    square = np.ones((SIDE, SIDE), np.bool_)

    def instances(at: list[tuple[int, int]], ids: Any, values: Any = None) -> Instances:
        masks = Masks.from_crops([square] * len(at), np.array(at).reshape(-1, 2), (120, 160))
        return Instances((120, 160), masks, ids, values, classes=CLASSES)

    return instances(true, labels), instances(found, classes, scores)


def pictures(count: int, seed: int = 0, **how: float) -> tuple[list[Instances], list[Instances]]:
    rng = np.random.default_rng(seed)
    made = [picture(rng, **how) for _ in range(count)]
    return [true for true, _ in made], [found for _, found in made]


def documents(truth: list[Instances], found: list[Instances]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A COCO truth, and predictions as `apiece segment --as coco` writes them."""
    images = [
        {"id": i, "file_name": f"{i}.png", "height": one.size[0], "width": one.size[1], "camera": "ab"[i % 2]}
        for i, one in enumerate(truth, start=1)
    ]
    categories = [{"id": CLASSES.id_of(k), "name": name} for k, name in enumerate(CLASSES.names)]
    true = [entry for i, one in enumerate(truth, start=1) for entry in one.to_coco(i)]
    for number, entry in enumerate(true, start=1):
        entry["id"] = number
        del entry["score"]
    rows = [entry for i, one in enumerate(found, start=1) for entry in one.to_coco(i)]
    both = {"images": images, "categories": categories}
    return {**both, "annotations": true}, {**both, "annotations": rows}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("diagnosis")
    paths = folder / "truth.json", folder / "found.json"
    for path, document in zip(paths, documents(*pictures(40)), strict=True):
        path.write_text(json.dumps(document))
    return paths


@pytest.fixture(scope="module")
def diagnosis(files: tuple[Path, Path]) -> Diagnosis:
    return diagnose_files(*files)


@pytest.fixture(scope="module")
def document(diagnosis: Diagnosis) -> dict[str, Any]:
    return json.loads(json.dumps(diagnosis.to_json(), allow_nan=False))


def reconciles(document: dict[str, Any]) -> None:
    count, ledger = document["count"], document["ledger"]
    assert sum(ledger[kind]["signed"] for kind in KINDS) == count["net"] == count["predicted"] - count["true"]
    assert count["too_many"] - count["too_few"] == count["net"]
    assert sum(ledger[kind]["prediction"] for kind in KINDS) == count["predicted"]
    assert sum(ledger[kind]["truth"] for kind in KINDS if kind != "ignored") == count["true"]
    for side, place in (("truth", 0), ("prediction", 1)):
        for kind in KINDS:
            parts = [row["ledger"].get(kind, [0, 0])[place] for row in document["images"]]
            classes = [row["ledger"].get(kind, [0, 0])[place] for row in document["by_class"]]
            assert sum(parts) == sum(classes) == ledger[kind][side], kind
    for row in document["images"]:
        assert row["too_many"] - row["too_few"] == row["predicted"] - row["true"]


def test_everything_is_there_and_adds_up(document: dict[str, Any]) -> None:
    assert document["schema"] == "apiece/diagnose/1"
    assert document["reasons"] == {}
    assert len(document["verdict"]) == 3
    assert {*SCORED, "causes", "costs", "slices", "quality", "counting", "options", "risk", "worst"} <= set(
        document
    )
    reconciles(document)
    assert sum(row["missed"] for row in document["causes"]["causes"]) == document["ledger"]["missed"]["truth"]
    assert {row["by"] for row in document["slices"]} >= {"all", "class", "metadata: camera"}


def test_every_figure_of_the_gate_is_known(document: dict[str, Any]) -> None:
    figures = figures_of(document)
    assert set(figures) == set(FIGURES)
    assert [name for name, value in figures.items() if value is None] == []
    assert figures["AP"] == document["evaluation"]["segm"]["AP"]


def test_average_precision_is_that_of_evaluate(document: dict[str, Any], files: tuple[Path, Path]) -> None:
    whole = apiece.evaluate_files(*files, threshold=document["threshold"]).to_json()
    assert document["evaluation"]["segm"]["AP"] == whole["segm"]["AP"]
    assert document["count"]["MAE"] == whole["count"]["MAE"]
    assert document["count"]["predicted"] == whole["count"]["predicted"]


def test_text_keeps_its_width(diagnosis: Diagnosis, document: dict[str, Any]) -> None:
    text = diagnosis.to_text(90)
    assert all(len(line) <= 90 for line in text.splitlines())
    assert "".join(document["verdict"][0].split()) in "".join(text.split())
    for kind in KINDS:
        assert kind in text


def test_memory_and_files_agree(document: dict[str, Any]) -> None:
    cameras = {"camera": ["ab"[i % 2] for i in range(1, 41)]}
    found = diagnose_instances(*pictures(40), metadata=cameras).to_json()
    for key in ("count", "ledger", "by_class", "threshold", "causes", "costs", "slices", "calibration"):
        assert found[key] == document[key], key


def test_the_chosen_threshold_is_the_best_of_its_criterion(files: tuple[Path, Path]) -> None:
    best = diagnose_files(*files, Settings(choose="mae")).to_json()
    for threshold in np.linspace(0.05, 0.95, 19):
        other = apiece.evaluate_files(*files, threshold=float(threshold)).count
        assert best["count"]["MAE"] <= other["MAE"] + 1e-12
    assert "mean error of the count" in best["operating_point"]["chosen_by"]


def test_a_given_threshold_is_kept(files: tuple[Path, Path]) -> None:
    found = diagnose_files(*files, Settings(threshold=0.6)).to_json()
    assert found["threshold"] == 0.6
    assert found["operating_point"]["chosen_by"] == "the threshold was given"
    reconciles(found)


def test_without_scores_there_is_a_ledger_and_no_average_precision(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    rows = json.loads(files[1].read_text())
    for row in rows["annotations"]:
        del row["score"]
    (tmp_path / "unscored.json").write_text(json.dumps(rows))
    found = diagnose_files(files[0], tmp_path / "unscored.json").to_json()
    reconciles(found)
    assert set(found["reasons"]) >= set(SCORED)
    assert "evaluation" not in found
    assert all("scores" in found["reasons"][key] for key in SCORED)
    assert found["count"]["predicted"] == len(rows["annotations"])


@pytest.mark.parametrize("side", ["predictions", "truth", "both"])
def test_nothing_on_a_side(side: str) -> None:
    truth, found = pictures(12, seed=3)
    if side in ("truth", "both"):
        truth = [one[:0] for one in truth]
    if side in ("predictions", "both"):
        found = [one[:0] for one in found]
    made = diagnose_instances(truth, found)
    document = json.loads(json.dumps(made.to_json(), allow_nan=False))
    reconciles(document)
    assert made.to_text()
    assert document["ledger"]["missed"]["truth"] == (
        document["count"]["true"] if side == "predictions" else 0
    )


def test_one_picture_has_no_intervals_and_no_options() -> None:
    document = diagnose_instances(*pictures(1, seed=5)).to_json()
    reconciles(document)
    assert document["options"]["options"] == []
    assert "at least" in document["options"]["fold_note"]
    assert document["counting"]["MAE"]["low"] is None


def test_boxes_only_results_are_compared_as_boxes(files: tuple[Path, Path], tmp_path: Path) -> None:
    rows = json.loads(files[1].read_text())["annotations"]
    for row in rows:
        del row["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    document = diagnose_files(files[0], tmp_path / "boxes.json").to_json()
    assert document["kind"] == "bbox"
    assert "boundary" in document["reasons"]
    assert any("boxes are compared" in note for note in document["notes"])
    reconciles(document)


def test_crowds_are_counted_and_stand_under_ignored() -> None:
    for seed in range(6):
        truth, results = oracle.scene(seed)
        scenes = scenes_of_coco(truth, results)
        names = tuple(map(str, scenes.image_ids))
        document = diagnose(Subject(scenes, names, (None,) * len(names)), Settings(threshold=0.3)).to_json()
        json.dumps(document, allow_nan=False)
        reconciles(document)


def test_live_pictures_alike_keep_the_promises_and_others_withdraw_them(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    truth, found = pictures(120, seed=11)
    (tmp_path / "alike.json").write_text(json.dumps(documents(truth, found)[1]))
    denser = [
        Instances.concatenate([one, one[: len(one) // 2]]) if len(one) else one
        for one in pictures(120, seed=12, miss=0.6, false=0.9)[1]
    ]
    (tmp_path / "other.json").write_text(json.dumps(documents(truth, denser)[1]))
    settings = Settings(threshold=0.45)
    alike = {
        row["name"]: row
        for row in diagnose_files(*files, settings, live=tmp_path / "alike.json").to_json()["risk"]
    }
    total = alike["total of live pictures"]["interval"]
    assert total["low"] <= sum(map(len, truth)) <= total["high"]
    assert not any(row["withdrawn"] for row in alike.values())
    other = diagnose_files(*files, settings, live=tmp_path / "other.json").to_json()["risk"]
    assert all(row["promise"] is None for row in other)
    assert any(row["withdrawn"] for row in other)


def test_a_live_list_without_its_pictures_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    rows = json.loads(files[1].read_text())["annotations"]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    with pytest.raises(ApieceError, match="list of pictures"):
        diagnose_files(*files, live=tmp_path / "list.json")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"choose": "f2"}, "choose is 'f2'"),
        ({"objective": "map"}, "Did you mean 'ap'|Known"),
        ({"max_miss": 0.0}, "max_miss"),
        ({"level": 95.0}, "level"),
        ({"threshold": math.nan}, "finite"),
        ({"cost_miss": -1.0}, "costs"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Settings(**settings)


def test_an_unknown_group_names_the_columns(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="camera"):
        diagnose_files(*files, Settings(group="camra"))


def test_groups_widen_intervals(document: dict[str, Any], files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "plates.csv").write_text(
        "picture,plate\n" + "".join(f"{i}.png,p{(i - 1) // 5}\n" for i in range(1, 41))
    )
    grouped = diagnose_files(*files, Settings(group="plate"), metadata=tmp_path / "plates.csv").to_json()
    assert grouped["count"] == document["count"]
    assert grouped["counting"]["MAE"]["value"] == document["counting"]["MAE"]["value"]
    assert grouped["counting"]["MAE"] != document["counting"]["MAE"]
    assert any(row["unit"] == "group" and row["n"] == 8 for row in grouped["risk"])


def test_one_class_compares_what_is_called_otherwise(files: tuple[Path, Path], tmp_path: Path) -> None:
    other = json.loads(files[1].read_text())
    other["categories"] = [{"id": 9, "name": "thing"}]
    for row in other["annotations"]:
        row["category_id"] = 9
    (tmp_path / "things.json").write_text(json.dumps(other))
    with pytest.raises(ApieceError, match="--one-class"):
        diagnose_files(files[0], tmp_path / "things.json")
    found = diagnose_files(
        files[0], tmp_path / "things.json", Settings(threshold=0.45), one_class=True
    ).to_json()
    same = diagnose_files(*files, Settings(threshold=0.45), one_class=True).to_json()
    assert found["ledger"] == same["ledger"]
    assert [row["name"] for row in found["by_class"]] == ["object"]
    assert found["ledger"]["confused"]["truth"] == 0


def test_text_names_options_that_lower_gross_error_alone_and_none_that_harm() -> None:
    from apiece.evaluate.diagnosis_text import _options

    def option(label: str, measurable: bool, high: float | None) -> dict[str, Any]:
        return {
            "label": label,
            "sentence": f"{label} told.",
            "helps": False,
            "measurable": measurable,
            "rank": 1,
            "effect": {"gross": {"value": -1.0, "low": -2.0, "high": high}},
        }

    options = [option("fewer", False, -0.5), option("harms", True, -0.5), option("nothing", False, None)]
    first, rest = _options({"options": {"objective": "mae", "options": options}})
    assert first.startswith("Fewer errors")
    assert "fewer told." in first
    assert rest == "No measurable gain in the mean error of the count from: harms; nothing."


def test_labelled_pictures_among_the_live_ones_count_once(files: tuple[Path, Path], tmp_path: Path) -> None:
    own = json.loads(files[1].read_text())
    more = documents(*pictures(60, seed=21))[1]
    for entry in more["images"]:
        entry["id"] += 1000
        entry["file_name"] = f"live-{entry['file_name']}"
    for entry in more["annotations"]:
        entry["image_id"] += 1000
    both = {
        **own,
        "images": own["images"] + more["images"],
        "annotations": own["annotations"] + more["annotations"],
    }
    risks = []
    for name, document in (("more", more), ("both", both)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        found = diagnose_files(*files, Settings(threshold=0.45), live=tmp_path / f"{name}.json").to_json()
        risks.append([(row["name"], row["interval"], row["withdrawn"]) for row in found["risk"]])
    assert risks[0] == risks[1]
    assert any(name == "total of live pictures" for name, _, _ in risks[0])
    with_same_names = {
        **more,
        "images": [{**e, "file_name": e["file_name"].removeprefix("live-")} for e in more["images"]],
    }
    (tmp_path / "names.json").write_text(json.dumps(with_same_names))
    found = diagnose_files(*files, Settings(threshold=0.45), live=tmp_path / "names.json").to_json()["risk"]
    assert [(row["name"], row["interval"], row["withdrawn"]) for row in found] == risks[0]
