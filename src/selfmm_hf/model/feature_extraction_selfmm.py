"""Sound and picture of a clip -> the audio and vision sequences of a model. This file travels to the Hub."""

import copy
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature, FeatureExtractionMixin
from transformers.utils import cached_file

from .audio_features_selfmm import HOP, LIBROSA33_COLUMNS, SAMPLING_RATE, AudioEncoder, checked, librosa33
from .decoding_selfmm import Deadline, decode_audio, decode_video
from .edges_selfmm import MARGIN_SECONDS, STEP_SECONDS, Features, Movement, Track, is_voiced, kept, voice_activity
from .face_landmarks_selfmm import MODEL_FILES, FaceLandmarker
from .layers_selfmm import WEIGHTED
from .loading_selfmm import token_for
from .sound_selfmm import resample
from .vision_features_selfmm import COLUMNS, FaceFeatures, ImageEncoder

if TYPE_CHECKING:  # transformers 5.0 fetches the files that this one names, but not those that they name
    from .container_selfmm import opened  # noqa: F401
    from .frame_times_selfmm import Clock  # noqa: F401

# What each kind of recipe may say, with its defaults. `features`: of another program, given as they are.
FEATURES = {"features": {"dim": None}}
TEXT_RECIPES = FEATURES
AUDIO_RECIPES = {
    **FEATURES,
    "librosa33": {"silence_db": 40.0},
    "encoder": {
        "model": None, "revision": None, "layer": -1, "states": 1, "frame_rate": 10.0, "window_seconds": 20.0,
        "checksum": None, "silence_db": 40.0,
    },
}  # fmt: skip
VISION_RECIPES = {
    **FEATURES,
    "face": {"frame_rate": 10.0, "checksums": MODEL_FILES, "still_change": 3.0},
    "encoder": {
        "model": None, "revision": None, "layer": -1, "states": 1, "frame_rate": 2.0, "face_only": False,
        "checksum": None, "still_change": 3.0,
    },
}  # fmt: skip
# What the numbers of a recipe may be, both ends included, so that one from elsewhere fills no memory and no hour.
BOUNDS = {
    "frame_rate": (0.1, 240.0),  # per second
    "window_seconds": (0.1, 300.0),
    "silence_db": (0.01, 1_000.0),
    "still_change": (0.01, 255.0),
}
MAX_WIDTH = 2**16  # columns of a sequence
MAX_SECONDS = 24 * 3600  # of a clip
# By which edges are cut. Recipes that were saved without them cut none.
EDGE_OPTIONS = {"audio": "silence_db", "vision": "still_change"}
WIDTHS = {"librosa33": len(LIBROSA33_COLUMNS), "face": len(COLUMNS)}  # of those that are the same anywhere
NOT_SAVED = ("_tools", "device", "others", "source")
NETWORKS = "face_networks"  # the folder of their files, in the package as in a repository

# Normalised values are cut here: what is farther out than anything in training says no more than that.
MAX_DEVIATIONS = 5.0

_LOADING = threading.Lock()  # `from_pretrained` is not made for two threads at once


class SelfMMFeatureExtractor(FeatureExtractionMixin):
    """
    Computes the audio and vision sequences of clips by a recipe, which is saved with it.

    The same clip has the same features, to 1e-5, wherever they are computed, and in another container (MP4, MOV, MKV,
    TS); but MKV and TS may not tell how many samples an encoder has put before the sound, which then begins up to 50
    ms late. In another encoding they differ by so many standard deviations of a column over the clip:
    - `librosa33`, lossless sound at 22.05 kHz or more, mono or stereo: MFCC and chroma 0.1 at the worst frame, 0.005
      in the mean; 0.3 and 0.005 at 16 kHz, for what such a file can hold; zero crossings, which are those of rounding
      noise in a pause, 0.1 in the mean;
    - `librosa33`, AAC, MP3 or Opus at the encoder's own bit rate: in the mean 0.12 for MFCC, 0.08 for chroma, 0.15 for
      zero crossings. The tuning, which librosa estimates from the whole clip, hangs by a thread where somebody speaks
      rather than sings: if it tips, chroma differ by up to 0.5 in the mean;
    - `face`, lossless picture at 30 or 60 frames/s, where the same frames are shown at the same times: 1e-5;
    - `face`, H.264, VP8 or MPEG-4 picture at 24 to 60 frames/s: in the mean 0.3, for motion 0.6; a column's mean over
      the clip 0.3.

    Args:
        audio (`dict` or `str`, *optional*, defaults to `"librosa33"`):
            `{"kind": "librosa33"}`, 33 columns at 43 frames/s: see [`librosa33`]; or any speech model, `{"kind":
            "encoder", "model": NAME, "revision": ..., "layer": -1, "frame_rate": 10.0, "window_seconds": 20.0}`: see
            [`AudioEncoder`]; or `{"kind": "features", "dim": 74}`, sequences that another program has computed, which
            are taken as they are. `None`: no audio.
        vision (`dict` or `str`, *optional*, defaults to `"face"`):
            `{"kind": "face", "frame_rate": 10.0}`, 41 columns of the speaker's expression: see [`FaceFeatures`]; or any
            image model, `{"kind": "encoder", "model": NAME, "revision": ..., "layer": -1, "frame_rate": 2.0,
            "face_only": False}`: see [`ImageEncoder`]. `None`: no vision. Frame rates are 0.1 to 240 per second,
            windows 0.1 to 300 s. `layer` is -1, the last one, the number of a layer, or `"weighted"`, of which `states`
            then tells of how many hidden states a row consists.
        text (`dict`, *optional*): Of models that read word vectors, `{"kind": "features", "dim": 300}`.
        max_seconds (`float`, defaults to 300): Longer clips are refused. At most a day.
        normalization (`dict`, *optional*):
            `{"audio": {"mean": [...], "std": [...]}, ...}`, of the training set: see `fit_normalization`.
        others (`dict`): Of models of other modalities, by their names, as in `eye={"kind": "features", "dim": 39}`.

    Raises:
        ValueError: A recipe is unknown, has a value out of bounds, or a model is not the one that it was made with.
    """

    model_input_names = ["audio", "audio_lengths", "vision", "vision_lengths"]  # noqa: RUF012

    def __init__(
        self,
        audio: dict[str, Any] | str | None = "librosa33",
        vision: dict[str, Any] | str | None = "face",
        max_seconds: float = 300.0,
        normalization: dict[str, dict[str, list[float]]] | None = None,
        text: dict[str, Any] | None = None,
        **others: Any,
    ):
        recipes = {name: value for name, value in others.items() if isinstance(value, Mapping) and "kind" in value}
        super().__init__(**{name: value for name, value in others.items() if name not in recipes})
        self.others = {name: _completed(name, recipe, FEATURES) for name, recipe in recipes.items()}
        self.text = _completed("text", text, TEXT_RECIPES)
        self.audio = _completed("audio", audio, AUDIO_RECIPES)
        self.vision = _completed("vision", vision, VISION_RECIPES)
        if not _is_number(max_seconds) or not 0 < max_seconds <= MAX_SECONDS:
            raise ValueError(
                f"max_seconds is {max_seconds!r}, expected a positive number of seconds, at most {MAX_SECONDS:,}."
            )
        self.max_seconds = max_seconds
        # Its own: `fit_normalization` writes into it.
        self.normalization = {} if normalization is None else copy.deepcopy(normalization)
        self._check_normalization()
        self._tools: dict[str, Any] = {}
        self.device = torch.device("cpu")
        # Where the recipe was read, "" if that is not known, and how; None: the caller made it.
        self.source: tuple[str, dict[str, Any]] | None = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any):
        loaded = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        extractor = loaded[0] if isinstance(loaded, tuple) else loaded
        options = ("cache_dir", "force_download", "local_files_only", "revision", "token")
        given = {name: kwargs[name] for name in options if kwargs.get(name) is not None}
        extractor.source = (str(pretrained_model_name_or_path), given)
        return loaded

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any):
        """As it was saved: a recipe that names no threshold for its edges keeps them."""
        if not isinstance(feature_extractor_dict, Mapping) or not {"audio", "vision"} <= feature_extractor_dict.keys():
            raise ValueError("This is no recipe: it does not say what audio and vision are, or that they are null.")
        saved = dict(feature_extractor_dict)
        for name, option in EDGE_OPTIONS.items():
            if isinstance(saved.get(name), dict) and saved[name].get("kind") != "features":
                saved[name] = {option: None, **saved[name]}
        loaded = super().from_dict(saved, **kwargs)
        extractor = loaded[0] if isinstance(loaded, tuple) else loaded
        extractor.source = ("", {})
        return loaded

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike) -> "SelfMMFeatureExtractor":
        return cls.from_dict(json.loads(Path(json_file).read_text("utf-8")))

    def to_dict(self) -> dict[str, Any]:
        fields = {name: value for name, value in self.__dict__.items() if name not in NOT_SAVED}
        return {**copy.deepcopy({**fields, **self.others}), "feature_extractor_type": type(self).__name__}

    def to(self, device: str | torch.device) -> "SelfMMFeatureExtractor":
        """This extractor, if its encoders run on that device, else another one like it. A recipe names no device."""
        if (device := torch.device(device)) == self.device:
            return self
        other = type(self).from_dict(self.to_dict())
        other.source, other.device = self.source, device
        return other

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> list[str]:
        """Saves the recipe, whose models are named by their checksums, and the face models where it takes them."""
        for name, recipe in self.recipe.items():
            if "checksum" in recipe and not recipe["checksum"]:
                self._tool(name)
        if self._needs_face_models:
            folder = Path(save_directory) / NETWORKS
            if folder.resolve() != self._face_models().resolve():
                shutil.copytree(self._face_models(), folder, dirs_exist_ok=True)
        return super().save_pretrained(save_directory, **kwargs)

    @property
    def recipe(self) -> dict[str, dict[str, Any]]:
        """What is computed for each modality that there is."""
        recipes = {"text": self.text, "audio": self.audio, "vision": self.vision, **self.others}
        return {name: recipe for name, recipe in recipes.items() if recipe is not None}

    def check_recipe(self, recipe: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Refuses features of another recipe.

        Args:
            recipe: `recipe` of the extractor that computed them.

        Raises:
            ValueError: It differs; what differs is named.
        """
        for name in sorted({*recipe, *self.recipe}):
            ours, theirs = dict(self.recipe.get(name) or {}), dict(recipe.get(name) or {})
            if ours.get("checksum") and theirs.get("checksum"):
                ours.pop("revision", None), theirs.pop("revision", None)  # the same weights may be those of many
            for key in sorted({*ours, *theirs} - {"states"}):  # which follow from the layer
                if ours.get(key) != theirs.get(key):
                    raise ValueError(
                        f"These features come from another recipe: {name} {key} is {theirs.get(key)!r}, expected "
                        f"{ours.get(key)!r}. Extract them again, or take the model that was trained on them."
                    )

    @property
    def widths(self) -> dict[str, int]:
        """Columns of each sequence."""
        return {name: self._width(name) for name in self.recipe}

    def known_width(self, name: str) -> int | None:
        """Columns of a sequence as far as they are known without loading a model."""
        recipe = self.recipe[name]
        return recipe.get("dim") or WIDTHS.get(recipe["kind"])

    @property
    def frame_rates(self) -> dict[str, float]:
        """Frames per second of each sequence that is computed."""
        rates = {"librosa33": SAMPLING_RATE / HOP}
        return {
            name: rates.get(recipe["kind"]) or recipe["frame_rate"]
            for name, recipe in self.recipe.items()
            if recipe["kind"] != "features"
        }

    def extract(
        self,
        clip: str | os.PathLike | Mapping[str, Any],
        progress: Callable[[float], None] | None = None,
        deadline: Deadline | None = None,
    ) -> tuple[Features, dict[str, str]]:
        """
        Computes the features of one clip, not normalised.

        Args:
            clip (`str`, `os.PathLike` or `dict`):
                A file with sound and picture. Or `audio`: a file, or (samples,) float, mono, with its `sampling_rate`,
                from which it is resampled to that of the recipe; `vision`: a file, or frames (height, width, 3) uint8,
                RGB, at the recipe's `frame_rate`. Or either as what this method has returned of it, (frames, width), as
                are the modalities of other names.
            progress (`Callable`, *optional*): Called, frame by frame, with the seconds of picture that are done.
            deadline ([`Deadline`], *optional*): Give up the clip if it is not read by then.

        Returns:
            By modality, (frames, width) float32, and, for each that is absent (0, width), why. Edges of the clip
            without voice or face are cut, as the recipe says; what was given as features stays as it is. Where less
            than a fifth of the pictures show a face, there is none. The dict also has `face_share`, that share, in
            [0, 1] (`None` without pictures, or where the recipe looks for no faces; missing pictures count as those
            without a face), and `tracks`, from which [`windows`] takes parts of the clip.

        Raises:
            ClipError: A file cannot be read, is too long, or takes too long.
            ValueError: Something else was given.
        """
        if not isinstance(clip, str | os.PathLike | Mapping):
            raise ValueError(
                f"A clip is {type(clip).__name__}, expected the path of a file, or a dict of text, audio, "
                "sampling_rate and vision; several clips come as a list."
            )
        parts = clip if isinstance(clip, Mapping) else {"audio": clip, "vision": clip}
        known = ["text", "audio", "sampling_rate", "vision", *self.others]
        if unknown := set(parts).difference(known):
            there = f"{', '.join(known[:-1])} and {known[-1]}"
            raise ValueError(f"A clip is a file, or has {there}; got {', '.join(sorted(map(str, unknown)))}.")
        tracks = {}
        for name in self.recipe:
            part = parts.get(name)
            if self._is_sequence(part):
                tracks[name] = self._given(name, part)
            elif part is None:
                tracks[name] = self._given(name, np.zeros((0, self._width(name)), np.float32))
            elif name == "vision":
                tracks[name] = self._picture(part, progress, deadline)
            else:
                tracks[name] = self._sound(name, part, parts.get("sampling_rate"), deadline)
        features = Features(tracks)
        nothing = {"text": "no words", "audio": "no sound", "vision": "no picture"}
        something = {"audio": "no voice", "vision": "no face"}
        absent = {
            name: (something if tracks[name].end else nothing).get(name, f"no {name}")
            for name, frames in features.items()
            if not len(frames)
        }
        return features, absent

    @staticmethod
    def _is_sequence(part: Any) -> bool:
        return not isinstance(part, str | os.PathLike) and hasattr(part, "__array__") and np.ndim(part) == 2

    def _given(self, name: str, frames: Any) -> Track:
        frames = np.asarray(frames, dtype=np.float32)
        if frames.shape[1] != self._width(name):
            raise ValueError(f"{name} is {frames.shape[1]} wide, expected (frames, {self._width(name)}).")
        if not np.isfinite(frames).all():
            raise ValueError(f"{name} has values that are not finite; expected a number in each place.")
        active = self._says_something(name, frames)
        faces = active if self._marks_faces(name) else None
        return Track(frames, self.frame_rates.get(name, 1.0), active, faces=faces)

    def _says_something(self, name: str, frames: np.ndarray) -> np.ndarray:
        """(frames,) bool: which have a face, or the picture that an image model saw; else all of them."""
        if self._marks_faces(name):
            return frames[:, 0] > 0
        if name == "vision" and self.vision["kind"] == "encoder":
            return frames.any(axis=1)
        return np.ones(len(frames), bool)

    def __call__(self, clips: Any, return_tensors: str | None = "pt") -> BatchFeature:
        """
        The model's inputs for clips.

        Args:
            clips: One clip as `extract` takes it, or a list of them.
            return_tensors (`str`, defaults to `"pt"`): There is no other.

        Returns:
            `audio`, `vision` (clips, frames, width) float32, normalised and padded at the end, and `audio_lengths`,
            `vision_lengths` (clips,), 0 where a clip lacks the modality.
        """
        if return_tensors not in (None, "pt"):
            raise ValueError(f"return_tensors is {return_tensors!r}; there are only torch's, 'pt'.")
        clips = clips if isinstance(clips, list | tuple) else [clips]
        return self.pad([self.extract(clip)[0] for clip in clips])

    def pad(self, features: list[dict[str, np.ndarray]]) -> BatchFeature:
        """A batch of what `extract` returned, normalised."""
        batch = {}
        for name in self.recipe:
            rows = [torch.from_numpy(self.normalize(name, clip[name])) for clip in features]
            batch[name] = pad_sequence(rows, batch_first=True)
            batch[f"{name}_lengths"] = torch.tensor([len(row) for row in rows])
        return BatchFeature(batch)

    def fit_normalization(self, clips: Iterable[Mapping[str, np.ndarray]]) -> None:
        """
        Takes mean and standard deviation of each column from the frames of a training set.

        Args:
            clips: Features as `extract` returns them. Frames without a face do not count, nor do `features` of another
                program, which stay as they are.
        """
        sums: dict[str, list] = {name: [0, 0.0, 0.0] for name in self.frame_rates}
        for clip in clips:
            for name, total in sums.items():
                frames = clip[name].astype(np.float64)
                frames = frames[self._says_something(name, frames)]
                total[0] += len(frames)
                total[1] = total[1] + frames.sum(0)
                total[2] = total[2] + (frames**2).sum(0)
        for name, (count, total, squares) in sums.items():
            if not count:
                continue
            mean = total / count
            std = np.sqrt(np.maximum(squares / count - mean**2, 0))
            constant = std <= 1e-6 * np.maximum(np.abs(mean), 1)
            mean, std = np.where(constant, 0, mean), np.where(constant, 1, std)
            if self._marks_faces(name):
                mean[0], std[0] = 0, 1
            self.normalization[name] = {"mean": mean.tolist(), "std": std.tolist()}

    def _check_normalization(self) -> None:
        """Checks it against the recipe, as far as widths are known without loading a model."""
        if not isinstance(self.normalization, dict) or not self.normalization.keys() <= self.recipe.keys():
            raise ValueError(f"normalization must be a dict by modality, of {', '.join(self.recipe)} at most.")
        for name, values in self.normalization.items():
            if not isinstance(values, dict) or values.keys() != {"mean", "std"}:
                raise ValueError(f"The normalization of {name} must have mean and std, a list each.")
            try:
                mean, std = (np.asarray(values[key], dtype=np.float32) for key in ("mean", "std"))
            except (TypeError, ValueError) as error:
                raise ValueError(f"The normalization of {name} is no list of numbers: {error}") from error
            width = self.known_width(name) or mean.size
            if mean.shape != (width,) or std.shape != (width,):
                raise ValueError(
                    f"The normalization of {name} has {mean.size} means and {std.size} deviations, expected {width}."
                )
            if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
                raise ValueError(f"The normalization of {name} must be finite, and its deviations above 0.")

    def normalize(self, name: str, frames: np.ndarray) -> np.ndarray:
        """(frames, width) float32 by the training set's mean and deviation, in [-5, 5]; no face stays 0."""
        if name not in self.normalization:
            return np.array(frames, dtype=np.float32)
        of = self.normalization[name]
        values = (frames - np.float32(of["mean"])) / np.float32(of["std"])
        values = values.clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        values[~self._says_something(name, frames)] = 0
        return values.astype(np.float32)

    def _marks_faces(self, name: str) -> bool:
        """Whether the first column tells if there is a face."""
        return name == "vision" and (self.vision["kind"] == "face" or self.vision.get("face_only", False))

    @property
    def _needs_face_models(self) -> bool:
        return self.vision is not None and self._marks_faces("vision")

    def _face_models(self) -> Path:
        """The folder of the landmark models: of the package, or of the repository that this was loaded from."""
        folder = Path(__file__).with_name(NETWORKS)
        if folder.is_dir():
            return folder
        name, options = self.source or ("", {})
        if not name:
            raise ValueError(f"{folder} is missing; load the extractor from a repository that has {NETWORKS}/.")
        *_, file = [cached_file(name, f"{NETWORKS}/{file}", **options) for file in ("NOTICE", "LICENSE", *MODEL_FILES)]
        return Path(file).parent

    def _width(self, name: str) -> int:
        return self.known_width(name) or self._tool(name).width

    def _tool(self, name: str) -> Any:
        """What computes the modality; it is made once, whichever thread asks first."""
        with _LOADING:
            if name not in self._tools:
                self._tools[name] = self._made_tool(name, self.recipe[name])
            return self._tools[name]

    def _made_tool(self, name: str, recipe: dict[str, Any]) -> Any:
        if recipe["kind"] == "features":
            raise ValueError(
                f"The {name} features that this was made for come from another program and cannot be computed "
                f"here; give them as an array (frames, {recipe['dim']}), or take a model with a recipe."
            )
        if recipe["kind"] == "librosa33":
            return librosa33
        if recipe["kind"] == "face":
            return FaceFeatures(self._face_models(), recipe["frame_rate"])
        tool = self._encoder(name, recipe)
        recipe["checksum"] = recipe["checksum"] or tool.checksum
        if recipe["checksum"] != tool.checksum:
            raise ValueError(
                f"The {name} encoder {recipe['model']} has other weights than the recipe was made with: "
                f"checksum {tool.checksum}, expected {recipe['checksum']}. Pin its revision."
            )
        recipe["revision"], recipe["states"] = tool.commit or recipe["revision"], tool.states
        return tool

    def _encoder(self, name: str, recipe: dict[str, Any]) -> AudioEncoder | ImageEncoder:
        model, revision, layer = recipe["model"], recipe["revision"], recipe["layer"]
        token = token_for(f"{name} encoder", model, revision, self.source)
        try:
            if name == "audio":
                rates = recipe["frame_rate"], recipe["window_seconds"]
                return AudioEncoder(model, *rates, revision, self.device, token, layer)
            landmarker = FaceLandmarker(self._face_models()) if recipe["face_only"] else None
            return ImageEncoder(model, revision, landmarker, device=self.device, token=token, layer=layer)
        except OSError as error:
            if token is not False:
                raise
            pinned = f" --revision {revision}" if revision else ""
            raise ValueError(
                f"The {name} encoder {model} cannot be fetched. Your token is not sent for what the recipe of another "
                f"owner names: if {model} is private, run `hf download {model}{pinned}` first. ({error})"
            ) from error

    def _sound(self, name: str, sound: Any, sampling_rate: int | None, deadline: Deadline | None) -> Track:
        tool, frame_rate = self._tool(name), self.frame_rates[name]
        rate = getattr(tool, "sampling_rate", SAMPLING_RATE)
        if isinstance(sound, str | os.PathLike):
            sound, sampling_rate = decode_audio(sound, rate, self.max_seconds, deadline), rate
            sound = np.zeros(0, np.float32) if sound is None else sound
        elif not isinstance(sampling_rate, Integral) or sampling_rate < 1:
            raise ValueError(f"The sampling_rate of the audio is {sampling_rate}, expected its samples per second.")
        else:
            sound = checked(sound)
            if len(sound) > self.max_seconds * sampling_rate:
                raise ValueError(f"The audio is longer than the {self.max_seconds:g} s that are allowed; cut it.")
            sound = resample(sound, int(sampling_rate), rate)
        end, silence_db = len(sound) / rate, self.recipe[name]["silence_db"]
        if silence_db is None:
            return Track(tool(sound, rate), frame_rate, end=end)
        activity = voice_activity(sound, rate, silence_db)
        if not activity.any():
            return Track(np.zeros((0, self._width(name)), np.float32), frame_rate, end=end)
        # The sound is cut before it is read: what an encoder makes of a voice depends on all that it hears.
        first, last = kept(activity, 1 / STEP_SECONDS, MARGIN_SECONDS)
        size = round(STEP_SECONDS * rate)
        frames = tool(sound[first * size : last * size], rate)
        active = is_voiced(activity[first:last], len(frames), frame_rate)
        return Track(frames, frame_rate, active, first * size / rate, end, MARGIN_SECONDS)

    def _picture(self, video: Any, progress: Callable[[float], None] | None, deadline: Deadline | None) -> Track:
        tool, frame_rate, still_change = self._tool("vision"), self.frame_rates["vision"], self.vision["still_change"]
        if isinstance(video, str | os.PathLike):
            video = decode_video(video, frame_rate, self.max_seconds, deadline)
        movement = Movement()

        def frames():
            for frame in video:
                if deadline is not None:
                    deadline.check()
                movement.see(frame)
                yield frame
                if progress is not None:
                    progress(len(movement.changes) / frame_rate)

        features, _ = tool(frames())
        active, pictures = self._says_something("vision", features), len(movement.changes)
        faces = (active if active.any() else np.zeros(pictures, bool)) if self._marks_faces("vision") else None
        track = Track(features, frame_rate, active, end=pictures / frame_rate, faces=faces)
        if still_change is not None and active.any():
            track.active, track.margin = active & movement.moving(still_change), 0.0
        return track


def _completed(name: str, recipe: dict[str, Any] | str | None, known: dict[str, dict]) -> dict[str, Any] | None:
    if recipe is None:
        return None
    if not isinstance(recipe, str | Mapping):
        raise ValueError(f"The {name} recipe is {recipe!r}, expected its kind, or a dict that has one.")
    recipe = {"kind": recipe} if isinstance(recipe, str) else dict(recipe)
    kind = recipe.pop("kind", None)
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"The {name} recipe is of kind {kind!r}, expected one of {', '.join(known)}.")
    if unknown := set(recipe) - set(known[kind]):
        there = ", ".join(known[kind]) or "nothing"
        raise ValueError(f"The {name} recipe {kind} has no {', '.join(sorted(unknown))}; it has {there}.")
    complete = {"kind": kind, **copy.deepcopy(known[kind]), **recipe}
    if kind == "features" and not complete["dim"]:
        raise ValueError(f"The {name} recipe features needs dim, the columns of each frame.")
    if "model" in complete and not complete["model"]:
        raise ValueError(f"The {name} recipe encoder needs the name or folder of its model.")
    if complete.get("checksums", MODEL_FILES) != MODEL_FILES:
        raise ValueError("The vision recipe was made with other face models; use its version of selfmm-hf.")
    for option, value in complete.items():
        if expected := _expected(option, value):
            raise ValueError(f"The {name} recipe's {option} is {value!r}, expected {expected}.")
    return complete


def _expected(option: str, value: Any) -> str | None:
    """What the option of a recipe must be, where `value` is something else."""
    if option == "dim":
        right = _is_whole(value) and 1 <= value <= MAX_WIDTH
        return None if right else f"a number of columns, 1 to {MAX_WIDTH:,}"
    if option in BOUNDS:
        low, high = BOUNDS[option]
        cuts = option in EDGE_OPTIONS.values()
        if (cuts and value is None) or (_is_number(value) and low <= value <= high):
            return None
        return f"a number from {low:g} to {high:g}" + (", or none, which cuts no edges" if cuts else "")
    if option == "layer":
        right = value == WEIGHTED or (_is_whole(value) and value)
        return None if right else f"the number of a layer, from 1 on, -1 for the last one, or {WEIGHTED!r}"
    if option == "states":
        right = _is_whole(value) and 1 <= value <= MAX_WIDTH
        return None if right else "how many hidden states a row consists of, 1 unless layer is weighted"
    if option == "face_only":
        return None if isinstance(value, bool) else "true or false"
    if option == "model":
        return None if isinstance(value, str | os.PathLike) else "the name or folder of a model"
    if option in ("revision", "checksum"):
        return None if value is None or isinstance(value, str) else "a string, or none"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


SelfMMFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
