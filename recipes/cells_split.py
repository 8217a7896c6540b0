"""Writes cells-train.txt, cells-heldout.txt and cells-groups.csv from the data folder's index.json.

One fifth is held out within every (modality, picture size) group, at random with a fixed seed, so the lists can be
made again and compared: python recipes/cells_split.py ../shared/data/dsb2018_train_full664
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

MODALITY = {
    ("dark", "gray"): "fluorescence",
    ("light", "color"): "histology",
    ("light", "gray"): "brightfield",
}


def main(data: Path, out: Path) -> None:
    groups: dict[str, list[str]] = defaultdict(list)
    for row in json.loads((data / "index.json").read_text()):
        groups[f"{MODALITY[row['bg'], row['mode']]}-{row['h']}x{row['w']}"].append(row["id"])
    rng = np.random.default_rng(2018)
    train, held_out = [], []
    for _, ids in sorted(groups.items()):
        shuffled = list(rng.permutation(sorted(ids)))
        count = round(len(ids) / 5)
        held_out += shuffled[:count]
        train += shuffled[count:]
    (out / "cells-train.txt").write_text("\n".join(sorted(train)) + "\n")
    (out / "cells-heldout.txt").write_text("\n".join(sorted(held_out)) + "\n")
    with (out / "cells-groups.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "group"])
        writer.writerows(sorted((i, name) for name, ids in groups.items() for i in ids))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
