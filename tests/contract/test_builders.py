"""The contract at the published sizes: every builder of the zoo, with random weights.

The two largest SAM encoders are left to `sam_vit_b`, which is the same code: they take minutes here.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apiece.models import zoo
from apiece.models.contract import Candidates

FIXED = {"sam_vit_b": (1024, 1024), "mobile_sam": (1024, 1024)}
BUILDERS = sorted({(e.family, e.builder) for e in zoo.ENTRIES} - {("sam", "sam_vit_l"), ("sam", "sam_vit_h")})


@pytest.mark.slow
@pytest.mark.parametrize(("family", "builder"), BUILDERS)
@torch.inference_mode()
def test_the_published_layout_keeps_the_contract(family, builder):
    torch.manual_seed(0)
    net = zoo.build(family, builder, 3).eval()
    if builder in FIXED:  # the full grid of 1,024 points takes two minutes here
        net.automatic = net.automatic._replace(side=8)
    height, width = FIXED.get(builder, (160, 224))
    assert height % net.size_divisor == width % net.size_divisor == 0
    batch = 1 if builder in FIXED else 2
    images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 255
    found = Candidates(*(v.numpy() for v in net(images)), mask_frame=net.mask_frame)
    assert len(found) == batch
    assert found.capacity == net.candidates
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert ((found.labels >= 0) & (found.labels < 3)).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= np.array([width, height, width, height])).all()
