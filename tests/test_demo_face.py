import sys
from pathlib import Path

import numpy as np
import pytest

from selfmm_hf.data.synthetic.face import _head_turned, face_motion, muscles, neutral_face
from selfmm_hf.data.synthetic.face_drawing import draw_face
from selfmm_hf.model import face_landmarks_selfmm
from selfmm_hf.model.vision_features_selfmm import COLUMNS, EXPRESSION_COLUMNS, expression, face_features


def speech(seed, frames=24):
    """Syllables, some five a second."""
    random = np.random.default_rng(seed)
    return (0.4 + 0.4 * np.sin(2 * np.pi * (0.47 * np.arange(frames) + random.random()))) * random.uniform(0, 1, frames)


def motion(seed, sentiment, openness=None):
    return face_motion(np.random.default_rng(seed), sentiment, speech(seed) if openness is None else openness)


def features(seed, sentiment, openness=None):
    """The frames with a face of a clip."""
    rows, _ = face_features(motion(seed, sentiment, openness), 10.0)
    return rows[rows[:, 0] == 1]


def column(rows, name):
    return rows[..., COLUMNS.index(name)]


def in_picture(points):
    return points * 0.19 + [0.5, 0.43, 0]


@pytest.fixture(scope="module")
def clips():
    """Sentiments, and features of a clip of each, all of different speakers."""
    sentiments = np.random.default_rng(0).uniform(-3, 3, 210)
    return sentiments, [features(seed, sentiment) for seed, sentiment in enumerate(sentiments)]


@pytest.fixture(scope="module")
def same_speakers():
    """The mean of each column for ten speakers: displeased, neutral and pleased; (3, 10, 41)."""
    return np.array([[features(seed, s).mean(axis=0) for seed in range(10)] for s in (-3.0, 0.0, 3.0)])


@pytest.fixture(scope="module")
def landmarker():
    pytest.importorskip("ai_edge_litert")
    return face_landmarks_selfmm.FaceLandmarker(Path(face_landmarks_selfmm.__file__).with_name("face_networks"))


def test_the_neutral_face_is_symmetric():
    points, triangles, twins = neutral_face()
    assert points.shape == (468, 3) and triangles.shape == (898, 3) and triangles.max() == 467
    np.testing.assert_array_equal(twins[twins], np.arange(468))
    np.testing.assert_allclose(points[twins], points * [-1, 1, 1], atol=1e-9)
    measured = dict(zip(EXPRESSION_COLUMNS, expression(points), strict=True))
    for name in ("yaw", "roll", "mouth_shift", "jaw_shift", *(name for name in measured if "asymmetry" in name)):
        assert measured[name] == pytest.approx(0, abs=1e-6)
    assert measured["pitch"] > 0 and measured["jaw_drop"] > 1 and 0 < measured["eye_open"] < 0.5


def test_both_sides_of_a_muscle_are_symmetric():
    _, _, twins = neutral_face()
    right, left = np.split(muscles(), 2)
    mirrored = right[:, twins] * [-1, 1, 1]
    to_one_side = np.abs(left - mirrored).max(axis=(1, 2)) > 1e-9
    assert to_one_side.sum() == 2  # mouth and chin to the left
    np.testing.assert_allclose(left[to_one_side], right[to_one_side])


def test_the_lips_are_kept_apart():
    """What opens the jaw leaves the upper lip where it is."""
    from selfmm_hf.data.synthetic.face import JAW_OPEN, LOWER_RIM
    from selfmm_hf.data.synthetic.face_drawing import UPPER_LIP

    moved = 2 * muscles()[JAW_OPEN, :, 1]
    assert moved[list(LOWER_RIM[2:])].min() > 0.8 and np.abs(moved[list(UPPER_LIP[3:])]).max() < 0.05
    assert 0.1 < moved[61] < 0.6 and np.abs(moved[[33, 263, 1, 10]]).max() < 0.01


def test_shapes_and_determinism():
    once, again, other = motion(7, 2.0), motion(7, 2.0), motion(8, 2.0)
    assert len(once) == 24
    for face, same, different in zip(once, again, other, strict=True):
        assert face.shape == (468, 3) and face.dtype == np.float32
        np.testing.assert_array_equal(face, same)
        assert not np.array_equal(face, different)
    assert face_motion(np.random.default_rng(0), 0.0, np.zeros(0)) == []
    assert len(face_motion(np.random.default_rng(0), 0.0, np.zeros(1))) == 1


def test_every_frame_is_a_face_in_the_picture_or_none():
    missing = 0
    for seed in range(60):
        for face in motion(seed, -3 + seed / 10):
            missing += face is None
            if face is not None:
                assert np.isfinite(expression(face)).all()  # accepted
                assert face[:, :2].min() > 0 and face[:, :2].max() < 1
    assert 0 < missing < 0.02 * 60 * 24


def test_values_are_those_of_faces(clips):
    rows = np.concatenate(clips[1])
    assert column(rows, "mouth_open").min() > -0.03 and column(rows, "mouth_open").max() < 0.5  # lips never cross
    assert -0.02 < column(rows, "eye_open").min() < 0.05 < 0.3 < column(rows, "eye_open").max() < 0.6  # blinks
    assert np.abs(rows[:, 1:31]).max() < 2 and np.abs(rows[:, 31:]).max() < 8
    assert (rows[:, 1:].std(axis=0) > 0.003).all()  # no column is constant


@pytest.mark.parametrize(
    "name",
    ["corner_lift", "corner_height", "mouth_width", "cheek", "brow_inner", "brow_middle", "brow_outer", "brow_gap"],
)
def test_the_same_speaker_pleased_and_displeased(same_speakers, name):
    displeased, neutral, pleased = column(same_speakers, name)
    assert (pleased > displeased + 0.01).all()
    assert (pleased > neutral - 0.005).all() and (displeased < neutral + 0.015).all()


def test_disgust_raises_the_nose(same_speakers):
    displeased, neutral, _ = column(same_speakers, "nose_wing")
    assert (displeased > neutral + 0.005).all()


def test_stronger_where_the_sentiment_is(same_speakers):
    smiles = column(same_speakers, "corner_height").mean(axis=1)
    halves = [np.mean([column(features(seed, s), "corner_height").mean() for seed in range(10)]) for s in (-1.5, 1.5)]
    assert (np.diff([smiles[0], halves[0], smiles[1], halves[1], smiles[2]]) > 0.01).all()


def test_an_expression_comes_and_goes():
    spans = [[np.ptp(column(features(seed, s), "corner_height")) for s in (0.0, 3.0)] for seed in range(12)]
    neutral, pleased = np.median(spans, axis=0)
    assert pleased > neutral + 0.02


def test_sentiment_shows_but_not_perfectly(clips):
    """Ridge regression on mean and deviation of each column, for speakers never seen."""
    sentiments, rows = clips
    pooled = np.array([[*clip.mean(axis=0)[1:], *clip.std(axis=0)[1:]] for clip in rows])
    pooled = (pooled - pooled[:150].mean(axis=0)) / pooled[:150].std(axis=0)
    gram = pooled[:150].T @ pooled[:150] + 10 * np.eye(pooled.shape[1])
    found = pooled[150:] @ np.linalg.solve(gram, pooled[:150].T @ sentiments[:150])
    assert 0.75 < np.corrcoef(found, sentiments[150:])[0, 1] < 0.97
    assert np.abs(np.corrcoef(pooled[:, COLUMNS.index("yaw") - 1], sentiments)[0, 1]) < 0.2  # the pose tells nothing


def test_the_mouth_speaks():
    closed, wide = np.zeros(24), np.ones(24)
    for seed in range(4):
        for name in ("mouth_open", "jaw_drop"):
            assert (column(features(seed, 0.0, wide), name) > column(features(seed, 0.0, closed), name) + 0.05).all()
        openness = speech(seed)
        rows, _ = face_features(motion(seed, 0.0, openness), 10.0)
        seen = rows[:, 0] == 1
        assert np.corrcoef(column(rows, "mouth_open")[seen], openness[seen])[0, 1] > 0.8


@pytest.mark.parametrize("turn", [(0.25, 0, 0), (0, 0.2, 0), (0, 0, -0.3), (-0.2, -0.1, 0.15)])
def test_the_head_turns_as_the_columns_say(turn):
    points, _, _ = neutral_face()
    straight, turned = expression(points), expression(points @ _head_turned(np.array([turn]))[0])
    np.testing.assert_allclose(turned[:3] - straight[:3], turn, atol=1e-6)
    np.testing.assert_allclose(turned[3:], straight[3:], atol=1e-6)


@pytest.mark.parametrize(
    "turn", [(0, 0, 0), (15, 0, 0), (-15, 0, 0), (0, 15, 0), (0, -15, 0), (0, 0, 15), (10, -10, -10)]
)
def test_a_turned_drawn_face_is_found_where_it_is(landmarker, turn):
    points = in_picture(neutral_face()[0] @ _head_turned(np.radians([turn]))[0])
    for speaker in (0, 1):
        picture = draw_face(points, speaker=speaker)
        assert landmarker.detect(picture)[0].score > 0.75
        found = landmarker(picture)
        eyes = np.linalg.norm(points[33, :2] - points[263, :2])
        assert found.presence > 0.95
        assert np.linalg.norm(found.landmarks[:, :2] - points[:, :2], axis=1).mean() < 0.1 * eyes
        np.testing.assert_allclose(expression(found.landmarks)[[0, 2]], expression(points)[[0, 2]], atol=0.12)


def test_the_landmarks_of_a_picture_are_those_it_was_drawn_from(landmarker):
    drawn, found = [], []
    for seed in range(24):
        face = motion(seed, -3 + 6 * (seed * 5 % 24) / 23, np.full(12, seed % 4 / 4))[8]
        picture = draw_face(face, speaker=seed)
        assert landmarker.detect(picture)[0].score > 0.75
        drawn.append(expression(face))
        found.append(expression(landmarker(picture).landmarks))
    correlation = {
        name: np.corrcoef(np.array(drawn)[:, number], np.array(found)[:, number])[0, 1]
        for number, name in enumerate(EXPRESSION_COLUMNS)
    }
    for name in ("yaw", "roll", "mouth_open", "corner_lift", "corner_height", "brow_middle", "brow_outer"):
        assert correlation[name] > 0.7, name


def test_a_drawing():
    face = in_picture(neutral_face()[0])
    picture = draw_face(face, 128, speaker=3)
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, draw_face(face, 128, speaker=3))
    assert not np.array_equal(picture, draw_face(face, 128, speaker=4))


def test_what_is_refused():
    random = np.random.default_rng(0)
    for sentiment in (3.1, float("nan")):
        with pytest.raises(ValueError, match="expected -3 to 3"):
            face_motion(random, sentiment, np.zeros(3))
    with pytest.raises(ValueError, match=r"\(3, 1\), expected \(frames,\)"):
        face_motion(random, 0.0, np.zeros((3, 1)))
    with pytest.raises(ValueError, match=r"shape \(\), expected \(468, 3\)"):
        draw_face(None)


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        draw_face(neutral_face()[0])
