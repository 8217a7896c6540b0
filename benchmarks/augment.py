"""Augmentation of a picture with 300 objects on 1024²: apiece's crops beside peers that move a full frame an object.

    python benchmarks/augment.py          writes benchmarks/results/augment.json and prints the ratios

The same changes for everyone, all of them certain: scale jitter and crop to 1024², flips, an affine change, colours,
blur, noise, JPEG. `geometry` is the first three. Every case runs in a process of its own, so that peak memory is that
case's; times are medians of processor time over `REPEATS` calls with one thread. Peers: albumentations with uint8
masks (N, H, W), where it is installed (`pip install albumentations`, or a folder of it on PYTHONPATH);
torchvision.transforms.v2 with tv_tensors.Mask (N, H, W). Both leave the masks dense, with the objects that are out of
view among them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 5
SIDE = 1024
SCALE = (0.8, 2.0)
COUNTS = (30, 300)
RESULTS = Path(__file__).parent / "results" / "augment.json"
Step = Callable[[], Any]


def apiece_steps(count: int, geometry: bool) -> Step:
    from apiece.data.augment import Affine, Blur, ColorJitter, Compose, Flip, Jpeg, Noise, Rotate90, ScaleCrop

    change = Compose(
        (
            ScaleCrop((SIDE, SIDE), SCALE),
            Flip(),
            Rotate90(),
            Affine(1.0),
            *(() if geometry else (ColorJitter(1.0), Blur(1.0), Noise(1.0), Jpeg(1.0))),
        )
    )
    sample, rng = scene(count), np.random.default_rng(0)
    return lambda: change(sample, rng)


def albumentations_steps(count: int, geometry: bool) -> Step:
    import albumentations as A

    low, high = SCALE
    steps = [
        A.RandomScale((low - 1, high - 1), p=1),
        A.RandomCrop(SIDE, SIDE, pad_if_needed=True, pad_position="top_left", p=1),
        A.D4(p=1),
        A.Affine(scale=(0.8, 1.25), rotate=(-15, 15), shear=(-5, 5), translate_percent=(-0.1, 0.1), p=1),
    ]
    if not geometry:
        steps += [
            A.ColorJitter((0.6, 1.6), (0.6, 1.5), (0.4, 1.6), (-0.08, 0.08), p=1),
            A.GaussianBlur(sigma_limit=(0.4, 1.6), p=1),
            A.GaussNoise(std_range=(2 / 255, 12 / 255), p=1),
            A.ImageCompression(quality_range=(30, 90), p=1),
        ]
    sample = scene(count)
    dense = sample.instances.masks.to_dense().view(np.uint8)
    change = A.Compose(steps, seed=0)
    return lambda: change(image=sample.image, masks=dense)


def torchvision_steps(count: int, geometry: bool) -> Step:
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps: list[Any] = [
        v2.ScaleJitter((SIDE, SIDE), SCALE),
        v2.RandomCrop((SIDE, SIDE), pad_if_needed=True),
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
        v2.RandomAffine(15, (0.1, 0.1), (0.8, 1.25), (-5, 5), v2.InterpolationMode.BILINEAR),
    ]
    if not geometry:
        steps += [
            v2.ColorJitter((0.6, 1.6), (0.6, 1.5), (0.4, 1.6), (-0.08, 0.08)),
            v2.GaussianBlur(7, (0.4, 1.6)),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.GaussianNoise(sigma=7 / 255),
            v2.ToDtype({tv_tensors.Image: torch.uint8, "others": None}, scale=True),
            v2.JPEG((30, 90)),
        ]
    sample = scene(count)
    image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1))))
    masks = tv_tensors.Mask(torch.from_numpy(sample.instances.masks.to_dense()))
    change = v2.Compose(steps)
    return lambda: change({"image": image, "masks": masks})


WHO: dict[str, Callable[[int, bool], Step]] = {
    "apiece": apiece_steps,
    "albumentations": albumentations_steps,
    "torchvision v2": torchvision_steps,
}


def scene(count: int) -> Any:
    from apiece.data.synthetic import discs

    return discs(np.random.default_rng(0), (SIDE, SIDE), count, radius=(12, 26))


def measure(who: str, count: int, geometry: bool, queue: Any) -> None:
    import cv2

    cv2.setNumThreads(1)
    step = WHO[who](count, geometry)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    seconds = []
    for _ in range(REPEATS):
        begin = time.process_time()
        step()
        seconds.append(time.process_time() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put(
        {"seconds": statistics.median(seconds), "peak_mb": peak / 1024, "grown_mb": (peak - before) / 1024}
    )


def alone(who: str, count: int, geometry: bool) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=measure, args=(who, count, geometry, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{who} with {count} objects ended with {process.exitcode}: out of memory?")
    result: dict[str, float] = queue.get()
    return result


def main() -> None:
    there = [who for who in WHO if importlib.util.find_spec(who.split()[0])]
    for who in WHO.keys() - set(there):
        print(f"{who} isn't installed and is left out", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    for geometry in (True, False):
        for count in COUNTS:
            first = len(rows)
            for who in there:
                case = {"who": who, "objects": count, "changes": "geometry" if geometry else "all"}
                rows.append({**case, **alone(who, count, geometry)})
                rows[-1]["times_apiece"] = rows[-1]["seconds"] / rows[first]["seconds"]
                print(
                    f"{case['changes']:8} {count:4} objects  {who:15} {rows[-1]['seconds'] * 1e3:8.1f} ms "
                    f"{rows[-1]['peak_mb']:8.0f} MB   {rows[-1]['times_apiece']:6.1f}× apiece's time",
                    file=sys.stderr,
                )
    packages = ["numpy", "opencv-python-headless", "torch", "torchvision", "albumentations"]
    document = {
        "schema": "apiece/benchmark/1",
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
        },
        "versions": {name: importlib.metadata.version(name) for name in packages if is_there(name)},
        "repeats": REPEATS,
        "size": [SIDE, SIDE],
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


def is_there(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
