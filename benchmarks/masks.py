"""Masks from logits to COCO RLE, and IoU of 10,000 × 10,000 objects: apiece beside its peers, in one run.

    python benchmarks/masks.py            writes benchmarks/results/masks.json and prints the ratios

Every case runs in a process of its own, so that peak memory is that case's; each figure is the best of `REPEATS`.
Peers: torchvision's paste_masks_in_image + pycocotools.encode; supervision's CompactMask; pycocotools.mask.iou.
"""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 3
CHUNK = 25
RESULTS = Path(__file__).parent / "results" / "masks.json"
SCENES = {"12 MP, 300 masks": ((3000, 4000), 300, 220), "1080p, 100 masks": ((1080, 1920), 100, 150)}


def discs_as_logits(count: int, grid: int, rng: np.random.Generator) -> np.ndarray:
    """Ragged discs, positive inside: (count, grid, grid) float32."""
    y, x = (np.indices((grid, grid)) + 0.5) / grid - 0.5
    angle = np.arctan2(y, x)
    out = np.empty((count, grid, grid), dtype=np.float32)
    for i in range(count):
        radius = 0.38 + 0.05 * np.sin(rng.integers(2, 6) * angle + rng.uniform(0, 6))
        out[i] = 12 * (radius - np.hypot(x, y))
    return out


def boxes_for(size: tuple[int, int], count: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes (count, 4) of about `side` pixels inside a picture."""
    height, width = size
    sides = rng.uniform(0.6, 1.4, (count, 2)) * side
    corner = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sides)
    return np.hstack([corner, corner + sides]).astype(np.float32)


def quarter_logits(size: tuple[int, int], boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Logits of every mask over the whole picture at a quarter of its size, as a dense head gives them."""
    height, width = size[0] // 4, size[1] // 4
    out = np.full((len(boxes), height, width), -8, dtype=np.float32)
    import cv2

    for i, (box, logits) in enumerate(zip(boxes / 4, discs_as_logits(len(boxes), 56, rng), strict=True)):
        x1, y1, x2, y2 = (int(v) for v in box)
        out[i, y1:y2, x1:x2] = cv2.resize(logits, (x2 - x1, y2 - y1))
    return out


def scene(name: str, kind: str) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    size, count, side = SCENES[name]
    rng = np.random.default_rng(0)
    boxes = boxes_for(size, count, side, rng)
    logits = discs_as_logits(count, 28, rng) if kind == "28 × 28" else quarter_logits(size, boxes, rng)
    return size, boxes, logits


def candidates_of(boxes: np.ndarray, logits: np.ndarray, frame: str) -> Any:
    from apiece.models.contract import Candidates

    count = len(boxes)
    return Candidates(
        np.full((1, count), 0.9, dtype=np.float32),
        np.zeros((1, count), dtype=np.int64),
        boxes[None],
        logits[None],
        frame,
    )


def apiece_rle(name: str, kind: str) -> Callable[[], list[Any]]:
    from apiece.core.classes import ClassMap
    from apiece.core.frame import Frame
    from apiece.models.decode import decode

    size, boxes, logits = scene(name, kind)
    candidates = candidates_of(boxes, logits, "box" if kind == "28 × 28" else "image")
    frame, classes = Frame.letterbox(size, size), ClassMap(("object",))
    return lambda: decode(candidates, 0, frame, classes, threshold=0.5).instances.masks.to_coco()


def dense_in_chunks(name: str, kind: str) -> Callable[[], Iterator[np.ndarray]]:
    """Full-size masks by torchvision or torch, CHUNK at a time: all 300 at once need 14 GB of float32."""
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    size, boxes, logits = scene(name, kind)
    grids, corners = torch.from_numpy(logits), torch.from_numpy(boxes)

    def run() -> Iterator[np.ndarray]:
        for start in range(0, len(grids), CHUNK):
            part = grids[start : start + CHUNK]
            if kind == "28 × 28":
                pasted = paste_masks_in_image(part.sigmoid()[:, None], corners[start : start + CHUNK], size)
                yield (pasted[:, 0] > 0.5).numpy()
            else:
                yield (torch.nn.functional.interpolate(part[None], size=size, mode="bilinear")[0] > 0).numpy()

    return run


def torchvision_rle(name: str, kind: str) -> Callable[[], list[Any]]:
    from pycocotools import mask

    dense = dense_in_chunks(name, kind)
    return lambda: [
        rle
        for part in dense()
        for rle in mask.encode(np.asfortranarray(part.astype(np.uint8).transpose(1, 2, 0)))
    ]


def supervision_rle(name: str, kind: str) -> Callable[[], list[Any]]:
    """supervision has no decoder of logits: it is handed the same full-size masks, its crops and RLE follow."""
    from supervision.detection.compact_mask import CompactMask

    size, boxes, _ = scene(name, kind)
    dense = dense_in_chunks(name, kind)

    def run() -> list[Any]:
        parts = (boxes[i : i + CHUNK] for i in range(0, len(boxes), CHUNK))
        return [
            CompactMask.from_dense(part, box, image_shape=size)
            for part, box in zip(dense(), parts, strict=True)
        ]

    return run


def two_sets() -> tuple[tuple[int, int], list[Any]]:
    """Two sets of 10,000 objects of about 1,000 pixels on 100 megapixels, the second a little moved."""
    from apiece.core.masks import Masks

    rng = np.random.default_rng(1)
    size = (10_000, 10_000)
    crops = [crop > 0 for crop in discs_as_logits(200, 36, rng)]
    y, x = np.divmod(np.arange(10_000), 100)
    sets = []
    for _ in range(2):
        corner = np.stack([x, y], axis=1) * 99 + rng.integers(0, 40, (10_000, 2))
        sets.append(Masks.from_crops([crops[i % 200] for i in range(10_000)], corner, size))
    return size, sets


def apiece_iou(_: str, __: str) -> Callable[[], Any]:
    _, (a, b) = two_sets()
    return lambda: a.iou(b)


def pycocotools_iou(_: str, __: str) -> Callable[[], Any]:
    from pycocotools import mask

    _, (a, b) = two_sets()
    left, right = a.to_coco(), b.to_coco()
    return lambda: mask.iou(left, right, [0] * len(right))


CASES: dict[str, list[tuple[str, Callable[[str, str], Callable[[], Any]]]]] = {
    "rle": [
        ("apiece", apiece_rle),
        ("torchvision + pycocotools", torchvision_rle),
        ("supervision CompactMask", supervision_rle),
    ],
    "iou": [("apiece", apiece_iou), ("pycocotools", pycocotools_iou)],
}


def measure(task: str, who: str, name: str, kind: str, queue: Any) -> None:
    """In a process of its own: seconds (best of REPEATS) and peak memory above the inputs' own."""
    make = dict(CASES[task])[who]
    run = make(name, kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put({"seconds": min(times), "peak_mb": max(0, peak - before) / 1024})


def alone(task: str, who: str, name: str, kind: str) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=measure, args=(task, who, name, kind, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{who} on {name} ended with {process.exitcode}: out of memory?")
    result: dict[str, float] = queue.get()
    return result


def agreement() -> dict[str, float]:
    """Share of masks whose RLE is the peer's, and the mean IoU: a benchmark of unequal work would say nothing."""
    from pycocotools import mask

    out = {}
    for name in SCENES:
        for kind in ("28 × 28", "quarter"):
            ours, theirs = apiece_rle(name, kind)(), torchvision_rle(name, kind)()
            pairs = [
                mask.iou([{"size": a["size"], "counts": a["counts"]}], [b], [0])[0, 0]
                for a, b in zip(ours, theirs, strict=True)
            ]
            out[f"{name}, {kind}"] = float(np.mean(pairs))
    return out


def main() -> None:
    rows = []
    cases = [("rle", name, kind) for name in SCENES for kind in ("28 × 28", "quarter")]
    for task, name, kind in [*cases, ("iou", "10,000 × 10,000 on 100 MP", "")]:
        size, count = (SCENES[name][0], SCENES[name][1]) if task == "rle" else ((10_000, 10_000), 10_000)
        for who, _ in CASES[task]:
            rows.append(
                {"task": task, "case": name, "logits": kind, "who": who, **alone(task, who, name, kind)}
            )
            if task == "rle":
                rows[-1]["dense_bool_mb"] = count * size[0] * size[1] / 2**20
            ours = next(r for r in rows if (r["task"], r["case"], r["logits"]) == (task, name, kind))
            ratio = rows[-1]["seconds"] / ours["seconds"]
            print(
                f"{task:4} {name:28} {kind:8} {who:28} {rows[-1]['seconds'] * 1e3:9.1f} ms "
                f"{rows[-1]['peak_mb']:9.1f} MB   {ratio:6.1f}× apiece's time",
                file=sys.stderr,
            )
    document = {
        "schema": "apiece/benchmark/1",
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
        },
        "versions": {
            n: importlib.metadata.version(n)
            for n in ("numpy", "opencv-python-headless", "torch", "torchvision", "pycocotools", "supervision")
        },
        "repeats": REPEATS,
        "mean_iou_with_torchvision": agreement(),
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
