"""Hostile and broken annotations of every format: a sentence or a Problem, never a traceback, never a silent loss."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apiece.core.image import write_image
from apiece.data.formats import FORMATS, Picture, format_of
from apiece.errors import ApieceError, DataError
from format_scenes import CLASSES, expected, random_scene

BY_LINES = ("yolo", "mots")  # nothing tells how many lines, or points of an outline, should follow


def written(folder, name, seed=0, count=4):
    """A set of two pictures in one format."""
    rng = np.random.default_rng(seed)
    out = folder / name
    out.mkdir(parents=True)
    target = format_of(name).TARGET(out, CLASSES)
    scenes = [random_scene(rng, (20, 30), count), random_scene(rng, (31, 17), count)]
    for number, scene in enumerate(scenes, start=1):
        path = folder / f"p{number}.png"
        write_image(path, rng.integers(0, 255, (*scene.size, 3), np.uint8))
        target.add(Picture(path.name, path, number, scene.size), scene)
    target.finish()
    return out, [expected(scene, target.holds) for scene in scenes]


def annotation_files(folder):
    """All files that aren't copies of the photographs."""
    copies = {(folder.parent / name).read_bytes() for name in ("p1.png", "p2.png")}
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.read_bytes() not in copies]


def read_all(name, folder):
    """Objects that can be read, and everything that was said about the others."""
    said, objects = [], 0
    try:
        source = format_of(name).open_source(folder, strict=False)
    except ApieceError as error:
        return 0, [str(error)]
    said += [str(problem) for problem in source.problems]
    for index in range(len(source.pictures)):
        found = []
        try:
            objects += len(source.read(index, found))
        except DataError as error:
            said.append(str(error))
        said += [str(problem) for problem in found]
    return objects, said


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_breaks_off_is_said(tmp_path_factory, name, data):
    folder, scenes = written(tmp_path_factory.mktemp("cut"), name)
    file = data.draw(st.sampled_from(annotation_files(folder)))
    whole = file.read_bytes()
    file.write_bytes(whole[: data.draw(st.integers(0, max(len(whole) - 2, 0)))])
    objects, said = read_all(name, folder)
    assert said or objects == sum(map(len, scenes)) or (name in BY_LINES and file.suffix == ".txt")


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_never_give_a_traceback(tmp_path_factory, name, data):
    folder, _ = written(tmp_path_factory.mktemp("flip"), name)
    file = data.draw(st.sampled_from(annotation_files(folder)))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content))
    read_all(name, folder)
    format_of(name).detect(folder)


@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_that_is_gone_or_of_another_size_is_said(tmp_path, name):
    folder, scenes = written(tmp_path, name)
    copy = (tmp_path / "p1.png").read_bytes()
    photographs = [path for path in folder.rglob("*") if path.is_file() and path.read_bytes() == copy]
    assert len(photographs) == 1
    write_image(photographs[0], np.zeros((9, 9, 3), np.uint8))
    source = format_of(name).open_source(folder, strict=False)
    index = next(i for i, picture in enumerate(source.pictures) if picture.path == photographs[0])
    stated = source.pictures[index].size is not None
    found = []
    if stated:
        with pytest.raises(DataError, match="9 x 9"):
            source.size(index)
    else:
        try:
            objects = source.read(index, found)
        except DataError as error:
            found.append(str(error))
        else:  # outlines in pixels, whose picture nobody states: they reach beyond it, or are cut
            assert found or objects.size == (9, 9)
    photographs[0].unlink()
    objects, said = read_all(name, folder)
    assert said or objects == sum(map(len, scenes))
