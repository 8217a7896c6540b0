"""The parity table: every compared quantity is asserted here, and written down where APIECE_PARITY names a folder.

`APIECE_PARITY=runs/parity pytest tests/parity && python benchmarks/families.py` renews docs/families.md.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt


def record(
    *,
    family: str,
    oracle: str,
    quantity: str,
    ours: npt.ArrayLike,
    theirs: npt.ArrayLike,
    rtol: float = 1e-4,
) -> None:
    """Assert that two arrays are equal, relative to the largest value of the oracle's."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert a.shape == b.shape, f"{quantity}: {a.shape} instead of the oracle's {b.shape}"
    assert a.size, f"{quantity}: nothing was compared"
    assert np.isfinite(a).all(), f"{quantity}: not finite"
    scale = float(np.abs(b).max())
    error = float(np.abs(a - b).max()) / scale if scale else float(np.abs(a).max())
    folder = os.environ.get("APIECE_PARITY")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        line = {
            "family": family,
            "oracle": oracle,
            "quantity": quantity,
            "error": error,
            "rtol": rtol,
            "n": a.size,
        }
        with (Path(folder) / f"{family}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    assert error <= rtol, f"{quantity}: relative error {error:.2e}, allowed {rtol:.0e}"
