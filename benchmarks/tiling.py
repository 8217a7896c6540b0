"""Large pictures: exactness, time and memory of tiling, and what a count owes to where the seams lie.

    python benchmarks/tiling.py exact [--side 20000 --objects 10000]
    python benchmarks/tiling.py memory [--sides 5000 10000 20000] [--threads 2]
    python benchmarks/tiling.py offsets [--columns 8]

exact    an oracle (tests/tile_oracle.py: it reads the objects' numbers from the colours) on a scene with touching and
         overlapping objects; every mask is compared with the untiled truth. Time is that of all but the oracle, too.
memory   `cells` on mosaics of nuclei at constant density; each size in a process of its own. `peak_mb` is the
         process's largest resident set, `before_mb` that before the first tile (model loaded), `results_mb` what the
         returned masks take.
offsets  `cells` on a mosaic of real pictures, at the scale it was trained at. `seams_moved`: the tiles lie at four
         offsets of whole network cells, half a step of the grid, so that only the seams move. `any_pixel`: at four
         random offsets (seed 2018), so that every object lies elsewhere in the network's cells, too.

Pictures of the mosaics: all held-out fluorescence pictures of 256 x 256 pixels of BBBC038 (recipes/cells-heldout.txt,
cells-groups.csv), shuffled with seed 2018, edge to edge, row by row, from the start again when they are used up. Writes
benchmarks/results/tiling.json, the part that was run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
RESULTS = Path(__file__).parent / "results" / "tiling.json"
DATA = ROOT.parent / "shared" / "data" / "dsb2018_train_full664"
SIDE = 256  # of the mosaics' pictures


def peak_mb() -> float:
    """Largest resident set of this process. (ru_maxrss would begin with that of the process it was started from.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


# ---- exact


def exact(side: int, objects: int) -> dict[str, Any]:
    from apiece.data.synthetic import Scene, large_scene

    config = Scene(
        ("disc", "rod", "star"), touching=0.3, overlap=0.3, cluster=8, radius=(8, 40), min_visible=0.3
    )
    with tempfile.TemporaryDirectory() as folder:
        picture, truth = Path(folder) / "scene.tif", Path(folder) / "truth.npz"
        made = large_scene(
            np.random.default_rng(2018), picture, (side, side), objects, config, ids=True
        ).masks
        np.savez(truth, offsets=made.offsets, shapes=made.shapes, pixels=made.pixels)
        return child("exact", picture, truth)


def exact_child(picture: str, truth: str) -> dict[str, Any]:
    from tile_oracle import Oracle

    from apiece.core.masks import Masks
    from apiece.predict.predictor import Model

    class Timed(Oracle):
        seconds = 0.0

        def __call__(self, images: Any) -> Any:
            started = time.perf_counter()
            try:
                return super().__call__(images)
            finally:
                self.seconds += time.perf_counter() - started

    runtime = Timed(512, 64)
    before = peak_mb()
    result = Model(runtime).segment_large(picture)
    peak = peak_mb()
    with np.load(truth) as file:
        expected = Masks(result.instances.size, file["offsets"], file["shapes"], file["pixels"])
    found = result.instances.masks
    both = [
        sorted((*m.offsets[i].tolist(), *m.shapes[i].tolist(), m.crop(i).tobytes()) for i in range(len(m)))
        for m in (found, expected)
    ]
    return {
        "size": list(result.instances.size),
        "objects": len(expected),
        "found": len(found),
        "masks_equal": both[0] == both[1],
        "fragments": result.fragments,
        "tiles": result.tiles,
        "seconds": round(result.seconds, 1),
        "seconds_of_oracle": round(runtime.seconds, 1),
        "before_mb": round(before),
        "peak_mb": round(peak),
        "results_mb": round(found.nbytes / 2**20, 1),
        "picture_mb": round(result.instances.size[0] * result.instances.size[1] * 3 / 2**20),
    }


# ---- mosaics


def pictures() -> list[Path]:
    """The mosaics' pictures, in the order in which they are laid."""
    kept = set((ROOT / "recipes" / "cells-heldout.txt").read_text().split())
    with (ROOT / "recipes" / "cells-groups.csv").open(newline="") as file:
        named = [row["image"] for row in csv.DictReader(file) if row["group"] == "fluorescence-256x256"]
    names = sorted(name for name in named if name in kept)
    order = np.random.default_rng(2018).permutation(len(names))
    return [DATA / "images" / f"{names[i]}.png" for i in order]


def mosaic(path: Path, height: int, width: int) -> list[Path]:
    """Writes a mosaic as uncompressed TIFF, band by band; returns the pictures that were laid (whole or cut)."""
    from apiece.core.image import read_image

    files = pictures()
    images = [read_image(file) for file in files]
    columns = -(-width // SIDE)
    out = tifffile.memmap(path, shape=(height, width, 3), dtype=np.uint8, photometric="rgb")
    laid = []
    for row in range(-(-height // SIDE)):
        band = np.zeros((SIDE, columns * SIDE, 3), np.uint8)
        for column in range(columns):
            number = (row * columns + column) % len(images)
            band[:, column * SIDE : (column + 1) * SIDE] = images[number]
            laid.append(files[number])
        top = row * SIDE
        out[top : top + SIDE] = band[: height - top, :width]
    out.flush()
    return laid


def memory(sides: list[int], threads: int) -> list[dict[str, Any]]:
    rows = []
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "mosaic.tif"
            mosaic(picture, side, side)
            rows.append(child("memory", picture, str(threads)))
            print(rows[-1], flush=True)
    return rows


def memory_child(picture: str, threads: str) -> dict[str, Any]:
    import apiece

    model = apiece.load("cells", threads=int(threads))
    # One tile first, so that what the network itself takes is in `before_mb`.
    model(np.zeros((512, 512, 3), np.uint8))
    before = peak_mb()
    with tempfile.TemporaryDirectory() as store:
        result = model.segment_large(picture, scale=1.0, store=Path(store) / "work")
    return {
        "side": result.instances.size[0],
        "tiles": result.tiles,
        "objects": len(result.instances),
        "fragments": result.fragments,
        "seconds": round(result.seconds, 1),
        "seconds_per_tile": round(result.seconds / result.tiles, 4),
        "before_mb": round(before),
        "peak_mb": round(peak_mb()),
        "results_mb": round(result.instances.masks.nbytes / 2**20, 1),
        "picture_mb": round(result.instances.size[0] ** 2 * 3 / 2**20),
    }


def offsets(columns: int, threads: int) -> dict[str, Any]:
    import apiece
    from apiece.core.image import read_image, read_label_image

    model = apiece.load("cells", threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "mosaic.tif"
        laid = mosaic(picture, columns * SIDE, columns * SIDE)
        true = sum(len(np.unique(read_label_image(DATA / "labels" / p.name))) - 1 for p in laid)
        alone = {p: len(model(read_image(p))) for p in dict.fromkeys(laid)}
        half, step = 96, 208  # at this scale a step is 13 cells of 16 pixels
        steps = [(0, 0), (half, 0), (0, half), (half, half)]
        anywhere = np.random.default_rng(2018).integers(0, step, (4, 2)).tolist()
        rows: dict[str, list[dict[str, Any]]] = {"seams_moved": [], "any_pixel": []}
        for name, places in (("seams_moved", steps), ("any_pixel", anywhere)):
            for x, y in places:
                result = model.segment_large(picture, scale=2.0, offset=(x, y))
                rows[name].append(
                    {
                        "offset": [x, y],
                        "count": len(result.instances),
                        "fragments": result.fragments,
                        "tiles": result.tiles,
                        "seconds": round(result.seconds, 1),
                    }
                )
                print(rows[name][-1], flush=True)
    return {
        "pictures": len(laid),
        "different_pictures": len(alone),
        "size": [columns * SIDE] * 2,
        "scale": 2.0,
        "true": true,
        "counted_picture_by_picture": sum(alone[p] for p in laid),
        "by_offset": rows,
        "spread": {name: spread(part) for name, part in rows.items()},
    }


def spread(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Largest less smallest count, and in proportion of the mean."""
    counts = [row["count"] for row in rows]
    width = max(counts) - min(counts)
    return {"objects": width, "relative": round(width / (sum(counts) / len(counts)), 5)}


# ---- all


def child(part: str, *arguments: object) -> Any:
    """A process of its own, so that its largest resident set is of this part alone."""
    command = [sys.executable, __file__, f"{part}-child", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def machine(threads: int | None) -> dict[str, Any]:
    import cv2
    import onnxruntime

    return {
        "cpus": os.cpu_count(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def main() -> None:
    if sys.argv[1:2] and sys.argv[1].endswith("-child"):
        part = {"exact-child": exact_child, "memory-child": memory_child}[sys.argv[1]]
        print(json.dumps(part(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("exact", "memory", "offsets"))
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--sides", type=int, nargs="+", default=[5_000, 10_000, 20_000])
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    facts = machine(None if chosen.part == "exact" else chosen.threads)
    found: Any
    if chosen.part == "exact":
        found = exact(chosen.side, chosen.objects)
    elif chosen.part == "memory":
        found = memory(chosen.sides, chosen.threads)
    else:
        found = offsets(chosen.columns, chosen.threads)
    document = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    document[chosen.part] = {"machine": facts, "result": found}
    chosen.out.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
