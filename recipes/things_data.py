"""Writes the training data of the bundled model `things` below runs/things-data: one class, five real sets, and
synthetic scenes.

    python recipes/things_data.py ../shared/data runs/things-data

Held out: balloon's val, mushroom's valid and test, the nuclei of cells-heldout.txt, and a fifth of the mandarins and
of the fruits, at random with a fixed seed. things-heldout.txt and things-train.txt list the file stems.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from things_scenes import scene

from apiece.core.masks import Masks

SCENES = (700, 60)
RECIPES = Path(__file__).parent


class Picture(NamedTuple):
    path: Path
    size: tuple[int, int]
    segmentations: list[Any]
    group: str


def coco(document: Path, images: Path, group: str) -> list[Picture]:
    """The pictures of a COCO document, whatever their classes."""
    data = json.loads(document.read_text(encoding="utf-8"))
    parts: dict[int, list[Any]] = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        parts[annotation["image_id"]].append(annotation["segmentation"])
    return [
        Picture(images / image["file_name"], (image["height"], image["width"]), parts[image["id"]], group)
        for image in data["images"]
    ]


def labelled(path: Path, labels: npt.NDArray[Any], group: str) -> Picture:
    """A picture with a label image."""
    return Picture(path, labels.shape, Masks.from_label_image(labels.astype(np.int32)).to_coco(), group)


def nuclei(root: Path, listed: Path) -> Iterator[Picture]:
    for stem in listed.read_text().split():
        labels = cv2.imread(str(next((root / "labels").glob(f"{stem}.*"))), cv2.IMREAD_UNCHANGED)
        yield labelled(next((root / "images").glob(f"{stem}.*")), labels, "nuclei")


def scenes(folder: Path, first: int, count: int) -> Iterator[Picture]:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        image, labels = scene(np.random.default_rng([2026, seed]))
        path = folder / f"synthetic-{seed:04d}.png"
        cv2.imwrite(str(path), image[..., ::-1])
        yield labelled(path, labels, "synthetic")


def fifth(pictures: list[Picture], seed: int) -> tuple[list[Picture], list[Picture]]:
    """Training part and held-out fifth."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    out = set(order[: round(len(pictures) / 5)].tolist())
    return (
        [p for i, p in enumerate(pictures) if i not in out],
        [p for i, p in enumerate(pictures) if i in out],
    )


def write(pictures: list[Picture], path: Path, root: Path) -> None:
    images, annotations = [], []
    for number, picture in enumerate(pictures, start=1):
        name = Path(os.path.relpath(picture.path.resolve(), root)).as_posix()
        height, width = picture.size
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        masks = Masks.from_coco(picture.segmentations, picture.size)
        full = np.flatnonzero(masks.areas > 0)
        for box, area, rle in zip(
            masks.boxes[full].tolist(), masks.areas[full].tolist(), masks[full].to_coco(), strict=True
        ):
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": rle,
                }
            )
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    path.write_text(json.dumps(document), encoding="utf-8")
    print(f"{path}: {len(images)} pictures, {len(annotations)} objects")


def main(data: Path, out: Path) -> None:
    mushrooms = {
        part: coco(data / f"mushroom_segmush/{part}.json", data / "mushroom_segmush" / part, "mushrooms")
        for part in ("train", "valid", "test")
    }
    mandarins = fifth(coco(data / "mandarina/train.json", data / "mandarina/train", "mandarins"), 1)
    fruits = fifth(
        coco(data / "fruits_nuts/data/trainval.json", data / "fruits_nuts/data/images", "fruits"), 2
    )
    cells = data / "dsb2018_train_full664"
    train = [
        *coco(data / "balloon/train.json", data / "balloon/train", "balloons"),
        *mushrooms["train"],
        *mandarins[0],
        *fruits[0],
        *nuclei(cells, RECIPES / "cells-train.txt"),
        *scenes(out / "synthetic", 0, SCENES[0]),
    ]
    held_out = [
        *coco(data / "balloon/val.json", data / "balloon/val", "balloons"),
        *mushrooms["valid"],
        *mushrooms["test"],
        *mandarins[1],
        *fruits[1],
        *nuclei(cells, RECIPES / "cells-heldout.txt"),
        *scenes(out / "synthetic", SCENES[0], SCENES[1]),
    ]
    root = RECIPES.resolve().parents[1]
    write(train, out / "train.json", root)
    write(held_out, out / "heldout.json", root)
    with (out / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "group"])
        writer.writerows((p.path.stem, p.group) for p in [*train, *held_out])
    for name, pictures in (("things-train.txt", train), ("things-heldout.txt", held_out)):
        real = sorted(p.path.stem for p in pictures if p.group != "synthetic")
        (RECIPES / name).write_text("\n".join(real) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
