"""Planted defects: each is found with its severity, code, file and object, and nothing else is reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from apiece.core.classes import ClassMap
from apiece.core.masks import Masks
from apiece.data.check import Report, check
from apiece.data.problems import Problem
from apiece.data.synthetic import discs

CLASSES = ClassMap(("disc", "ring"))
SIZE = (96, 128)
COUNT = 4
RADIUS = (8, 10)


def scene(seed: int):
    """A picture with texture of its own on its ground, so that no two look alike, and objects of both classes."""
    rng = np.random.default_rng(seed)
    sample = discs(rng, SIZE, 5, radius=RADIUS, classes=CLASSES, min_visible=1.0)
    ground = cv2.resize(
        rng.integers(0, 120, (6, 8, 3)).astype(np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC
    )
    image = np.maximum(sample.image, ground)
    return image, sample.instances


@dataclass
class Coco:
    """A COCO set without a fault, to be spoilt; annotation 1 belongs to the first picture."""

    root: Path
    document: dict
    more: list[Path] = field(default_factory=list)
    options: dict = field(default_factory=dict)

    @property
    def json(self) -> Path:
        return self.root / "labels.json"

    @property
    def first(self) -> dict:
        return self.document["annotations"][0]

    def picture(self, number: int) -> Path:
        return self.root / "images" / f"p{number}.png"

    def pixels(self, number: int) -> np.ndarray:
        return cv2.imread(str(self.picture(number)))

    def masks(self, number: int) -> Masks:
        rows = [a for a in self.document["annotations"] if a["image_id"] == number]
        return Masks.from_coco([a["segmentation"] for a in rows], SIZE)

    def add_picture(self, pixels: np.ndarray, name: str, seed: int, size=None) -> None:
        """A fifth picture, with objects of its own (turned as the picture is)."""
        cv2.imwrite(str(self.root / "images" / name), pixels)
        number = len(self.document["images"]) + 1
        h, w = pixels.shape[:2]
        self.document["images"].append({"id": number, "file_name": name, "height": h, "width": w})
        if seed:
            objects = scene(seed)[1] if (h, w) == SIZE else None
            start = len(self.document["annotations"]) + 1
            if objects is None:
                block = np.zeros((h, w), bool)
                block[3:15, 3:18] = True
                self.draw(number, block, start)
            else:
                self.document["annotations"] += objects.to_coco(number, first_id=start)

    def draw(self, number: int, mask: np.ndarray, id: int, category: int = 1) -> None:
        masks = Masks.from_dense(mask[None])
        x1, y1, x2, y2 = masks.boxes[0].tolist()
        self.document["annotations"].append(
            {
                "id": id,
                "image_id": number,
                "category_id": category,
                "iscrowd": 0,
                "segmentation": masks.to_coco()[0],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(masks.areas[0]),
            }
        )

    def redraw(self, annotation: dict, mask: np.ndarray) -> None:
        """Another shape for an annotation, with its own box and area."""
        masks = Masks.from_dense(mask[None])
        x1, y1, x2, y2 = masks.boxes[0].tolist()
        annotation.update(
            segmentation=masks.to_coco()[0], bbox=[x1, y1, x2 - x1, y2 - y1], area=int(masks.areas[0])
        )

    def only(self, annotation: dict) -> None:
        """Leave no other object on the annotation's picture."""
        self.document["annotations"] = [
            a
            for a in self.document["annotations"]
            if a is annotation or a["image_id"] != annotation["image_id"]
        ]

    def second_set(self, seed: int = 50) -> Coco:
        """A set of its own beside this one, whose pictures are others."""
        other = coco_set(self.root.parent / "val", seed)
        self.more.append(other.json)
        return other

    def check(self) -> Report:
        self.json.write_text(json.dumps(self.document))
        return check([self.json, *self.more] if self.more else self.json, **self.options)


def coco_set(root: Path, seed: int = 1) -> Coco:
    (root / "images").mkdir(parents=True)
    document: dict = {"images": [], "annotations": [], "categories": CLASSES.to_coco()}
    for number in range(1, COUNT + 1):
        image, objects = scene(seed + number)
        cv2.imwrite(str(root / "images" / f"p{number}.png"), image)
        document["images"].append(
            {"id": number, "file_name": f"p{number}.png", "height": SIZE[0], "width": SIZE[1]}
        )
        document["annotations"] += objects.to_coco(number, first_id=len(document["annotations"]) + 1)
    made = Coco(root, document)
    made.json.write_text(json.dumps(document))
    return made


def box(y1: int, y2: int, x1: int, x2: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def free(data: Coco, number: int, height: int, width: int) -> np.ndarray:
    """A rectangle of the picture where nothing is labelled, not at its border."""
    taken = data.masks(number).to_dense().any(axis=0)
    for y in range(2, SIZE[0] - height - 2):
        for x in range(2, SIZE[1] - width - 2):
            if not taken[y - 1 : y + height + 1, x - 1 : x + width + 1].any():
                return box(y, y + height, x, x + width)
    raise AssertionError("the picture is full")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# ---- pictures


def picture_missing(d: Coco):
    d.picture(2).unlink()


def picture_truncated(d: Coco):
    truncate(d.picture(2))


def picture_smaller(d: Coco):
    cv2.imwrite(str(d.picture(2)), d.pixels(2)[:90])


def sides_swapped(d: Coco):
    cv2.imwrite(str(d.picture(2)), np.ascontiguousarray(np.rot90(d.pixels(2))))


def exif(d: Coco):
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(d.pixels(2)[..., ::-1])))
    tags = Image.Exif()
    tags[274] = 6  # the viewer turns it back, clockwise
    turned.save(d.picture(2), exif=tags)


def picture_long(d: Coco):
    rng = np.random.default_rng(9)
    d.add_picture(rng.integers(0, 255, (32, 240, 3)).astype(np.uint8), "long.png", 1)


def picture_black(d: Coco):
    cv2.imwrite(str(d.picture(2)), np.zeros((*SIZE, 3), np.uint8))


def picture_grey(d: Coco):
    cv2.imwrite(str(d.picture(2)), cv2.cvtColor(d.pixels(2), cv2.COLOR_BGR2GRAY))


def picture_sixteen_bit(d: Coco):
    cv2.imwrite(str(d.picture(2)), d.pixels(2).astype(np.uint16) * 257)


def picture_unlisted(d: Coco):
    cv2.imwrite(str(d.root / "images" / "spare.png"), scene(99)[0])


def picture_listed_twice(d: Coco):
    d.document["images"].append({**d.document["images"][1], "id": 9})
    d.document["annotations"].append({**d.document["annotations"][5], "id": 90, "image_id": 9})


# ---- shapes


def no_pixel(d: Coco):
    d.first.update(segmentation=[[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]])


def tiny(d: Coco):
    d.redraw(d.first, free(d, 1, 2, 3))


def huge(d: Coco):
    d.only(d.first)
    d.redraw(d.first, box(1, 95, 1, 127))


def all_sides(d: Coco):
    d.only(d.first)
    mask = box(0, 96, 0, 128)
    mask[12:84, 12:116] = False
    d.redraw(d.first, mask)


def many_parts(d: Coco):
    d.only(d.first)
    mask = np.zeros(SIZE, bool)
    for y in range(5, 85, 20):
        for x in range(5, 115, 20):
            mask[y : y + 6, x : x + 6] = True
    d.redraw(d.first, mask)


def crossed(d: Coco):
    d.only(d.first)
    d.first.update(segmentation=[[10, 10, 60, 60, 60, 10, 10, 60]], bbox=[10, 10, 50, 50], area=1250)


def pinholes(d: Coco):
    d.only(d.first)
    mask = box(20, 60, 20, 60)
    mask[25:55:5, 25:55:5] = False
    d.redraw(d.first, mask)


# ---- objects on objects


def double(d: Coco):
    d.document["annotations"].append({**d.first, "id": 90})


def two_classes(d: Coco):
    d.document["annotations"].append({**d.first, "id": 90, "category_id": 3 - d.first["category_id"]})


def inside(d: Coco):
    y, x = np.argwhere(d.masks(1).to_dense()[0]).mean(axis=0).astype(int)
    d.draw(1, box(y - 3, y + 3, x - 3, x + 3), 90, d.first["category_id"])


# ---- boxes


def box_as_corners(d: Coco):
    x, y, w, h = d.document["annotations"][2]["bbox"]
    d.document["annotations"][2]["bbox"] = [x, y, x + w, y + h]


def box_elsewhere(d: Coco):
    x, y, w, h = d.first["bbox"]
    d.first["bbox"] = [(x + 60) % 100, y, w, h]


# ---- classes


def unused(d: Coco):
    d.document["categories"].append({"id": 3, "name": "lens"})


def background(d: Coco):
    d.document["categories"].append({"id": 3, "name": "__background__"})


def gaps(d: Coco):
    d.document["categories"][1]["id"] = 7
    for a in d.document["annotations"]:
        a["category_id"] = {1: 1, 2: 7}[a["category_id"]]


def near_equal(d: Coco):
    d.document["categories"].append({"id": 3, "name": "Discs "})
    d.first["category_id"] = 3


def joined(d: Coco):
    d.document["categories"][1]["name"] = "ring, torus"


def shifted(d: Coco):
    for a in d.document["annotations"]:
        a["category_id"] = 3  # classes 1 and 2 written as 2 and 3, and only the last is left
    d.document["annotations"][3]["category_id"] = 2


# ---- entries


def dangling_image(d: Coco):
    d.first["image_id"] = 70


def unknown_category(d: Coco):
    d.first["category_id"] = 9


def double_id(d: Coco):
    d.document["annotations"][3]["id"] = d.first["id"]


def damaged_code(d: Coco):
    d.first["segmentation"] = {"size": list(SIZE), "counts": [5, 5]}


def not_a_number(d: Coco):
    d.first["segmentation"] = [[float("nan"), 1, 5, 5, 9, 2]]


def no_objects(d: Coco):
    d.document["annotations"] = [a for a in d.document["annotations"] if a["image_id"] != 2]


# ---- pictures that occur twice


def same_bytes(d: Coco):
    d.picture(3).write_bytes(d.picture(2).read_bytes())


def near_copy(d: Coco):
    bright = np.clip(d.pixels(2) * 1.15 + 8, 0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", bright, (cv2.IMWRITE_JPEG_QUALITY, 60))[1]
    cv2.imwrite(str(d.picture(3)), cv2.imdecode(data, 1))


def mirrored(d: Coco):
    cv2.imwrite(str(d.picture(3)), np.ascontiguousarray(d.pixels(2)[:, ::-1]))


def quarter_turn(d: Coco):
    d.add_picture(np.ascontiguousarray(np.rot90(d.pixels(2))), "p5.png", 77)


def leak(d: Coco):
    d.second_set().picture(3).write_bytes(d.picture(2).read_bytes())


def near_leak(d: Coco):
    cv2.imwrite(str(d.second_set().picture(3)), np.ascontiguousarray(d.pixels(2)[::-1]))


def leak_against(d: Coco):
    other = d.second_set()
    d.more.clear()
    d.options["against"] = other.json
    other.picture(3).write_bytes(d.picture(2).read_bytes())


# ---- what a model can take


def over_cap(d: Coco):
    d.draw(2, free(d, 2, 7, 7), 90)
    d.options["cap"] = 5


def small_for_input(d: Coco):
    d.redraw(d.first, free(d, 1, 4, 4))
    d.options["input_size"] = 128


J, P = "{j}", "{r}/images/p2.png"
COCO: dict[Callable[[Coco], None], tuple[str, str, str, str]] = {
    picture_missing: ("error", "no-picture", J, "p2.png: the picture isn't there"),
    picture_truncated: ("error", "unreadable", P, ""),
    picture_smaller: ("error", "size-mismatch", J, "image 2: labels are 96 x 128"),
    sides_swapped: ("error", "size-mismatch", J, "image 2: labels are 96 x 128"),
    exif: ("warning", "exif-orientation", P, ""),
    picture_long: ("warning", "aspect", "{r}/images/long.png", ""),
    picture_black: ("warning", "blank", P, ""),
    picture_grey: ("note", "mixed-kinds", J, "1 of 8 bits, grey"),
    picture_sixteen_bit: ("note", "mixed-kinds", J, "1 of 16 bits, colour"),
    picture_unlisted: ("warning", "unlisted-picture", "{r}/images", "spare.png"),
    picture_listed_twice: ("warning", "listed-twice", J, "image 9"),
    no_pixel: ("warning", "no-pixel", J, "annotation 1 "),
    tiny: ("warning", "tiny", J, "annotation 1 "),
    huge: ("warning", "huge", J, "annotation 1 "),
    all_sides: ("warning", "all-sides", J, "annotation 1 "),
    many_parts: ("warning", "parts", J, "annotation 1 "),
    crossed: ("warning", "crossed", J, "annotation 1 "),
    pinholes: ("warning", "pinholes", J, "annotation 1 "),
    double: ("warning", "double", J, "annotation 90 "),
    two_classes: ("warning", "two-classes", J, "annotation 90 "),
    inside: ("warning", "inside", J, "annotation 90 "),
    box_as_corners: ("warning", "box-as-corners", J, "annotation 3 "),
    box_elsewhere: ("warning", "box-elsewhere", J, "annotation 1 "),
    unused: ("warning", "unused-class", J, "'lens'"),
    background: ("warning", "background-class", J, "'__background__'"),
    gaps: ("note", "id-gaps", J, "from 1 to 7"),
    near_equal: ("warning", "near-equal-names", J, "'disc'"),
    joined: ("warning", "joined-name", J, "'ring, torus'"),
    dangling_image: ("error", "structure", J, "annotation 1 "),
    unknown_category: ("error", "structure", J, "annotation 1"),
    double_id: ("error", "structure", J, "annotation 1 "),
    damaged_code: ("error", "structure", J, "annotation 1 "),
    not_a_number: ("error", "structure", J, "annotation 1 "),
    no_objects: ("warning", "no-objects", J, "image 2"),
    same_bytes: ("warning", "duplicate", "{r}/images/p3.png", "p2.png"),
    near_copy: ("warning", "near-duplicate", "{r}/images/p3.png", "p2.png"),
    mirrored: ("warning", "near-duplicate", "{r}/images/p3.png", "p2.png, mirrored left to right"),
    quarter_turn: ("warning", "near-duplicate", "{r}/images/p5.png", "p2.png, turned by 90° anticlockwise"),
    leak: ("error", "duplicate-across-splits", "{v}/images/p3.png", P),
    near_leak: ("warning", "near-duplicate-across-splits", "{v}/images/p3.png", P),
    leak_against: ("error", "duplicate-across-splits", P, "{v}/images/p3.png"),
    over_cap: ("warning", "over-cap", P, "6 objects"),
    small_for_input: ("warning", "small-for-input", J, "1 of 20"),
}


def found(report: Report, severity: str, code: str, file: str, says: str) -> Problem:
    """The one problem of the report, which is the one that was planted."""
    assert [(p.severity, p.code) for p in report.problems] == [(severity, code)], report.to_text()
    problem = report.problems[0]
    assert problem.file == file
    assert says in f"{problem.where}: {problem.message}"
    assert problem.remedy
    assert report.ok == (severity != "error")
    return problem


@pytest.mark.parametrize("planted", COCO, ids=lambda plant: plant.__name__)
def test_a_defect_planted_in_a_coco_set_is_found_alone(tmp_path: Path, planted):
    data = coco_set(tmp_path / "train")
    planted(data)
    severity, code, file, says = COCO[planted]
    names = {"r": data.root, "j": data.json, "v": tmp_path / "val"}
    found(data.check(), severity, code, file.format(**names), says.format(**names))


def test_without_a_defect_there_is_no_problem_at_all(tmp_path: Path):
    data = coco_set(tmp_path / "train")
    data.second_set()
    data.options.update(cap=5, input_size=128)
    report = data.check()
    assert report.problems == (), report.to_text()
    assert (report.images, report.objects) == (8, 40)
    assert report.splits[str(data.json)] == {"pictures": 4, "objects": 20}


def test_shifted_ids_are_told_beside_the_objects_that_are_left_out(tmp_path: Path):
    data = coco_set(tmp_path / "train")
    shifted(data)
    report = data.check()
    codes = [p.code for p in report.problems]
    assert codes.count("shifted-classes") == 1
    assert codes.count("structure") == 19
    assert set(codes) == {"shifted-classes", "structure", "no-objects"}
    told = next(p for p in report.errors if p.code == "shifted-classes")
    assert "the id 3, one too high" in told.message
    assert "subtract 1" in told.remedy


# ---- label folders


def label_set(root: Path) -> Path:
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for number in range(1, COUNT + 1):
        image, objects = scene(number)
        cv2.imwrite(str(root / "images" / f"p{number}.png"), image)
        cv2.imwrite(str(root / "labels" / f"p{number}.png"), objects.masks.to_label_image())
    return root


def relabel(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path = str(root / "labels" / "p2.png")
    cv2.imwrite(path, change(cv2.imread(path, cv2.IMREAD_UNCHANGED)))


def merged(labels: np.ndarray) -> np.ndarray:
    labels[labels == 2] = 1
    return labels


def speck(labels: np.ndarray) -> np.ndarray:
    y, x = np.argwhere(labels == 0)[0]
    labels[y, x] = 77
    return labels


L = "{r}/labels/p2.png"
LABELS: dict[str, tuple[Callable[[Path], object], str, str, str, str]] = {
    "no label": (lambda r: (r / "labels/p2.png").unlink(), "error", "no-label", P, ""),
    "no picture": (
        lambda r: (r / "images/p2.png").unlink(),
        "error",
        "no-picture",
        L,
        "p2.png: the picture isn't there",
    ),
    "torn label": (lambda r: truncate(r / "labels/p2.png"), "error", "structure", L, "truncated"),
    "other size": (lambda r: relabel(r, lambda a: a[1:]), "error", "size-mismatch", L, "labels are 95 x 128"),
    "swapped sides": (lambda r: relabel(r, lambda a: a.T.copy()), "error", "size-mismatch", L, "128 x 96"),
    "colours": (
        lambda r: relabel(r, lambda a: np.repeat(a[..., None] % 256, 3, axis=2).astype(np.uint8)),
        "error",
        "structure",
        L,
        "RGB",
    ),
    "semantic": (
        lambda r: relabel(r, lambda a: (a > 0).astype(np.uint8) * 255),
        "warning",
        "semantic",
        L,
        "object 255",
    ),
    "two objects of one number": (lambda r: relabel(r, merged), "warning", "parts", L, "object 1"),
    "speck": (lambda r: relabel(r, speck), "warning", "tiny", L, "object 77"),
    "empty": (lambda r: relabel(r, np.zeros_like), "warning", "no-objects", L, ""),
}


@pytest.mark.parametrize("name", LABELS)
def test_a_defect_planted_in_a_label_folder_is_found_alone(tmp_path: Path, name: str):
    root = label_set(tmp_path / "d")
    assert check(root).problems == ()
    plant, severity, code, file, says = LABELS[name]
    plant(root)
    found(check(root), severity, code, file.format(r=root), says)


# ---- formats that the check knows as any other


def yolo_set(root: Path, shift: int = 0) -> Path:
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    (root / "data.yaml").write_text("path: .\ntrain: images\nnames: [disc, ring]\n")
    for number in range(1, COUNT + 1):
        image, objects = scene(number)
        cv2.imwrite(str(root / "images" / f"p{number}.png"), image)
        lines = []
        for kind, ((ring, _), *_) in zip(
            objects.class_ids.tolist(), objects.masks.to_polygons(), strict=True
        ):
            points = (ring / SIZE[::-1]).ravel()
            lines.append(f"{kind + shift} {' '.join(f'{v:.6f}' for v in points)}")
        (root / "labels" / f"p{number}.txt").write_text("\n".join(lines))
    return root


def test_a_yolo_set_without_a_defect_and_with_classes_from_one(tmp_path: Path):
    assert check(yolo_set(tmp_path / "a"), format="yolo").problems == ()
    report = check(yolo_set(tmp_path / "b", shift=1), format="yolo")
    codes = [p.code for p in report.errors]
    assert codes.count("shifted-classes") == 1
    assert "the id 2, one too high" in report.errors[-1].message
    left_out = [p for p in report.errors if p.code == "structure"]
    assert {p.file for p in left_out} <= {str(tmp_path / f"b/labels/p{i}.txt") for i in range(1, 5)}
    assert report.objects + len(left_out) == 20
