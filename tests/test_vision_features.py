import re

import numpy as np
import pytest
import torch
import transformers

pytest.importorskip("ai_edge_litert")

from safetensors.torch import load_file, save_file
from test_face_landmarks import MODELS, draw_face, placed, resized

from selfmm_hf.model.face_landmarks_selfmm import FaceLandmarker
from selfmm_hf.model.vision_features_selfmm import (
    COLUMNS,
    EXPRESSION_COLUMNS,
    MOVING,
    FaceFeatures,
    ImageEncoder,
    expression,
    face_features,
)

SMALL = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20, image_size=32, patch_size=8
)  # fmt: skip


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker(MODELS)


@pytest.fixture(scope="module")
def landmarks(landmarker):
    return landmarker(draw_face()).landmarks


def measured(landmarks):
    return dict(zip(EXPRESSION_COLUMNS, expression(landmarks).tolist(), strict=True))


def rotation(axis, angle):
    """About the x (0), y (1) or z (2) axis of the picture: x right, y down, z away."""
    matrix = np.eye(3)
    one, other = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[[one, other], [one, other]] = np.cos(angle)
    matrix[one, other], matrix[other, one] = -np.sin(angle), np.sin(angle)
    return matrix


def test_columns():
    assert len(set(COLUMNS)) == len(COLUMNS) == 41 and COLUMNS[0] == "face"
    assert COLUMNS[1:31] == EXPRESSION_COLUMNS and set(MOVING) < set(EXPRESSION_COLUMNS)


def test_position_and_size_do_not_matter(landmarks):
    expected = expression(landmarks)
    assert expected.dtype == np.float32 and expected.shape == (30,)
    for moved in (landmarks * 1280, landmarks * 0.01, landmarks + np.array([3, -2, 1]), landmarks.tolist()):
        np.testing.assert_allclose(expression(moved), expected, atol=1e-4)


@pytest.mark.parametrize("axis, angle", [(0, 0.3), (0, -0.4), (1, 0.7), (1, -0.5), (2, 0.6), (2, -3.0)])
def test_where_the_head_looks_is_in_three_columns_alone(landmarks, axis, angle):
    straight = landmarks.astype(float)
    for _ in range(10):  # a face seen straight on
        yaw, pitch, roll = expression(straight)[:3]
        straight = straight @ rotation(2, -roll).T @ rotation(1, yaw).T @ rotation(0, pitch).T
    np.testing.assert_allclose(expression(straight)[:3], 0, atol=1e-4)
    found, expected = expression(straight @ rotation(axis, angle).T), expression(straight)
    np.testing.assert_allclose(found[3:], expected[3:], atol=1e-4)
    expected[[1, 0, 2][axis]] = [-angle, -angle, angle][axis]
    np.testing.assert_allclose(found[:3], expected[:3], atol=1e-4)


def test_directions_of_the_head(landmarks):
    nose = [4, 1]  # the tip goes where the face looks
    for axis, angle in ((0, 0.2), (1, 0.2), (0, -0.2), (1, -0.2)):
        turned = landmarks @ rotation(axis, angle).T
        change = (turned - turned.mean(axis=0) - landmarks + landmarks.mean(axis=0))[nose].mean(axis=0)
        yaw, pitch, _ = expression(turned)[:3] - expression(landmarks)[:3]
        if axis:
            assert np.sign(yaw) == np.sign(change[0])  # the speaker's left is on the right of the picture
        else:
            assert np.sign(pitch) == -np.sign(change[1])  # y is down


def test_a_mirrored_face_has_the_opposite_asymmetries(landmarks):
    pairs = [(33, 263), (133, 362), (61, 291), (81, 311), (178, 402), (55, 285), (107, 336), (52, 282), (105, 334),
             (46, 276), (70, 300), (160, 387), (159, 386), (158, 385), (144, 373), (145, 374), (153, 380), (50, 280),
             (129, 358)]  # fmt: skip
    mirrored = landmarks * [-1, 1, 1]
    for right, left in pairs:
        mirrored[[right, left]] = mirrored[[left, right]]
    before, after = measured(landmarks), measured(mirrored)
    for name, value in before.items():
        sign = -1 if name in ("yaw", "roll") or name.endswith(("asymmetry", "shift")) else 1
        assert after[name] == pytest.approx(sign * value, abs=1e-4), name


@pytest.mark.parametrize(
    "points, shift, column, sign",
    [
        ((61, 291), (0, -1), "corner_lift", 1),
        ((291,), (0, -1), "corner_lift_asymmetry", 1),  # the speaker's left corner
        ((61, 291), (0, -1), "corner_height", 1),
        ((61,), (-1, 0), "mouth_width", 1),
        ((61, 291), (1, 0), "mouth_shift", 1),
        ((14, 17), (0, 1), "mouth_open", 1),
        ((0,), (0, -1), "upper_lip", 1),
        ((17,), (0, 1), "lower_lip", 1),
        ((0,), (0, -1), "upper_lip_height", 1),
        ((152,), (0, 1), "jaw_drop", 1),
        ((152,), (1, 0), "jaw_shift", 1),
        ((17,), (0, -1), "chin_height", 1),
        ((55, 107, 285, 336), (0, -1), "brow_inner", 1),
        ((55, 107), (0, -1), "brow_inner_asymmetry", -1),
        ((52, 105, 282, 334), (0, -1), "brow_middle", 1),
        ((46, 70, 276, 300), (0, -1), "brow_outer", 1),
        ((107,), (1, 0), "brow_gap", -1),
        ((158, 159, 160, 385, 386, 387), (0, -1), "eye_open", 1),
        ((158, 159, 160), (0, 1), "eye_open_asymmetry", 1),
        ((144, 145, 153, 373, 374, 380), (0, -1), "lower_lid", 1),
        ((50, 280), (0, -1), "cheek", 1),
        ((358,), (1, 0), "nose_width", 1),
        ((129, 358), (0, -1), "nose_wing", 1),
    ],
)
def test_what_a_column_measures(landmarks, points, shift, column, sign):
    """Points moved in the picture (x right, y down) move their column, and few others."""
    moved = landmarks.copy()
    moved[list(points), :2] += 0.01 * np.array(shift)
    before, after = measured(landmarks), measured(moved)
    assert np.sign(after[column] - before[column]) == sign
    assert sum(abs(after[name] - before[name]) > 1e-5 for name in before) <= 6


def test_a_mesh_that_is_moved_by_hand_stays_within_bounds(landmarks):
    random = np.random.default_rng(0)
    for spread in (0.01, 0.1, 1.0, 100.0):
        for _ in range(20):
            found = expression(landmarks + random.normal(scale=spread, size=landmarks.shape))
            assert np.isfinite(found).all() and np.abs(found).max() <= 5


@pytest.mark.parametrize("spoil", ["eyes", "line", "nan", "infinite", "shape"])
def test_what_is_no_face_is_refused(landmarks, spoil):
    bad = landmarks.astype(float)
    if spoil == "eyes":
        bad[[33, 133, 263, 362]] = bad[33]
    elif spoil == "line":
        bad[2] = bad[10]
    elif spoil == "shape":
        bad = bad[:, :2]
    else:
        bad[7, 1] = np.nan if spoil == "nan" else np.inf
    with pytest.raises(ValueError, match=r"no face|not finite|expected \(468, 3\)"):
        expression(bad)
    if spoil != "shape":
        features, share = face_features([landmarks, bad, landmarks], 10)
        assert share == pytest.approx(2 / 3) and not features[1].any() and not features[2, 31:].any()
    else:
        with pytest.raises(ValueError, match=re.escape("(468, 2)")):
            face_features([bad], 10)


def test_expressions_of_a_drawn_face_are_read(landmarker):
    def read(**drawn):
        return measured(landmarker(draw_face(**drawn)).landmarks)

    sulk, neutral, smile = read(smile=-1), read(), read(smile=1)
    for column in ("corner_lift", "corner_height", "mouth_width"):
        assert sulk[column] + 0.01 < neutral[column] < smile[column] - 0.01
    opening = [read(opening=value)["mouth_open"] for value in (0, 0.5, 1)]
    assert np.diff(opening).min() > 0.05
    raised, lowered = read(brows=1), read(brows=-1)
    for column in ("brow_inner", "brow_middle", "brow_outer"):
        assert lowered[column] + 0.02 < neutral[column] < raised[column] - 0.02
    for face in (sulk, smile, raised, lowered):
        assert abs(face["yaw"]) < 0.1 and abs(face["roll"]) < 0.1 and abs(face["eye_open_asymmetry"]) < 0.03


def test_frames_without_a_face_are_marked_and_hold_nothing():
    face, empty = draw_face(), np.full((256, 256, 3), 128, np.uint8)
    features, share = FaceFeatures()(iter([empty, face, empty, face, draw_face(smile=1)]))
    assert features.shape == (5, 41) and features.dtype == np.float32 and share == pytest.approx(0.6)
    assert features[:, 0].tolist() == [0, 1, 0, 1, 1]
    assert not features[[0, 2]].any()
    assert not features[[1, 3], 31:].any()  # no face before: no motion
    assert features[4, 31:].any()


@pytest.mark.parametrize("frames", [0, 1, 4])
def test_a_clip_without_a_face_is_absent(frames):
    features, share = FaceFeatures()([np.zeros((8, 8, 3), np.uint8)] * frames)
    assert features.shape == (0, 41) and features.dtype == np.float32 and share == 0.0


@pytest.mark.parametrize("frame_rate", [5, 10.0, 25])
def test_motion_is_per_second(landmarks, frame_rate):
    moved = landmarks.copy()
    moved[14, 1] += 0.005
    features, _ = face_features([landmarks, moved, moved], frame_rate)
    column = 1 + EXPRESSION_COLUMNS.index("mouth_open")
    motion = COLUMNS.index("mouth_open_motion")
    assert features[1, motion] == pytest.approx((features[1, column] - features[0, column]) * frame_rate, rel=1e-4)
    assert features[1, motion] > 0 and not features[[0, 2], 31:].any()
    wild, _ = face_features([landmarks, landmarks @ rotation(2, 0.5).T], 1000)
    assert np.abs(wild).max() == 10


@pytest.mark.parametrize("frame_rate", [0, -1, float("nan"), float("inf")])
def test_frame_rate_is_checked(frame_rate):
    with pytest.raises(ValueError, match="frame_rate"):
        FaceFeatures(frame_rate=frame_rate)


def test_size_and_place_in_the_frame_hardly_matter():
    frames = [draw_face(smile=smile, opening=abs(smile)) for smile in np.linspace(-1, 1, 6)]
    wide = [placed(np.full((360, 640, 3), (90, 110, 130), np.uint8), frame, 200, 60) for frame in frames]
    extract = FaceFeatures()
    expected, _ = extract(frames)
    for other in (wide, [resized(frame, 512, 512) for frame in frames]):
        found, share = extract(other)
        assert share == 1
        assert np.abs(found - expected)[:, 4:31].mean() < 0.01  # in distances of the eyes
        assert np.abs(found - expected)[:, 1:4].mean() < 0.05  # radians
    np.testing.assert_array_equal(extract(frames)[0], expected)


def test_a_real_clip(shared):
    av = pytest.importorskip("av")
    clip = shared / "data/clips/obama_speech.mp4"
    if not clip.is_file():
        pytest.skip(f"needs {clip}")
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][::3]
    features, share = FaceFeatures(frame_rate=10)(frames)
    assert share == 1 and features.shape == (35, 41) and np.isfinite(features).all()
    column = dict(zip(COLUMNS, features.T, strict=True))
    assert np.ptp(column["mouth_open"]) > 0.1 and 0.1 < column["eye_open"].mean() < 0.3  # he speaks, eyes open
    assert np.abs(column["yaw"]).max() < 0.7 and 0.6 < column["mouth_width"].mean() < 1.1


def save_model(folder, kind, seed=0, **options):
    torch.manual_seed(seed)
    if kind.startswith("CLIP"):
        vision = transformers.CLIPVisionConfig(**SMALL)
        text = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, vocab_size=30)
        both = transformers.CLIPConfig(vision_config=vision.to_dict(), text_config=text, projection_dim=12)
        model = getattr(transformers, kind)(vision if kind == "CLIPVisionModel" else both)
    elif kind.startswith("ConvNext"):
        config = transformers.ConvNextConfig(hidden_sizes=[4, 8, 8, 12], depths=[1, 1, 1, 1], image_size=32)
        model = transformers.ConvNextModel(config)
    else:
        model = getattr(transformers, kind)(transformers.ViTConfig(**SMALL, initializer_range=0.2), **options)
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return model.eval()


FRAMES = [
    np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for height, width in [(40, 30), (1, 1), (3, 3), (2, 50), (200, 300)]
]


@pytest.mark.parametrize(
    "kind, width",
    [
        ("CLIPModel", 12), ("CLIPVisionModel", 16), ("ViTModel", 16), ("ViTForImageClassification", 16),
        ("ConvNextModel", 12),
    ],
)  # fmt: skip
def test_any_image_model(tmp_path, kind, width):
    save_model(tmp_path, kind)
    encoder = ImageEncoder(tmp_path, batch_size=3)
    features, share = encoder(iter(FRAMES))
    assert features.shape == (5, width) and features.dtype == np.float32 and share == 1.0 and encoder.width == width
    assert np.isfinite(features).all() and len(np.unique(features.round(4), axis=0)) == 5
    alone = ImageEncoder(tmp_path, batch_size=1)
    np.testing.assert_allclose(alone(FRAMES)[0], features, atol=1e-5)
    assert alone.checksum == encoder.checksum and re.fullmatch("[0-9a-f]{64}", encoder.checksum)
    empty, share = encoder([])
    assert empty.shape == (0, width) and empty.dtype == np.float32 and share == 0.0


def test_the_vector_of_a_classifier_is_its_class_token(tmp_path):
    """Not what a pooler gives that was made up at loading."""
    model = save_model(tmp_path, "ViTForImageClassification")
    features, _ = ImageEncoder(tmp_path)([np.full((32, 32, 3), value, np.uint8) for value in (0, 255)])
    pixels = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.vit(pixel_values=pixels).last_hidden_state[:, 0]
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_the_checksum_is_that_of_the_weights(tmp_path):
    checksums = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        save_model(tmp_path / name, "ViTModel", seed)
        checksums[name] = ImageEncoder(tmp_path / name).checksum
    assert checksums["one"] == checksums["same"] != checksums["other"]


def test_the_encoder_sees_the_face_alone(tmp_path, landmarker):
    save_model(tmp_path, "ViTModel")
    encoder = ImageEncoder(tmp_path, landmarker=landmarker, batch_size=2)
    face, empty = draw_face(), np.full((256, 256, 3), 128, np.uint8)
    beside = placed(np.random.default_rng(0).integers(60, 90, (256, 512, 3), dtype=np.uint8), face, 200, 0)
    features, share = encoder([empty, empty, face, empty, beside])
    assert features.shape == (5, 17) and encoder.width == 17 and share == pytest.approx(0.4)
    assert features[:, 0].tolist() == [0, 0, 1, 0, 1] and not features[[0, 1, 3]].any()
    whole, _ = ImageEncoder(tmp_path)([face, beside])
    assert np.linalg.norm(features[2] - features[4]) < 0.5 * np.linalg.norm(whole[0] - whole[1])
    nothing, share = encoder([empty] * 3)
    assert nothing.shape == (0, 17) and share == 0.0


def test_a_model_that_is_not_whole_is_refused(tmp_path):
    save_model(tmp_path, "ViTModel")
    weights = tmp_path / "model.safetensors"
    kept = {key: value for key, value in load_file(weights).items() if "layer.1." not in key and "layers.1." not in key}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks weights of its encoder"):
        ImageEncoder(tmp_path)
    with pytest.raises(ValueError, match="batch_size"):
        ImageEncoder(tmp_path, batch_size=0)


def test_frames_for_the_encoder_are_checked(tmp_path):
    save_model(tmp_path, "ViTModel")
    with pytest.raises(ValueError, match="RGB array"):
        ImageEncoder(tmp_path)([np.zeros((3, 8, 8), np.uint8)])


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_picture_has_the_features_of_an_upright_one(quarters):
    frames = [draw_face(smile=number / 8) for number in range(8)]
    expected, _ = FaceFeatures()(frames)
    found, share = FaceFeatures()([np.rot90(frame, quarters) for frame in frames])
    assert share == 1
    np.testing.assert_allclose(found[:, 1:31], expected[:, 1:31], atol=0.1)
    assert np.abs(found - expected)[:, 1:31].mean() < 0.01
    assert np.abs(found[:, 31:]).max() < 2  # no jump where the picture is turned


def test_a_head_is_tilted_up_to_sixty_degrees_the_rest_is_the_pictures(landmarks):
    def rolls(*degrees):
        faces = [(landmarks - landmarks.mean(axis=0)) @ rotation(2, np.radians(one)).T for one in degrees]
        rows, _ = face_features(faces, 10.0)
        return np.degrees(rows[:, 1 + EXPRESSION_COLUMNS.index("roll")]), rows[:, 1 + 30 :]

    straight = rolls(0)[0][0]
    angles, motion = rolls(-50, 0, 50, 80, 50, 35, 20, 180, 170)
    expected = np.array([-50, 0, 50, -10, -40, -55, 20, 0, -10])
    np.testing.assert_allclose(np.abs(angles - straight), np.abs(expected), atol=1e-3)
    roll_motion = motion[:, MOVING.index("roll")]
    assert roll_motion[3] == roll_motion[6] == roll_motion[7] == 0 and (roll_motion[[1, 2, 4, 5, 8]] != 0).all()


def test_a_missing_picture_is_a_frame_without_a_face(tmp_path, landmarker):
    face = draw_face()
    rows, share = FaceFeatures()([face, None, face])
    assert rows[:, 0].tolist() == [1, 0, 1] and share == pytest.approx(2 / 3)
    save_model(tmp_path, "ViTModel")
    for encoder in (ImageEncoder(tmp_path), ImageEncoder(tmp_path, landmarker=landmarker)):
        rows, _ = encoder([face, None, face])
        assert not rows[1].any() and rows[0].any()
        np.testing.assert_allclose(rows[0], rows[2], atol=0.05)
