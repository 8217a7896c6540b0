"""Mask2Former (Swin-T): pixels to instance masks, ours against transformers, same random weights, float32, this CPU.

    python benchmarks/mask2former.py [--sides 384 640] [--threads 2] [--repeats 7]

Three sides in one process, in turns: ours in eager torch through the shipped decode, ours in onnxruntime through the
same decode, and transformers in eager torch through its own `post_process_instance_segmentation` with target sizes.
The picture has the network's input size. Checked in the same run: every mask of ours is one of theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "mask2former.json"
CLASSES = 80
OBJECTS = 30  # the threshold lies where transformers keeps so many


def peer() -> Any:
    import torch
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(0)
    backbone = SwinConfig(depths=[2, 2, 6, 2], out_features=["stage1", "stage2", "stage3", "stage4"])
    return Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(backbone_config=backbone, num_labels=CLASSES)
    ).eval()


def of_transformers(model: Any, side: int, threshold: float) -> Callable[[Any], Any]:
    import torch
    from transformers import Mask2FormerImageProcessor

    from apiece.models.backbones import IMAGENET_MEAN, IMAGENET_STD

    processor = Mask2FormerImageProcessor()
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))

    def segment(image: Any) -> Any:
        with torch.inference_mode():
            pixels = (torch.from_numpy(image).permute(2, 0, 1)[None].float() - mean) / std
            return processor.post_process_instance_segmentation(
                model(pixels), threshold=threshold, target_sizes=[(side, side)], return_binary_maps=True
            )[0]

    return segment


def of_apiece(run: Callable[[Any], Any], side: int, threshold: float) -> Callable[[Any], Any]:
    from apiece.core.classes import ClassMap
    from apiece.core.frame import Frame
    from apiece.models.contract import Candidates
    from apiece.models.decode import decode

    frame = Frame.letterbox((side, side), (side, side))
    classes = ClassMap(tuple(f"class {i}" for i in range(CLASSES)))

    def segment(image: Any) -> Any:
        found = Candidates(*run(image[None]), mask_frame="image")
        return decode(found, 0, frame, classes, threshold=threshold).instances

    return segment


def eager(net: Any) -> Callable[[Any], Any]:
    import torch

    def run(images: Any) -> Any:
        with torch.inference_mode():
            return [v.numpy() for v in net(torch.from_numpy(images).permute(0, 3, 1, 2).float())]

    return run


def exported(net: Any, side: int, threads: int, folder: Path) -> Callable[[Any], Any]:
    import onnxruntime

    from apiece.models.contract import INPUT_NAME, OUTPUT_NAMES
    from apiece.models.to_onnx import to_onnx

    to_onnx(net, (side, side), folder / f"{side}.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(folder / f"{side}.onnx"), options, ["CPUExecutionProvider"])
    return lambda images: session.run(list(OUTPUT_NAMES), {INPUT_NAME: images})


def agreement(model: Any, net: Any, image: Any, instances: Any, theirs: Any) -> dict[str, float]:
    """How our objects and theirs compare.

    iou_of_queries    least IoU of a mask of ours with the nearest of their queries' masks, whose logits are resampled
                      to the picture and cut at 0.
    iou_of_processed  the mean with the nearest that their post-processing gives, which resamples to 384 × 384 and
                      from there by nearest neighbour.
    score             largest relative difference between their scores and ours by rank, when ours are taken over the
                      input's pixels as theirs are (`score_stride` 1).
    score_shipped     the same for the shipped stride of 4.
    """
    import torch
    import torch.nn.functional as F

    from apiece.models.backbones import IMAGENET_MEAN, IMAGENET_STD

    side = image.shape[0]
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    ranked = {}
    with torch.inference_mode():
        logits = model((pixels - mean) / std).masks_queries_logits
        queries = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)[0] > 0
        shipped = net.score_stride
        for net.score_stride in (1, shipped):
            ranked[net.score_stride] = net(pixels).scores[0].numpy()
    ours = instances.masks.to_dense()
    scores = np.sort([s["score"] for s in theirs["segments_info"]])[::-1]

    def difference(stride: int) -> float:
        return float(np.abs(ranked[stride][: len(scores)] / scores - 1).max())

    return {
        "iou_of_queries": float(overlap(ours, queries.numpy()).max(axis=1).min()),
        "iou_of_processed": float(overlap(ours, theirs["segmentation"].numpy() > 0).max(axis=1).mean()),
        "score": difference(1),
        "score_shipped": difference(shipped),
    }


def overlap(a: Any, b: Any) -> Any:
    """IoU of every mask of one stack with every one of another."""
    a, b = (x.reshape(len(x), -1).astype(np.float32) for x in (a, b))
    both = a @ b.T
    return both / np.maximum(a.sum(axis=1)[:, None] + b.sum(axis=1) - both, 1)


def timed(sides: dict[str, Callable[[Any], Any]], image: Any, repeats: int) -> dict[str, list[float]]:
    """Seconds of every run; the sides take turns, so that the machine's other work hits all alike."""
    times: dict[str, list[float]] = {who: [] for who in sides}
    for repeat in range(repeats + 1):
        for who, segment in sides.items():
            started = time.perf_counter()
            segment(image)
            if repeat:
                times[who].append(time.perf_counter() - started)
    return times


def picture(side: int) -> Any:
    from apiece.data.synthetic import discs

    return discs(np.random.default_rng(0), (side, side), count=40).image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[384, 640])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()

    import torch
    import transformers

    from apiece.models.mask2former.net import mask2former_swin_tiny
    from apiece.models.mask2former.weights import from_transformers

    torch.set_num_threads(arguments.threads)
    model = peer()
    net = mask2former_swin_tiny(CLASSES).eval()
    net.load_state_dict(from_transformers(model.state_dict()))
    rows, checks = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for side in arguments.sides:
            image = picture(side)
            everything = of_transformers(model, side, 0.0)(image)["segments_info"]
            threshold = sorted((s["score"] for s in everything), reverse=True)[OBJECTS - 1]
            sides = {
                "apiece, eager torch": of_apiece(eager(net), side, threshold),
                "apiece, onnxruntime": of_apiece(
                    exported(net, side, arguments.threads, Path(folder)), side, threshold
                ),
                f"transformers {transformers.__version__}, eager torch": of_transformers(
                    model, side, threshold
                ),
            }
            mine, in_onnx, theirs = (segment(image) for segment in sides.values())
            checks[side] = agreement(model, net, image, mine, theirs)
            checks[side]["iou_of_onnxruntime"] = float(
                overlap(in_onnx.masks.to_dense(), mine.masks.to_dense()).max(axis=1).min()
            )
            assert checks[side]["iou_of_queries"] > 0.999, checks[side]
            # A pixel of an attention mask whose logit is nearly 0 may flip, and random weights have many of these.
            assert checks[side]["score"] < 1e-3, checks[side]
            counts = (len(mine), len(in_onnx), len(theirs["segments_info"]))
            times = timed(sides, image, arguments.repeats)
            reference = statistics.median(list(times.values())[-1])
            for (who, seconds), count in zip(times.items(), counts, strict=True):
                median = statistics.median(seconds)
                rows.append(
                    {
                        "side": side,
                        "who": who,
                        "seconds": median,
                        "fastest": min(seconds),
                        "objects": count,
                        "speedup": reference / median,
                    }
                )
                print(
                    f"{side:5} {who:35} {median:7.2f} s {count:4} objects {reference / median:5.2f}×",
                    file=sys.stderr,
                )
            print(side, checks[side], file=sys.stderr)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "schema": "apiece/benchmark/1",
                "machine": {
                    "processor": platform.processor() or platform.machine(),
                    "threads": arguments.threads,
                    "load": os.getloadavg()[0],
                },
                "repeats": arguments.repeats,
                "rows": rows,
                "checks": {str(side): check for side, check in checks.items()},
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
