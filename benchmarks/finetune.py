"""Every family fine-tuned from ImageNet weights on two small sets by its short recipe.

    python benchmarks/finetune.py [--only RECIPE ...] [--sets balloon pennfudan] [--jobs 2]

One process and one thread a run, so that the seconds of two runs side by side are comparable. A run that was
interrupted goes on where it was; one that is finished is not repeated. Writes benchmarks/results/finetune.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "finetune.json"
RECIPES = (
    "solov2-dense",
    "yolact-lite0",
    "semantic-lite0",
    "mask2former-lite0",
    "mask_rcnn-lite0",
    "faster_rcnn-lite0",
    "sam-lite0",
)
SETS: dict[str, tuple[str, ...]] = {
    "balloon": (),
    "pennfudan": (
        "classes=[person]",
        "train={path: ../../shared/data/pennfudan, subset: pennfudan-train.txt}",
        "validation={path: ../../shared/data/pennfudan, subset: pennfudan-heldout.txt}",
        "data=Penn-Fudan pedestrians (research use)",
    ),
}

# The child: trains, then prints one JSON line.
CHILD = """
import csv, json, resource, statistics, sys
from pathlib import Path
recipe, out, *overrides = sys.argv[1:]
out = Path(out)
import torch
torch.set_num_threads(1)
from apiece.train.run import train
train(Path(recipe), overrides, (out / "checkpoint.pt").exists(), out)
from apiece.predict.runtime_torch import TorchRuntime
runtime = TorchRuntime(out)
with (out / "metrics.csv").open() as file:
    rows = list(csv.DictReader(file))
seconds = [float(r["value"]) for r in rows if r["name"] == "seconds_per_step"]
loss = [float(r["value"]) for r in rows if r["name"] == "loss"]
print(json.dumps({
    "parameters": sum(p.numel() for p in runtime.net.parameters()),
    "seconds_per_step": statistics.median(seconds),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "first_loss": loss[0],
    "last_loss": loss[-1],
    "box_masks": runtime.card.box_masks,
    **runtime.card.metrics,
}))
"""


def run(recipe: str, data: str) -> dict[str, Any] | None:
    out = ROOT / "runs" / "finetune" / f"{recipe}-{data}"
    finished = out / "finetune.json"
    if finished.exists():
        row: dict[str, Any] = json.loads(finished.read_text())
        return row
    print(f"{recipe} on {data}: begins", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", CHILD, str(ROOT / "recipes" / f"{recipe}.yaml"), str(out), *SETS[data]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        print(f"{recipe} on {data} failed:\n{done.stderr[-3000:]}", flush=True)
        return None
    row = {"recipe": recipe, "set": data, **json.loads(done.stdout.splitlines()[-1])}
    if recipe.startswith("sam"):
        row["box_prompt_iou"] = prompted(recipe, data, out)
    finished.write_text(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)
    return row


def prompted(recipe: str, data: str, run: Path) -> float:
    """Mean IoU of the answers to the true boxes of the held-out pictures, through the two exported graphs."""
    from apiece.deploy.export import export_prompts
    from apiece.predict.prompt import PromptModel
    from apiece.train.recipe import read_recipe
    from apiece.train.run import open_data

    parsed = read_recipe(ROOT / "recipes" / f"{recipe}.yaml", list(SETS[data]))
    assert parsed.validation is not None
    model = PromptModel(*export_prompts(run, run / "prompt.onnx"))
    overlaps: list[float] = []
    for sample in open_data(parsed.validation, parsed.classes):
        found = model.embed(sample.image).segment(boxes=sample.instances.boxes)
        own = found.masks.iou(sample.instances.masks).toarray()
        answered = dict(zip(found.columns["prompt"].tolist(), range(len(found)), strict=True))
        overlaps += [
            float(own[answered[i], i]) if i in answered else 0.0 for i in range(len(sample.instances))
        ]
    return sum(overlaps) / len(overlaps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(RECIPES))
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    wanted = [(recipe, data) for data in arguments.sets for recipe in arguments.only]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        rows = [row for row in pool.map(lambda one: run(*one), wanted) if row is not None]
    if len(rows) == len(RECIPES) * len(SETS):
        document = {"machine": platform.platform(), "threads": 1, "jobs": arguments.jobs, "rows": rows}
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
