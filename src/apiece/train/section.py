"""Section: what every part of a recipe is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Part of a recipe: frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
