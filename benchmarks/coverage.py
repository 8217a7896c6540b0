"""How often the promises of `apiece.evaluate.risk` are kept: repeated draws from simulated populations of known truth.

    python benchmarks/coverage.py [--repetitions 500] [--images 150] [--live 600] [--seed 0]

writes benchmarks/results/coverage.json and prints it as a table. Pictures of boxes as a detector might find them (see
tests/evaluate/risk/risk_population.py): overdispersed counts, a difficulty that all objects of a picture share. Each
repetition draws labelled and new pictures from one population ("same"), or the new ones from one that is twice as
dense, with more misses and more false predictions ("shifted"), where promises break and the drift gate has to trip, or
from one with objects of a sort that no prediction shows ("hidden"), where promises break and no gate can see it.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "evaluate" / "risk"))
RESULTS = HERE / "results" / "coverage.json"


def rows(
    found: dict[str, dict[str, Any]], level: float, alpha: float, alpha_count: float
) -> list[dict[str, Any]]:
    """For each method: how often it kept its promise, with its standard error, and how wide or near α it is."""
    table = []
    for name, one in found.items():
        kept = one["kept"]
        promised = kept[~np.isnan(kept)]
        row: dict[str, Any] = {"method": name, "promised": len(promised) / len(kept)}
        learned = name.startswith("Learn-then-Test")
        figure = (
            "expected_loss"
            if name.startswith("conformal risk")
            else "gate_rate"
            if name == "gate"
            else "coverage"
        )
        row[figure] = float(promised.mean()) if promised.size else None
        row["standard_error"] = float(promised.std() / math.sqrt(len(promised))) if promised.size else None
        if figure == "coverage":
            row["level"] = level
        elif figure == "expected_loss":
            row["alpha"] = alpha
        else:
            row["level"] = 0.05
        if learned:
            row["alpha"] = alpha_count if name.endswith("count") else alpha
            row["mean_true_risk"] = None if one["width"] is None else float(one["width"])
        elif one["width"] is not None:
            row["mean_width"] = float(one["width"])
        table.append(row)
    return table


def shown(row: dict[str, Any]) -> str:
    figure = next(key for key in ("coverage", "expected_loss", "gate_rate") if key in row)
    aim = f"≤ {row['alpha']:g}" if figure == "expected_loss" else f"≤ {row['level']:g}"
    aim = f"≥ {row['level']:g}" if figure == "coverage" else aim
    extra = next(
        (f"{key} {row[key]:.3g}" for key in ("mean_width", "mean_true_risk") if row.get(key) is not None), ""
    )
    value = "–" if row[figure] is None else f"{row[figure]:.3f} ± {row['standard_error']:.3f}"
    return f"{row['method']:42} {figure:14} {value:>15} {aim:>7}  promised {row['promised']:.2f}  {extra}"


def main() -> None:
    import risk_population as population

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--live", type=int, default=600)
    parser.add_argument("--pool", type=int, default=8000, help="pictures of a population")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun = time.process_time()
    same = population.pool(options.pool, options.seed + 1)
    shifted = population.pool(options.pool, options.seed + 2, "shifted")
    hidden = population.pool(options.pool, options.seed + 3, "hidden")
    parts = {}
    for name, new in (("same", same), ("shifted", shifted), ("hidden", hidden)):
        found = population.repeat(
            same, new, options.repetitions, n=options.images, live=options.live, seed=options.seed
        )
        parts[name] = rows(found, population.LEVEL, population.ALPHA, population.ALPHA_COUNT)
        print(f"new pictures: {name}")
        print("\n".join(shown(row) for row in parts[name]), "\n")
    document = {
        "repetitions": options.repetitions,
        "images": options.images,
        "live": options.live,
        "seed": options.seed,
        "seconds": time.process_time() - begun,
        "machine": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "definition": (
            "coverage: share of repetitions in which a promise that was made was kept (for the count of a picture the "
            "share of new pictures); expected_loss: mean true loss at the chosen threshold, 0 where nothing was "
            "promised; mean_true_risk: the same of Learn-then-Test; gate_rate: share in which the drift gate tripped."
        ),
        **parts,
    }
    RESULTS.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
