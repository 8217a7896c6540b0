"""Writes pennfudan-train.txt and pennfudan-heldout.txt: a fifth held out, at random with a fixed seed.

python recipes/pennfudan_split.py ../shared/data/pennfudan
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(data: Path, out: Path) -> None:
    stems = sorted(path.stem for path in (data / "images").glob("*.jpg"))
    order = np.random.default_rng(170).permutation(len(stems))
    held_out = sorted(stems[i] for i in order[: len(stems) // 5])
    (out / "pennfudan-heldout.txt").write_text("\n".join(held_out) + "\n")
    (out / "pennfudan-train.txt").write_text("\n".join(sorted(set(stems) - set(held_out))) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
