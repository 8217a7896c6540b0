"""Peak memory of one training step on a picture with 1,000 objects at 1024 x 1024: every family, and torchvision.

    python benchmarks/training_memory.py [--only NAME ...]     the others keep the figures that they have

Each runs in a process of its own, in float32 on the CPU, on the same picture and objects: build the network with
random weights, make the targets, forward, backward. Counted is the process's peak resident memory; `base` is what
it was after the imports, before the network. torchvision gets its masks as it wants them, dense uint8.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SIDE, OBJECTS = 1024, 1000
OURS = {
    "mask_rcnn_r50": "mask_rcnn",
    "yolact_r50": "yolact",
    "solov2_r50": "solov2",
    "solov2_dense": "solov2",
    "mask2former_r50": "mask2former",
    "sam_vit_b": "sam",
    "semantic_r50": "semantic",
}
PEERS = ("torchvision maskrcnn_resnet50_fpn", "torchvision maskrcnn_resnet50_fpn_v2")
MAX_MASKS = 256
RESULTS = Path(__file__).parent / "results" / "training_memory.json"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sample() -> Any:
    import numpy as np

    from apiece.data.synthetic import discs

    return discs(np.random.default_rng(0), (SIDE, SIDE), OBJECTS, texture=0.1)


def ours(builder: str) -> dict[str, float]:
    import numpy as np
    import torch

    from apiece.models import zoo
    from apiece.train.losses import loss_of

    scene = sample()
    base = peak_mb()
    torch.manual_seed(0)
    net = zoo.build(OURS[builder], builder, 1).train()
    loss = loss_of(OURS[builder], net, MAX_MASKS)
    # YOLACT's published input is 550; every other takes the picture as it is.
    image = torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1)))[None].float()
    started = time.perf_counter()
    targets = [loss.targets(scene.instances)]
    terms = loss(net.raw(image), targets, loss.normalisers(targets), 1, 0)
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    return {
        "base_mb": base,
        "peak_mb": peak_mb(),
        "seconds": time.perf_counter() - started,
        "loss": float(total),
    }


def torchvision(name: str) -> dict[str, float]:
    import numpy as np
    import torch
    from torchvision.models import detection

    scene = sample()
    base = peak_mb()
    torch.manual_seed(0)
    make = getattr(detection, name.split()[1])
    net = make(weights=None, weights_backbone=None, num_classes=2, min_size=SIDE, max_size=SIDE).train()
    image = torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1))).float() / 255
    started = time.perf_counter()
    target = {
        "boxes": torch.from_numpy(scene.instances.boxes.copy()),
        "labels": torch.ones(OBJECTS, dtype=torch.int64),
        "masks": torch.from_numpy(scene.instances.masks.to_dense().astype(np.uint8)),
    }
    total = torch.stack(list(net([image], [target]).values())).sum()
    total.backward()
    return {
        "base_mb": base,
        "peak_mb": peak_mb(),
        "seconds": time.perf_counter() - started,
        "loss": float(total),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[*PEERS, *OURS])
    parser.add_argument("--one")
    arguments = parser.parse_args()
    if arguments.one:
        run = ours if arguments.one in OURS else torchvision
        print(json.dumps(run(arguments.one)))
        return
    known = {row["who"]: row for row in json.loads(RESULTS.read_text())["rows"]} if RESULTS.exists() else {}
    for name in arguments.only:
        done = subprocess.run(
            [sys.executable, __file__, "--one", name], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
        known[name] = {"who": name, **json.loads(done.stdout.splitlines()[-1])}
        print(
            "{who:45} peak {peak_mb:7.0f} MB  base {base_mb:5.0f} MB  {seconds:6.1f} s".format(**known[name])
        )
    rows = [known[name] for name in (*PEERS, *OURS) if name in known]
    for row in rows:
        row["of_torchvision"] = row["peak_mb"] / rows[0]["peak_mb"]
    document = {
        "machine": platform.platform(),
        "side": SIDE,
        "objects": OBJECTS,
        "max_masks": MAX_MASKS,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
