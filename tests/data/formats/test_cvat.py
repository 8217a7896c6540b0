"""CVAT for images 1.1: exact round trips, documents as CVAT writes them, hostile and damaged XML, memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import cvat
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

# As CVAT 2.x exports a task (docs.cvat.ai, "XML annotation format"), shortened.
EXPORT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id>
      <name>segmentation</name>
      <size>2</size>
      <mode>annotation</mode>
      <overlap>0</overlap>
      <labels>
        <label>
          <name>Größe &amp; &lt;2&gt;</name>
          <color>#fa3253</color>
          <type>any</type>
          <attributes>
            <attribute><name>quality</name><values>good</values></attribute>
          </attributes>
        </label>
        <label><name>cat</name></label>
        <label><name>1</name><type>points</type><parent>skeleton</parent></label>
      </labels>
      <segments><segment><id>4</id><start>0</start></segment></segments>
      <owner><username>admin</username></owner>
    </task>
    <dumped>2022-12-01 08:32:58+00:00</dumped>
  </meta>
  <!-- <image id="9" name="not.jpg" width="1" height="1"> -->
  <image id="0" name="ä/1.png" width="20" height="10">
    <mask label="cat" source="manual" occluded="0" rle="3, 5, 7, 5, 5, 3, 2" left="4" top="2" width="10" height="3"
      z_order="0">
    </mask>
    <polygon label="cat" source="manual" occluded="1" points="0.00,0.00;4.00,0.00;4.00,4.00" z_order="1" group_id="0">
      <attribute name="quality">good</attribute>
    </polygon>
    <polygon label="Größe &amp; &lt;2&gt;" points="1.0,1.0;3.0,1.0;3.0,3.0;1.0,3.0" group_id="7"></polygon>
    <box label="cat" occluded="0" xtl="5.0" ytl="5.0" xbr="9.0" ybr="7.0" z_order="0"></box>
    <polygon label="Größe &amp; &lt;2&gt;" points="11,1;13,1;13,3;11,3" group_id="7"></polygon>
    <polygon label="cat" points="15,5;16,5;16,6;15,6" group_id="7"></polygon>
    <ellipse label="cat" cx="10.0" cy="5.0" rx="3.0" ry="2.0" z_order="0"></ellipse>
    <box label="cat" rotation="90.0" xtl="4.0" ytl="4.0" xbr="12.0" ybr="6.0"></box>
    <polyline label="cat" points="1,1;2,2"></polyline>
    <points label="cat" points="1,1"></points>
    <tag label="cat"></tag>
  </image>
  <image id="1" name="2.png" width="8" height="6"/>
</annotations>
"""


def document(folder, content, name="annotations.xml"):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def shaped(element, size=(10, 20)):
    return (
        "<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label></labels></task></meta>"
        f'<image id="0" name="a.png" width="{size[1]}" height="{size[0]}">{element}'
        '<box label="cat" xtl="0" ytl="0" xbr="2" ybr="2"/></image></annotations>'
    )


def written(folder, scene, classes=CLASSES, name="a.png", split=""):
    target = cvat.TARGET(folder, classes)
    given = target.add(Picture(name, None, 1, scene.size, split), scene)
    target.finish()
    return given


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_what_is_written_is_read_back(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("cvat")
    name = written(folder, scene)
    source = cvat.open_source(folder)
    assert [(one.name, one.size) for one in source.pictures] == [(name, scene.size)]
    same(source.read(0), expected(scene, cvat.TARGET.holds), cvat.TARGET.holds)
    assert source.classes == CLASSES
    assert cvat.detect(folder)
    assert cvat.detect(folder / "annotations.xml")


def test_drawn_boxes_stay_boxes(tmp_path):
    masks = Masks.from_crops(
        [np.ones((2, 3), bool), np.ones((2, 3), bool)], np.array([[1, 1], [4, 2]]), (8, 8)
    )
    written(tmp_path, Instances((8, 8), masks, [0, 1], classes=CLASSES, columns={"box_mask": [True, False]}))
    objects = cvat.open_source(tmp_path).read(0)
    assert objects.masks == masks
    assert objects.columns["box_mask"].tolist() == [True, False]


# As CVAT 2.x exports a video task, shortened: every frame of a track is written, interpolated ones as keyframe="0".
VIDEO = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>5</id>
      <size>4</size>
      <mode>interpolation</mode>
      <start_frame>0</start_frame>
      <stop_frame>9</stop_frame>
      <frame_filter>step=3</frame_filter>
      <labels><label><name>car</name></label><label><name>sign</name></label></labels>
      <original_size><width>20</width><height>10</height></original_size>
    </task>
    <dumped>2022-12-01 08:32:58+00:00</dumped>
  </meta>
  <track id="0" label="sign" source="manual">
    <polygon frame="0" keyframe="1" outside="0" occluded="0" points="0,0;4,0;4,4;0,4" z_order="0">
      <attribute name="color">red</attribute>
    </polygon>
    <polygon frame="3" keyframe="0" outside="0" occluded="0" points="1,0;5,0;5,4;1,4" z_order="0">
    </polygon>
    <polygon frame="6" keyframe="1" outside="1" occluded="0" points="1,0;5,0;5,4;1,4" z_order="0">
    </polygon>
  </track>
  <track id="4" label="car" source="manual">
    <box frame="3" keyframe="1" outside="0" occluded="0" xtl="6.00" ytl="1.00" xbr="9.00" ybr="3.00" z_order="0">
    </box>
    <mask frame="6" keyframe="1" outside="0" rle="1, 3" left="2" top="3" width="2" height="2" z_order="0"></mask>
  </track>
  <track id="5" label="car"><points frame="6" keyframe="1" outside="0" points="1,1"/></track>
</annotations>
"""


def test_a_video(tmp_path):
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images/frame_000003.PNG", np.zeros((10, 20, 3), np.uint8))
    source = cvat.open_source(document(tmp_path, VIDEO))
    assert source.classes.names == ("car", "sign")
    assert [(one.name, one.size) for one in source.pictures] == [
        (f"frame_00000{number}", (10, 20)) for number in ("0.png", "3.PNG", "6.png", "9.png")
    ]
    assert source.pictures[1].path == tmp_path / "images/frame_000003.PNG"
    found = []
    frames = [source.read(i, found) for i in range(4)]
    assert [one.track_ids.tolist() for one in frames[:3]] == [[0], [0, 4], [4]]
    assert [one.class_ids.tolist() for one in frames] == [[1], [1, 0], [0], []]
    assert [one.masks.areas.tolist() for one in frames] == [[16], [16, 6], [3], []]
    assert frames[1].columns["box_mask"].tolist() == [False, True]
    assert frames[2].masks.to_dense()[0, 3:5, 2:4].tolist() == [[False, True], [True, True]]
    assert [(problem.file, problem.where, problem.left_out) for problem in found] == [
        (str(tmp_path / "annotations.xml"), 'frame_000006.png: points 2 ("car")', "the shape")
    ]
    assert cvat.detect(tmp_path)


def test_a_video_whose_shapes_lack_frames_and_tracks_ids(tmp_path):
    content = VIDEO.replace('mask frame="6"', 'mask frame="-6"').replace('id="4"', 'id="0"')
    path = document(tmp_path, content.replace("points frame", "points fame"))
    with pytest.raises(AnnotationError, match=r"annotations\.xml: track: 2 shapes have no frame"):
        cvat.open_source(path)
    source = cvat.open_source(path, strict=False)
    assert [problem.severity for problem in source.problems] == ["warning", "error"]
    assert [source.read(i).track_ids.tolist() for i in range(2)] == [[0], [0, 1]]
    path.write_text(content[: content.index("<track")] + "</annotations>")
    assert [len(cvat.open_source(path).read(i)) for i in range(4)] == [0, 0, 0, 0]


def test_names_that_xml_must_escape(tmp_path):
    classes = ClassMap(("a & b < c > \"d\" 'e'", " two\tspaces ", "line\nbreak\r", "]]>"))
    masks = Masks.from_dense(np.ones((4, 2, 2), bool))
    name = written(tmp_path, Instances((2, 2), masks, range(4), classes=classes), classes, 'ä & "b".png')
    source = cvat.open_source(tmp_path)
    assert source.classes == classes
    assert source.read(0).class_ids.tolist() == [0, 1, 2, 3]
    assert source.pictures[0].name == name == 'ä & "b".png'
    with pytest.raises(AnnotationError, match="a character that XML can't hold"):
        cvat.TARGET(tmp_path, ClassMap(("a\x01",)))


def test_pictures_are_copied_and_found_and_subsets_are_splits(tmp_path, rng):
    (tmp_path / "set").mkdir()
    write_image(tmp_path / "a.png", np.zeros((9, 7, 3), np.uint8))
    target = cvat.TARGET(tmp_path / "set", CLASSES)
    made = [random_scene(rng, (9, 7), count) for count in (3, 0)]
    for scene, name, split in zip(made, ("x/a.png", "y/a.png"), ("val", ""), strict=True):
        target.add(Picture(name, tmp_path / "a.png", 1, (9, 7), split), scene)
    target.finish()
    source = cvat.open_source(tmp_path / "set")
    assert [(one.name, one.split, one.path) for one in source.pictures] == [
        ("a.png", "val", tmp_path / "set/images/a.png"),
        ("a-2.png", "", tmp_path / "set/images/a-2.png"),
    ]
    for i, scene in enumerate(made):
        same(source.read(i), scene, cvat.TARGET.holds)
    assert cvat.open_source(tmp_path / "set", tmp_path).pictures[0].path == tmp_path / "a.png"


def test_an_export(tmp_path):
    source = cvat.open_source(document(tmp_path, EXPORT))
    assert source.classes.names == ("Größe & <2>", "cat")
    assert [(one.name, one.size) for one in source.pictures] == [("ä/1.png", (10, 20)), ("2.png", (6, 8))]
    found = []
    objects = source.read(0, found)
    names = [objects.classes.name_of(i) for i in objects.class_ids.tolist()]
    assert names == ["cat", "cat", "Größe & <2>", "cat", "cat", "cat", "cat"]
    mask = np.zeros((3, 10), bool)
    mask.reshape(-1)[[*range(3, 8), *range(15, 20), *range(25, 28)]] = True  # by the definition of its RLE
    assert np.array_equal(objects.masks[0].shift(-4, -2, (3, 10)).to_dense()[0], mask)
    assert objects.masks.areas[[1, 2, 3, 4]].tolist() == [
        10,
        8,
        8,
        1,
    ]  # the group of 7 is one object in two parts
    assert objects.columns["box_mask"].tolist() == [False, False, False, True, False, False, False]
    y, x = np.mgrid[:10, :20] + 0.5
    assert np.array_equal(objects.masks[5].to_dense()[0], ((x - 10) / 3) ** 2 + ((y - 5) / 2) ** 2 <= 1)
    assert objects.masks.boxes[6].tolist() == [7, 1, 9, 9]  # turned around its centre
    assert [(p.severity, p.where.rsplit(" ", 2)[0], p.left_out) for p in found] == [
        ("warning", f"ä/1.png: {kind}", "the shape") for kind in ("polyline", "points", "tag")
    ]
    assert len(source.read(1)) == 0
    assert cvat.detect(tmp_path)


def test_a_project_with_the_same_name_in_two_subsets(tmp_path):
    content = shaped("").replace("task>", "project>").replace('id="0"', 'id="0" subset="Train"')
    image = content[content.index("<image") : content.index("</annotations>")]
    content = content.replace("</annotations>", image.replace("Train", "Validation") + "</annotations>")
    source = cvat.open_source(document(tmp_path, content))
    assert [(one.name, one.split) for one in source.pictures] == [
        ("a.png", "train"),
        ("Validation/a.png", "val"),
    ]


def test_without_a_label_list_those_that_occur_are_classes(tmp_path):
    content = '<annotations><image name="a.png" width="4" height="4">'
    content += (
        '<box label="b" xtl="0" ytl="0" xbr="2" ybr="2"/><box label="a" xtl="0" ytl="0" xbr="2" ybr="2"/>'
    )
    source = cvat.open_source(document(tmp_path, content + "</image></annotations>"))
    assert source.classes.names == ("a", "b")
    assert source.read(0).class_ids.tolist() == [1, 0]


# ---- wrong data

BROKEN = [
    ('<polygon label="dog" points="0,0;1,0;1,1"/>', "the label 'dog', which the document doesn't list"),
    ('<polygon points="0,0;1,0;1,1"/>', "the label None"),
    ('<polygon label="cat" points="0,0;1,0"/>', "2 points; expected at least 3"),
    ('<polygon label="cat" points="0,0;1,x;3,3"/>', "points that aren't"),
    ('<polygon label="cat" points="0,0;1;3,3"/>', "not a list of pairs"),
    ('<polygon label="cat"/>', "points that aren't"),
    ('<polygon label="cat" points="0,0;nan,1;3,3"/>', "not a finite number"),
    ('<polygon label="cat" points="50,50;60,50;60,60"/>', "lies outside its picture"),
    ('<box label="cat" xtl="1" ytl="x" xbr="2" ybr="2"/>', "ytl 'x'; expected a finite number"),
    ('<box label="cat" xtl="1" ytl="1" xbr="inf" ybr="2"/>', "xbr 'inf'; expected a finite number"),
    ('<box label="cat" xtl="1" ytl="1" xbr="2" ybr="2" rotation="inf"/>', "rotation 'inf'"),
    ('<ellipse label="cat" cx="1" cy="1" rx="1e999" ry="2"/>', "rx '1e999'"),
    ('<ellipse label="cat" cx="1" cy="1" rx="1e300" ry="2"/>', "not a finite number within"),
    ('<ellipse label="cat" cx="1" cy="1" rx="0" ry="2"/>', "radii 0 and 2"),
    ('<mask label="cat" rle="1,3" left="0" top="0" width="2" height="3"/>', "sum to 4; .* = 6"),
    ('<mask label="cat" rle="-2,8" left="0" top="0" width="2" height="3"/>', "not negative"),
    ('<mask label="cat" rle="a" left="0" top="0" width="2" height="3"/>', "isn't a list of whole numbers"),
    ('<mask label="cat" rle="6" left="19" top="0" width="2" height="3"/>', "expected a place in the picture"),
    ('<mask label="cat" rle="0,1" left="0" top="0" width="99999999" height="99999999"/>', "expected a place"),
    ('<mask label="cat" rle="6" top="0" width="2" height="3"/>', "no left, top, width and height"),
    ('<spline label="cat"/>', "a kind that isn't known"),
]


@pytest.mark.parametrize("element, message", BROKEN)
def test_a_shape_that_is_none(tmp_path, element, message):
    source = cvat.open_source(document(tmp_path, shaped(element)))
    tag = element[1:].split()[0]
    with pytest.raises(AnnotationError, match=rf"annotations\.xml: a\.png: {tag} 0.*{message}.*Remedy"):
        source.read(0)
    found = []
    assert len(source.read(0, found)) == 1
    assert [(problem.severity, problem.left_out) for problem in found] == [("error", "the object")]


def test_many_huge_masks_in_few_bytes_are_refused_before_they_are_made(tmp_path):
    side = 60_000
    element = f'<mask label="cat" rle="0,{side * side}" left="0" top="0" width="{side}" height="{side}"/>'
    source = cvat.open_source(document(tmp_path, shaped(element, (side, side))))
    with pytest.raises(AnnotationError, match="crop pixels"):
        source.read(0)
    empty = f'<mask label="cat" rle="{side * side}" left="0" top="0" width="{side}" height="{side}"/>'
    source = cvat.open_source(document(tmp_path, shaped(empty * 50, (side, side))))
    assert source.read(0).masks.areas.tolist() == [0] * 50 + [4]


IMAGE = "<image name='a.png' width='4' height='4'/>"
LONG = "<mode>interpolation</mode><size>9999999</size>"


@pytest.mark.parametrize(
    "content, message",
    [
        (EXPORT[:900], "damaged or breaks off"),
        (EXPORT[:-20], "damaged or breaks off"),
        ("", "damaged or breaks off"),
        ("not XML", "damaged or breaks off"),
        ("<annotation><filename>a.jpg</filename></annotation>", "begins with <annotation>"),
        (f"<annotations>{IMAGE}<track id='0' label='car'/></annotations>", "holds both"),
        (f"<annotations><track id='0' label='car'/>{IMAGE}</annotations>", "holds both"),
        (
            "<annotations><meta><project/></meta><track id='0' label='car'/></annotations>",
            "is a project exported",
        ),
        (f"<annotations><meta><task>{LONG}</task></meta></annotations>", "is of frames 0 to 9999998"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations>&x;</annotations>', "document type or entities"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "document type or entities"),
        ('<?xml version="1.0" encoding="utf-16"?><annotations/>', "is in utf-16; expected UTF-8"),
        ("<annotations>" + "<a>" * 5000 + "</a>" * 5000 + "</annotations>", "32 deep within each other"),
    ],
)
def test_documents_that_are_none(tmp_path, content, message):
    path = document(tmp_path, content)
    with pytest.raises(AnnotationError, match=rf"annotations\.xml: .*{message}.*Remedy"):
        cvat.open_source(path)


def test_pictures_without_name_or_size_or_twice(tmp_path):
    images = [
        'name="a.png" width="4" height="4"',
        'name="a.png" width="4" height="4"',
        'name="" width="4" height="4"',
        'name="b.png" width="0" height="4"',
        'name="c.png" width="99999999999" height="99999999999"',
        'name="../../d.png" width="4" height="4"',
        'name="C:\\pics\\e.png" width="4" height="4"',
    ]
    content = "<annotations>" + "".join(f"<image {text}/>" for text in images) + "</annotations>"
    path = document(tmp_path, content)
    with pytest.raises(AnnotationError, match=r"image 1: \(a\.png\) stands twice"):
        cvat.open_source(path)
    source = cvat.open_source(path, strict=False)
    assert [one.name for one in source.pictures] == ["a.png", "d.png", "e.png"]
    assert [problem.where for problem in source.problems] == ["image 1", "image 2", "image 3", "image 4"]


def test_pictures_outside_are_not_found(tmp_path):
    write_image(tmp_path / "d.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "set").mkdir()
    content = (
        f'<annotations><image name="../d.png" width="4" height="4"/><image name="{tmp_path}/d.png" width="4" '
    )
    path = document(tmp_path / "set", content + 'height="4" subset=".."/></annotations>')
    assert [one.path for one in cvat.open_source(path, strict=False).pictures] == [None]


def test_a_file_that_changed_after_it_was_opened(tmp_path):
    path = document(tmp_path, EXPORT)
    source = cvat.open_source(path)
    path.write_text("<annotations>" + " " * 3000 + "</annotations>")
    with pytest.raises(AnnotationError, match="has changed since it was opened"):
        source.read(0)


def test_a_picture_of_another_size_than_stated(tmp_path):
    write_image(tmp_path / "2.png", np.zeros((8, 6, 3), np.uint8))
    source = cvat.open_source(document(tmp_path, EXPORT))
    with pytest.raises(AnnotationError, match="sides are swapped"):
        source.read(1)


def test_neighbours_are_not_taken_for_it(tmp_path):
    assert not cvat.detect(document(tmp_path, "<annotation><folder>a</folder></annotation>", "voc.xml"))
    assert not cvat.detect(document(tmp_path, '<?xml version="1.0"?><annotations count="3"/>', "other.xml"))
    assert not cvat.detect(document(tmp_path, EXPORT, "text.txt"))
    assert not cvat.detect(tmp_path / "nothing.xml")
    assert not cvat.detect(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        cvat.open_source(tmp_path)
