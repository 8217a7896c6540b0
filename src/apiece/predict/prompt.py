"""Promptable segmentation: a picture's embedding once, then points, boxes and masks on it. NumPy and onnxruntime only.

model = PromptModel("encoder.onnx", "decoder.onnx")
picture = model.embed("photo.jpg")
found = picture.segment(points=[[120, 80]])
better = picture.segment(points=[[120, 80], [60, 95]], labels=[1, 0], mask=found.columns["logits"][0])
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from apiece.core.classes import ClassMap
from apiece.core.frame import Frame
from apiece.core.image import read_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import GeometryError, ModelError, UsageError
from apiece.models.card import METADATA_KEY, ModelCard
from apiece.models.contract import INPUT_NAME, OUTPUT_NAMES, Candidates
from apiece.models.decode import decode
from apiece.models.sam.prompts import (
    DECODER,
    ENCODER,
    INSIDE,
    LOWER_RIGHT,
    MASKS,
    NOTHING,
    OUTSIDE,
    PART_KEY,
    UPPER_LEFT,
)

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
RGB = npt.NDArray[np.uint8]


class Prompts:
    """P prompts in network input pixels, as the decoder takes them.

    points     (P, N, 2) float32, labels (P, N) int64; box corners are among them.
    previous   (P, m, n) float32 logits, has_previous (P,).
    ambiguous  (P,): a lone point, which may mean the whole, a part or a part of that.
    """

    def __init__(self, points: Float, labels: Int, previous: Float, has_previous: Bool) -> None:
        self.points, self.labels = points, labels
        self.previous, self.has_previous = previous, has_previous
        said = (labels != NOTHING).sum(axis=1)
        self.ambiguous: Bool = (said == 1) & ~has_previous

    def __len__(self) -> int:
        return len(self.points)


class PromptModel:
    """Two graphs written by `apiece.models.sam.to_onnx.write_prompt_graphs`.

    threads  within one run; None leaves it to onnxruntime (all cores).
    batch    most prompts decoded at once: bounds memory.
    raises   ModelError: a file is missing, not such a graph, or the two don't belong together.
    """

    def __init__(
        self, encoder: str | Path, decoder: str | Path, *, threads: int | None = None, batch: int = 64
    ) -> None:
        if batch < 1:
            raise UsageError(f"batch: expected at least 1, got {batch}")
        if threads is not None and threads < 1:
            raise UsageError(f"threads: expected at least 1, got {threads}")
        self.batch = batch
        self.encoder, self.card = _open(Path(encoder), ENCODER, threads)
        self.decoder, card = _open(Path(decoder), DECODER, threads)
        if card != self.card:
            raise ModelError(
                f"{encoder} and {decoder} are of different models ({self.card.name!r} and {card.name!r}, or their "
                "cards differ). Use two files that were written together."
            )
        self.maps = [output.name for output in self.encoder.get_outputs()]
        shapes = {i.name: i.shape for i in self.decoder.get_inputs()}
        if not set(self.maps) <= set(shapes):
            raise ModelError(f"{decoder}: doesn't take what {encoder} gives ({', '.join(self.maps)}).")
        self.mask_size = (int(shapes["previous"][1]), int(shapes["previous"][2]))

    def embed(self, picture: str | Path | RGB) -> Embedded:
        """A picture, ready for prompts: a path, or uint8 (H, W, 3) RGB of any size.

        raises  ImageError or GeometryError when the picture can't be used.
        """
        image = read_image(picture) if isinstance(picture, str | Path) else picture
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise GeometryError(
                f"expected a picture as uint8 (height, width, 3), RGB; got {np.shape(image)}."
            )
        frame = Frame.letterbox((image.shape[0], image.shape[1]), self.card.input_size)
        maps = self.encoder.run(self.maps, {INPUT_NAME: frame.apply(image)[None]})
        return Embedded(self, frame, dict(zip(self.maps, maps, strict=True)))

    def automatic(
        self,
        picture: str | Path | RGB,
        *,
        side: int = 32,
        iou: float = 0.88,
        stability: float = 0.95,
        offset: float = 1.0,
        nms: float = 0.7,
        min_area: int = 0,
        most: int = 300,
    ) -> Instances:
        """Every object of a picture, see `Embedded.automatic`."""
        return self.embed(picture).automatic(
            side=side, iou=iou, stability=stability, offset=offset, nms=nms, min_area=min_area, most=most
        )


class Embedded:
    """One picture's embedding."""

    def __init__(self, model: PromptModel, frame: Frame, maps: dict[str, Float]) -> None:
        self.model = model
        self.frame = frame
        self.maps = maps

    def segment(
        self,
        points: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        boxes: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        *,
        multimask: bool = False,
    ) -> Instances:
        """What the prompts mean; several prompts at once are answered each for itself.

        points     (N, 2) for one prompt or (P, N, 2): x, y pixel indices of the picture.
        labels     of the points, (N,) or (P, N): 1 on the object, 0 not on it, -1 no point, which fills up prompts of
                   fewer points; all 1 by default.
        boxes      (4,) or (P, 4): xyxy edges in the picture.
        mask       (m, n) or (P, m, n): logits of an earlier answer, its column "logits".
        multimask  three masks for each prompt, best first. Otherwise one: the best of three for a lone point, which
                   is ambiguous, else the answer of the token for clear prompts.
        returns    Instances whose scores are predicted IoU, with columns "prompt" (which prompt it answers) and
                   "logits" (m, n). A mask without a pixel is left out.
        raises     UsageError for prompts that cannot be meant.
        """
        prompts = self._prompts(points, labels, boxes, mask)
        three = np.full(len(prompts), multimask) | prompts.ambiguous
        scores, logits, owners = [], [], []
        for begin in range(0, len(prompts), self.model.batch):
            score, masks = self._run(prompts, slice(begin, begin + self.model.batch), three)
            count = MASKS if multimask else 1
            scores.append(score[:, :count].ravel())
            logits.append(masks[:, :count].reshape(-1, *masks.shape[2:]))
            owners.append(np.repeat(np.arange(begin, begin + len(score)), count))
        every = np.concatenate(logits)
        masks_found, index = self._cut(every)
        return Instances(
            self.frame.size,
            masks_found,
            np.zeros(len(index), dtype=np.int64),
            np.concatenate(scores)[index],
            classes=self.model.card.classes,
            columns={"prompt": np.concatenate(owners)[index], "logits": every[index]},
        )

    def automatic(
        self,
        *,
        side: int = 32,
        iou: float = 0.88,
        stability: float = 0.95,
        offset: float = 1.0,
        nms: float = 0.7,
        min_area: int = 0,
        most: int = 300,
    ) -> Instances:
        """Every object of the picture, from a grid of points (arXiv 2304.02643, appendix B).

        side       points per side of the grid.
        iou        a mask counts when its predicted IoU is above this,
        stability  and its stability: the area of logits above +offset over the area above -offset.
        nms        of two masks that overlap by more than this IoU, the better one stays.
        min_area   fewest pixels of an object.
        most       objects; the result is `truncated` when there were more.
        raises     UsageError for numbers that cannot be meant.
        """
        if side < 1 or most < 1:
            raise UsageError(f"side and most: expected at least 1, got {side} and {most}")
        height, width = self.frame.size
        step = (np.arange(side) + 0.5) / side
        x, y = np.meshgrid(step * width - 0.5, step * height - 0.5)
        prompts = self._prompts(np.stack([x.ravel(), y.ravel()], axis=1)[:, None], None, None, None)
        three = np.ones(len(prompts), dtype=bool)
        found, scores = [Masks.empty(self.frame.size)], [np.zeros(0, dtype=np.float32)]
        for begin in range(0, len(prompts), self.model.batch):
            score, logits = self._run(prompts, slice(begin, begin + self.model.batch), three)
            certain = (logits > offset).sum(axis=(2, 3))
            possible = (logits > -offset).sum(axis=(2, 3))
            good = (score > iou) & (certain > stability * possible)
            masks, index = self._cut(logits[good])
            score = score[good][index]
            large = np.flatnonzero(masks.areas >= max(min_area, 1))
            # Within the chunk first, so that many points on one object don't keep many copies of it.
            kept = large[mask_nms(masks[large], score[large], nms)]
            found.append(masks[kept])
            scores.append(score[kept])
        every, score = Masks.concatenate(found), np.concatenate(scores)
        kept = mask_nms(every, score, nms)
        return Instances(
            self.frame.size,
            every[kept[:most]],
            np.zeros(min(len(kept), most), dtype=np.int64),
            score[kept[:most]],
            classes=self.model.card.classes,
            truncated=len(kept) > most,
        )

    def _run(self, prompts: Prompts, some: slice, three: Bool) -> tuple[Float, Float]:
        """Some of the prompts -> scores (p, 3), logits (p, 3, m, n)."""
        answer = self.model.decoder.run(
            [*OUTPUT_NAMES, "iou"],
            {
                **self.maps,
                "points": prompts.points[some],
                "point_labels": prompts.labels[some],
                "previous": np.ascontiguousarray(prompts.previous[some]),
                "has_previous": prompts.has_previous[some],
                "multimask": three[some],
            },
        )
        return answer[0], answer[3]

    def _cut(self, logits: Float) -> tuple[Masks, Int]:
        """Logits (n, m, n) -> masks on the picture, and which of the logits they are of: those with a pixel."""
        count = len(logits)
        if not count:
            return Masks.empty(self.frame.size), np.zeros(0, dtype=np.int64)
        # The label of each candidate is its number, so that it is known what `decode` left out.
        candidates = Candidates(
            np.ones((1, count), dtype=np.float32),
            np.arange(count)[None],
            np.zeros((1, count, 4), dtype=np.float32),
            logits[None],
            "image",
        )
        numbers = ClassMap(tuple(str(i) for i in range(count)))
        found = decode(candidates, 0, self.frame, numbers, threshold=0.5).instances
        return found.masks, found.class_ids

    def _prompts(
        self,
        points: npt.ArrayLike | None,
        labels: npt.ArrayLike | None,
        boxes: npt.ArrayLike | None,
        mask: npt.ArrayLike | None,
    ) -> Prompts:
        given: dict[str, npt.NDArray[Any]] = {}
        if points is not None:
            given["points"] = _batched("points", points, 3, (None, 2))
            shape = given["points"].shape[:2]
            kinds = np.ones(shape) if labels is None else _batched("labels", labels, 2, (shape[1],))
            if not np.isin(kinds, (NOTHING, OUTSIDE, INSIDE)).all():
                raise UsageError("labels: expected 1 (on the object), 0 (not on it) or -1 (no point)")
            given["labels"] = kinds
        elif labels is not None:
            raise UsageError("labels were given without points")
        if boxes is not None:
            given["boxes"] = _batched("boxes", boxes, 2, (4,))
            if (given["boxes"][:, 2:] < given["boxes"][:, :2]).any():
                raise UsageError("boxes: expected x1, y1, x2, y2 with x1 <= x2 and y1 <= y2")
        if mask is not None:
            given["mask"] = _batched("mask", mask, 3, self.model.mask_size)
        counts = {name: len(values) for name, values in given.items()}
        if not counts:
            raise UsageError("expected at least one prompt: points, boxes or a mask")
        if len(set(counts.values())) > 1:
            raise UsageError(f"expected as many of each, one for each prompt; got {counts}")
        count = next(iter(counts.values()))
        rows, kinds_of = [], []
        if "points" in given:
            rows.append(self.frame.to_input(given["points"]))
            kinds_of.append(given["labels"])
        if "boxes" in given:
            rows.append(self.frame.boxes_to_input(given["boxes"]).reshape(count, 2, 2))
            kinds_of.append(np.tile((UPPER_LEFT, LOWER_RIGHT), (count, 1)))
        else:
            rows.append(np.zeros((count, 1, 2)))
            kinds_of.append(np.full((count, 1), NOTHING))
        previous = given.get("mask")
        if previous is None:
            previous = np.broadcast_to(np.float32(0), (count, *self.model.mask_size))
        return Prompts(
            np.concatenate(rows, axis=1).astype(np.float32),
            np.concatenate(kinds_of, axis=1).astype(np.int64),
            previous.astype(np.float32, copy=False),
            np.full(count, mask is not None),
        )


def mask_nms(masks: Masks, scores: Float, iou: float) -> npt.NDArray[np.intp]:
    """Indices of the masks that stay, best first: each is dropped that overlaps a better one by more than `iou`."""
    order = np.argsort(-scores, kind="stable")
    overlap = masks.iou(masks).tocsr()
    dropped = np.zeros(len(masks), dtype=bool)
    kept = []
    for i in order:
        if dropped[i]:
            continue
        kept.append(i)
        row = slice(overlap.indptr[i], overlap.indptr[i + 1])
        dropped[overlap.indices[row][overlap.data[row] > iou]] = True
    return np.array(kept, dtype=np.intp)


def _batched(
    name: str, values: npt.ArrayLike, dimensions: int, trailing: tuple[int | None, ...]
) -> npt.NDArray[np.float64]:
    """As (P, …); one prompt may come without its first dimension."""
    array = np.asarray(values, dtype=np.float64)
    shape = array.shape
    if array.ndim == dimensions - 1:
        array = array[None]
    wanted = all(t is None or t == n for t, n in zip(trailing, array.shape[1:], strict=False))
    if array.ndim != dimensions or not wanted or 0 in array.shape:
        form = ", ".join("n" if n is None else str(n) for n in trailing)
        raise UsageError(f"{name}: expected shape ({form}) or (prompts, {form}), got {shape}")
    if not np.isfinite(array).all():
        raise UsageError(f"{name}: expected finite numbers")
    return array


def _open(path: Path, part: str, threads: int | None) -> tuple[onnxruntime.InferenceSession, ModelCard]:
    if not path.is_file():
        raise ModelError(f"{path}: no such model file.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class per failure, without a common one
        raise ModelError(
            f"{path}: not an ONNX model that onnxruntime can run ({' '.join(str(error).split())[:160]})."
        ) from None
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get(PART_KEY) != part or METADATA_KEY not in metadata:
        raise ModelError(
            f"{path}: expected the {part} of a promptable model; found {metadata.get(PART_KEY, 'another model')}. "
            "Write both with apiece.models.sam.to_onnx.write_prompt_graphs."
        )
    return session, ModelCard.from_json(metadata[METADATA_KEY], str(path))
