"""Synthetic scenes with exact ground truth, for tests, demonstrations and the proof of exports."""

from __future__ import annotations

from apiece.data.synthetic.config import Scene
from apiece.data.synthetic.disc_scene import DISC, discs
from apiece.data.synthetic.layout import Layout, lay_out
from apiece.data.synthetic.pictures import large_scene, scene
from apiece.data.synthetic.shapes import SHAPES
from apiece.data.synthetic.write import write_synthetic

__all__ = ["DISC", "SHAPES", "Layout", "Scene", "discs", "large_scene", "lay_out", "scene", "write_synthetic"]
