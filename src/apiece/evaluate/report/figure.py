"""A crop as a figure: the picture, outlines over it as vectors, and what it shows in words."""

from __future__ import annotations

from apiece.evaluate.report.crops import Crop
from apiece.evaluate.report.markup import name, safe

LEGEND = (
    '<ul class="legend" aria-label="How outlines are drawn">'
    + "".join(
        '<li><svg viewBox="0 0 44 12" aria-hidden="true" focusable="false"><rect width="44" height="12" rx="2"/>'
        f'<path class="{kind}" d="M3 6H41"/></svg>{told}</li>'
        for kind, told in (
            ("o truth", "truth: solid, blue"),
            ("o prediction", "prediction: dashed, orange"),
            ("o prediction candidate", "candidate that doesn’t count: dotted, orange"),
            ("o truth near", "thin: other objects near by"),
        )
    )
    + "</ul>"
)


def figure(
    crop: Crop, image: str, caption: str, *, attributes: str = "", what: str = "", tag: str = ""
) -> str:
    """A crop with its caption.

    image       the picture's name.
    caption     what is shown, text.
    attributes  of the figure element, markup.
    what        what it is a picture of, for the alternative text.
    tag         a word set beside the caption.
    """
    outlined = sorted(
        {"truth" if one.side == "truth" else "prediction" for one in crop.outlines}, reverse=True
    )
    styles = {"truth": "truth solid blue", "prediction": "prediction dashed orange"}
    drawn = f" Outlines: {', '.join(styles[side] for side in outlined)}." if outlined else ""
    told = f"{what}{': ' if what else ''}{caption}. In {image}.{drawn}"
    box = f'viewBox="0 0 {crop.width} {crop.height}"'
    paths = "".join(
        f'<path class="o {one.side}{"" if one.role == "subject" else " " + one.role}" d="{one.path}"/>'
        for one in crop.outlines
    )
    if crop.uri:
        alt = safe(told)
        view = (
            f'<img src="{crop.uri}" alt="{alt}" width="{crop.width}" height="{crop.height}" decoding="async">'
            f'<svg {box} aria-hidden="true" focusable="false">{paths}</svg>'
        )
    else:
        label = safe(f"{told} The picture itself is not shown.")
        view = f'<svg class="ground" {box} role="img" aria-label="{label}">{paths}</svg>'
    ratio = f"{crop.width} / {crop.height}"
    mark = f'<span class="tag">{safe(tag)}</span>' if tag else ""
    note = "" if crop.uri else '<span class="tag">picture not shown</span>'
    return (
        f'<figure {attributes}><div class="view" style="aspect-ratio: {ratio}">{view}</div>'
        f'<figcaption><span class="told">{safe(caption)}</span><span class="foot">'
        f'<span class="where" title="{safe(image)}">{name(image)}</span>{mark}{note}</span>'
        "</figcaption></figure>"
    )
