"""Mask R-CNN, file to COCO RLE: ours in onnxruntime against torchvision in eager torch, same weights, float32.

    python benchmarks/mask_rcnn.py [--size 800 1088] [--pictures FILE ...]

Random weights, the classifier's last layer scaled so that there are a hundred objects (no hub here); torchvision's are
carried over by `apiece.models.mask_rcnn.weights`. Both get the same threads and a network input of the same size;
torchvision's path is its own: resize inside, paste_masks_in_image, threshold, pycocotools.encode.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "mask_rcnn.json"
THRESHOLD = 0.05
REPEATS = 3


def peer(size: tuple[int, int], version: str, picture: Path) -> Any:
    """torchvision's network with random weights, its scores spread so that a picture has a hundred objects."""
    import torch
    from torchvision.io import read_image
    from torchvision.models import detection

    make = getattr(detection, f"maskrcnn_resnet50_fpn{version}")
    image = read_image(str(picture)).float() / 255
    for factor in (2, 4, 8, 16, 32, 64):
        torch.manual_seed(0)
        net = make(weights=None, weights_backbone=None, min_size=min(size), max_size=max(size)).eval()
        with torch.inference_mode():
            net.roi_heads.box_predictor.cls_score.weight *= factor
            net.rpn.head.cls_logits.weight *= 20
            found = net([image])[0]
        if len(found["scores"]) == 100:
            print(f"scores {found['scores'][-1]:.3f} to {found['scores'][0]:.3f} at factor {factor}")
            return net
    raise SystemExit("no factor gives a hundred objects")


def with_torchvision(net: Any) -> Callable[[Path], list[Any]]:
    import torch
    from pycocotools import mask
    from torchvision.io import read_image

    def segment(path: Path) -> list[Any]:
        with torch.inference_mode():
            found = net([read_image(str(path)).float() / 255])[0]
        dense = (found["masks"][:, 0] > 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
        # Masks without a pixel are no objects; ours leaves them out too.
        return [rle for rle in mask.encode(np.asfortranarray(dense)) if mask.area(rle) > 0]

    return segment


def with_apiece(
    net: Any, size: tuple[int, int], version: str, folder: Path, threads: int
) -> Callable[[Path], Any]:
    from apiece.core.classes import ClassMap
    from apiece.deploy.export import write_card
    from apiece.models import zoo
    from apiece.models.card import ModelCard
    from apiece.models.mask_rcnn.weights import from_torchvision
    from apiece.models.to_onnx import to_onnx
    from apiece.predict.load import load

    builder = f"mask_rcnn_r50{version}"
    ours = zoo.build("mask_rcnn", builder, 90).eval()
    ours.load_state_dict(from_torchvision(net.state_dict()))
    path = folder / f"{builder}.onnx"
    to_onnx(ours, size, path)
    write_card(
        path,
        ModelCard(
            name=builder,
            family="mask_rcnn",
            builder=builder,
            classes=ClassMap(tuple(f"class {i}" for i in range(90))),
            input_size=size,
            mask_frame="box",
            boxes_from="network",
            threshold=THRESHOLD,
            licence="Apache-2.0",
            origin="random",
            data="none",
        ),
    )
    model = load(path, threads=threads)
    return lambda picture: model(picture).masks.to_coco()


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1088))
    parser.add_argument("--pictures", type=Path, nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--versions", nargs="+", default=["", "_v2"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = (arguments.size[0], arguments.size[1])
    rows = []
    for version in arguments.versions:
        theirs = peer(size, version, arguments.pictures[0])
        with tempfile.TemporaryDirectory() as folder:
            who = {
                "apiece, onnxruntime": with_apiece(theirs, size, version, Path(folder), arguments.threads),
                "torchvision, eager": with_torchvision(theirs),
            }
            for picture in arguments.pictures:
                times: dict[str, list[float]] = {name: [] for name in who}
                objects = {name: len(segment(picture)) for name, segment in who.items()}  # and warm up
                for _ in range(REPEATS):
                    for name, segment in who.items():
                        started = time.perf_counter()
                        segment(picture)
                        times[name].append(time.perf_counter() - started)
                import cv2

                height, width = cv2.imread(str(picture)).shape[:2]
                middle = {name: statistics.median(t) for name, t in times.items()}
                ratio = middle["torchvision, eager"] / middle["apiece, onnxruntime"]
                rows.append(
                    {
                        "model": f"maskrcnn_resnet50_fpn{version}",
                        "picture": f"{width} x {height}",
                        "objects": objects,
                        "seconds": middle,
                        "ratio": ratio,
                    }
                )
                print(json.dumps(rows[-1]))
    document = {
        "machine": platform.platform(),
        "threads": arguments.threads,
        "input": size,
        "repeats": REPEATS,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
