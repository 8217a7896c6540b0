"""A million objects in every format: what writing, opening and reading all of them takes.

    python benchmarks/million.py [FORMAT ...] [--pictures 4000] [--objects 250]

4,000 pictures of 256 x 256 with 250 objects each. Writing and reading run in processes of their own, so that peak
memory (of the process, imports included) is each one's. Reading goes through every picture and keeps no object.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import FORMATS, Picture, format_of

RESULTS = Path(__file__).parent / "results" / "million.json"
SIZE, CELL = (256, 256), 10
CLASSES = ClassMap(("a", "b", "c"))


def scene(seed: int, count: int) -> Instances:
    """Blobs of about 8 x 8 pixels in a grid, so that no format loses any by overlap."""
    rng = np.random.default_rng(seed)
    places = rng.permutation((SIZE[0] // CELL) * (SIZE[1] // CELL))[:count]
    corners = np.stack([places % (SIZE[1] // CELL), places // (SIZE[1] // CELL)], axis=1) * CELL
    y, x = np.mgrid[:9, :9] - 4
    crops = [(x / a) ** 2 + (y / b) ** 2 <= 1 for a, b in rng.uniform(2.5, 4.5, (count, 2))]
    masks = Masks.from_crops(crops, corners, SIZE)
    return Instances(SIZE, masks, rng.integers(len(CLASSES), size=count), classes=CLASSES)


def write(name: str, folder: Path, pictures: int, objects: int) -> None:
    """One set in one format."""
    photograph = folder.parent / "photograph.png"
    write_image(photograph, np.zeros((*SIZE, 3), np.uint8))
    scenes = [scene(seed, objects) for seed in range(8)]
    folder.mkdir()
    target = format_of(name).TARGET(folder, CLASSES)
    for number in range(1, pictures + 1):
        target.add(Picture(f"{number:06d}.png", photograph, number, SIZE), scenes[number % 8])
    target.finish()


def read(name: str, folder: Path) -> tuple[float, int]:
    """Seconds of opening, and objects read."""
    started = time.perf_counter()
    source = format_of(name).open_source(folder)
    opened = time.perf_counter() - started
    return opened, sum(len(source.read(index)) for index in range(len(source.pictures)))


def child(arguments: argparse.Namespace) -> None:
    """What a process of its own does."""
    folder, started = Path(arguments.folder), time.perf_counter()
    figures: dict[str, float] = {}
    if arguments.child == "write":
        write(arguments.formats[0], folder, arguments.pictures, arguments.objects)
    else:
        figures["open_s"], figures["objects"] = read(arguments.formats[0], folder)
    figures["seconds"] = time.perf_counter() - started
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


def main() -> None:
    """Run every format and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", default=list(FORMATS))
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--objects", type=int, default=250)
    parser.add_argument("--child", choices=("write", "read"))
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments)
    figures = json.loads(RESULTS.read_text())["formats"] if RESULTS.exists() else {}
    for name in arguments.formats:
        with tempfile.TemporaryDirectory() as temporary:
            row = {}
            for what in ("write", "read"):
                command = [sys.executable, __file__, name, "--child", what, "--folder", f"{temporary}/{name}"]
                command += ["--pictures", str(arguments.pictures), "--objects", str(arguments.objects)]
                row[what] = json.loads(
                    subprocess.run(command, check=True, capture_output=True, text=True).stdout
                )
        if row["read"]["objects"] != arguments.pictures * arguments.objects:
            raise SystemExit(f"{name}: {row['read']['objects']} objects came back")
        figures[name] = row
        print(
            f"{name:14} write {row['write']['seconds']:6.1f} s, {row['write']['peak_mb']:5.0f} MB; open "
            f"{row['read']['open_s']:6.1f} s, all {row['read']['seconds']:6.1f} s, {row['read']['peak_mb']:5.0f} MB",
            flush=True,
        )
        RESULTS.write_text(
            json.dumps(
                {"pictures": arguments.pictures, "objects": arguments.objects, "formats": figures}, indent=1
            )
            + "\n"
        )
    return None


if __name__ == "__main__":
    main()
