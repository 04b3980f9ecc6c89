"""
Face landmarks from video frames: the two MediaPipe models, run by LiteRT. This file travels to the Hub.

A BlazeFace detector (128 x 128 pixels, arXiv 1907.05047) finds the faces, a face mesh network (192 x 192 pixels,
arXiv 1907.06724) gives 468 points of one of them. As in MediaPipe's own graph, the points of one frame say where to
look in the next, so the detector runs only where no face is followed. Needs `ai-edge-litert`.

Beyond MediaPipe, a face that is upside down is told from one that is not, and where no face has been seen in a clip
yet, the picture is also turned by quarters and looked at in parts.

Constants are those of MediaPipe 0.10.21 (Apache-2.0), each with the file below `mediapipe/` that holds it.
"""

import hashlib
import math
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    Interpreter = None

# File name -> SHA-256 of the two models, as they lie in the wheel mediapipe-0.10.21 (modules/face_detection and
# modules/face_landmark).
MODEL_FILES = {
    "face_detection_short_range.tflite": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}
POINTS = 468

# modules/face_detection/face_detection_short_range.pbtxt: tensor_width, strides, min_score_thresh
DETECTOR_SIZE = 128
STRIDES = (8, 16, 16, 16)
MIN_DETECTION_SCORE = 0.5
# modules/face_detection/face_detection.pbtxt: score_clipping_thresh, min_suppression_threshold
MAX_LOGIT = 100.0
MIN_OVERLAP = 0.3
# modules/face_landmark/face_landmark.tflite: input tensor
MESH_SIZE = 192
# python/solutions/face_mesh.py: min_tracking_confidence, the threshold on the face flag
MIN_PRESENCE = 0.5
# modules/face_landmark/face_detection_front_detection_to_roi.pbtxt and face_landmark_landmarks_to_roi.pbtxt: scale_x
REGION_SCALE = 1.5
# The outer corners of the eyes, which the region's turn follows: rotation_vector_start_ and _end_keypoint_index in
# modules/face_landmark/face_landmark_landmarks_to_roi.pbtxt. The version of that file we read ends at 133, the
# inner corner of the same eye; the wheel 0.10.21 does what 263 does (mean misfit on a real clip 0.05 % of the eyes'
# distance, with 133 0.7 %).
EYE_CORNERS = (33, 263)
# Ours: the points are worse where the face was not where the network looked, which then looks again, up to three times
# in all. At 6 frames/s of a lively speaker this brought the largest misfit from 20 % of the eyes' distance to 2 %.
MAX_LOOKS = 3
MAX_SHIFT, MAX_STRETCH, MAX_TURN = 0.05, 0.1, 0.1  # of the region's side; of that side too; radians
# Ours: the mesh network lays upright points over a face that is upside down, most often with a presence of 0.5 to 0.99;
# turned by half, the same place then has 0.9999. Of upright faces only blurred ones and those turned away by more than
# 45 degrees have less than this, and turned by half they have less still.
SURE_PRESENCE = 0.999
# Ours: until a face is found in a clip, one frame in so many is searched: turned by quarters, then in tiles. The whole
# frame shows the detector faces from about a tenth of its longer side on, tiles of a third those from a twentieth on.
SEARCH_EVERY = 10
TILES_PER_SIDE = 3


class Face(NamedTuple):
    """
    One face in one frame.

    `landmarks` is (468, 3) float32: x to the right and y down from the frame's upper left corner, z away from the
    viewer, **all three in units of the frame's width** (so a circle stays a circle, which it would not if y were
    divided by the height). x is in [0, 1] and y in [0, height / width] unless the face reaches out of the frame.
    `presence`, in (0.5, 1], is how sure the network is that this is a face.
    """

    landmarks: np.ndarray
    presence: float


class Detection(NamedTuple):
    """
    A face that the detector sees, in units of the frame's width: the centre of its box, the width and height of the
    box, and six points (6, 2): right eye, left eye, nose tip, mouth, right ear, left ear (of the person). `score` is
    in [0.5, 1].
    """

    x: float
    y: float
    width: float
    height: float
    points: np.ndarray
    score: float


class Region(NamedTuple):
    """A square of a frame: its centre and side in pixels, and how far it is turned, clockwise, in radians."""

    x: float
    y: float
    side: float
    angle: float


class FaceLandmarker:
    """
    Finds and follows the face of the speaker.

    Where several faces are seen, the speaker is the one already followed, else the one that is large, central and
    sure (`speaker_first`). The same frames always give the same landmarks: nothing is kept between calls.

    Args:
        folder (`str` or `Path`): Holds the files of `MODEL_FILES`; they are checked by their SHA-256.

    Raises:
        ImportError: LiteRT is not installed.
        FileNotFoundError, ValueError: A model is missing, or is another file.
    """

    def __init__(self, folder: str | Path):
        if Interpreter is None:
            raise ImportError("Face landmarks need LiteRT: pip install ai-edge-litert")
        self.folder = Path(folder)
        detector, mesh = (load_model(self.folder / name, digest) for name, digest in MODEL_FILES.items())
        self._detector, self._mesh = Network(detector), Network(mesh)
        self._anchors = detector_anchors()

    def __reduce__(self):
        return type(self), (self.folder,)  # interpreters cannot be copied to a worker: made anew there

    def __call__(self, frame: np.ndarray, previous: Face | None = None) -> Face | None:
        """
        Args:
            frame (`np.ndarray`): (height, width, 3) uint8, RGB, of any size.
            previous (`Face`, *optional*): The face in the frame before. It is looked for first.

        Returns:
            [`Face`], or `None` where no face is seen. Without `previous` the frame is searched for faces that lie on
            their side, stand on their head or are small.
        """
        check_frame(frame)
        if previous is None:
            return self.find(frame) or self.search(frame)
        return self.follow(frame, previous) or self.find(frame, previous)

    def track(self, frames: Iterable[np.ndarray | None]) -> Iterator[Face | None]:
        """
        The speaker's face in each frame of a clip, `None` where it is not seen, or where there is no frame.

        Frames may change in size. Until a face is seen, every tenth frame is searched as one alone is. A face that was
        found only so is followed where it is sure, and gives way to one that is seen in the whole frame.
        """
        last, searched, fruitless = None, False, 0
        for frame in frames:
            face = None
            if frame is not None:
                check_frame(frame)
                if last is not None and not searched:
                    face = self(frame, last)
                else:
                    face = self.find(frame)
                    searched = face is None
                    if face is None and last is not None:
                        face = sure(self.follow(frame, last))
                    if face is None and fruitless % SEARCH_EVERY == 0:
                        face = self.search(frame)
                fruitless = 0 if face else fruitless + 1
                last = face or last
            yield face

    def follow(self, frame: np.ndarray, previous: Face) -> Face | None:
        """The face that was there in the frame before."""
        return self.look(frame, region_of_landmarks(previous.landmarks * frame.shape[1]), SURE_PRESENCE)

    def find(self, frame: np.ndarray, previous: Face | None = None) -> Face | None:
        """The speaker in the whole of a frame; also turned as the picture was when the face was seen last."""
        for quarters in dict.fromkeys([0, quarter_turns(previous) if previous else 0]):
            detections = self.detect(frame, whole(frame, quarters))
            for detection in speaker_first(detections, frame.shape[0] / frame.shape[1], previous):
                face = self.look(frame, region_of_detection(detection, frame.shape[1]))
                if face is not None:
                    return face
        return None

    def search(self, frame: np.ndarray) -> Face | None:
        """The speaker in a frame that is turned by quarters, or else in parts of it; only where it is sure."""
        for regions in ([whole(frame, 2)], [whole(frame, 1)], [whole(frame, 3)], tiles(frame)):
            detections = [detection for region in regions for detection in self.detect(frame, region)]
            for detection in speaker_first(detections, frame.shape[0] / frame.shape[1]):
                face = sure(self.look(frame, region_of_detection(detection, frame.shape[1])))
                if face is not None:
                    return face
        return None

    def detect(self, frame: np.ndarray, region: Region | None = None) -> list[Detection]:
        """All faces in a frame (height, width, 3) uint8, or in a region of it, the surest first."""
        _, width, _ = check_frame(frame)
        region = region or whole(frame)
        image = sample(frame, region, DETECTOR_SIZE, outside="black")
        boxes, logits = self._detector(image * 2 - 1)  # (1, 896, 16), (1, 896, 1)
        scores = 1 / (1 + np.exp(-logits[0, :, 0].astype(np.float64).clip(-MAX_LOGIT, MAX_LOGIT)))
        kept = scores >= MIN_DETECTION_SCORE
        # Box and points are offsets from the anchor, in pixels of the 128 x 128 image; x before y.
        values = boxes[0, kept].astype(np.float64).reshape(-1, 8, 2) / DETECTOR_SIZE
        places = [0, 2, 3, 4, 5, 6, 7]  # all but the size of the box
        values[:, places] += self._anchors[kept, None]
        values, scores = merge_overlapping(values, scores[kept])
        values *= region.side / width
        if region.angle:
            cosine, sine = math.cos(region.angle), math.sin(region.angle)
            middle = region.side / width / 2
            values[:, places] = (values[:, places] - middle) @ [[cosine, sine], [-sine, cosine]] + middle
        values[:, places] -= (region.side / 2 - region.x) / width, (region.side / 2 - region.y) / width
        return [
            Detection(*row[:2].ravel().tolist(), row[2:], float(score))
            for row, score in zip(values, scores, strict=True)
        ]

    def look(self, frame: np.ndarray, region: Region, trusted: float = math.inf) -> Face | None:
        """
        The face in or near a region of a frame: [`mesh`], again where the face was until it was there.

        A face whose presence is below `trusted` may be upside down: then it fits better when the region is turned by
        half, and is looked at so, or is none where that is not sure either.
        """
        face = self._settled(frame, region)
        if face is None or face.presence >= trusted:
            return face
        region = region_of_landmarks(face.landmarks * frame.shape[1])
        turned = self.mesh(frame, region._replace(angle=region.angle + math.pi))
        if turned is None or turned.presence <= face.presence:
            return face
        if turned.presence < SURE_PRESENCE:
            return None
        return self._settled(frame, region_of_landmarks(turned.landmarks * frame.shape[1]))

    def _settled(self, frame: np.ndarray, region: Region) -> Face | None:
        found = None
        for _ in range(MAX_LOOKS):
            face = self.mesh(frame, region)
            if face is None:
                break
            found, looked = face, region
            region = region_of_landmarks(face.landmarks * frame.shape[1])
            if same_place(looked, region):
                break
        return found

    def mesh(self, frame: np.ndarray, region: Region) -> Face | None:
        """The face that fills the region of a frame but for a margin, `None` where there is none."""
        if not (all(map(math.isfinite, region)) and region.side > 1):
            return None
        points, logit = self._mesh(sample(frame, region, MESH_SIZE, outside="edge"))  # (1, 1, 1, 1404), (1, 1, 1, 1)
        presence = 1 / (1 + math.exp(-min(max(float(logit.item()), -MAX_LOGIT), MAX_LOGIT)))
        if presence <= MIN_PRESENCE or not np.isfinite(points).all():
            return None
        points = points.reshape(POINTS, 3).astype(np.float64) / MESH_SIZE  # in units of the region's side
        points[:, :2] -= 0.5
        landmarks = points * region.side
        cosine, sine = math.cos(region.angle), math.sin(region.angle)
        landmarks[:, :2] = landmarks[:, :2] @ [[cosine, sine], [-sine, cosine]] + [region.x, region.y]
        return Face((landmarks / frame.shape[1]).astype(np.float32), presence)


class Network(threading.local):
    """
    A LiteRT model with one input: (height, width, channels) float32 in, the list of its outputs out.

    An interpreter may run in one thread only. So each thread that uses this has its own: Python calls `__init__` in
    each of them.
    """

    def __init__(self, content: bytes):
        self.interpreter = Interpreter(model_content=content, num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.outputs = [output["index"] for output in self.interpreter.get_output_details()]

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        self.interpreter.set_tensor(self.input, image[None].astype(np.float32, copy=False))
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(index) for index in self.outputs]


def load_model(path: Path, digest: str) -> bytes:
    """The content of a model file with this SHA-256."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {' and '.join(MODEL_FILES)} of mediapipe 0.10.21 belong there")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise ValueError(f"{path} has the SHA-256 {found}, expected {digest}: take it from mediapipe 0.10.21")
    return content


def check_frame(frame: np.ndarray) -> tuple[int, int, int]:
    """The shape of a frame, or an error that says what a frame is."""
    shape, dtype = getattr(frame, "shape", None), getattr(frame, "dtype", None)
    if not isinstance(frame, np.ndarray) or len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        found = f"{type(frame).__name__} of shape {shape} and type {dtype}"
        raise ValueError(f"a frame is an RGB array of shape (height, width, 3) and type uint8, not {found}")
    return shape


def whole(frame: np.ndarray, quarters: int = 0) -> Region:
    """All of a frame, and black bars that make it a square; turned by quarters, clockwise."""
    height, width, _ = frame.shape
    return Region(width / 2, height / 2, max(height, width), quarters * math.pi / 2)


def tiles(frame: np.ndarray) -> list[Region]:
    """Squares of a third of the frame's longer side that overlap by half or more: 15 of a frame of 16:9."""
    height, width, _ = frame.shape
    side = max(height, width) / TILES_PER_SIDE

    def centres(length: int) -> np.ndarray:
        steps = max(0, math.ceil((length - side) / (side / 2)))
        return np.linspace(side / 2, length - side / 2, steps + 1) if steps else np.array([length / 2])

    return [Region(float(x), float(y), side, 0.0) for y in centres(height) for x in centres(width)]


def sure(face: Face | None) -> Face | None:
    return face if face is not None and face.presence >= SURE_PRESENCE else None


def quarter_turns(face: Face) -> int:
    """By how many quarters, clockwise, the picture of a face is turned: 0 to 3."""
    return round(region_of_landmarks(face.landmarks).angle / (math.pi / 2)) % 4


def detector_anchors() -> np.ndarray:
    """
    Centres of the 896 anchors, (896, 2) float64, x and y in [0, 1].

    calculators/tflite/ssd_anchors_calculator.cc with the options of modules/face_detection/face_detection.pbtxt: two
    anchors per cell and layer (aspect ratio 1, and interpolated_scale_aspect_ratio), of size 1 (fixed_anchor_size).
    Layers of one stride share their cells: 16 x 16 cells with 2 anchors, then 8 x 8 with 6.
    """
    layers = []
    for stride in dict.fromkeys(STRIDES):
        cells = DETECTOR_SIZE // stride
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        layers.append(centres.repeat(2 * STRIDES.count(stride), axis=0))
    return np.concatenate(layers)


def merge_overlapping(values: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Weighted non-maximum suppression (calculators/util/non_max_suppression_calculator.cc): boxes that overlap the
    surest one by more than 0.3 of their union become their mean, weighted by score.

    Args:
        values (`np.ndarray`): (boxes, 8, 2) float64: centre, size and six points of each box.
        scores (`np.ndarray`): (boxes,) float64.

    Returns:
        The same for the boxes that remain, the surest first.
    """
    low, high = values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2
    areas = values[:, 1].prod(axis=1)
    left, merged, kept = np.argsort(-scores, kind="stable"), [], []
    while len(left):
        best = left[0]
        sides = (np.minimum(high[left], high[best]) - np.maximum(low[left], low[best])).clip(0)
        shared = sides.prod(axis=1)
        same = shared > MIN_OVERLAP * (areas[left] + areas[best] - shared)
        same[0] = True  # also a box without area
        merged.append(np.average(values[left[same]], axis=0, weights=scores[left[same]]))
        kept.append(scores[best])
        left = left[~same]
    return np.array(merged).reshape(-1, *values.shape[1:]), np.array(kept)


def speaker_first(detections: list[Detection], height: float, previous: Face | None = None) -> list[Detection]:
    """
    Faces in the order in which they may be the speaker's: first those where the previous face was, then by size times
    score times nearness to the centre of the frame (1 there, 0 in its corners). Lengths are in units of the width.
    """
    followed = None
    if previous is not None:
        followed = region_of_landmarks(previous.landmarks)

    def rank(detection: Detection) -> tuple[bool, float]:
        near = followed is not None and (
            math.hypot(detection.x - followed.x, detection.y - followed.y) < followed.side / 2
        )
        away = math.hypot(detection.x - 0.5, detection.y - height / 2) / math.hypot(0.5, height / 2)
        return near, detection.width * detection.score * (1 - away)

    return sorted(detections, key=rank, reverse=True)


def region_of_detection(detection: Detection, width: int) -> Region:
    """Where the mesh network looks for a detected face in a frame of this width, with the eyes level in it."""
    (x0, y0), (x1, y1) = detection.points[0], detection.points[1]
    side = max(detection.width, detection.height) * REGION_SCALE
    return Region(detection.x * width, detection.y * width, side * width, math.atan2(y1 - y0, x1 - x0))


def region_of_landmarks(landmarks: np.ndarray) -> Region:
    """Where the mesh network looks for a face that had these landmarks (468, 2 or more) in the frame before."""
    (x0, y0), (x1, y1) = landmarks[EYE_CORNERS[0], :2], landmarks[EYE_CORNERS[1], :2]
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    x, y = (low + high) / 2
    side = max(high - low) * REGION_SCALE
    return Region(float(x), float(y), float(side), math.atan2(y1 - y0, x1 - x0))


def same_place(one: Region, other: Region) -> bool:
    """Whether a face that fills one region is where the network expects it when it looks at the other."""
    return (
        math.hypot(one.x - other.x, one.y - other.y) < MAX_SHIFT * one.side
        and abs(other.side - one.side) < MAX_STRETCH * one.side
        and abs(math.remainder(other.angle - one.angle, math.tau)) < MAX_TURN
    )


def sample(frame: np.ndarray, region: Region, size: int, outside: str) -> np.ndarray:
    """
    A region of a frame, turned upright and resized by bilinear interpolation.

    Args:
        frame (`np.ndarray`): (height, width, 3) uint8.
        region (`Region`): May reach out of the frame.
        size (`int`): Side of the result.
        outside (`str`): What is there: `"black"`, or `"edge"`, the nearest pixel of the frame.

    Returns:
        (size, size, 3) float32 in [0, 1].
    """
    height, width, _ = frame.shape
    # Pixel i of the result is i / size along the region, as in calculators/tensor/image_to_tensor_converter_opencv.cc
    # (not (i + 0.5) / size: with that the landmarks lie half a pixel off, 1.6 % of the distance of the eyes).
    steps = (np.arange(size) / size - 0.5) * region.side
    cosine, sine = math.cos(region.angle), math.sin(region.angle)
    x = ((region.x + steps * cosine)[None, :] - (steps * sine)[:, None]).ravel()
    y = ((region.y + steps * sine)[None, :] + (steps * cosine)[:, None]).ravel()
    left, upper = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right_part, lower_part = (x - left).astype(np.float32), (y - upper).astype(np.float32)
    both = right_part * lower_part
    columns = [column.clip(0, width - 1) * 3 for column in (left, left + 1)]
    rows = [row.clip(0, height - 1) * (width * 3) for row in (upper, upper + 1)]
    corners = [
        (rows[0] + columns[0], 1 - right_part - lower_part + both),
        (rows[0] + columns[1], right_part - both),
        (rows[1] + columns[0], lower_part - both),
        (rows[1] + columns[1], both),
    ]
    values = frame.reshape(-1)
    image = np.empty((size * size, 3), np.float32)
    for channel in range(3):
        image[:, channel] = sum(values[index + channel] * weight for index, weight in corners)
    if outside == "black":
        image[(x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)] = 0
    return image.reshape(size, size, 3) / np.float32(255)
