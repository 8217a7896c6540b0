"""What a run says of itself: a progress bar, metrics.csv, TensorBoard events."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter


class Log:
    """Writes only in the first process. Means over `every` steps go to the files; a resumed run appends."""

    def __init__(self, run: Path, active: bool, every: int = 20) -> None:
        self.run, self.active, self.every = run, active, every
        self.console = Console(stderr=True, quiet=not active)
        self.sums: dict[str, float] = {}
        self.count = 0
        self.progress: Progress | None = None
        self.events = SummaryWriter(str(run / "tensorboard")) if active else None

    def info(self, text: str) -> None:
        """One line for the person who watches."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def start(self, step: int, last: int) -> None:
        """Show the bar."""
        self.progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (self.active and self.console.is_terminal),
        )
        self.progress.start()
        self.task = self.progress.add_task("", total=last, completed=step)

    def step(self, step: int, values: dict[str, float]) -> None:
        """One step's figures."""
        if not self.active:
            return
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if self.progress is not None:
            self.progress.update(self.task, completed=step, description=f"loss {values['loss']:.3f}")
        if step % self.every == 0:
            means = {name: total / self.count for name, total in self.sums.items()}
            self.record(step, means)
            if not self.console.is_terminal:
                self.info(f"step {step}  " + "  ".join(f"{k} {v:.4g}" for k, v in means.items()))
            self.sums, self.count = {}, 0

    def record(self, step: int, values: dict[str, float]) -> None:
        """One row of metrics.csv and the same to TensorBoard."""
        if not self.active:
            return
        path = self.run / "metrics.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "name", "value"])
            writer.writerows([step, name, f"{value:.6g}"] for name, value in values.items())
        assert self.events is not None
        for name, value in values.items():
            if math.isfinite(value):
                self.events.add_scalar(name, value, step)

    def finish(self) -> None:
        """Close bar and files."""
        if self.progress is not None:
            self.progress.stop()
        if self.events is not None:
            self.events.close()
