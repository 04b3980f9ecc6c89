"""
Vision sequences from video frames: facial expression, or any Hugging Face image encoder. This file travels to the Hub.

[`FaceFeatures`] measures 468 face landmarks and gives one row of `COLUMNS` per frame, small numbers with a name and a
unit each. [`ImageEncoder`] gives the vector of a pretrained image model instead. A frame without a face, or a
missing one, is a row of zeros; a clip without any is a sequence of length 0, which the model takes as absent.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib.util import find_spec
from itertools import islice, tee
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel

# By transformers 5.9, the same name at the top needs torchvision, even for images that Pillow prepares.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from .face_landmarks_selfmm import POINTS, FaceLandmarker, check_frame, region_of_landmarks, sample
from .layers_selfmm import WEIGHTED, chosen_states
from .loading_selfmm import commit_of, load

# Landmark numbers of MediaPipe's face mesh, the speaker's right side first: outer and inner corner of the eyes.
# (python/solutions/face_mesh_connections.py names the contours to which they belong.)
EYES = ((33, 133), (263, 362))
FOREHEAD, NOSE_BASE, CHIN = 10, 2, 152

# What is measured of one face. A landmark's place is told in the head's own frame: from the middle between the eyes,
# x towards the speaker's left, y up, z forward; unit: the distance between the centres of the eyes. So where the face
# is in the picture, how large it is and where it looks do not matter, except in the first three. Pairs are told as
# their mean and as left minus right (`_asymmetry`).
EXPRESSION_COLUMNS = (
    "yaw",  # radians, + to the speaker's left
    "pitch",  # radians, + up; about 0.3 in a face seen straight on, as foreheads slope
    "roll",  # radians, + towards the speaker's left shoulder
    "mouth_width",  # between the corners
    "mouth_open",  # between the inner rims of the lips
    "mouth_shift",  # of the corners' middle, + to the left
    "corner_lift",  # corners over the inner rim of the upper lip: + smile, - sulk
    "corner_lift_asymmetry",
    "corner_height",  # corners over the base of the nose (negative)
    "upper_lip",  # thickness
    "lower_lip",  # thickness
    "upper_lip_height",  # upper rim over the base of the nose (negative)
    "lips_forward",  # lips before the corners: + pout
    "jaw_drop",  # base of the nose over the chin
    "jaw_shift",  # of the chin, + to the left
    "chin_height",  # lower rim of the lower lip over the chin
    "brow_inner",  # inner, middle and outer part of the brows over the eyes
    "brow_inner_asymmetry",
    "brow_middle",
    "brow_middle_asymmetry",
    "brow_outer",
    "brow_outer_asymmetry",
    "brow_gap",  # between the inner ends: small in a frown
    "eye_open",  # between the lids, over the width of the eye (no unit)
    "eye_open_asymmetry",
    "lower_lid",  # lower lids over the line of the eye's corners (negative): up in a felt smile
    "cheek",  # cheeks over the eyes (negative)
    "cheek_asymmetry",
    "nose_width",  # between the wings
    "nose_wing",  # wings over the eyes (negative): up where the nose is wrinkled
)
# Whose change per second is told too.
MOVING = (
    "yaw", "pitch", "roll", "mouth_width", "mouth_open", "corner_lift", "jaw_drop", "brow_inner", "brow_outer",
    "eye_open",
)  # fmt: skip
COLUMNS = ("face", *EXPRESSION_COLUMNS, *(f"{name}_motion" for name in MOVING))
_MOVING = [EXPRESSION_COLUMNS.index(name) for name in MOVING]
_ROLL = EXPRESSION_COLUMNS.index("roll")
# No head is tilted by more than this, in radians: beyond, it is the picture that was turned, by quarters.
MAX_TILT = math.radians(60)

# Wider than any face: they only keep a misfit of the landmarks from growing without bounds.
MAX_EXPRESSION = 5.0
MAX_MOTION = 10.0


def head_axes(landmarks: np.ndarray) -> np.ndarray:
    """
    Where the head looks: the directions, in the picture, of its own x (to its left), y (down) and z (backward).

    x runs from eye to eye, y from the top of the forehead to the base of the nose: neither moves with the expression.

    Returns:
        (3, 3) float64, one unit vector per row; rows are at right angles.
    """
    right, left = (landmarks[list(corners)].mean(axis=0) for corners in EYES)
    across, down = left - right, landmarks[NOSE_BASE] - landmarks[FOREHEAD]
    across = across / np.linalg.norm(across)
    down = down - (down @ across) * across
    down = down / np.linalg.norm(down)
    return np.stack([across, down, np.cross(across, down)])


def expression(landmarks: np.ndarray) -> np.ndarray:
    """
    The expression of one face.

    Args:
        landmarks (`np.ndarray`):
            (468, 3), MediaPipe's face mesh from any source: x right, y down, z away from the viewer, all in one unit
            (pixels, widths of the frame, centimetres...; not x over the width and y over the height).

    Returns:
        (30,) float32, the `EXPRESSION_COLUMNS`, in [-5, 5].

    Raises:
        ValueError: Another shape, a value that is not finite, or points that are no face (eyes or nose in one place).
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != (POINTS, 3):
        raise ValueError(f"landmarks have the shape {landmarks.shape}, expected ({POINTS}, 3): those of the face mesh")
    if not np.isfinite(landmarks).all():
        raise ValueError("landmarks hold values that are not finite; leave such a frame out, or pass None for it")
    right, left = (landmarks[list(corners)].mean(axis=0) for corners in EYES)
    unit, extent = np.linalg.norm(left - right), np.ptp(landmarks, axis=0).max()
    with np.errstate(invalid="ignore", divide="ignore"):
        axes = head_axes(landmarks)
    if unit <= 1e-3 * extent or not np.isfinite(axes).all():
        raise ValueError("landmarks are no face: the eyes, or forehead and nose, are in one place")
    place = (landmarks - (right + left) / 2) @ axes.T / unit * [1, -1, -1]
    x, y, z = place.T

    def length(one: int, other: int) -> float:
        return float(np.linalg.norm(place[one] - place[other]))

    def pair(right: float, left: float) -> tuple[float, float]:
        return (right + left) / 2, left - right

    def height(points: tuple[int, ...]) -> float:
        return y[list(points)].mean()

    def gap(uppers: tuple[int, ...], lowers: tuple[int, ...]) -> float:
        return height(uppers) - height(lowers)

    upper_rim, lower_rim = height((13,)), height((14,))
    values = [
        math.atan2(axes[0, 2], math.hypot(axes[0, 0], axes[0, 1])),
        -math.atan2(axes[1, 2], axes[2, 2]),
        math.atan2(axes[0, 1], axes[0, 0]),
        length(61, 291),
        upper_rim - lower_rim,
        (x[61] + x[291]) / 2,
        *pair(y[61] - upper_rim, y[291] - upper_rim),
        gap((61, 291), (NOSE_BASE,)),
        length(0, 13),
        length(14, 17),
        gap((0,), (NOSE_BASE,)),
        (z[0] + z[17] - z[61] - z[291]) / 2,
        gap((NOSE_BASE,), (CHIN,)),
        x[CHIN],
        gap((17,), (CHIN,)),
        *pair(height((55, 107)), height((285, 336))),
        *pair(height((52, 105)), height((282, 334))),
        *pair(height((46, 70)), height((276, 300))),
        length(107, 336),
        *pair(
            gap((160, 159, 158), (144, 145, 153)) / max(length(*EYES[0]), 1e-3),
            gap((387, 386, 385), (373, 374, 380)) / max(length(*EYES[1]), 1e-3),
        ),
        gap((144, 145, 153, 373, 374, 380), (*EYES[0], *EYES[1])),
        *pair(y[50], y[280]),
        length(129, 358),
        gap((129, 358), (*EYES[0], *EYES[1])),
    ]
    return np.array(values).clip(-MAX_EXPRESSION, MAX_EXPRESSION).astype(np.float32)


def face_features(landmarks: Iterable[np.ndarray | None], frame_rate: float) -> tuple[np.ndarray, float]:
    """
    The vision sequence of a face, from its landmarks in each frame.

    Args:
        landmarks (iterable of `np.ndarray` or `None`):
            (468, 3) as [`expression`] takes them; `None` where there is no face, and whatever [`expression`] refuses
            counts as none.
        frame_rate (`float`): Frames per second.

    Returns:
        (frames, 41) float32, the `COLUMNS`, and the share of frames with a face, in [0, 1]. `face` is 1, or 0 where
        all else is 0. `*_motion` is the change since the frame before, per second, in [-10, 10]; 0 where there was no
        face before. Where no frame has a face: (0, 41) and 0.0. In a picture that lies on its side or stands on its
        head, as a phone's video does that has lost its rotation, `roll` is what it is when the picture is put upright.
    """
    rows, previous, turn = [], None, 0.0
    for points in landmarks:
        row, values = np.zeros(len(COLUMNS), np.float32), None
        if points is not None:
            try:
                values = expression(points)
            except ValueError:
                if np.shape(points) != (POINTS, 3):
                    raise
        if values is not None:
            roll = float(values[_ROLL])
            if abs(math.remainder(roll - turn, math.tau)) > MAX_TILT:
                turn, previous = round(roll / (math.pi / 2)) * math.pi / 2, None
            values[_ROLL] = math.remainder(roll - turn, math.tau)
            row[0], row[1 : 1 + len(values)] = 1, values
            if previous is not None:
                motion = (values - previous)[_MOVING] * frame_rate
                row[1 + len(values) :] = motion.clip(-MAX_MOTION, MAX_MOTION)
        previous = values
        rows.append(row)
    return marked(rows, len(COLUMNS))


def marked(rows: list[np.ndarray], width: int) -> tuple[np.ndarray, float]:
    """Rows, which are zeros where there is no face, as a sequence; none of them if no frame has one. And the share."""
    share = float(np.mean([row.any() for row in rows])) if rows else 0.0
    return np.stack(rows) if share else np.zeros((0, width), np.float32), share


class FaceFeatures:
    """
    Frames of a clip -> the expression of the speaker's face over time.

    Args:
        folder (`str` or `Path`, *optional*): Holds the two landmark models; those of the package by default.
        frame_rate (`float`, defaults to 10.0): Frames per second of what will be read.
    """

    columns = COLUMNS
    width = len(COLUMNS)

    def __init__(self, folder: str | Path | None = None, frame_rate: float = 10.0):
        if not (math.isfinite(frame_rate) and frame_rate > 0):
            raise ValueError(f"frame_rate is {frame_rate}, expected frames per second above 0")
        self.frame_rate = frame_rate
        self.landmarker = FaceLandmarker(folder or Path(__file__).with_name("face_networks"))

    def __call__(self, frames: Iterable[np.ndarray | None]) -> tuple[np.ndarray, float]:
        """
        Args:
            frames (iterable of `np.ndarray` or `None`):
                (height, width, 3) uint8, RGB; `None` where the picture is missing. Read one at a time.

        Returns:
            What [`face_features`] returns: (frames, 41) float32, and the share of frames with a face.
        """
        faces = self.landmarker.track(frames)
        return face_features((face and face.landmarks for face in faces), self.frame_rate)


class ImageEncoder:
    """
    Frames of a clip -> the vectors of a pretrained image model (CLIP, ViT, DINOv2, a face-expression ViT...).

    The vector of a frame is the model's image embedding (CLIP, SigLIP), else what its trained pooler gives, else the
    last layer's class token, or mean where it has none. A classifier's encoder has no trained pooler: transformers
    would make up a random one, which is not used. Of another layer than the last, it is the class token, or mean.
    Images are prepared by Pillow, whether torchvision is there or not, so that the features of a clip do not depend on
    what is installed.

    Args:
        name (`str` or `Path`): Repository or folder of the model, with its image processor.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        landmarker ([`FaceLandmarker`], *optional*):
            Where given, the model sees the speaker's face alone, upright, cut out with a margin of a quarter on each
            side; rows then begin with the column `face`, and are 0 where there is no face.
        batch_size (`int`, defaults to 16): Frames that pass the model at once.
        device (`str` or `torch.device`, defaults to `"cpu"`): Where the model runs, in float32.
        token (`str` or `bool`, *optional*): For the Hub; that of the user by default, none if `False`.
        layer (`int` or `str`, defaults to -1): As of [`AudioEncoder`].
    """

    CROP_SIZE = 256  # pixels; the image processor resizes it to what the model takes

    def __init__(
        self,
        name: str | Path,
        revision: str | None = None,
        landmarker: FaceLandmarker | None = None,
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        token: str | bool | None = None,
        layer: int | str = -1,
    ):
        self.name, self.layer = str(name), layer
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected 1 or more")
        self.landmarker, self.batch_size = landmarker, batch_size
        # The option `backend` came to transformers together with this module.
        pillow = {"backend": "pil"} if find_spec("transformers.image_processing_backends") else {"use_fast": False}
        where = {"revision": revision, "token": token}
        self.processor = load(AutoImageProcessor.from_pretrained, str(name), **where, **pillow)
        model, info = load(AutoModel.from_pretrained, str(name), **where, dtype=torch.float32, output_loading_info=True)
        self.commit = commit_of(str(name), **where)
        missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
        if missing:
            raise ValueError(
                f"{name} lacks weights of its encoder, such as {missing[0]}: it is not a complete image model"
            )
        self.model = model.eval().requires_grad_(False).to(device)
        self._untrained = set(info["missing_keys"])  # a pooler made up at random, another at each loading
        self._has_class_token = any(key.endswith(("cls_token", "class_embedding")) for key in self.model.state_dict())

    @cached_property
    def checksum(self) -> str:
        """
        SHA-256 of the trained weights: over their shapes and values, each hashed for itself and put in order of that.
        Neither the files they came from nor their names matter, which change with the version of transformers.
        """
        digests = []
        for key, value in self.model.state_dict().items():
            if key not in self._untrained and value.is_floating_point():  # not counters and positions
                value = value.cpu().contiguous()
                digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)}\n".encode())
                digest.update(value.reshape(-1).view(torch.uint8).numpy())
                digests.append(digest.digest())
        return hashlib.sha256(b"".join(sorted(digests))).hexdigest()

    @cached_property
    def states(self) -> int:
        """How many hidden states a row consists of."""
        return len(self._hidden(self._pixels([np.zeros((32, 32, 3), np.uint8)]))) if self.layer == WEIGHTED else 1

    @cached_property
    def width(self) -> int:
        """Columns of a row, the column `face` included where there is one."""
        return self._encode([np.zeros((32, 32, 3), np.uint8)]).shape[1] + (self.landmarker is not None)

    def __call__(self, frames: Iterable[np.ndarray | None]) -> tuple[np.ndarray, float]:
        """
        Args:
            frames (iterable of `np.ndarray` or `None`):
                (height, width, 3) uint8, RGB; `None` where the picture is missing. Read one batch at a time.

        Returns:
            (frames, width) float32, and the share of frames with a face, in [0, 1]; where faces are not looked for,
            with a picture. A row of zeros stands for a frame without. No frame, or all without: (0, width) and 0.0.
        """
        images, rows = self._images(frames), []
        while batch := list(islice(images, self.batch_size)):
            seen = [image is not None for image in batch]
            vectors = iter(self._encode([image for image in batch if image is not None]) if any(seen) else ())
            for there in seen:
                row = np.zeros(self.width, np.float32)
                if there:
                    row[0], row[self.landmarker is not None :] = 1, next(vectors)
                rows.append(row)
        return marked(rows, self.width)

    def _images(self, frames: Iterable[np.ndarray | None]) -> Iterator[np.ndarray | None]:
        """What the model shall see of each frame, uint8."""
        if self.landmarker is None:
            for frame in frames:
                if frame is not None:
                    check_frame(frame)
                yield frame
            return
        frames, looked_at = tee(frames)
        for frame, face in zip(frames, self.landmarker.track(looked_at), strict=True):
            if face is None:
                yield None
            else:
                region = region_of_landmarks(face.landmarks * frame.shape[1])
                yield (sample(frame, region, self.CROP_SIZE, outside="edge") * 255).round().astype(np.uint8)

    @torch.no_grad()
    def _encode(self, images: list[np.ndarray]) -> np.ndarray:
        """Vectors of images (height, width, 3) uint8: (images, width) float32."""
        pixels = self._pixels(images)
        if self.layer != -1:
            vectors = torch.cat([self._one_vector(state) for state in self._hidden(pixels)], -1)
            return vectors.float().cpu().numpy()
        if hasattr(self.model, "get_image_features"):
            output = self.model.get_image_features(pixel_values=pixels)
        else:
            output = self.model(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None)
        if pooled is None or self._untrained:
            pooled = self._one_vector(output.last_hidden_state)
        return pooled.flatten(1).float().cpu().numpy()

    def _pixels(self, images: list[np.ndarray]) -> torch.Tensor:
        made = self.processor(images=images, return_tensors="pt", input_data_format="channels_last")
        return made["pixel_values"].to(self.model.device)

    @torch.no_grad()
    def _hidden(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The hidden states that are chosen, (images, tokens, width) each; of CLIP and its like, those of images."""
        model = getattr(self.model, "vision_model", self.model)
        return chosen_states(model(pixel_values=pixels, output_hidden_states=True).hidden_states, self.layer, self.name)

    def _one_vector(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 0] if self._has_class_token else tokens.mean(dim=1)
