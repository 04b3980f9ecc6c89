"""Draws a picture of the landmarks of a face. Lengths are as in face.py."""

import math
from typing import Any

import numpy as np

from ...model.face_landmarks_selfmm import POINTS
from ...model.vision_features_selfmm import EYES, head_axes
from .face import CHEEK, CORNER, LOWER_BROW, LOWER_RIM, UPPER_BROW, UPPER_RIM, neutral_face

# More contours of the right half, outside to middle, top to bottom, as in face.py.
OVAL = (10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152)
UPPER_LIP, LOWER_LIP = (61, 185, 40, 39, 37, 0), (61, 146, 91, 181, 84, 17)
UPPER_LID, LOWER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)
LID_CREASE = (247, 30, 29, 27, 28, 56)
NOSTRIL = 98

SKINS = ((246, 212, 188), (236, 190, 158), (214, 162, 124), (178, 126, 92), (138, 96, 72))
HAIRS = ((40, 30, 28), (78, 50, 34), (128, 82, 46), (206, 166, 100), (126, 122, 122))
IRISES = ((86, 58, 38), (74, 116, 150), (86, 124, 80), (58, 42, 34))
SHIRTS = ((76, 108, 156), (168, 84, 88), (80, 136, 116), (128, 104, 164), (222, 170, 86))
WALLS = ((214, 226, 234), (236, 226, 210), (218, 232, 216), (230, 220, 234))
ANGLES = np.linspace(0, 2 * math.pi, 60)
COSINE, SINE = np.cos(ANGLES), np.sin(ANGLES)  # an outline of 60 points
LIGHT = np.array([-0.3, -0.35, -0.9]) / np.linalg.norm([-0.3, -0.35, -0.9])
HAIR_DEPTH = 0.7  # z of its outline
DETAIL = 3  # pictures are drawn this much larger, then reduced


def draw_face(landmarks: np.ndarray, size: int = 256, speaker: int = 0) -> np.ndarray:
    """
    Draws a picture of a face.

    Args:
        landmarks (`np.ndarray`): (468, 3), in units of the picture's side, as [`face_motion`] gives them.
        size (`int`, defaults to 256): Side of the picture, pixels.
        speaker (`int`, defaults to 0): Seed for what the landmarks do not tell: colours and hair.

    Returns:
        (size, size, 3) uint8, RGB, in which [`FaceLandmarker`] finds the face.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: These are no landmarks of a face, `None` for instance: repeat the picture before.
    """
    if np.shape(landmarks) != (POINTS, 3):
        raise ValueError(f"landmarks have the shape {np.shape(landmarks)}, expected ({POINTS}, 3): those of a face")
    return _Drawing(landmarks, size, np.random.default_rng(speaker)).finished()


class _Drawing:
    """A picture in the making; `place` are the landmarks in it, `unit` is the distance of the eyes, in pixels."""

    def __init__(self, landmarks: np.ndarray, size: int, random: np.random.Generator):
        try:
            from PIL import Image, ImageDraw, ImageFilter
        except ImportError as error:
            raise ImportError("Faces are drawn by Pillow, which is not installed: pip install pillow") from error
        self.Image, self.Draw, self.Blur = Image, ImageDraw.Draw, ImageFilter.GaussianBlur

        self.size, self.side = size, size * DETAIL
        self.points = np.asarray(landmarks, dtype=np.float64) * self.side
        self.place, self.axes = self.points[:, :2], head_axes(self.points)
        right, left = (self.points[list(corners)].mean(axis=0) for corners in EYES)
        self.unit, self.origin = float(np.linalg.norm(left - right)), (right + left) / 2
        self.down = self.axes[1, :2] * self.unit

        tone = int(random.integers(len(SKINS)))
        self.skin = np.array(SKINS[tone], dtype=np.float64)
        self.hair = np.array(HAIRS[random.integers(2 if tone > 2 else len(HAIRS))], dtype=np.float64)
        self.iris = np.array(IRISES[random.integers(len(IRISES)) if tone < 2 else 0], dtype=np.float64)
        self.shirt, self.wall = (np.array(table[random.integers(len(table))], float) for table in (SHIRTS, WALLS))
        self.long_hair, self.parting = random.random() < 0.5, random.uniform(-0.6, 0.6)
        self.image = self._plain(self.wall)

    def finished(self) -> np.ndarray:
        self._background()
        self._skin()
        self._hair()
        self._nose()
        for side in (0, 1):
            self._eye(side)
            self._brow(side)
        self._mouth()
        return np.asarray(self.image.resize((self.size, self.size), self.Image.Resampling.LANCZOS))

    def _background(self) -> None:
        light = np.linspace(1.04, 0.88, self.side)[:, None, None]
        wall = np.tile(self.wall * light, (1, self.side, 1)).clip(0, 255)
        self.image = self.Image.fromarray(wall.astype(np.uint8))
        if self.long_hair:
            x, y = np.array([(0.9, -0.9), (1.36, 0.1), (1.46, 1.2), (1.4, 2.0), (0.9, 2.25)]).T
            self._fill(_curve(self._head(np.r_[-x, x[::-1]], np.r_[y, y[::-1]], 0.9)), _tint(self.hair, 0.75))
        self._fill(self._head(1.35 * COSINE, 1.36 * SINE - 0.3, HAIR_DEPTH), _tint(self.hair))
        # Neck and shoulders do not turn with the head.
        below = self._head(0, 1.5, 0.8)
        for half, colour in (
            ([(2.3, 4), (2.1, 1.75), (1.3, 1.3), (0.66, 1), (0, 1.2)], _tint(self.shirt)),
            ([(0.6, -0.4), (0.58, 0.5), (0.72, 0.98), (0.35, 1.3), (0, 1.4)], _tint(self.skin, (0.86, 0.8, 0.77))),
            ([(0.6, -0.4), (0.59, 0.36), (0.42, 0.52), (0.2, 0.6), (0, 0.62)], _tint(self.skin, (0.78, 0.7, 0.66))),
        ):
            x, y = np.array(half).T
            outline = np.stack([np.r_[-x, x[-2::-1]], np.r_[y, y[-2::-1]]], axis=1)
            self._fill(_curve(outline * self.unit + below), colour)
        if not self.long_hair:
            for middle in (-1.24, 1.24):
                self._fill(
                    self._head(middle + 0.15 * COSINE, 0.3 + 0.32 * SINE, 0.95), _tint(self.skin, (0.9, 0.83, 0.8))
                )

    def _skin(self) -> None:
        corners = self.points[neutral_face()[1]]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        shine = (normals @ LIGHT / np.linalg.norm(normals, axis=1)).clip(0)
        colours = self.skin * (0.7 + 0.38 * shine[:, None]) ** [0.8, 1.0, 1.1]
        layer = self._plain(0.8 * self.skin)
        for number in np.argsort(-corners[:, :, 2].mean(axis=1)):
            self._fill(corners[number, :, :2], _tint(colours[number]), layer)
        oval = _curve(self.place[_whole(OVAL)])
        self.image.paste(layer.filter(self.Blur(0.045 * self.unit)), mask=self._mask(oval))
        for cheek in self._pair(CHEEK):
            blush = self.place[cheek] + 0.27 * self.unit * np.stack([COSINE, 0.8 * SINE], axis=1)
            mask = self._mask(blush, 70).filter(self.Blur(0.1 * self.unit))
            self.image.paste(self._plain(self.skin * [1, 0.7, 0.68]), mask=mask)

    def _hair(self) -> None:
        hairline = self.place[_whole((127, 162, 21, 54, 103, 67, 109, 10))]
        x = np.linspace(-1, 1, len(hairline))
        if self.long_hair:
            depth = 0.03 + 0.3 * np.sqrt(1 - x**2) * np.abs(x - self.parting) ** 0.7
        else:
            depth = 0.03 + 0.14 * (1 - x**2) * (1.4 + x * np.sign(self.parting))
        angle = np.linspace(0, -math.pi, 40)
        crown = self._head(1.35 * np.cos(angle), 1.36 * np.sin(angle) - 0.3, HAIR_DEPTH)
        self._fill(np.concatenate([_curve(hairline + depth[:, None] * self.down), crown]), _tint(self.hair))
        if self.long_hair:
            x, y = np.array(
                [(1.1, -0.5), (1.35, -0.3), (1.46, 0.7), (1.4, 1.6), (1.25, 1.9), (1.3, 1.2), (1.24, 0.3)]
            ).T
            for lock in (-x, x):
                self._fill(_curve(self._head(lock, y, HAIR_DEPTH)), _tint(self.hair))

    def _nose(self) -> None:
        for nostril in self._pair(NOSTRIL):
            middle = 0.75 * self.place[nostril] + 0.25 * self.place[2] - 0.02 * self.down
            self._disc(middle, 0.055, _tint(self.skin, (0.55, 0.42, 0.4)), flatness=0.55)

    def _brow(self, side: int) -> None:
        upper, lower = (self.place[self._side(contour, side)] for contour in (UPPER_BROW, LOWER_BROW))
        middle = (upper + lower) / 2
        edges = _curve(middle + 0.75 * (upper - middle)), _curve(middle + 0.75 * (lower - middle))
        self._fill(np.concatenate([edges[0], edges[1][::-1]]), _tint(self._dark))

    def _eye(self, side: int) -> None:
        upper, lower, crease = (
            _curve(self.place[self._side(contour, side)]) for contour in (UPPER_LID, LOWER_LID, LID_CREASE)
        )
        # The speaker looks at the viewer, wherever the head is turned.
        middle = self.place[list(EYES[side])].mean(axis=0) - 0.012 * self.down + 0.06 * self.unit * self.axes[2, :2]
        ball = self._plain((250, 248, 246))
        for radius, colour in ((0.108, _tint(self.iris, 0.6)), (0.092, _tint(self.iris, 1.15)), (0.045, (16, 12, 12))):
            self._disc(middle, radius, colour, on=ball)
        self._disc(middle - 0.036 * self.unit, 0.022, (255, 255, 255), on=ball)
        self.image.paste(ball, mask=self._mask(np.concatenate([upper, lower[::-1]])))
        self._line(upper, 0.034, _tint(self._dark, 0.6))
        self._line(lower, 0.014, _tint(self.skin, (0.62, 0.5, 0.48)))
        self._line(crease, 0.014, _tint(self.skin, (0.74, 0.64, 0.62)))

    def _mouth(self) -> None:
        lips = self.skin * [0.86, 0.58, 0.58]
        upper_lip, upper, lower, lower_lip = (
            _curve(self.place[_whole(contour)]) for contour in (UPPER_LIP, UPPER_RIM, LOWER_RIM, LOWER_LIP)
        )
        self._fill(np.concatenate([upper_lip, upper[::-1]]), _tint(lips, 0.92))
        self._fill(np.concatenate([lower, lower_lip[::-1]]), _tint(lips, 1.02))
        inside = self._plain((72, 26, 30))
        self._disc(lower[len(lower) // 2] + 0.04 * self.down, 0.18, (176, 84, 88), 0.5, inside)  # the tongue
        gap = lower - upper
        teeth = gap * np.minimum(0.5, 0.08 * self.unit / np.linalg.norm(gap, axis=1).clip(1))[:, None]
        self._fill(np.concatenate([upper - 0.2 * self.down, (upper + teeth)[::-1]]), (248, 244, 238), inside)
        self.image.paste(inside, mask=self._mask(np.concatenate([upper, lower[::-1]])))
        corners = self.place[self._pair(CORNER)]
        self._line(np.concatenate([corners[:1], upper, corners[1:]]), 0.022, _tint(lips, 0.55))
        self._line(lower, 0.014, _tint(lips, 0.7))
        for corner in corners:
            self._disc(corner, 0.02, _tint(lips, 0.5))

    @property
    def _dark(self) -> np.ndarray:
        """The colour of brows and lashes: darker than the skin, whatever the hair."""
        return np.minimum(0.8 * self.hair, 0.5 * self.skin)

    def _head(self, x: np.ndarray, y: np.ndarray, z: float) -> np.ndarray:
        """Returns where points of the head are in the picture: (points, 2)."""
        points = np.stack(np.broadcast_arrays(x, y, z), axis=-1) * self.unit
        return (points @ self.axes + self.origin)[..., :2]

    @staticmethod
    def _pair(point: int) -> list[int]:
        return [point, neutral_face()[2][point]]

    @staticmethod
    def _side(contour: tuple[int, ...], side: int) -> np.ndarray:
        return neutral_face()[2][list(contour)] if side else np.array(contour)

    def _plain(self, colour: np.ndarray) -> Any:
        return self.Image.new("RGB", (self.side, self.side), _tint(colour))

    def _mask(self, outline: np.ndarray, strength: int = 255) -> Any:
        mask = self.Image.new("L", (self.side, self.side))
        self._fill(outline, strength, mask)
        return mask

    def _fill(self, outline: np.ndarray, colour: Any, on: Any = None) -> None:
        self.Draw(on or self.image).polygon(outline.ravel().tolist(), fill=colour)

    def _disc(self, middle: np.ndarray, radius: float, colour: Any, flatness: float = 1.0, on: Any = None) -> None:
        reach = np.array([radius, radius * flatness]) * self.unit
        self.Draw(on or self.image).ellipse([*(middle - reach), *(middle + reach)], fill=colour)

    def _line(self, points: np.ndarray, width: float, colour: Any) -> None:
        width = max(1, round(width * self.unit))
        self.Draw(self.image).line(points.ravel().tolist(), fill=colour, width=width, joint="curve")
        for end in points[[0, -1]]:
            self._disc(end, width / 2 / self.unit, colour)


def _whole(half: tuple[int, ...]) -> list[int]:
    """Returns a contour that ends in the middle, continued back along the other side."""
    return [*half, *neutral_face()[2][list(half[-2::-1])]]


def _curve(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """Returns a smooth line through points (Catmull and Rom): (steps * (points - 1) + 1, 2)."""
    points = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = (points[first : len(points) - 3 + first, None] for first in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    square, cube = 2 * before - 5 * start + 4 * end - after, 3 * start - before - 3 * end + after
    curve = start + ((end - before) * t + square * t**2 + cube * t**3) / 2
    return np.concatenate([curve.reshape(-1, 2), points[-2:-1]])


def _tint(colour: Any, strength: Any = 1.0) -> tuple[int, ...]:
    """Makes a colour for Pillow: brighter or darker, by one number or by one for each of red, green and blue."""
    return tuple((np.asarray(colour) * np.asarray(strength)).clip(0, 255).astype(int).tolist())
