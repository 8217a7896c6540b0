"""The whole path, file to COCO RLE JSON: the bundled model in onnxruntime against the same network in eager torch.

    python benchmarks/segment.py RUN [PICTURE ...]     RUN is the folder of the training run behind `cells`

The eager side is what a user of the same weights would write: normalise in torch, run the network, sigmoid,
interpolate every mask to the picture's size, threshold, pycocotools.encode, JSON. Both use the same threads.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 7
RESULTS = Path(__file__).parent / "results" / "segment.json"


def shipped_pictures() -> list[Path]:
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    return [data / "ihc.png", data / "coins.png"]


def with_apiece(threads: int) -> Callable[[Path], list[Any]]:
    import apiece

    model = apiece.load("cells", threads=threads)
    return lambda path: model(path).masks.to_coco()


def with_eager_torch(run: Path, threads: int) -> Callable[[Path], list[Any]]:
    import cv2
    import torch
    from pycocotools import mask

    import apiece
    from apiece.core.frame import Frame
    from apiece.predict.runtime_torch import TorchRuntime

    torch.set_num_threads(threads)
    runtime = TorchRuntime(run)
    net, card = runtime.net, runtime.card
    threshold = apiece.load("cells").card.threshold

    def segment(path: Path) -> list[Any]:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        frame = Frame.letterbox((height, width), card.input_size)
        inputs = torch.from_numpy(frame.apply(image)).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            found = net(inputs)
        kept = found.scores[0] >= threshold
        boxes = frame.boxes_to_original(found.boxes[0, kept].numpy())
        dense = np.zeros((height, width, int(kept.sum())), dtype=np.uint8, order="F")
        for i, (grid, (x1, y1, x2, y2)) in enumerate(zip(found.masks[0, kept], boxes.tolist(), strict=True)):
            left, top, right, bottom = (
                max(round(x1), 0),
                max(round(y1), 0),
                min(round(x2), width),
                min(round(y2), height),
            )
            if right > left and bottom > top:
                pasted = torch.nn.functional.interpolate(
                    grid[None, None], (bottom - top, right - left), mode="bilinear"
                )
                dense[top:bottom, left:right, i] = (pasted[0, 0] > 0).numpy()
        rles = mask.encode(dense)
        return [{"size": r["size"], "counts": r["counts"].decode()} for r in rles]

    return segment


def seconds(segment: Callable[[Path], list[Any]], path: Path) -> tuple[float, int]:
    segment(path)
    times, count = [], 0
    for _ in range(REPEATS):
        started = time.perf_counter()
        rles = segment(path)
        json.dumps(rles)
        times.append(time.perf_counter() - started)
        count = len(rles)
    return statistics.median(times), count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path, nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    sides = {"apiece, onnxruntime": with_apiece(arguments.threads)}
    sides["the same network, eager torch, dense masks"] = with_eager_torch(arguments.run, arguments.threads)
    rows = []
    for path in arguments.pictures or shipped_pictures():
        ours = 0.0
        for who, segment in sides.items():
            median, count = seconds(segment, path)
            ours = ours or median
            rows.append(
                {
                    "picture": path.name,
                    "who": who,
                    "seconds": median,
                    "objects": count,
                    "ratio": median / ours,
                }
            )
            print(
                f"{path.name:20} {who:45} {median * 1e3:7.0f} ms {count:5} objects {median / ours:5.2f}×",
                file=sys.stderr,
            )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "schema": "apiece/benchmark/1",
                "machine": {
                    "processor": platform.processor() or platform.machine(),
                    "threads": arguments.threads,
                },
                "repeats": REPEATS,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "rows": rows,
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
