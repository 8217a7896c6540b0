"""Exponential moving average of the weights: what is validated and kept."""

from __future__ import annotations

import copy

import torch

from apiece.models.network import Network


class AveragedWeights:
    """Average of a network's weights and buffers.

    The decay grows from 0 as (1 + n) / (10 + n) up to `decay`, so that early averages are not ruled by the
    random start.
    """

    def __init__(self, net: Network, decay: float) -> None:
        self.net = copy.deepcopy(net)
        self.net.eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, net: Network) -> None:
        """Move towards the weights of `net`."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.decay else 0.0
        mine, theirs = self.net.state_dict(), net.state_dict()
        floating = [name for name, value in mine.items() if value.dtype.is_floating_point]
        torch._foreach_lerp_([mine[n] for n in floating], [theirs[n] for n in floating], 1.0 - decay)
        for name in mine.keys() - set(floating):
            mine[name].copy_(theirs[name])
