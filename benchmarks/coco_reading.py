"""Opening a COCO document of the size of train2017, and making masks: apiece beside pycocotools, in one run.

    python benchmarks/coco_reading.py     writes benchmarks/results/coco_reading.json and prints the ratios

The documents are generated, with polygons as long as COCO's and its order of keys; one of run-length codes is as
apiece writes it. Each reader runs in a process of its own, so that peak memory (RSS) is that reader's. apiece checks
every entry when it opens a file; pycocotools checks none. Masks are of 1,000 pictures, all objects of each. Both use
one thread; ratios are of CPU time, which other work on the machine disturbs least.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "coco_reading.json"
CASES = {
    "118,000 images, 860,000 polygons": (118_000, 860_000, "polygons"),
    "118,000 images, 1,000,000 polygons": (118_000, 1_000_000, "polygons"),
    "118,000 images, 860,000 run-length codes": (118_000, 860_000, "codes"),
}
READERS = ("apiece", "pycocotools")
SIZE = (480, 640)
PICTURES = 1000
SHAPES = 5000


def outlines(kind: str, rng: np.random.Generator) -> list[tuple[str, list[float], float]]:
    """Texts of segmentations with their boxes and areas."""
    from apiece.core.masks import Masks

    found = []
    for _ in range(SHAPES):
        count = int(np.clip(rng.lognormal(3.0, 0.6), 4, 120))
        angle = np.sort(rng.uniform(0, 2 * np.pi, count))
        radius = rng.uniform(0.7, 1.0, count) * rng.choice([8, 20, 45, 90])
        centre = rng.uniform(95, 385, 2) + np.array([80, 0])
        points = np.round(centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), 2)
        low, high = points.min(axis=0), points.max(axis=0)
        outline: Any = [points.reshape(-1).tolist()]
        if kind == "codes":
            outline = Masks.from_coco([outline], SIZE).to_coco()[0]
        box = np.round([*low, *(high - low)], 2).tolist()
        found.append((json.dumps(outline), box, round(float(np.prod(high - low)) * 0.7, 4)))
    return found


def generate(path: Path, images: int, annotations: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    shapes = outlines(kind, rng)
    with path.open("w") as file:
        file.write('{"info": {"description": "generated"}, "licenses": [], "images": [')
        for i in range(images):
            name = f"{i + 1:012}.jpg"
            entry = {
                "license": 3,
                "file_name": name,
                "coco_url": f"http://images.cocodataset.org/train2017/{name}",
                "height": SIZE[0],
                "width": SIZE[1],
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://farm9.staticflickr.com/8186/{i}_f9f5e5d0a1_z.jpg",
                "id": i + 1,
            }
            file.write((", " if i else "") + json.dumps(entry))
        file.write('], "annotations": [')
        owners = rng.integers(1, images + 1, annotations).tolist()
        chosen = rng.integers(SHAPES, size=annotations).tolist()
        categories = rng.integers(1, 81, annotations).tolist()
        for i in range(annotations):
            outline, box, area = shapes[chosen[i]]
            file.write(
                f'{", " if i else ""}{{"segmentation": {outline}, "area": {area}, "iscrowd": 0, "image_id": '
                f'{owners[i]}, "bbox": {box}, "category_id": {categories[i]}, "id": {i + 1}}}'
            )
        names = [{"supercategory": "thing", "id": i, "name": f"class {i}"} for i in range(1, 81)]
        file.write(f'], "categories": {json.dumps(names)}}}')


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(reader: str, path: str) -> dict[str, float]:
    """Seconds to open, and for the masks of PICTURES pictures; peak memory in MB after each."""
    if reader == "apiece":
        from apiece.data.coco import read_coco

        before, start, worked = peak_mb(), time.perf_counter(), time.process_time()
        data = read_coco(path)
        opened, worked, peak = time.perf_counter() - start, time.process_time() - worked, peak_mb()
        start = time.process_time()
        area = sum(int(data.instances(one.id).masks.areas.sum()) for one in data.images[:PICTURES])
    else:
        from pycocotools.coco import COCO

        before, start, worked = peak_mb(), time.perf_counter(), time.process_time()
        coco = COCO(path)
        opened, worked, peak = time.perf_counter() - start, time.process_time() - worked, peak_mb()
        start = time.process_time()
        area = 0
        for number in coco.getImgIds()[:PICTURES]:
            for row in coco.loadAnns(coco.getAnnIds(imgIds=[number])):
                area += int(coco.annToMask(row).sum())
    masks = time.process_time() - start
    return {
        "open_seconds": opened,
        "open_cpu_seconds": worked,
        "open_peak_mb": peak,
        "masks_cpu_seconds": masks,
        "peak_mb": peak_mb(),
        "before_mb": before,
        "pixels": area,
    }


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances_generated.json"
        for case, (images, annotations, kind) in CASES.items():
            generate(path, images, annotations, kind)
            megabytes = path.stat().st_size / 1e6
            print(f"{case}: {megabytes:.0f} MB")
            found = {}
            for reader in READERS:
                command = [sys.executable, __file__, reader, str(path)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[reader] = json.loads(output.splitlines()[-1])
                rows.append({"case": case, "file_mb": megabytes, "who": reader, **found[reader]})
                one = found[reader]
                seconds = f"{one['open_seconds']:.1f} s ({one['open_cpu_seconds']:.1f} s of CPU)"
                masks = f"masks of {PICTURES} pictures {one['masks_cpu_seconds']:.2f} s"
                print(f"  {reader:12} open {seconds}, peak {one['open_peak_mb']:.0f} MB, {masks}")
            ours, theirs = found["apiece"], found["pycocotools"]
            if ours["pixels"] != theirs["pixels"]:
                raise SystemExit(f"masks differ: {ours['pixels']} and {theirs['pixels']} pixels")
            ratios = {
                key: theirs[key] / ours[key]
                for key in ("open_cpu_seconds", "open_peak_mb", "masks_cpu_seconds")
            }
            print("  pycocotools, apiece = 1: " + ", ".join(f"{key} {v:.2f}" for key, v in ratios.items()))
    packages = ("apiece", "numpy", "pycocotools")
    document = {
        "schema": "apiece/benchmark/1",
        "machine": {"processor": platform.machine(), "python": platform.python_version()},
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "pictures": PICTURES,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
