import copy
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

pytest.importorskip("ai_edge_litert")

from selfmm_hf.model import face_landmarks_selfmm
from selfmm_hf.model.face_landmarks_selfmm import (
    EYE_CORNERS,
    MODEL_FILES,
    POINTS,
    SURE_PRESENCE,
    Detection,
    Face,
    FaceLandmarker,
    Region,
    detector_anchors,
    merge_overlapping,
    region_of_landmarks,
    sample,
    speaker_first,
    tiles,
)

MODELS = Path(face_landmarks_selfmm.__file__).with_name("face_networks")
BACKGROUND = (90, 110, 130)


def draw_face(smile=0.0, opening=0.0, brows=0.0, size=256):
    """
    A face that the detector takes for one (score 0.92): (size, size, 3) uint8, face from 20 to 80 % of the width.

    `smile` in [-1, 1] bends the mouth, `opening` in [0, 1] opens it, `brows` in [-1, 1] raises the brows.
    """
    scale = size / 256
    image = Image.new("RGB", (size, size), BACKGROUND)
    draw = ImageDraw.Draw(image)

    def ellipse(x, y, width, height, colour):
        draw.ellipse([scale * (x - width), scale * (y - height), scale * (x + width), scale * (y + height)], colour)

    def line(points, width, colour):
        width = max(1, round(scale * width))
        draw.line([(scale * x, scale * y) for x, y in points], fill=colour, width=width, joint="curve")

    hair, skin = (60, 40, 30), (224, 172, 140)
    draw.rectangle([scale * 104, scale * 190, scale * 152, size], fill=(200, 150, 120))
    ellipse(128, 112, 66, 78, hair)
    ellipse(128, 128, 56, 74, skin)
    for side in (-1, 1):
        x = 128 + 24 * side
        ellipse(x, 112, 13, 9, (190, 140, 112))
        ellipse(x, 113, 11, 6, (245, 245, 245))
        ellipse(x, 113, 5, 6, hair)
        line([(x - 12, 112), (x - 6, 107), (x + 6, 107), (x + 12, 112)], 2, (70, 40, 30))
        line([(x - 13 * side, 95 - 8 * brows), (x, 92 - 8 * brows), (x + 14 * side, 97 - 8 * brows)], 5, hair)
    line([(124, 112), (120, 140), (128, 146), (136, 140), (132, 112)], 2, (200, 145, 115))
    ellipse(121, 144, 3, 2, (150, 100, 80))
    ellipse(135, 144, 3, 2, (150, 100, 80))
    across = np.linspace(-1, 1, 21)
    middle = 1 - across**2
    x, ends = 128 + 22 * across, 170 - 8 * smile * across**2
    upper, lower = ends - (2 + 3 * opening) * middle, ends + (4 + 14 * opening) * middle
    for top, bottom, colour in ((upper - 5 * middle, lower + 6 * middle, (180, 80, 80)), (upper, lower, (60, 20, 20))):
        outline = [*zip(x, top, strict=True), *zip(x[::-1], bottom[::-1], strict=True)]
        draw.polygon([(scale * a, scale * b) for a, b in outline], fill=colour)
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(scale)), dtype=np.float64)
    y, x = np.mgrid[:size, :size] / scale
    light = 1.1 - 0.35 * (((x - 120) / 70) ** 2 + ((y - 118) / 95) ** 2).clip(0, 1)
    return (pixels * light[..., None]).clip(0, 255).astype(np.uint8)


def resized(frame, width, height):
    return np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


def turned(frame, degrees):
    """Anticlockwise."""
    return np.array(Image.fromarray(frame).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=BACKGROUND))


def placed(canvas, face, x, y):
    canvas = canvas.copy()
    canvas[y : y + len(face), x : x + len(face)] = face
    return canvas


def apart(one, other):
    """Mean distance of landmarks in the picture over the distance of the outer corners of the eyes."""
    eyes = np.linalg.norm(other[EYE_CORNERS[0], :2] - other[EYE_CORNERS[1], :2])
    return np.linalg.norm(one[:, :2] - other[:, :2], axis=1).mean() / eyes


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker(MODELS)


@pytest.fixture(scope="module")
def frame():
    return draw_face()


def test_a_drawn_face_is_found_where_it_was_drawn(landmarker, frame):
    (detection,) = landmarker.detect(frame)
    assert detection.score > 0.8
    np.testing.assert_allclose(detection.points[:2] * 256, [[104, 112], [152, 112]], atol=6)  # eyes
    face = landmarker(frame)
    assert face.landmarks.shape == (POINTS, 3) and face.landmarks.dtype == np.float32 and face.presence > 0.9
    pixels = face.landmarks * 256
    np.testing.assert_allclose(pixels[[33, 133, 362, 263], :2].mean(axis=0), [128, 112], atol=5)  # between the eyes
    np.testing.assert_allclose(pixels[[13, 14], :2].mean(axis=0), [128, 171], atol=6)  # mouth
    np.testing.assert_allclose(pixels[152, :2], [128, 202], atol=8)  # chin
    assert face.landmarks[1, 2] < face.landmarks[[234, 454], 2].min()  # the nose is nearer than the ears


@pytest.mark.parametrize("width, height", [(48, 48), (128, 128), (1024, 1024), (320, 240), (240, 427)])
def test_size_of_the_frame(landmarker, frame, width, height):
    expected = landmarker(frame).landmarks
    side = min(width, height)
    x, y = (width - side) // 2, (height - side) // 2
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    found = landmarker(placed(canvas, resized(frame, side, side), x, y)).landmarks
    assert apart((found * width - [x, y, 0]) / side, expected) < (0.05 if side > 100 else 0.1)


@pytest.mark.parametrize("degrees", [-150, -120, -90, -60, -30, 30, 60, 90, 120, 150, 180])
def test_a_tilted_head(landmarker, frame, degrees):
    expected, found = landmarker(frame).landmarks, landmarker(turned(frame, degrees)).landmarks
    angle = math.radians(degrees)
    back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    assert apart((found[:, :2] - 0.5) @ back + 0.5, expected) < 0.05


def test_a_grey_picture(landmarker, frame):
    grey = frame.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    assert apart(landmarker(grey).landmarks, landmarker(frame).landmarks) < 0.05


def test_a_huge_frame(landmarker, frame):
    canvas = placed(np.full((4320, 7680, 3), 128, np.uint8), resized(frame, 2048, 2048), 3000, 1000)
    assert apart((landmarker(canvas).landmarks * 7680 - [3000, 1000, 0]) / 2048, landmarker(frame).landmarks) < 0.05


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 3), (16, 16), (240, 320)])
def test_nothing_is_seen_where_there_is_no_face(landmarker, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for empty in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        assert landmarker(empty) is None
        assert landmarker.mesh(empty, Region(0.0, 0.0, 0.0, 0.0)) is None
        assert landmarker.mesh(empty, Region(math.nan, 0.0, 10.0, 0.0)) is None


def test_frames_without_a_face_are_none_and_the_face_is_found_again(landmarker, frame):
    empty = np.full_like(frame, 128)
    aside = placed(np.full((256, 512, 3), BACKGROUND, np.uint8), frame, 256, 0)  # also another size of frame
    faces = list(landmarker.track([empty, frame, empty, empty, frame, aside]))
    assert [face is not None for face in faces] == [False, True, False, False, True, True]
    np.testing.assert_array_equal(faces[1].landmarks, landmarker(frame).landmarks)
    assert apart(faces[4].landmarks, faces[1].landmarks) < 0.03
    assert apart(faces[5].landmarks * 2 - [1, 0, 0], faces[1].landmarks) < 0.05


def test_the_detector_runs_only_where_no_face_is_followed(landmarker, frame, monkeypatch):
    calls = []
    monkeypatch.setattr(
        landmarker, "detect", lambda *given: calls.append(1) or FaceLandmarker.detect(landmarker, *given)
    )
    faces = list(landmarker.track([np.roll(frame, shift, axis=1) for shift in range(0, 40, 4)]))
    assert all(faces) and len(calls) == 1
    moved = [face.landmarks[:, 0].mean() * 256 for face in faces]
    np.testing.assert_allclose(np.diff(moved), 4, atol=1.5)


def test_the_speaker_is_the_large_face_in_the_middle_and_is_kept(landmarker, frame):
    canvas = np.full((256, 512, 3), BACKGROUND, np.uint8)
    behind = placed(canvas, resized(frame, 110, 110), 5, 20)
    both = placed(behind, frame, 128, 0)
    assert len(landmarker.detect(both)) == 2
    first, small = landmarker(both), landmarker(behind)
    noses = [face.landmarks[1, 0] * 512 for face in (first, small)]
    np.testing.assert_allclose(noses, [256, 60], atol=10)
    for face, nose in zip((first, small), noses, strict=True):
        assert landmarker(both, face).landmarks[1, 0] * 512 == pytest.approx(nose, abs=5)  # each is kept


def test_points_that_lie_the_wrong_way_round_are_no_face(landmarker):
    """The mesh network finds a face in one that is upside down, and is nearly sure of it."""
    upside_down = turned(draw_face(smile=0.5, opening=0.3), 180)
    expected = landmarker(upside_down)
    region = region_of_landmarks(expected.landmarks * 256)
    region = region._replace(angle=0.0, y=region.y + 20)
    wrong = landmarker.mesh(upside_down, region)
    assert 0.9 < wrong.presence < SURE_PRESENCE < expected.presence
    found = landmarker.look(upside_down, region)
    assert apart(found.landmarks, expected.landmarks) < 0.03 < 1 < apart(wrong.landmarks, expected.landmarks)
    assert apart(landmarker(upside_down, wrong).landmarks, expected.landmarks) < 0.03  # nor is it followed


def small_face(frame, size, x, y):
    """In a picture of 960 x 540: `size` is the width of the face over that of the picture."""
    side = round(size * 960 / 0.44)
    return placed(np.full((540, 960, 3), BACKGROUND, np.uint8), resized(frame, side, side), x, y)


@pytest.mark.parametrize("x, y", [(20, 10), (430, 210), (800, 400)])
def test_a_small_face_is_searched_in_parts_of_the_picture(landmarker, frame, x, y):
    picture = small_face(frame, 0.06, x, y)
    assert landmarker.find(picture) is None
    side = round(0.06 * 960 / 0.44)
    found = landmarker(picture).landmarks
    assert apart((found * 960 - [x, y, 0]) / side, landmarker(frame).landmarks) < 0.1
    assert all(landmarker.track([picture] * 2))


def test_tiles_overlap_so_that_each_small_face_is_whole_in_one():
    for height, width in ((540, 960), (960, 540), (480, 640), (100, 100), (100, 1900)):
        regions, side = tiles(np.zeros((height, width, 3), np.uint8)), max(height, width) / 3
        assert len(regions) <= 25 and {region.side for region in regions} == {side}
        for x, y in np.random.default_rng(0).uniform(0, [width, height], (50, 2)):
            x, y = (
                np.clip(place, side / 4, max(length - side / 4, length / 2))
                for place, length in ((x, width), (y, height))
            )
            assert any(max(abs(region.x - x), abs(region.y - y)) <= side / 4 + 1e-6 for region in regions)


def test_a_search_is_rare_and_ends_with_the_first_face(landmarker, frame, monkeypatch):
    number, searched = 0, []
    monkeypatch.setattr(landmarker, "search", lambda one: searched.append(number))
    empty = np.full_like(frame, 128)
    tracked = landmarker.track([empty] * 21 + [frame] + [empty] * 21)
    for number in range(43):  # noqa: B007
        next(tracked)
    assert searched == [0, 10, 20]


def test_a_small_face_gives_way_to_one_that_is_seen_in_the_whole_picture(landmarker, frame):
    small = small_face(frame, 0.06, 20, 10)
    both = placed(small, frame, 500, 150)
    faces = list(landmarker.track([small, small, both, both, small, None, small]))
    assert [face and round(float(face.landmarks[1, 0]), 1) for face in faces] == [0.1, 0.1, 0.7, 0.7, None, None, None]


def test_rings_and_clouds_are_no_faces(landmarker):
    y, x = np.mgrid[:240, :320]
    rings = 128 + 127 * np.sin(np.hypot(x - 160, y - 120) / 9)
    random = np.random.default_rng(0)
    for size in (8, 20, 40):
        cloud = (128 + 60 * random.normal(size=(240 // size, 320 // size, 3))).clip(0, 255).astype(np.uint8)
        assert landmarker(np.array(Image.fromarray(cloud).resize((320, 240), Image.Resampling.BICUBIC))) is None
    assert landmarker(rings.astype(np.uint8)[..., None].repeat(3, axis=2)) is None


def test_looks_again_where_the_face_has_moved(landmarker, frame):
    before, region = landmarker(frame), None
    shifted = np.roll(frame, (25, -30), axis=(0, 1))
    region = region_of_landmarks(before.landmarks * 256)
    expected = landmarker(shifted).landmarks
    once, settled = landmarker.mesh(shifted, region).landmarks, landmarker.look(shifted, region).landmarks
    assert apart(settled, expected) < 0.03 < apart(once, expected)
    nowhere = Region(20.0, 20.0, 30.0, 0.0)
    assert landmarker.look(frame, nowhere) is None


def test_order_of_faces():
    points = np.zeros((6, 2))
    middle = Detection(0.5, 0.4, 0.2, 0.2, points, 0.8)
    corner, small = middle._replace(x=0.1, y=0.1), middle._replace(width=0.1)
    unsure, large = middle._replace(score=0.5), corner._replace(x=0.3, width=0.9)
    assert speaker_first([small, corner, unsure, middle], 0.8) == [middle, unsure, small, corner]
    assert speaker_first([middle, large], 0.8) == [large, middle]
    landmarks = np.zeros((POINTS, 3), np.float32)
    landmarks[0, :2] = 0.2  # a face around (0.1, 0.1)
    assert speaker_first([middle, corner], 0.8, Face(landmarks, 1.0)) == [corner, middle]


def test_same_frames_same_landmarks(landmarker):
    frames = [draw_face(smile=smile) for smile in np.linspace(-1, 1, 5)]
    once, again = list(landmarker.track(frames)), list(landmarker.track(iter(frames)))
    other = list(FaceLandmarker(MODELS).track(frames))
    for copied in (pickle.loads(pickle.dumps(landmarker)), copy.deepcopy(landmarker)):
        np.testing.assert_array_equal(copied(frames[0]).landmarks, once[0].landmarks)
    for face, second, third in zip(once, again, other, strict=True):
        np.testing.assert_array_equal(face.landmarks, second.landmarks)
        np.testing.assert_array_equal(face.landmarks, third.landmarks)


def test_a_frame_need_not_lie_in_one_piece(landmarker, frame):
    view = np.asfortranarray(frame)
    np.testing.assert_array_equal(landmarker(view).landmarks, landmarker(frame).landmarks)
    before = frame.copy()
    before.setflags(write=False)
    np.testing.assert_array_equal(landmarker(before).landmarks, landmarker(frame).landmarks)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        [[[0, 0, 0]]],
        None,
    ],
)
def test_what_is_no_frame_is_refused(landmarker, frame):
    with pytest.raises(ValueError, match=r"RGB array of shape \(height, width, 3\) and type uint8, not"):
        landmarker(frame)


def test_models_are_checked(tmp_path):
    names = list(MODEL_FILES)
    with pytest.raises(FileNotFoundError, match=r"mediapipe 0\.10\.21"):
        FaceLandmarker(tmp_path)
    for name in names:
        shutil.copy(MODELS / name, tmp_path)
    FaceLandmarker(tmp_path)
    with (tmp_path / names[1]).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match="SHA-256"):
        FaceLandmarker(tmp_path)


def test_without_litert(monkeypatch):
    monkeypatch.setattr(face_landmarks_selfmm, "Interpreter", None)
    with pytest.raises(ImportError, match="pip install ai-edge-litert"):
        FaceLandmarker(MODELS)


def test_anchors():
    anchors = detector_anchors()
    assert anchors.shape == (896, 2)
    np.testing.assert_array_equal(anchors[:3] * 32, [[1, 1], [1, 1], [3, 1]])
    np.testing.assert_array_equal(anchors[[512, 517, 518, 895]] * 16, [[1, 1], [1, 1], [3, 1], [15, 15]])


def test_boxes_that_overlap_become_their_weighted_mean():
    boxes = np.zeros((3, 8, 2))
    boxes[:, 1] = 0.2
    boxes[:, 0, 0] = 0.5, 0.54, 0.9
    merged, scores = merge_overlapping(boxes, np.array([0.6, 0.9, 0.7]))
    np.testing.assert_allclose(merged[:, 0, 0], [(0.6 * 0.5 + 0.9 * 0.54) / 1.5, 0.9])
    assert scores.tolist() == [0.9, 0.7]
    boxes[:, 1] = 0  # no area: no overlap
    assert len(merge_overlapping(boxes, np.array([0.6, 0.9, 0.7]))[0]) == 3
    assert merge_overlapping(boxes[:0], np.zeros(0))[0].shape == (0, 8, 2)


def test_sample_against_one_pixel_at_a_time():
    frame = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    region, size = Region(3.2, 4.1, 11.0, 0.3), 5  # reaches out of the frame
    for outside in ("edge", "black"):
        found = sample(frame, region, size, outside)
        assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
        for row, column in np.ndindex(size, size):
            right, down = (column / size - 0.5) * region.side, (row / size - 0.5) * region.side
            x = region.x + right * math.cos(0.3) - down * math.sin(0.3)
            y = region.y + right * math.sin(0.3) + down * math.cos(0.3)
            expected = np.zeros(3)
            if outside == "edge" or (0 <= x <= 6 and 0 <= y <= 8):
                for j, i in np.ndindex(2, 2):
                    left, upper = math.floor(x) + i, math.floor(y) + j
                    pixel = frame[min(max(upper, 0), 8), min(max(left, 0), 6)] / 255
                    expected += pixel * (1 - abs(x - left)) * (1 - abs(y - upper))
            np.testing.assert_allclose(found[row, column], expected, atol=1e-6)


def test_the_region_turns_with_the_face():
    landmarks = np.random.default_rng(0).uniform(0.4, 0.6, (POINTS, 3))
    landmarks[33], landmarks[263] = [0.4, 0.45, 0], [0.6, 0.55, 0]
    region = region_of_landmarks(landmarks)
    assert region.angle == pytest.approx(math.atan2(0.1, 0.2))
    assert region.side == pytest.approx(0.3, abs=0.01) and region.x == pytest.approx(0.5, abs=0.01)


def test_a_real_clip_keeps_the_speaker_in_front(landmarker, shared):
    """Two people are seen; the first, in front and nearer to the middle, is followed through all of it."""
    av = pytest.importorskip("av")
    clip = shared / "data/clips/obama_speech.mp4"
    if not clip.is_file():
        pytest.skip(f"needs {clip}")
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][::5]
    assert max(len(landmarker.detect(frame)) for frame in frames) == 2
    tracked = list(landmarker.track(frames))
    assert all(tracked)
    for frame, face in zip(frames, tracked, strict=True):
        assert 0.4 < face.landmarks[1, 0] < 0.8
        assert apart(landmarker(frame).landmarks, face.landmarks) < 0.05  # detected anew, the same face
