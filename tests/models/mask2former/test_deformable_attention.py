"""Both ways to read a map at points give the same, and so do their gradients."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from apiece.models.mask2former.deformable_attention import read_maps, read_rows

SIZES = [(2, 3), (4, 6), (1, 1)]


def test_rows_of_a_table_are_samples_of_a_map():
    generator = torch.Generator().manual_seed(0)
    total = sum(h * w for h, w in SIZES)
    values = torch.randn(2, total, 2, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    # Some inside, some across the border, some far outside.
    at = 12 * torch.rand(2, 7, 2, 3, 4, 2, generator=generator, dtype=torch.float64) - 3
    at.requires_grad_(True)
    weights = torch.rand(2, 7, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    found = []
    for read in (read_maps, read_rows):
        out = read(values, at, weights, SIZES)
        assert out.shape == (2, 7, 10)
        found.append((out, *torch.autograd.grad(out.square().sum(), (values, at, weights))))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_a_point_at_a_centre_reads_that_cell():
    values = torch.arange(6.0).reshape(1, 6, 1, 1)
    at = torch.tensor([[1.5, 0.5], [0.5, 1.5]]).reshape(1, 2, 1, 1, 1, 2)
    for read in (read_maps, read_rows):
        assert read(values, at, torch.ones(1, 2, 1, 1, 1), [(2, 3)]).flatten().tolist() == [1.0, 3.0]
