"""What network, graphs and predictor agree on about prompts. Without torch."""

from __future__ import annotations

NOTHING, OUTSIDE, INSIDE, UPPER_LEFT, LOWER_RIGHT = -1, 0, 1, 2, 3
"""What a point says: nothing (it only fills up a row), not the object, the object, a corner of its box."""

MASKS = 3
"""Masks for an ambiguous prompt: whole, part and subpart."""

PART_KEY = "apiece.part"
"""Metadata of an ONNX file: which of the two graphs it is."""

ENCODER, DECODER = "prompt-encoder", "prompt-decoder"

PROMPT_INPUTS = ("points", "point_labels", "previous", "has_previous", "multimask")
"""Inputs of the decoder's graph, besides the encoder's outputs."""
