"""Splits: partitions that keep groups whole, the same whatever the order of files, as near their aims as can be."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.data.dataset import match_names, open_dataset, read_subset
from apiece.data.formats import open_source
from apiece.data.splits import (
    Split,
    Tally,
    folds,
    fractions_of,
    groups_from_csv,
    groups_from_folder,
    groups_from_pattern,
    leaks,
    leave_one_group_out,
    split,
    tally,
)
from apiece.data.splits.divide import divide, whole_aims
from apiece.data.synthetic import Scene, write_synthetic
from apiece.errors import DataError, UsageError

TWO = {"train": 0.8, "val": 0.2}
THREE = {"train": 0.6, "val": 0.25, "test": 0.15}


def counted(counts, names=None, pixels=None, groups=None):
    """A data set of pictures without files."""
    counts = np.array(counts, np.int64).reshape(len(counts), -1)
    names = names or [f"{i:04d}.png" for i in range(len(counts))]
    classes = ClassMap(tuple("abcdefgh"[: counts.shape[1]]))
    pixels = np.full(len(counts), 10**6) if pixels is None else np.array(pixels)
    return Tally(tuple(names), (None,) * len(names), classes, counts, pixels, groups)


@st.composite
def data_sets(draw, most=40):
    """Pictures with counts of three classes, sizes, and a group each."""
    n = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = rng.integers(0, 9, (n, 3)) * (rng.random((n, 3)) < rng.random(3))
    groups = rng.integers(0, draw(st.integers(1, 8)), n)
    names = [f"row {group}/{i:03d}.png" for i, group in enumerate(groups.tolist())]
    order = sorted(range(n), key=lambda i: names[i])
    made = counted(counts[order], [names[i] for i in order], rng.integers(10**4, 10**6, n))
    return made, {names[i]: f"row {groups[i]}" for i in range(n)}


def places_of(made):
    return [name for part in made.parts for name in part.pictures]


@given(data=data_sets(), seed=st.integers(0, 99), shares=st.sampled_from([TWO, THREE]), grouped=st.booleans())
@settings(max_examples=60, deadline=None)
def test_parts_are_a_partition_that_keeps_groups_whole(data, seed, shares, grouped):
    table, groups = data
    made = split(table, shares, groups=groups if grouped else None, seed=seed)
    assert [part.name for part in made.parts] == list(shares)
    assert sorted(places_of(made)) == list(table.names)
    assert leaks(made, table, groups if grouped else None) == []
    if grouped:
        held = [set(part.groups) for part in made.parts]
        assert set.union(*held) == set(groups.values())
        assert sum(map(len, held)) == len(set(groups.values()))
    units = len(set(groups.values())) if grouped else len(table.names)
    assert any("copies of them aren't known" in note for note in made.notes)
    full = sum(bool(part.pictures) for part in made.parts)
    assert full == min(units, len(shares))
    assert any("for" in note and "parts" in note for note in made.notes) == (units < len(shares))
    # What is said of a part is so.
    for part in made.parts:
        rows = [table.names.index(name) for name in part.pictures]
        assert list(part.classes.values()) == table.counts[rows].sum(axis=0).tolist()
        assert part.objects == table.counts[rows].sum()
        if rows:
            np.testing.assert_allclose(
                part.density[::4], np.quantile(table.densities[rows], [0, 1]), atol=1e-5
            )


@given(data=data_sets(), seed=st.integers(0, 99), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_files_and_groups_does_not_matter(data, seed, shuffle):
    table, groups = data

    class Shuffled:
        """A Source in another order."""

        def __init__(self):
            self.order = list(range(len(table.names)))
            shuffle.shuffle(self.order)
            self.classes = table.classes
            self.pictures = [type("P", (), {"name": table.names[i], "path": None}) for i in self.order]

        def read(self, k):
            i = self.order[k]
            ids = np.repeat(np.arange(3), table.counts[i])
            return type("I", (), {"class_ids": ids, "size": (1, int(table.pixels[i]))})

    items = list(groups.items())
    shuffle.shuffle(items)
    assert split(Shuffled(), TWO, groups=dict(items), seed=seed) == split(
        table, TWO, groups=groups, seed=seed
    )


def test_a_split_is_what_it_was_on_every_platform():
    """Recorded once; whole numbers and hashes alone decide."""
    rng = np.random.default_rng(3)
    table = counted(rng.integers(0, 6, (30, 2)))
    groups = {name: f"g{i % 11}" for i, name in enumerate(table.names)}

    def numbers(seed, chosen):
        return [int(name[:4]) for name in split(table, TWO, groups=chosen, seed=seed)["val"]]

    assert numbers(7, None) == [2, 10, 13, 22, 28, 29]
    assert numbers(7, groups) == [7, 10, 18, 21, 29]
    assert numbers(8, None) != numbers(7, None)


@given(
    n=st.integers(2, 60),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.1, 0.2, 0.5]),
)
@settings(max_examples=30, deadline=None)
def test_alike_pictures_are_shared_out_to_the_nearest_picture(n, seed, share):
    made = split(counted(np.ones((n, 1), int)), {"train": 1 - share, "val": share}, seed=seed)
    wanted = max(1, n * share)
    assert abs(len(made["val"]) - wanted) <= 0.5 + 1e-9


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 3), shares=st.sampled_from([TWO, THREE]))
@settings(max_examples=25, deadline=None)
def test_where_shares_can_be_met_they_nearly_are(seed, classes, shares):
    """120 pictures with 1 to 8 objects of each class: every class, density and part is within 4 percent points."""
    rng = np.random.default_rng(seed)
    table = counted(rng.integers(1, 9, (120, classes)))
    made = split(table, shares, seed=seed % 7)
    total = table.counts.sum(axis=0)
    for part in made.parts:
        assert abs(len(part.pictures) / 120 - shares[part.name]) < 0.02
        np.testing.assert_allclose(
            np.array(list(part.classes.values())) / total, shares[part.name], atol=0.04
        )
    assert abs(made.deviation.share - made.deviation.aim) < 0.07
    assert len(made.notes) == 1  # there are no files to look for copies


def random_deviation(table, shares, seed):
    part = np.random.default_rng(seed).choice(len(shares), len(table.names), p=list(shares.values()))
    total = table.counts.sum(axis=0)
    held = np.array([table.counts[part == k].sum(axis=0) / total for k in range(len(shares))])
    return np.abs(held - np.array(list(shares.values()))[:, None]).max()


def test_stratified_is_far_better_than_random():
    rng = np.random.default_rng(5)
    rare = (rng.random(200) < 0.06).astype(int)
    table = counted(np.column_stack([rng.poisson(8, 200), rng.poisson(2, 200), rare]))
    random = np.median([random_deviation(table, THREE, seed) for seed in range(30)])
    ours = max(
        abs(part.classes[name] / table.counts[:, k].sum() - THREE[part.name])
        for part in split(table, THREE).parts
        for k, name in enumerate("abc")
    )
    assert ours < 0.3 * random


@given(seed=st.integers(0, 10**6), parts=st.sampled_from([[0.5, 0.5], [0.7, 0.3], [0.5, 0.3, 0.2]]))
@settings(max_examples=30, deadline=None)
def test_groups_are_divided_nearly_as_well_as_can_be(seed, parts):
    """Against every possible division of seven groups."""
    sizes = np.random.default_rng(seed).integers(1, 12, (7, 1))

    def off(part):
        held = np.bincount(part, sizes[:, 0], len(parts)) / sizes.sum()
        return float(((held - np.array(parts)) ** 2).sum())

    full = [np.array(p) for p in product(range(len(parts)), repeat=7) if len(set(p)) == len(parts)]
    best = min(map(off, full))
    got = off(divide(sizes, whole_aims(parts)))
    assert got <= best + 0.01


def test_density_is_shared_out():
    """Half the pictures are crowded; without stratification val may have any share of them."""
    counts = [[1]] * 40 + [[50]] * 40 + [[0]] * 20
    made = split(counted(counts), TWO, stratify=("density",), seed=1)
    val = [int(name[:4]) for name in made["val"]]
    assert sum(i < 40 for i in val) == 8
    assert sum(i >= 80 for i in val) == 4
    crowded = counted([[4], [4], [4], [4]], pixels=[4 * 10**6, 2 * 10**6, 10**6, 5 * 10**5])
    assert crowded.densities.tolist() == [1, 2, 4, 8]
    assert crowded.strata().tolist() == [1, 2, 3, 4]


def test_what_cannot_be_met_is_said():
    counts = [[1, 0]] * 9 + [[1, 3]]
    groups = {f"{i:04d}": "big" if i < 7 else f"small {i}" for i in range(10)}
    made = split(counted(counts), {"train": 0.5, "val": 0.5}, groups=groups)
    text = made.to_text()
    assert any("group 'big' has 70.0% and is not parted" in note for note in made.notes)
    assert any("no objects of class 'b'; all are in group 'small 9'" in note for note in made.notes)
    assert text.count("note: ") == len(made.notes)
    assert made.deviation.of == "objects of class 'b'"
    few = split(counted([[1]] * 4), THREE, groups={f"{i:04d}": "g" for i in range(4)})
    assert "there are 1 groups for 3 parts." in few.notes
    assert sum("is empty." in note for note in few.notes) == 2


def test_pictures_that_belong_together_stay_together_and_bind_their_groups():
    table = counted([[1]] * 30)
    pairs = [("0000.png", "0001.png"), ("0001", "0002"), ("0007.png", "0020.png")]
    for seed in range(6):
        made = split(table, {"train": 0.5, "val": 0.5}, together=pairs, seed=seed)
        for a, b in pairs:
            assert (
                len({part.name for part in made.parts for key in (a, b) if f"{key[:4]}.png" in part.pictures})
                == 1
            )
        assert leaks(made, table, together=pairs) == []
    groups = {name: f"plate {i % 5}" for i, name in enumerate(table.names)}
    made = split(table, TWO, groups=groups, together=[("0000.png", "0001.png")])
    assert any("groups 'plate 0' and 'plate 1' are kept together" in note for note in made.notes)
    assert made.how["units"] == 4
    with pytest.raises(DataError, match="'nobody' is the name of no picture"):
        split(table, TWO, together=[("nobody", "0001")])


def test_copies_of_a_file_stay_together(tmp_path):
    write_synthetic(tmp_path / "d", 10, (40, 50), 3, format="labels")
    folder = tmp_path / "d" / "images"
    pictures = sorted(folder.rglob("*.png"))
    pictures[4].write_bytes(pictures[0].read_bytes())
    pictures[8].write_bytes(pictures[0].read_bytes())
    table = tally(open_dataset(tmp_path / "d"))
    assert [[table.names[i][:4] for i in places] for places in table.copies()] == [["0001", "0005", "0009"]]
    for seed in range(5):
        made = split(table, {"train": 0.5, "val": 0.5}, seed=seed)
        assert leaks(made, table) == []
        assert any("2 pictures are copies of others" in note for note in made.notes)
        assert made.how["copies"] == 2
    hand = tmp_path / "hand"
    hand.mkdir()
    (hand / "train.txt").write_text("0001\n0002\n")
    (hand / "val.txt").write_text("0005\n0003\n")
    said = leaks(Split.from_files(hand), table, groups={name[:4]: "one" for name in table.names})
    assert any("are the same file, but are in train and in val" in one for one in said)
    assert any("group 'one' is in train and in val" in one for one in said)


@given(data=data_sets(), count=st.integers(2, 5), grouped=st.booleans())
@settings(max_examples=30, deadline=None)
def test_each_picture_is_held_out_once(data, count, grouped):
    table, groups = data
    groups = groups if grouped else None
    units = len(set(groups.values())) if grouped else len(table.names)
    if units < count:
        with pytest.raises(UsageError, match="no more folds than"):
            folds(table, count, groups=groups)
        return
    made = folds(table, count, groups=groups, seed=4)
    assert len(made) == count
    assert sorted(name for one in made for name in one["val"]) == list(table.names)
    for one in made:
        assert one["val"]
        assert sorted(places_of(one)) == list(table.names)
        assert leaks(one, table, groups) == []


def test_folds_are_alike():
    rng = np.random.default_rng(8)
    table = counted(np.column_stack([rng.poisson(9, 100), rng.poisson(1, 100)]))
    shares = [
        np.array(list(one.parts[1].classes.values())) / table.counts.sum(axis=0) for one in folds(table, 5)
    ]
    np.testing.assert_allclose(shares, 0.2, atol=0.03)


def test_every_group_is_left_out_once():
    table = counted([[1]] * 9)
    groups = {f"{i:04d}": "xyz"[i % 3] for i in range(9)}
    made = leave_one_group_out(table, groups)
    assert [one.how["left out"] for one in made] == ["x", "y", "z"]
    for one, group in zip(made, "xyz", strict=True):
        assert one["val"] == tuple(name for name in table.names if groups[name[:4]] == group)
        assert one.parts[1].groups == (group,)
        assert len(one["train"]) == 6
    bound = leave_one_group_out(table, groups, together=[("0000", "0001")])
    assert [one.how["left out"] for one in bound] == ["x + y", "z"]
    with pytest.raises(UsageError, match="one group only"):
        leave_one_group_out(table, dict.fromkeys(groups, "x"))


def test_groups_from_tables_names_and_folders(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text('picture,group\na.png,1\n"b, c.png",2\nsub\\d.png,1\n\n', encoding="utf-8-sig")
    assert groups_from_csv(table) == {"a.png": "1", "b, c.png": "2", "sub/d.png": "1"}
    table.write_text("a;1\nb;2\n")
    assert groups_from_csv(table) == {"a": "1", "b": "2"}
    names = ["plate1/w3_t07.png", "plate2/w3_t09.png"]
    assert list(groups_from_pattern(names, r"plate(\d)").values()) == ["1", "2"]
    assert list(groups_from_pattern(names, r"(plate).*_(?P<group>t\d+)").values()) == ["t07", "t09"]
    assert list(groups_from_folder(names).values()) == ["plate1", "plate2"]
    assert list(groups_from_folder(["a/b/c.png"], -1).values()) == ["b"]
    for text, words in (
        ("a,1\na,2\n", "line 2 puts 'a' in group '2'"),
        ("a\n", "line 1"),
        ("picture,group\n", "holds no picture"),
        ('a,"1\n', "not a readable table"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=words):
            groups_from_csv(table)
    table.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match="not a readable table"):
        groups_from_csv(table)
    with pytest.raises(DataError, match="not a readable table"):
        groups_from_csv(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="no regular expression"):
        groups_from_pattern(names, "(")
    with pytest.raises(UsageError, match="has no group"):
        groups_from_pattern(names, "plate")
    with pytest.raises(DataError, match="finds no group in 1 names, first 'plate2"):
        groups_from_pattern(names, "plate(1)")
    with pytest.raises(DataError, match="has 1 folders"):
        groups_from_folder(names, 1)


def test_groups_must_name_every_picture_and_one_only():
    table = counted([[1]] * 3, ["a/x.png", "b/x.png", "c.png"])
    assert table.grouped({"a/x.png": "1", "b/x.png": "2", "c": "3"}) == ("1", "2", "3")
    with pytest.raises(DataError, match="1 of 3 pictures have no group"):
        table.grouped({"a/x.png": "1", "b/x.png": "2"})
    with pytest.raises(DataError, match="'x.png' is the name of 2 pictures"):
        table.grouped({"x.png": "1", "c": "3"})
    with pytest.raises(DataError, match="'x' is the name of 2 pictures"):
        table.find(["x"])


def test_what_cannot_be_meant_is_refused():
    table = counted([[1]] * 5)
    for shares in (
        {"train": 1.0},
        {"train": 0.5, "val": 0.4},
        {"train": 1.2, "val": -0.2},
        {"a/b": 0.5, "c": 0.5},
    ):
        with pytest.raises(UsageError, match="add up to|is to have|part 'a/b'"):
            split(table, shares)
    with pytest.raises(UsageError, match="pictures have no groups"):
        split(table, TWO, by="group")
    with pytest.raises(UsageError, match="by image: groups are given"):
        split(table, TWO, by="image", groups={})
    with pytest.raises(UsageError, match="Did you mean 'class'"):
        split(table, TWO, stratify=("clas",))
    with pytest.raises(UsageError, match="expected 2 or more"):
        folds(table, 1)
    assert fractions_of("train=.8, val=.2") == TWO
    for text in ("train", "train=x", "train=.5,train=.5", "train=nan,val=1"):
        with pytest.raises(UsageError, match="expected train"):
            fractions_of(text)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes") / "set"
    write_synthetic(out, 12, (40, 50), 4, 1, Scene(shapes=("disc", "rod")))
    return out


def test_subset_reads_what_was_written(scenes, tmp_path):
    data = open_dataset(scenes)
    groups = {stem: f"g{int(stem) % 4}" for stem in data.stems}
    made = split(data, {"train": 0.5, "val": 0.5}, groups=groups, seed=3)
    assert split(open_source(scenes), {"train": 0.5, "val": 0.5}, groups=groups, seed=3)["val"]
    assert split(data.with_groups(groups), {"train": 0.5, "val": 0.5}, by="group", seed=3) == made
    files = made.to_files(tmp_path / "out")
    assert sorted(path.name for path in files) == ["split.json", "train.txt", "val.txt"]
    for part in made.parts:
        chosen = open_dataset(scenes, subset=tmp_path / "out" / f"{part.name}.txt")
        assert sorted(path.name for path in chosen.paths) == sorted(Path(name).name for name in part.pictures)
        assert sum(len(sample.instances) for sample in chosen) == part.objects
    assert Split.from_files(tmp_path / "out") == made
    record = json.loads((tmp_path / "out" / "split.json").read_text())
    assert record["how"]["seed"] == 3
    assert record["how"]["fractions"] == {"train": 0.5, "val": 0.5}
    with pytest.raises(UsageError, match="exists already"):
        made.to_files(tmp_path / "out")


def test_lists_that_were_changed_or_made_by_hand(scenes, tmp_path):
    made = split(open_dataset(scenes), TWO)
    out = tmp_path / "out"
    made.to_files(out)
    moved = made["train"][0]
    (out / "val.txt").write_text("\n".join([*made["val"], moved]) + "\n")
    with pytest.raises(DataError, match=f"'{moved}' is in train.txt and in val.txt"):
        Split.from_files(out)
    (out / "train.txt").write_text("# mine\n" + "\n".join(made["train"][1:]))
    read = Split.from_files(out)
    assert moved in read["val"]
    assert read.deviation is None
    assert sum("was changed after" in note for note in read.notes) == 2
    (out / "split.json").unlink()
    assert Split.from_files(out)["val"] == read["val"]
    with pytest.raises(KeyError):
        read["test"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "breaks off"),
        ("[]", "no record of a split"),
        ('{"schema": "apiece/split/1", "parts": 3}', "damaged record"),
        ('{"schema": "apiece/split/1", "parts": [{"name": "a"}]}', "damaged record"),
        ('{"schema": "apiece/split/1", "deviation": {"part": 1}}', "damaged record"),
    ],
)
def test_damaged_records_are_refused(tmp_path, text, words):
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=words):
        Split.from_files(tmp_path)


def test_empty_parts_and_odd_names_survive_or_are_refused(tmp_path):
    made = split(counted([[1]] * 2, ["a b.png", "Größe.png"]), THREE)
    made.to_files(tmp_path / "a")
    assert Split.from_files(tmp_path / "a") == made
    for name in ("#1.png", " a.png", "a\nb.png"):
        with pytest.raises(DataError, match="can't stand in a list"):
            split(counted([[1]] * 2, sorted([name, "z.png"])), TWO).to_files(tmp_path / "b")
    with pytest.raises(DataError, match=r"holds no NAME\.txt"):
        Split.from_files(tmp_path)
    (tmp_path / "train.txt").write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match="not a readable list"):
        Split.from_files(tmp_path)


def test_a_list_never_means_a_picture_of_another_part(tmp_path):
    """`--subset` takes file names alone, too: x.png would mean both files here."""
    names = ["a/x.png", "x.png"]
    for seed in range(4):
        made = split(counted([[1]] * 2, names), {"train": 0.5, "val": 0.5}, seed=seed)
        assert sorted(places_of(made)) == names
        folder = tmp_path / str(seed)
        with suppress(DataError):  # where the list can't be told from the other
            made.to_files(folder)
        for part in made.parts if folder.exists() else ():
            listed = read_subset(folder / f"{part.name}.txt")
            assert match_names(names, listed, "here") == set(part.pictures)


@pytest.mark.needs_shared
def test_nuclei_are_divided_by_background_and_size(shared):
    root = shared / "dsb2018_train_full664"
    rows = json.loads((root / "index.json").read_text())
    table = tally(open_source(root))
    assert len(table.names) == 664
    assert table.counts.sum() == 28_986
    groups = {row["id"]: f"{row['bg']} {row['h']}x{row['w']}" for row in rows}
    for chosen in (None, groups):
        made = split(table, TWO, groups=chosen, seed=1)
        assert leaks(made, table, chosen) == []
        val = made.parts[1]
        assert len(val.pictures) / 664 == pytest.approx(0.2, abs=0.02)
        assert val.objects / 28_986 == pytest.approx(0.2, abs=0.001 if chosen is None else 0.04)


@pytest.mark.needs_shared
def test_mandarins_are_divided_by_nine_classes_and_their_copies_kept_together(shared):
    table = tally(open_dataset(shared / "mandarina" / "train.json"))
    made = split(table, {"train": 0.7, "val": 0.15, "test": 0.15})
    assert leaks(made, table) == []
    assert made.how["copies"] == 4
    for part in made.parts:
        assert len(part.pictures) / 142 == pytest.approx(part.aim, abs=0.01)
        assert part.objects / 670 == pytest.approx(part.aim, abs=0.03)
        for name, held in part.classes.items():
            total = int(table.counts[:, table.classes.index_of_name(name)].sum())
            assert abs(held - total * part.aim) <= 3
