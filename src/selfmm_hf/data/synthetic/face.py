"""
A face that speaks and shows a known sentiment: its 468 landmarks in each frame. face_drawing.py draws it.

The neutral face is MediaPipe's canonical face model (model/face_networks/NOTICE). Muscles move it: each is a smooth
field of displacements around some landmarks. A moving face is a sum of these, so that a clip is one matrix product.
Lengths are in distances of the centres of the eyes; x to the speaker's left, y down, z backward, from between the eyes.
"""

import math
from functools import cache
from pathlib import Path

import numpy as np

from ...model.vision_features_selfmm import CHIN, EYES, FOREHEAD

MESH = Path(__file__).with_name("face_mesh.npz")
FRAME_RATE = 10.0

# Landmarks of the right half, from outside to the middle (python/solutions/face_mesh_connections.py of MediaPipe).
UPPER_RIM, LOWER_RIM = (78, 191, 80, 81, 82, 13), (78, 95, 88, 178, 87, 14)  # of the lips, inside
UPPER_BROW, LOWER_BROW = (70, 63, 105, 66, 107), (46, 53, 52, 65, 55)
EAR, CHEEK, CORNER, NOSE_WING, LIP_PEAK, JAW = 234, 50, 61, 129, 37, (172, 136)

# Muscles that pull the skin around some landmarks: those of the right side, their reach, and the pull.
PULLS = {
    "brows_up": ((*UPPER_BROW, *LOWER_BROW), 0.14, (0, -1, 0)),
    "brow_inner_up": ((55, 107), 0.15, (0, -1, 0)),
    "brow_outer_up": ((46, 70), 0.2, (0, -1, 0)),
    "brows_together": ((55, 107), 0.15, (1, 0, 0)),
    "cheek_up": ((CHEEK,), 0.3, (0, -1, -0.3)),
    "nose_up": ((NOSE_WING,), 0.15, (0, -1, 0)),
    "nose_wide": ((NOSE_WING,), 0.15, (-1, 0, 0)),
    "corner_up": ((CORNER,), 0.28, (0, -1, 0.2)),
    "corner_out": ((CORNER,), 0.24, (-1, 0, 0.2)),
    "mouth_down": ((13, 14), 0.5, (0, 1, 0)),
    "mouth_left": ((13, 14), 0.4, (1, 0, 0)),
    "lips_forward": ((13, 14), 0.25, (0, 0, -1)),
    "chin_down": ((CHIN,), 0.5, (0, 1, 0)),
    "chin_left": ((CHIN,), 0.5, (1, 0, 0)),
    "jaw_narrow": (JAW, 0.4, (1, 0, 0)),
    "forehead_back": ((FOREHEAD,), 0.6, (0, 0, 1)),
}
# How faces at rest differ: mean and deviation over speakers. The means turn the canonical face into what the landmark
# network sees in faces.
SPEAKERS = {
    "brows_up": (-0.045, 0.045),
    "brow_inner_up": (0, 0.005),
    "brow_outer_up": (0, 0.005),
    "brows_together": (-0.01, 0.012),
    "cheek_up": (0, 0.025),
    "nose_up": (0, 0.02),
    "nose_wide": (0.04, 0.025),
    "corner_up": (0, 0.013),
    "corner_out": (0.02, 0.016),
    "mouth_down": (0.035, 0.025),
    "mouth_left": (0, 0.02),
    "lips_forward": (0.06, 0.025),
    "chin_down": (-0.02, 0.05),
    "chin_left": (0, 0.02),
    "jaw_narrow": (0.06, 0.04),
    "forehead_back": (0.12, 0.05),
    "jaw_open": (-0.06, 0.015),
    "chin_up": (0, 0.01),
    "upper_lip_up": (-0.01, 0.01),
    "upper_lid_down": (-0.22, 0.08),  # 1: the eye is closed
    "lower_lid_up": (-0.1, 0.1),
    "upper_lip_thick": (-0.2, 0.12),  # relative
    "lower_lip_thick": (0.5, 0.15),
}
MUSCLES = tuple(SPEAKERS)
JAW_OPEN, LID = MUSCLES.index("jaw_open"), MUSCLES.index("upper_lid_down")
# What the strongest expression adds at its height.
PLEASED = {
    "corner_up": 0.16,
    "corner_out": 0.09,
    "cheek_up": 0.06,
    "lower_lid_up": 0.35,
    "upper_lid_down": 0.08,
    "brows_up": 0.045,
    "jaw_open": 0.03,
}
DISPLEASED = {
    "corner_up": -0.11,
    "corner_out": -0.03,
    "brows_up": -0.07,
    "brow_inner_up": -0.015,
    "brows_together": 0.02,
    "lower_lid_up": 0.15,
    "upper_lid_down": 0.05,
    "nose_up": 0.03,
    "upper_lip_up": 0.02,
    "chin_up": 0.04,
}
LIPS_CLOSED, EYE_CLOSED = 0.012, 0.004  # least distances of the rims and of the lids
NECK = np.array([0, 1.2, 0.9])  # the head turns about it


@cache
def neutral_face() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Returns the canonical face.

    Returns:
        Its points (468, 3) float64, its triangles (898, 3), and the number of each point's twin on the other side
        (468,).
    """
    with np.load(MESH, allow_pickle=False) as file:
        points, triangles = file["points"] * np.array([1.0, -1.0, -1.0]), file["triangles"].astype(int)
    right, left = (points[list(corners)].mean(axis=0) for corners in EYES)
    points = (points - (right + left) / 2) / np.linalg.norm(left - right)
    twins = np.linalg.norm(points[:, None] * [-1, 1, 1] - points, axis=2).argmin(axis=1)
    return points, triangles, twins


def face_motion(random: np.random.Generator, sentiment: float, openness: np.ndarray) -> list[np.ndarray | None]:
    """
    Makes the landmarks of a clip of a new speaker.

    The sentiment shows as Ekman and Friesen describe faces (Facial Action Coding System, 1978). Pleased: the lip
    corners are pulled up and outward (AU12) and the cheeks raised, which lifts the lower lids (AU6); the brows rise a
    little (AU1+2), the lips part (AU25). Displeased: the brows are lowered and drawn together (AU4), the lip corners
    pulled down (AU15), the chin raised (AU17), nose and upper lip raised (AU9+10), the lids tightened (AU7). The
    expression is as strong as the sentiment, apart from the speaker's own temper; it sets in, is held, and falls back
    to about half.

    Besides, the mouth speaks, the eyes blink, the head turns and nods, and points jitter as the network's do.

    Args:
        random (`np.random.Generator`): Draws the speaker and all else that is left to chance.
        sentiment (`float`): In [-3, 3]; about 0 the face is neutral.
        openness (`np.ndarray`): (frames,), how open the mouth is for the voice, in [0, 1], at 10 frames per second.

    Returns:
        For each frame (468, 3) float32, in units of the frame's width as [`Face`] has them, for a square frame with
        the head in the middle; `None` in the rare frame where the face is not found.

    Raises:
        ValueError: The sentiment is out of its range, or openness has another shape.
    """
    openness = np.asarray(openness, dtype=np.float64)
    if not -3 <= sentiment <= 3:
        raise ValueError(f"sentiment is {sentiment}, expected -3 to 3")
    if openness.ndim != 1:
        raise ValueError(f"openness has the shape {openness.shape}, expected (frames,)")
    frames = len(openness)
    mean, deviation = np.array(list(SPEAKERS.values())).T
    rest = mean + deviation * random.normal(size=len(MUSCLES))

    intensity = sentiment / 3 * math.exp(0.2 * random.normal()) + 0.1 * random.normal()
    temper = np.exp(0.2 * random.normal(size=len(MUSCLES)))
    shown = temper * abs(intensity) * _amplitudes(PLEASED if intensity > 0 else DISPLEASED)
    motion = _course(random, frames)[:, None] * shown

    motion += 0.35 * deviation * _wander(random, frames, len(MUSCLES), 3.0)
    vowels = _wander(random, frames, 2, 1.5)
    motion[:, JAW_OPEN] += random.uniform(0.14, 0.24) * openness
    motion[:, MUSCLES.index("corner_out")] += 0.025 * vowels[:, 0] * openness
    motion[:, MUSCLES.index("lips_forward")] += 0.02 * vowels[:, 1] * openness
    amplitudes = rest + motion
    amplitudes[:, LID] = np.maximum(amplitudes[:, LID], _blinks(random, frames))
    slant = 0.08 * random.normal(size=len(MUSCLES)) * motion
    slant += 0.15 * deviation * (random.normal(size=len(MUSCLES)) + 0.5 * _wander(random, frames, len(MUSCLES), 3.0))

    points, _, _ = neutral_face()
    fields = muscles()
    faces = np.tensordot(np.concatenate([amplitudes + slant, amplitudes - slant], axis=1), fields, 1) + points
    faces += _parted(faces, (13, 14), fields[JAW_OPEN], LIPS_CLOSED)
    faces += _parted(faces, (159, 145), fields[LID], EYE_CLOSED)
    faces += _parted(faces, (386, 374), fields[LID + len(MUSCLES)], EYE_CLOSED)
    faces += (_jitter() @ random.normal(size=(frames, *points.shape)).astype(np.float32)) * [0.004, 0.004, 0.008]
    faces *= np.exp([0, 0.05 + 0.04 * random.normal(), 0.08 * random.normal()])

    turn = random.normal(size=3) * [0.12, 0.05, 0.06]  # yaw, pitch, roll
    turn = turn + random.uniform(0.4, 1.4) * _wander(random, frames, 3, 2.5) * [0.1, 0.07, 0.06]
    turn[:, 1] += random.uniform(0, 0.06) * _wander(random, frames, 1, 1.5)[:, 0]  # nods
    faces = (faces - NECK) @ _head_turned(turn) + NECK
    place = random.normal([0.5, 0.43], [0.02, 0.01]) + 0.006 * _wander(random, frames, 2, 6.0)
    faces *= random.uniform(0.17, 0.2)
    faces[..., :2] += place[:, None]
    faces = faces.astype(np.float32)
    return [face if found else None for face, found in zip(faces, random.random(frames) >= 0.004, strict=True)]


@cache
def muscles() -> np.ndarray:
    """Returns what each of the `MUSCLES` does at amplitude 1: on the right side, then on the left; (46, 468, 3)."""
    points, _, twins = neutral_face()
    x, y, z = points.T
    # The lips' line, and the points of the lower jaw: their border is sharp between the lips and soft beside them.
    line = np.interp(-np.abs(x), *(points[list(UPPER_RIM)] + points[list(LOWER_RIM)])[:, :2].T / 2)
    border = 0.012 + 0.25 * (np.abs(x) - 0.3).clip(0)
    lower = 1 / (1 + np.exp(0.5 - ((y - line) / border).clip(-50, 50)))
    arm = ((z[EAR] - z) / (z[EAR] - z[CHIN])).clip(0)  # the jaw turns about the ears

    def near(landmarks: tuple[int, ...], reach: float) -> np.ndarray:
        distance = np.linalg.norm(points[:, None] - points[list(landmarks)], axis=2).min(axis=1)
        return np.exp(-((distance / reach) ** 2) / 2)

    def off(height: np.ndarray, reach: float, middle: float, width: float) -> np.ndarray:
        """Returns heights above or below a line, which fade with the distance."""
        return height * np.exp(-((height / reach) ** 2 + ((x - middle) / width) ** 2) / 2)

    eye = points[list(EYES[0]), 0].mean()
    fields = {name: (near(landmarks, reach), pull) for name, (landmarks, reach, pull) in PULLS.items()}
    fields |= {
        "jaw_open": (lower * arm, (0, 1, 0.4)),
        "chin_up": (lower * near((17,), 0.25), (0, -1, -0.3)),
        "upper_lip_up": ((1 - lower) * near((LIP_PEAK,), 0.2), (0, -1, 0)),
        "upper_lid_down": (2 * off((-y).clip(0), 0.1, eye, 0.3), (0, 1, 0)),
        "lower_lid_up": (off(y.clip(0), 0.1, eye, 0.3), (0, -1, 0)),
        "upper_lip_thick": ((1 - lower) * off((line - y).clip(0), 0.15, 0, 0.4), (0, -1, 0)),
        "lower_lip_thick": (lower * off((y - line).clip(0), 0.15, 0, 0.4), (0, 1, 0)),
    }
    sides = []
    for name in MUSCLES:
        weight, pull = fields[name]
        field = weight[:, None] * np.array(pull)
        if np.allclose(weight, weight[twins]):
            sides.append((field / 2, field / 2))
        else:
            sides.append((field, field[twins] * [-1, 1, 1]))
    right, left = zip(*sides, strict=True)
    return np.array([*right, *left])


def _amplitudes(expression: dict[str, float]) -> np.ndarray:
    amplitudes = np.zeros(len(MUSCLES))
    amplitudes[[MUSCLES.index(name) for name in expression]] = list(expression.values())
    return amplitudes


def _course(random: np.random.Generator, frames: int) -> np.ndarray:
    """Returns how much of an expression is there: (frames,), 1 at its height."""
    seconds = np.arange(frames) / FRAME_RATE
    onset, held = random.uniform(0, 0.4) * frames / FRAME_RATE, random.uniform(0.3, 0.6) * frames / FRAME_RATE
    height = 1 / (1 + np.exp((onset - seconds) / 0.15)) - 1 / (1 + np.exp((onset + held - seconds) / 0.3))
    return height + random.uniform(0.3, 0.6) * (1 - height)


def _blinks(random: np.random.Generator, frames: int) -> np.ndarray:
    """Returns how far the lids are down, (frames,): -1, except in a blink about every three seconds."""
    closed = np.full(frames + 2, -1.0)
    for start in np.flatnonzero(random.random(frames) < 0.03):
        closed[start : start + 3] = random.uniform([0.3, 0.8, 0.1], [1, 1, 0.5])
    return closed[:frames]


def _wander(random: np.random.Generator, frames: int, columns: int, reach: float) -> np.ndarray:
    """Returns smooth noise of deviation 1, (frames, columns), which forgets within about `reach` frames."""
    margin = math.ceil(3 * reach)
    kernel = np.exp(-(((np.arange(frames)[:, None] - np.arange(-margin, frames + margin)) / reach) ** 2) / 2)
    kernel /= np.linalg.norm(kernel, axis=1, keepdims=True)
    return kernel @ random.normal(size=(frames + 2 * margin, columns))


@cache
def _jitter() -> np.ndarray:
    """Returns weights that spread noise of each point to its neighbours, with deviation 1: (468, 468) float32."""
    points, _, _ = neutral_face()
    kernel = np.exp(-((points[:, None] - points) ** 2).sum(axis=2) / (2 * 0.25**2))
    return (kernel / np.linalg.norm(kernel, axis=1, keepdims=True)).astype(np.float32)


def _parted(faces: np.ndarray, rims: tuple[int, int], field: np.ndarray, least: float) -> np.ndarray:
    """Returns what moves faces (frames, 468, 3) along a field until the first point is `least` above the second."""
    upper, lower = rims
    missing = (least - faces[:, lower, 1] + faces[:, upper, 1]).clip(0)
    return missing[:, None, None] * field / (field[lower, 1] - field[upper, 1])


def _head_turned(turn: np.ndarray) -> np.ndarray:
    """Returns the [`head_axes`] of a head turned by yaw, pitch and roll: (frames, 3) radians to (frames, 3, 3)."""
    axes = np.eye(3)
    for angle, one, other in zip(turn.T[[1, 0, 2]], (2, 0, 0), (1, 2, 1), strict=True):
        turned = np.tile(np.eye(3), (len(turn), 1, 1))
        turned[:, one, one] = turned[:, other, other] = np.cos(angle)
        turned[:, one, other], turned[:, other, one] = np.sin(angle), -np.sin(angle)
        axes = axes @ turned
    return axes
