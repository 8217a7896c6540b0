"""Options: each planted fault has its remedy; effects are judged by images that did not choose."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from option_scenes import (
    CENTRES,
    SPARE,
    Drawn,
    disc,
    duplicates,
    false_alarms,
    grown_together,
    halves_of_discs,
    noise,
    speckle,
)

from apiece.errors import UsageError
from apiece.evaluate.bootstrap import resamples
from apiece.evaluate.ledger import DUPLICATE, KINDS, MATCHED, MERGED, SPLIT, ledger
from apiece.evaluate.operating import OperatingPoint, Reason, Suppression, select
from apiece.evaluate.options import Fragments, Setting, apply_option, definitions, measure, options, replay
from apiece.evaluate.options.choosers import Chooser
from apiece.evaluate.options.folds import halves
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.replay import average_precisions

AT = OperatingPoint(0.5)


def test_false_alarms_above_the_threshold_are_cured_by_a_higher_one():
    overlaps = false_alarms()
    found = options(overlaps, AT, objective="gross")
    best = found["threshold_f1"]
    assert 0.6 < best.setting.point.threshold < 0.7
    assert best.helps
    assert best.effect.gross.value == pytest.approx(best.effect.kinds["spurious"].value)
    assert best.effect.gross.high < 0
    assert best.effect.AP.value == 0
    assert best.effect.kinds["spurious"].value < -0.9
    assert "AP unchanged" in best.sentence
    assert "fewer objects wrong per image" in best.sentence
    assert best.sentence.startswith("Threshold 0.6")
    assert found.options[0].effect.gross.value == best.effect.gross.value
    _, kept = apply_option(best, overlaps)
    assert (ledger(overlaps, kept).errors == 0).all()


def test_duplicates_are_cured_by_suppression():
    overlaps = duplicates()
    found = options(overlaps, AT)
    best = found.options[0]
    assert best.name == "nms"
    assert best.effect.kinds["duplicate"].value < -0.5
    assert best.effect.MAE.high < 0
    made, selection = apply_option(best, overlaps)
    after = ledger(made, selection)
    assert (after.predicted_kind[selection.kept] == MATCHED).all()
    assert (ledger(overlaps, select(overlaps, AT)).predicted_kind == DUPLICATE).any()


def test_halves_are_cured_by_merging():
    overlaps = halves_of_discs()
    found = options(overlaps, AT)
    best = found.options[0]
    assert best.name == "fragments"
    assert best.effect.kinds["split"].value < 0
    assert best.effect.MAE.high < 0
    made, selection = apply_option(best, overlaps)
    after = ledger(made, selection)
    assert (ledger(overlaps, select(overlaps, AT)).predicted_kind == SPLIT).any()
    assert (after.errors == 0).all()
    assert (after.predicted_kind[selection.kept] == MATCHED).all()


def test_discs_grown_together_are_cured_by_watershed():
    overlaps = grown_together()
    found = options(overlaps, AT)
    best = found.options[0]
    assert best.name == "watershed"
    assert best.effect.kinds["merged"].value < 0
    assert best.effect.MAE.high < 0
    made, selection = apply_option(best, overlaps)
    assert (ledger(overlaps, select(overlaps, AT)).predicted_kind == MERGED).any()
    assert (ledger(made, selection).errors == 0).all()


def test_specks_are_cured_by_a_smallest_size():
    overlaps = speckle()
    found = options(overlaps, AT)
    best = found["min_area"]
    assert found.options[0].effect.MAE.value == best.effect.MAE.value
    assert 5 < best.setting.point.min_area <= 250
    assert best.effect.kinds["spurious"].value < -0.9


def test_masks_made_by_an_option_have_the_overlaps_of_masks_read_from_a_file():
    for overlaps, name in ((halves_of_discs(), "fragments"), (grown_together(), "watershed")):
        made, selection = apply_option(options(overlaps, AT)[name], overlaps)
        fresh = overlaps_of(made.scenes)
        np.testing.assert_array_equal(made.predicted_areas, fresh.predicted_areas)
        for table in ("across", "among_truth", "among_predicted"):
            ours, theirs = (
                sorted(zip(p.first.tolist(), p.second.tolist(), p.shared.tolist(), strict=True))
                for p in (getattr(made, table), getattr(fresh, table))
            )
            assert ours == theirs
        added = np.arange(len(selection.reason)) >= len(overlaps.scenes.predicted)
        assert added.any()
        assert (selection.reason[added] == Reason.KEPT).all()


def test_nothing_is_chosen_where_nothing_is_wrong():
    drawn = Drawn()
    for count in range(20):
        image = drawn.image()
        for x, y in CENTRES[: 1 + count % 4]:
            drawn.true(image, disc(x, y))
            drawn.found(image, disc(x, y), 0.8)
        drawn.found(image, disc(*SPARE[0], 4), 0.1)
    found = options(drawn.overlaps(), AT)
    assert not any(option.helps for option in found.options)
    for option in found.options:
        assert option.effect.MAE.value == option.effect.gross.value == 0
        assert not option.measurable
        assert "no effect on the count error per image" in option.sentence
    assert {name for name, _, _ in found.left_out} >= {"nms", "min_area", "border"}


def test_the_baselines_own_effect_is_nothing():
    overlaps = noise(3)
    for point in (AT, OperatingPoint(0.3, nms=Suppression(0.5), cap=3, min_area=150)):
        same = measure(Setting(point), overlaps, point)
        for name in ("MAE", "bias", "gross", "cost", "net", "AP", "AP50"):
            figure = getattr(same, name)
            assert figure.value == 0
            assert np.isnan(figure.low) or (figure.low == 0 == figure.high)
        assert all(change.value == 0 for change in same.kinds.values())


@pytest.mark.parametrize("objective", ["mae", "gross", "ap", "cost"])
def test_an_effect_is_what_two_ledgers_and_two_averages_say_image_by_image(objective):
    """Recomputed apart from the package: select, ledger and AP for each half alone."""
    overlaps = noise(5, images=30, classes=2)
    found = options(overlaps, AT, objective=objective, cost_miss=3.0, seed=4)
    truth = overlaps.scenes.truth
    part = halves(np.bincount(truth.images, minlength=30), seed=4)
    assert found.options
    checked = 0
    for option in found.options:
        if option.setting.changes_masks or option.setting.calibration is not None:
            continue
        counts, wrong, cost = (np.zeros((2, 30)) for _ in range(3))
        for judged, setting in ((part, option.folds[1]), (~part, option.folds[0])):
            for row, point in enumerate((AT, setting.point)):
                made = ledger(overlaps, select(overlaps, point))
                many, few = made.errors.T
                counts[row, judged] = (many - few)[judged]
                wrong[row, judged] = (many + few)[judged]
                cost[row, judged] = (many + 3 * few)[judged]
        effect = option.effect
        assert effect.bias.value == pytest.approx((counts[1] - counts[0]).mean())
        assert effect.MAE.value == pytest.approx((abs(counts[1]) - abs(counts[0])).mean())
        assert effect.net.value == pytest.approx(abs(counts[1].mean()) - abs(counts[0].mean()))
        assert effect.gross.value == pytest.approx((wrong[1] - wrong[0]).mean())
        assert effect.cost.value == pytest.approx((cost[1] - cost[0]).mean())
        here = part[overlaps.scenes.predicted.images]
        floors = [
            select(overlaps, replace(one.point, threshold=-np.inf, thresholds={})).kept
            for one in option.folds
        ]
        kept = np.where(here, floors[1], floors[0])
        before = np.nanmean(average_precisions(overlaps))
        assert effect.AP.value == pytest.approx(np.nanmean(average_precisions(overlaps, kept)) - before)
        checked += 1
    assert checked >= 5


def test_images_never_choose_the_setting_that_judges_them():
    """Whatever one half's truth is, the setting that the other half chose, and judges it by, stays the same."""
    overlaps = noise(7, images=30, classes=2)
    truth = overlaps.scenes.truth
    part = halves(np.bincount(truth.images, minlength=30), seed=0)
    changed = replace(truth, labels=np.where(part[truth.images], 1 - truth.labels, truth.labels))
    other = overlaps_of(replace(overlaps.scenes, truth=changed))
    before, after = options(overlaps, AT), options(other, AT)
    both = {option.name for option in before.options} & {option.name for option in after.options}
    assert len(both) >= 6
    differ = 0
    for name in both:
        first, second = before[name], after[name]
        if first.setting.calibration is None:
            assert first.folds[1] == second.folds[1]  # chosen on the half that was left alone
        else:
            assert first.folds[1].point == second.folds[1].point
        differ += first.folds[0] != second.folds[0]
    assert differ


def test_every_choice_sees_one_half_or_all_and_never_judges_itself(monkeypatch):
    """Spied: a chooser that names a threshold after the images it saw; each image is judged by the other's."""
    from apiece.evaluate.options import report

    overlaps = noise(11, images=20)
    seen = []

    def choose(part):
        seen.append(part.copy())
        return (
            Setting(OperatingPoint(0.1 if part[0] else 0.9))
            if not part.all()
            else Setting(OperatingPoint(0.2))
        )

    monkeypatch.setattr(report, "_choosers", lambda case: iter([Chooser("spy", "Spy", choose)]))
    found = options(overlaps, AT)["spy"]
    assert seen[0].all()
    assert (seen[1] ^ seen[2]).all()
    assert seen[1].sum() == 10
    first = seen[1] if seen[1][0] else seen[2]  # those that chose 0.1 and are judged at 0.9
    expected = 0.0
    for judged, limit in ((first, 0.9), (~first, 0.1)):
        here = judged[overlaps.scenes.predicted.images]
        scores = overlaps.scenes.predicted.scores.astype(np.float32)
        expected += (here & (scores >= np.float32(limit))).sum() - (here & (scores >= np.float32(0.5))).sum()
    assert found.effect.bias.value == pytest.approx(expected / 20)


def test_what_only_looks_good_where_it_was_chosen_does_not_help():
    """Scores that say nothing: a threshold per class chosen on the images themselves gains, on others it doesn't."""
    gains, honest = [], []
    for seed in range(4):
        rng, drawn = np.random.default_rng(seed), Drawn(4)
        for _ in range(48):
            image = drawn.image()
            for x, y in CENTRES:
                label = int(rng.integers(4))
                if rng.random() < 0.5:
                    drawn.true(image, disc(x, y), label)
                drawn.found(image, disc(x, y), rng.random(), label)
        overlaps = drawn.overlaps()
        found = options(overlaps, OperatingPoint(0.0), objective="gross", draws=50)
        option = found["class_thresholds_f1"]
        wrong = [
            ledger(overlaps, select(overlaps, point)).errors.sum() / 48
            for point in (OperatingPoint(0.0), found["threshold_cost"].setting.point)
        ]
        gains.append(wrong[1] - wrong[0])
        honest.append(found["threshold_cost"].effect.gross.value)
        assert not option.helps
    assert np.mean(gains) < 0 < np.mean(honest) - np.mean(gains)


def test_groups_stay_whole_and_too_few_give_no_interval():
    overlaps = false_alarms()
    groups = [f"plate {i // 6}" for i in range(24)]
    part = halves(np.ones(24, np.int64), groups, seed=1)
    assert all(len(set(part[i : i + 6].tolist())) == 1 for i in range(0, 24, 6))
    assert 0 < part.sum() < 24
    found = options(overlaps, AT, groups=groups)
    option = found["threshold_f1"]
    assert np.isnan(option.effect.MAE.low)
    assert not option.measurable
    assert "too few" in option.sentence
    assert "too few groups of images (4)" in found.fold_note
    assert option.effect.MAE.value < 0


def test_fewer_than_ten_images_give_no_effects():
    overlaps = false_alarms(images=9)
    found = options(overlaps, AT)
    assert found.options == ()
    assert found.fold_note.startswith("No option was judged: 9 images")
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["options"] == []
    with pytest.raises(UsageError, match="no option 'nms'"):
        found["nms"]
    one_group = options(false_alarms(), AT, groups=["a"] * 24)
    assert one_group.options == ()
    assert "1 group" in one_group.fold_note


def test_without_scores_what_needs_them_is_left_out():
    overlaps = duplicates()
    found = options(overlaps, AT, scored=False)
    reasons = {name: reason for name, _, reason in found.left_out}
    assert reasons["threshold"] == reasons["calibration"] == "predictions have no scores."
    assert "cap" in reasons
    assert not any("threshold" in option.name for option in found.options)
    assert found.options[0].name == "nms"
    assert np.isnan(found.options[0].effect.AP.value)
    assert "AP" not in found.options[0].sentence
    assert found.to_json()["options"][0]["effect"]["AP"] == {"value": None, "low": None, "high": None}


def test_boxes_are_not_merged_or_split():
    drawn = Drawn()
    for _ in range(12):
        image = drawn.image()
        drawn.true(image, disc(*CENTRES[0]))
        drawn.found(image, disc(*CENTRES[0]), 0.9)
        drawn.found(image, disc(*SPARE[0]), 0.6)
    overlaps = drawn.overlaps("bbox")
    found = options(overlaps, AT)
    assert {"fragments", "watershed"} <= {name for name, _, _ in found.left_out}
    with pytest.raises(UsageError, match="Remedy"):
        replay(overlaps, Setting(AT, fragments=Fragments(0.9, 2)))


def test_a_lower_cap_is_named_only_where_it_helps():
    drawn = Drawn()
    for count in range(12):
        image = drawn.image()
        for number in range(4 + count % 5):
            place = 12 + 24 * (number % 4), 12 + 24 * (number // 4)
            drawn.true(image, disc(*place))
            drawn.found(image, disc(*place), 0.6 + 0.04 * number)
    overlaps = drawn.overlaps()
    reasons = {name: reason for name, _, reason in options(overlaps, AT).left_out}
    assert reasons["cap"] == "no other setting is better on these images."
    cut = options(overlaps, replace(AT, cap=2))
    assert cut["cap"].setting.point.cap is None
    assert cut["cap"].sentence.startswith("No cap: count error")
    assert cut["cap"].effect.kinds["missed"].value < 0


def test_declared_costs_move_the_threshold():
    overlaps = noise(2, images=40, classes=1)
    dear_misses = options(overlaps, AT, objective="cost", cost_miss=10.0)
    dear_alarms = options(overlaps, AT, objective="cost", cost_false=10.0)

    def chosen(found):
        return found["threshold_cost"].setting.point.threshold

    assert chosen(dear_misses) < chosen(dear_alarms)
    with pytest.raises(UsageError, match="costs are"):
        options(overlaps, AT, cost_miss=-1.0)
    with pytest.raises(UsageError, match="objective is 'map'"):
        options(overlaps, AT, objective="map")  # type: ignore[arg-type]


def test_the_document_is_plain_ranked_and_repeatable():
    overlaps = noise(13, images=20)
    found = options(overlaps, AT, seed=5)
    plain = found.to_json()
    json.dumps(plain, allow_nan=False)
    assert plain == options(overlaps, AT, seed=5).to_json()
    assert [one["rank"] for one in plain["options"]] == list(range(1, len(plain["options"]) + 1))
    order = [(not one["helps"], one["measurable"] and not one["helps"]) for one in plain["options"]]
    assert order == sorted(order)
    for one in plain["options"]:
        assert set(one["effect"]["kinds"]) == set(KINDS)
        assert one["sentence"].endswith(".")
        assert len(one["folds"]) == 2
        assert one["judged_on"] == 20
    assert all(text.endswith(".") for text in definitions().values())
    assert resamples(20, seed=5).enough


def test_a_count_that_only_comes_nearer_as_errors_cancel_is_called_so():
    rng, drawn = np.random.default_rng(3), Drawn()
    for _ in range(24):
        image = drawn.image()
        missed = int(rng.integers(1, 3))
        for place, (x, y) in enumerate(CENTRES):
            drawn.true(image, disc(x, y))
            if place >= missed:  # the others have no candidate at all
                drawn.found(image, disc(x, y), rng.uniform(0.7, 0.95))
        for x, y in SPARE[:missed]:
            drawn.found(image, disc(x, y, 5), rng.uniform(0.3, 0.4))
    overlaps = drawn.overlaps()
    by_count = options(overlaps, AT)["threshold_mae"]
    assert by_count.helps
    assert by_count.cancels
    assert by_count.effect.MAE.high < 0 < by_count.effect.gross.low
    assert "more errors cancel" in by_count.sentence
    by_errors = options(overlaps, AT, objective="gross")
    assert not any(option.helps or option.cancels for option in by_errors.options)
    cured = options(false_alarms(), AT)
    assert cured.options[0].helps
    assert not cured.options[0].cancels
