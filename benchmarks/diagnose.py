"""`apiece diagnose`, all of it, beside pycocotools' AP alone, on the same two files in one run.

    python benchmarks/diagnose.py       writes benchmarks/results/diagnose.json and prints the ratios

Two cases, written into a temporary folder from what lies in ../shared/data:

yolact  real detections of YOLACT on 100 images of COCO. Their truth isn't there; it is made: every detection with a
        score of at least 0.3, moved and stretched by a few per cent, of which one in eight is left out.
large   5,000 images, 36,000 objects, 150,000 detections. An image is one of coco128's: its size, its classes and its
        outlines, each moved and stretched a little, as polygons; crowd regions as run-length codes. Detections are
        those outlines with jittered points, duplicates, wrong classes, merged pairs, and false alarms of low score.

Each reader is a process of its own: wall time from its start to its end, peak memory (RSS) as it says itself. Both
use one thread, and both write what they found to stdout. They take turns; of several runs the fastest counts.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "diagnose.json"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CASES = {"yolact": 5, "large": 2}  # with how often each is run
IMAGES, OBJECTS, DETECTIONS, MOST = 5_000, 36_000, 150_000, 100
READERS = ("pycocotools", "apiece")
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}


# ---- the files


def make(case: str, folder: Path) -> None:
    """Write truth.json and results.json."""
    truth, results = make_yolact() if case == "yolact" else make_large()
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))


def make_yolact() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import numpy as np

    from apiece.core.masks import Masks

    rng = np.random.default_rng(0)
    pictures = json.loads((SHARED / "yolact_dets" / "yolact_resnet50.json").read_text())["images"]
    names = sorted({found["category"] for picture in pictures for found in picture["dets"]})
    number = {name: i + 1 for i, name in enumerate(names)}
    images, annotations, results = [], [], []
    for picture in pictures:
        if not picture["dets"]:
            continue
        height, width = size = picture["dets"][0]["mask"]["size"]
        key = picture["image_id"]
        images.append({"id": key, "file_name": f"{key:012}.jpg", "height": height, "width": width})
        for found in picture["dets"]:
            entry = {"image_id": key, "category_id": number[found["category"]], "bbox": found["bbox"]}
            results.append({**entry, "score": found["score"], "segmentation": found["mask"]})
            if found["score"] < 0.3 or rng.random() < 1 / 8:
                continue
            mask = Masks.from_coco([found["mask"]], size)
            if not mask.areas[0]:
                continue
            (high, wide), (x, y) = mask.shapes[0].tolist(), mask.offsets[0].tolist()
            new = [max(1, round(side * rng.normal(1, 0.04))) for side in (high, wide)]
            rows, columns = (np.arange(n) * old // n for n, old in zip(new, (high, wide), strict=True))
            place = [round(x + wide * rng.normal(0, 0.03)), round(y + high * rng.normal(0, 0.03))]
            moved = Masks.from_crops([mask.crop(0)[rows][:, columns]], [place], size)
            x1, y1, x2, y2 = moved.boxes[0].tolist()
            entry = {**entry, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(moved.areas[0])}
            annotations.append(
                {**entry, "id": len(annotations) + 1, "iscrowd": 0, "segmentation": moved.to_coco()[0]}
            )
    categories = [{"id": i, "name": name} for name, i in number.items()]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def make_large() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import numpy as np
    from pycocotools import mask as codes

    rng = np.random.default_rng(0)
    source = json.loads((SHARED / "coco128" / "instances.json").read_text())
    drawn: dict[int, list[Any]] = {image["id"]: [] for image in source["images"]}
    crowds: dict[int, list[Any]] = {image["id"]: [] for image in source["images"]}
    for entry in source["annotations"]:
        if isinstance(entry["segmentation"], list):
            parts = [np.array(part).reshape(-1, 2) for part in entry["segmentation"]]
            drawn[entry["image_id"]].append((parts, entry["category_id"]))
        else:
            crowds[entry["image_id"]].append(entry)
    originals = rng.integers(len(source["images"]), size=IMAGES).tolist()
    library = [outline for outlines in drawn.values() for outline in outlines]
    classes = [category["id"] for category in source["categories"]]

    def jittered(parts: Any, size: tuple[int, int], move: float, stretch: float, noise: float) -> list[Any]:
        points = np.concatenate(parts)
        low, side = points.min(axis=0), np.ptp(points, axis=0) + 1
        scale, shift = rng.normal(1, stretch, 2), rng.normal(0, move, 2) * side
        points = low + (points - low) * scale + shift + rng.normal(0, noise, points.shape) * side
        limit = np.array([size[1], size[0]]) - 1.0
        points = np.round(np.clip(points - np.maximum(points.min(axis=0) - limit + 4, 0), 0, limit), 2)
        cuts = np.cumsum([len(part) for part in parts])[:-1]
        return np.split(points, cuts)

    def flat(parts: list[Any]) -> list[list[float]]:
        return [part.reshape(-1).tolist() for part in parts]

    def coded(parts: list[Any], size: tuple[int, int]) -> tuple[dict[str, Any], list[float], int]:
        rle = codes.merge(codes.frPyObjects(flat(parts), *size))
        box = codes.toBbox(rle).tolist()
        return {"size": list(size), "counts": rle["counts"].decode()}, box, int(codes.area(rle))

    images, annotations = [], []
    truths: list[list[tuple[Any, int]]] = []
    for i, place in enumerate(originals):
        image = source["images"][place]
        size = image["height"], image["width"]
        images.append({**image, "id": i + 1, "file_name": f"{i + 1:012}.jpg"})
        truths.append([])
        for parts, category in drawn[image["id"]]:
            moved = jittered(parts, size, 0.08, 0.08, 0.0)
            _, box, area = coded(moved, size)
            truths[-1].append((moved, category))
            entry = {"segmentation": flat(moved), "area": area, "iscrowd": 0, "image_id": i + 1}
            annotations.append({**entry, "bbox": box, "category_id": category})
        for crowd in crowds[image["id"]]:
            annotations.append({**crowd, "image_id": i + 1})
    kept = np.sort(rng.permutation(len(annotations))[:OBJECTS]).tolist()
    annotations = [{**annotations[k], "id": n + 1} for n, k in enumerate(kept)]

    results: list[dict[str, Any]] = []
    for i, place in enumerate(originals):
        image = source["images"][place]
        size = image["height"], image["width"]
        wanted = DETECTIONS * (i + 1) // IMAGES - len(results)
        wanted = int(min(wanted, MOST, DETECTIONS - len(results)))
        found: list[tuple[Any, int, float]] = []
        for parts, category in truths[i]:
            if rng.random() < 0.15:
                continue
            named = category if rng.random() < 0.92 else int(rng.choice(classes))
            score = rng.beta(4, 2)
            found.append((jittered(parts, size, 0.03, 0.05, 0.012), named, score))
            for _ in range(rng.poisson(0.8)):
                again = jittered(parts, size, 0.08, 0.12, 0.02)
                found.append((again, named, score * rng.uniform(0.2, 0.9)))
        for (one, category), (other, second) in zip(truths[i][:-1], truths[i][1:], strict=True):
            if category == second and rng.random() < 0.15:
                found.append((jittered(one + other, size, 0.02, 0.03, 0.01), category, rng.beta(3, 3)))
        while len(found) < wanted:
            parts, category = library[int(rng.integers(len(library)))]
            found.append((jittered(parts, size, 0.5, 0.3, 0.02), category, rng.beta(1, 7)))
        for parts, category, score in sorted(found, key=lambda one: -one[2])[:wanted]:
            rle, box, _ = coded(parts, size)
            entry = {"image_id": i + 1, "category_id": category, "bbox": box, "score": round(float(score), 6)}
            results.append({**entry, "segmentation": rle})
    return {"images": images, "annotations": annotations, "categories": source["categories"]}, results


# ---- the readers, each in a process of its own


def read(reader: str, truth: str, results: str) -> dict[str, float]:
    """Run one reader; seconds that its imports took, and its peak memory."""
    start = time.perf_counter()
    if reader == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        imported = time.perf_counter() - start
        true = COCO(truth)
        run = COCOeval(true, true.loadRes(results), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    else:
        import apiece.evaluate
        from apiece.cli import main as apiece

        imported = time.perf_counter() - start
        sys.argv = ["apiece", "diagnose", truth, results, "--json"]
        try:
            apiece()
        except SystemExit as stop:
            if stop.code:
                raise
    return {
        "import_seconds": imported,
        "cpu_seconds": time.process_time(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured(reader: str, folder: Path) -> dict[str, Any]:
    report = folder / "report.json"
    command = [sys.executable, __file__, reader, str(folder / "truth.json"), str(folder / "results.json")]
    with (folder / f"{reader}.out").open("wb") as out:
        start = time.perf_counter()
        subprocess.run([*command, str(report)], check=True, stdout=out, env={**os.environ, **THREADS})
        seconds = time.perf_counter() - start
    return {"who": reader, "seconds": seconds, **json.loads(report.read_text())}


def main(cases: list[str]) -> None:
    import importlib.metadata

    rows: list[dict[str, Any]] = []
    for case in cases:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            subprocess.run([sys.executable, __file__, "make", case, name], check=True)
            size = {
                "truth_mb": (folder / "truth.json").stat().st_size / 1e6,
                "results_mb": (folder / "results.json").stat().st_size / 1e6,
            }
            print(f"{case}: truth {size['truth_mb']:.0f} MB, results {size['results_mb']:.0f} MB")
            runs = [measured(reader, folder) for _ in range(CASES[case]) for reader in READERS]
            runs.sort(key=lambda run: run["seconds"])
            found = {reader: next(run for run in runs if run["who"] == reader) for reader in READERS}
            theirs = found["pycocotools"]
            for reader, one in found.items():
                rows.append({"case": case, **size, **one})
                print(
                    f"  {reader:12} {one['seconds']:6.2f} s (imports {one['import_seconds']:.2f} s, "
                    f"CPU {one['cpu_seconds']:.2f} s), peak {one['peak_mb']:.0f} MB; pycocotools' time "
                    f"{theirs['seconds'] / one['seconds']:.2f} ×, memory {theirs['peak_mb'] / one['peak_mb']:.2f} ×"
                )
    packages = ("apiece", "numpy", "hotcoco", "pycocotools")
    document = {
        "schema": "apiece/benchmark/1",
        "machine": {"processor": platform.machine(), "python": platform.python_version()},
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "repeats": CASES,
        "large": {"images": IMAGES, "objects": OBJECTS, "detections": DETECTIONS},
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1:2] and sys.argv[1] in READERS:
        Path(sys.argv[4]).write_text(json.dumps(read(*sys.argv[1:4])))
    else:
        main(sys.argv[1:] or list(CASES))
