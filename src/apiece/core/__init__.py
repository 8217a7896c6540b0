"""Values that the whole package speaks: masks, instances, classes, frames, pictures."""
