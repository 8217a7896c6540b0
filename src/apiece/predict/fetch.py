"""Published weights: fetched when their user asks for them by name, checked, and converted once.

Everything lies under one folder, `home()`:

    weights/<name>/<file>        the authors' file, as fetched, or put there by hand
    models/<name>/<name>.onnx    the converted graph with its card; needs no torch from then on
    models/<name>-prompt/        encoder.onnx and decoder.onnx of a promptable model

A model of more than 2 GiB, which no single ONNX file can hold, is kept as weights.safetensors and card.json instead
and runs in torch; so is one whose graph fails the proof of equality. What is there under its final name is whole:
files and folders are renamed when they are finished.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from apiece.errors import ExportError, ModelError, WeightsError
from apiece.models.card import ModelCard
from apiece.models.published import Published

if TYPE_CHECKING:
    from apiece.models.network import Network

LARGEST = 400.0
"""Millions of float32 parameters that one ONNX file holds for sure."""

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "coins.png")

NEEDED = ("torch", "torchvision", "timm", "safetensors", "huggingface_hub", "onnx", "onnxscript")


def home() -> Path:
    """$APIECE_HOME, else $XDG_CACHE_HOME/apiece, else ~/.cache/apiece."""
    own = os.environ.get("APIECE_HOME")
    if own:
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache") / "apiece"


def fetched(entry: Published) -> Path:
    """The converted model: an .onnx file, or a folder with weights.safetensors and card.json.

    Downloads and converts when it isn't there yet, and then prints origin and licence on stderr.
    raises  WeightsError when the file can't be fetched, or isn't what it should be; ModelError when the conversion
            needs a package that is not installed.
    """
    folder = home() / "models" / entry.name
    if not folder.is_dir():
        _refuse_without_packages(entry)
        _convert(entry, checkpoint(entry), folder)
    graph = folder / f"{entry.name}.onnx"
    return graph if graph.is_file() else folder


def fetched_prompt(entry: Published) -> tuple[Path, Path]:
    """Encoder and decoder of a promptable model, as `apiece.predict.prompt.PromptModel` takes them.

    raises  as `fetched`; ModelError too when the model isn't promptable, or its encoder too large for an ONNX file.
    """
    if entry.family != "sam":
        raise ModelError(f"{entry.name}: takes no prompts; expected a model of the family sam.")
    if entry.parameters > LARGEST:
        raise ModelError(
            f"{entry.name}: its encoder is larger than an ONNX file may be (2 GiB). Use sam-vit-l, or load it by name "
            "for the automatic mode."
        )
    folder = home() / "models" / f"{entry.name}-prompt"
    if not folder.is_dir():
        _refuse_without_packages(entry)
        _convert_prompt(entry, checkpoint(entry), folder)
    return folder / "encoder.onnx", folder / "decoder.onnx"


def _refuse_without_packages(entry: Published) -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"{entry.name}: converting published weights needs {missing[0]}. Run: pip install 'apiece[train]'"
        )


def checkpoint(entry: Published) -> Path:
    """The authors' file, its checksum compared; downloaded if it isn't there.

    raises  WeightsError, in one sentence that says what to fetch and where to put it.
    """
    path = home() / "weights" / entry.name / entry.file
    _say(f"{entry.name}: weights of {entry.origin}, {entry.page}. Licence: {entry.licence}.")
    if entry.forbids:
        _say(f"{entry.name}: {entry.forbids}")
    if path.is_file():
        _verify(entry, path, entry.checksum, "Delete it and load the model again.")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    size = f" ({entry.megabytes:,.0f} MB)" if entry.megabytes else ""
    _say(f"{entry.name}: fetching {entry.address}{size} to {path}")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as part:
        try:
            file, published = (
                _from_hub(entry, Path(part)) if entry.repository else _from_url(entry, Path(part))
            )
        except Exception as error:  # urllib, ssl, sockets and the hub client raise many kinds
            reason = " ".join(str(error).split())[:160]
            check = f" ({entry.checksum})" if entry.checksum else ""
            raise WeightsError(
                f"{entry.name}: the download failed ({type(error).__name__}: {reason}); fetch {entry.address}{check} "
                f"on a machine with network, put it at {path}, and load the model again."
            ) from None
        for checksum in (entry.checksum, published):
            _verify(
                entry, file, checksum, "The transfer was damaged, or the file was replaced; nothing was kept."
            )
        file.replace(path)
    return path


def _from_url(entry: Published, folder: Path) -> tuple[Path, str | None]:
    from apiece.models.checkpoints import download

    download(entry.address, folder / entry.file)
    return folder / entry.file, None


def _from_hub(entry: Published, folder: Path) -> tuple[Path, str | None]:
    """The file, and the SHA-256 that the hub states for it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download

    assert entry.repository is not None
    stated = get_hf_file_metadata(entry.address).etag
    path = Path(hf_hub_download(entry.repository, entry.file, local_dir=folder))
    # Small files have a git hash of 40 digits instead.
    return path, f"sha256:{stated}" if stated and len(stated) == 64 else None


def _verify(entry: Published, path: Path, checksum: str | None, remedy: str) -> None:
    """raises  WeightsError when the file's digest does not begin as it should."""
    if checksum is None:
        return
    kind, _, expected = checksum.partition(":")
    make: Callable[[], hashlib._Hash] = {"sha256": hashlib.sha256, "md5": hashlib.md5}[kind]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, make).hexdigest()
    if not found.startswith(expected):
        raise WeightsError(
            f"{path}: {kind} begins {found[: max(len(expected), 8)][:16]}, the one of {entry.name} {expected[:16]}. "
            + remedy
        )


def _convert(entry: Published, path: Path, folder: Path) -> None:
    """The authors' file -> one graph, or a run's folder, in `folder`: all of it or nothing."""
    from apiece.deploy.export import export
    from apiece.models.checkpoints import network_of
    from apiece.train.checkpoint import save_weights

    net = network_of(entry, path)
    with _whole(entry, folder) as part:
        run, result = part / "run", part / "result"
        run.mkdir()
        save_weights(run / "weights.safetensors", net)
        (run / "card.json").write_text(card_of(entry, net).to_json(), encoding="utf-8")
        if entry.parameters > LARGEST:
            _say(f"{entry.name}: too large for one ONNX file, so it runs in torch")
            run.rename(result)
            return
        result.mkdir()
        try:
            export(run, result / f"{entry.name}.onnx", images=_pictures(part))
        except ExportError as error:
            _say(f"{entry.name}: its graph does not equal the network here, so it runs in torch. {error}")
            result.rmdir()
            run.rename(result)


def _convert_prompt(entry: Published, path: Path, folder: Path) -> None:
    """The authors' file -> two graphs in `folder`."""
    from apiece.models.checkpoints import network_of
    from apiece.models.sam.net import SAM
    from apiece.models.sam.to_onnx import write_prompt_graphs

    net = network_of(entry, path)
    assert isinstance(net, SAM)
    with _whole(entry, folder) as part:
        result = part / "result"
        result.mkdir()
        write_prompt_graphs(net, card_of(entry, net), result / "encoder.onnx", result / "decoder.onnx")


@contextmanager
def _whole(entry: Published, folder: Path) -> Iterator[Path]:
    """A working folder whose "result" becomes `folder` at the end, unless the work breaks off."""
    _say(f"{entry.name}: converting, once; this takes some minutes")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part:
        yield Path(part)
        try:
            (Path(part) / "result").rename(folder)
        except OSError:
            # Another process was faster; its folder is as good.
            if not folder.is_dir():
                raise


def card_of(entry: Published, net: Network) -> ModelCard:
    """The card of a converted network: what its licence forbids is its first note."""
    return ModelCard(
        name=entry.name,
        family=entry.family,
        builder=entry.builder,
        classes=entry.classes,
        input_size=entry.input_size,
        mask_frame=net.mask_frame,
        boxes_from=net.boxes_from,
        box_masks=net.box_masks,
        threshold=entry.threshold,
        licence=entry.licence,
        origin=f"{entry.origin}, {entry.address}",
        data=entry.data,
        metrics={f"{name} (authors' figure)": value for name, value in entry.figures.items()},
        notes=(*((entry.forbids,) if entry.forbids else ()), *entry.notes),
    )


def _pictures(folder: Path) -> Path | None:
    """Pictures with a person, a cat, a cup and coins, which scikit-image ships, so that the proof compares objects."""
    spec = find_spec("skimage")
    shipped = Path(spec.origin if spec and spec.origin else "").parent / "data"
    chosen = [path for name in PICTURES if (path := shipped / name).is_file()]
    if not chosen:
        return None
    (folder / "pictures").mkdir()
    for path in chosen:
        shutil.copy(path, folder / "pictures")
    return folder / "pictures"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
