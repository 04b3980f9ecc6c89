"""The report on a data set: each number against one worked out by hand, and what it finds worth a line."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset

from selfmm_hf.data import DataError, demo_corpus
from selfmm_hf.data.columns import UNIMODAL_LABELS, features
from selfmm_hf.data.inspection import DatasetClips, Inspection, inspect
from selfmm_hf.data.inspection.counts import WORD, bin_edges
from selfmm_hf.data.inspection.table import format_table
from selfmm_hf.data.mmsa import Rules, read_mmsa
from selfmm_hf.data.samples import Samples
from selfmm_hf.data.targets import label_type
from selfmm_hf.model.task_selfmm import Task

pytestmark = pytest.mark.draws

STEPS = {"audio": 4, "vision": 3}
# Clips of one split: id, text, tokens, frames of audio, frames of vision, label.
TRAIN = [
    ("a$_$1", "It was good", 5, [[1, 7], [3, 7]], [[1.0], [2.0], [0.0]], 1.0),
    ("a$_$2", "bad", 3, [[5, 7], [7, 7], [0, 0]], [[5.0]], -2.0),
    ("b$_$1", "  ", 0, [], [[0.0], [0.0]], 0.0),
    ("c$_$1", "no no no no", 6, [[2, 7]], [[3.0], [4.0]], 3.0),
]
VALID = [("d$_$1", "so so", 4, [[4, 7]], [[2.0]], 0.5), ("d$_$2", "well", 3, [[4, 6]], [[2.5]], -0.5)]
TEST = [("e$_$1", "yes", 3, [[24, 7]], [[2.0], [-9.0]], 1.0), ("e$_$2", "never", 3, [[1, 7]], [], 2.0)]


def columns(clips: list[tuple]) -> dict:
    split = {
        "id": [clip[0] for clip in clips],
        "raw_text": [clip[1] for clip in clips],
        "text_bert": np.zeros((len(clips), 3, 6), dtype=np.float32),
        "regression_labels": np.array([clip[5] for clip in clips], dtype=np.float32),
    }
    for row, clip in enumerate(clips):
        split["text_bert"][row, :2, : clip[2]] = 1
    for name, at, width in (("audio", 3, 2), ("vision", 4, 1)):
        split[name] = np.zeros((len(clips), STEPS[name], width), dtype=np.float32)
        split[f"{name}_lengths"] = [len(clip[at]) for clip in clips]
        for row, clip in enumerate(clips):
            if clip[at]:
                split[name][row, : len(clip[at])] = clip[at]
    return split


@pytest.fixture
def look(tmp_path):
    """Inspects a file of these splits, `train`, `valid` and `test`, after they were changed."""

    def look(change=lambda splits: None, train=TRAIN, valid=VALID, test=TEST, rules="keep") -> Inspection:
        splits = {"train": columns(train), "valid": columns(valid), "test": columns(test)}
        change(splits)
        path = tmp_path / "tiny.pkl"
        path.write_bytes(pickle.dumps(splits, 4))
        return inspect(read_mmsa(path, Rules(rules)))

    return look


def prepared(clips: list[tuple], **others: list) -> DatasetClips:
    rows = {
        "id": [clip[0] for clip in clips],
        "text": [clip[1] for clip in clips],
        "audio": [np.array(clip[3], dtype=np.float32).reshape(-1, 2) for clip in clips],
        "vision": [np.array(clip[4], dtype=np.float32).reshape(-1, 1) for clip in clips],
        "label": [clip[5] for clip in clips],
    }
    widths = {"audio": 2, "vision": 1} | ({"word_vectors": 3} if "word_vectors" in others else {})
    return DatasetClips(Dataset.from_dict(rows | others, features(widths, others)))


def test_clips_and_labels(look):
    inspection = look()
    train, validation, test = inspection.splits.values()
    assert list(inspection.splits) == ["train", "validation", "test"] and inspection.training == "train"
    assert [(of.clips, of.videos) for of in (train, validation, test)] == [(4, 3), (2, 1), (2, 1)]
    labels = train.labels
    assert (labels.min, labels.q1, labels.median, labels.q3, labels.max) == (-2, -0.5, 0.5, 1.5, 3)
    assert labels.mean == 0.5
    assert (labels.negative, labels.zero, labels.positive) == (1, 1, 2)
    # -2, -0.5, 0, 0.5, 1, 2, 3: steps of 0.5, each in the middle of a bin.
    assert inspection.label_edges == pytest.approx(np.arange(-2.25, 3.5, 0.5))
    assert labels.histogram == [1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]
    assert test.labels.histogram == [0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0]
    assert labels.correlations == {}


def test_text(look):
    train = look().splits["train"].text
    assert train.blank == 1
    assert (train.words.mean, train.words.median, train.words.max) == (8 / 3, 3, 4)  # 3, 1 and 4 words
    assert train.words.p95 == pytest.approx(3.9)
    assert (train.tokens.mean, train.tokens.median, train.tokens.max) == (14 / 3, 5, 6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a well-made film -- really , 10/10 !", 6),
        ("我 不知道。", 4),
        ("我用 iPhone15\uff0c真的“好”", 6),
        ("カメラ", 3),
        ("그것은 좋다", 2),
        ("... ?!", 0),
    ],
)
def test_words(text, words):
    assert len(WORD.findall(text)) == words


def test_sequences(look):
    inspection = look()
    assert inspection.widths == {"audio": 2, "vision": 1}
    audio, vision = inspection.splits["train"].sequences.values()
    assert (audio.lengths.mean, audio.lengths.median, audio.lengths.max) == (2, 2, 3)  # 2, 3 and 1 frames
    assert audio.lengths.p95 == pytest.approx(2.9)
    assert (audio.missing, vision.missing) == (1, 0)
    assert (audio.steps, vision.steps) == (4, 3)
    assert audio.padding == 1 - 6 / 16 and vision.padding == pytest.approx(1 - 8 / 12)
    assert (audio.zero_frames, audio.zero_clips) == (1 / 6, 0)
    assert (vision.zero_frames, vision.zero_clips) == (3 / 8, 1)
    assert audio.not_finite_values == audio.not_finite_clips == 0


def test_constant_columns_and_far_values_are_measured_by_the_training_split(look):
    with_zero = look()
    assert with_zero.constant_columns == {"audio": 0, "vision": 0}
    without = [clip for clip in TRAIN if clip[0] != "a$_$2"] + [("a$_$2", "bad", 3, [[5, 7], [7, 7]], [[5]], -2)]
    inspection = look(train=without)
    assert inspection.constant_columns == {"audio": 1, "vision": 0}  # the sevens
    first = np.array([1, 3, 2, 5, 7])
    audio = {split: report.sequences["audio"] for split, report in inspection.splits.items()}
    assert audio["train"].farthest == pytest.approx((7 - first.mean()) / first.std())
    assert audio["validation"].farthest == pytest.approx((4 - first.mean()) / first.std())  # the 6 is in the other
    assert audio["test"].farthest == pytest.approx((24 - first.mean()) / first.std())
    assert {of.farthest_column for of in audio.values()} == {0}
    vision = np.array([1, 2, 0, 0, 0, 3, 4, 5])
    test = inspection.splits["test"].sequences["vision"]
    assert test.farthest == pytest.approx((vision.mean() + 9) / vision.std())
    assert np.isnan(inspection.values["test"]["far audio"]).tolist() == [False, True]


def test_far_values_of_columns_with_a_large_offset(look):
    def change(splits):
        noise = np.random.default_rng(0).normal(size=(4, 4, 2)).astype(np.float32)
        splits["train"]["audio"] = (noise + 30000).astype(np.float32)
        splits["train"]["audio_lengths"] = [4, 4, 3, 4]

    values = {}
    inspection = look(lambda splits: (change(splits), values.update(splits)))
    frames = np.concatenate([clip[:n] for clip, n in zip(values["train"]["audio"], [4, 4, 3, 4], strict=True)])
    frames = frames.astype(np.float64)
    expected = (np.abs(frames - frames.mean(0)) / frames.std(0)).max(0)
    np.testing.assert_allclose(inspection.values["train"]["far audio"], expected, rtol=1e-9)


def test_values_that_are_not_finite(look):
    def change(splits):
        splits["train"]["audio"][0, 0, 0] = np.nan
        splits["train"]["audio"][1, 0] = [np.inf, -np.inf]
        splits["train"]["audio"][1, 1, 1] = np.nan
        splits["test"]["vision"][0, 1] = np.inf

    inspection = look(change)
    audio = inspection.splits["train"].sequences["audio"]
    assert (audio.not_finite_values, audio.not_finite_clips) == (4, 2)
    rest = np.array([7, 7, 0, 7])  # of column 1; 3, 7, 0, 2 of column 0 are nearer to each other
    assert audio.farthest == pytest.approx(rest.mean() / rest.std())
    assert audio.farthest_column == 1
    assert "audio: 4 not-finite values in 2 clips of train" in inspection.attention
    assert "vision: 1 not-finite value in 1 clip of test" in inspection.attention
    assert "4 in 2" in format_table(inspection)
    json.dumps(inspection.to_dict(), allow_nan=False)


def test_a_column_without_a_finite_value(look):
    def change(splits):
        splits["train"]["vision"][:] = np.nan
        splits["train"]["vision_lengths"] = [3, 3, 3, 3]

    inspection = look(change)
    assert inspection.constant_columns["vision"] == 1
    assert inspection.splits["test"].sequences["vision"].farthest is None


def test_missing_and_zeros(look):
    def change(splits):
        for split in splits.values():
            split["vision"][:] = 0
            split["vision_lengths"] = [1] * len(split["id"])

    inspection = look(change, train=TRAIN[2:])
    assert "vision: all zeros in every clip" in inspection.attention
    assert "text: blank in 1 clip (train 1)" in inspection.attention
    assert "audio: missing in 1 clip (train 1)" in inspection.attention
    assert not any("vision" in line for line in inspection.attention if "all zeros in every" not in line)
    assert inspection.splits["test"].sequences["vision"].zero_frames == 1
    zeros = look().attention
    assert "vision: all zeros in 1 clip (train 1)" in zeros
    assert "vision: frames that are all zeros, 38% in train" in zeros
    assert "vision: missing in 1 clip (test 1)" in zeros
    assert "audio: missing in 2 clips (train 1, test 1: all)" in look(test=[(*TEST[0][:3], [], *TEST[0][4:])]).attention


def test_what_splits_share(look):
    # A text but for case, space and width; the same frames; a video; an id. Blank texts and zeros are not the same.
    valid = [("a$_$3", "  IT was\tgood ", 5, TRAIN[0][3], TRAIN[0][4], 1), ("d$_$2", "", 0, [], [[0.0], [0.0]], 0)]
    test = [
        ("a$_$1", "it was \uff47ood", 5, [[9, 9]], [[9.0]], 1),
        ("e$_$1", "x", 3, [[8, 9]], [[9.0]], 1),
        ("e$_$2", "X", 3, [[8, 9]], [[9.0]], 1),
    ]
    inspection = look(valid=valid, test=test)
    ids, texts, clips, videos = (inspection.overlaps[kind] for kind in ("ids", "texts", "features", "videos"))
    none = {"train+validation": 0, "train+test": 0, "validation+test": 0}
    assert (ids.across, ids.pairs) == (1, none | {"train+test": 1})
    assert (texts.across, texts.pairs) == (1, dict.fromkeys(none, 1))
    assert texts.within == {"train": 0, "validation": 0, "test": 1}
    names = ["It was good", "  IT was\tgood ", "it was \uff47ood"]
    places = zip(inspection.splits, names, strict=True)
    assert texts.examples == [[{"split": split, "name": name} for split, name in places]]
    assert (clips.across, clips.pairs) == (1, none | {"train+validation": 1})
    assert clips.within == {"train": 0, "validation": 0, "test": 1}
    assert clips.examples == [[{"split": "train", "name": "a$_$1"}, {"split": "validation", "name": "a$_$3"}]]
    assert (videos.across, videos.pairs) == (1, dict.fromkeys(none, 1))
    for line in (
        "1 id occurs in more than one split (train+test 1)",
        "1 text occurs in more than one split (train+validation 1, train+test 1, validation+test 1)",
        "1 set of features (audio and vision) occurs in more than one split (train+validation 1)",
        "1 set of features (audio and vision) occurs more than once within a split (test 1)",
        "1 video occurs in more than one split (train+validation 1, train+test 1, validation+test 1)",
    ):
        assert line in inspection.attention


def test_examples_are_three_at_most_and_shapes_matter():
    train = [(f"t{row}", f"text {row}", 0, [[row + 1, 1]], [[1]], row) for row in range(5)]
    test = [(f"u{row}", f"text {row}", 0, [[row + 1, 1]], [[2]], row) for row in range(5)]
    inspection = inspect({"train": prepared(train), "test": prepared(test)})
    assert inspection.overlaps["texts"].across == 5 and len(inspection.overlaps["texts"].examples) == 3
    assert inspection.overlaps["features"].across == 0  # the vision differs
    assert inspection.splits["train"].videos is None
    assert inspection.overlaps["texts"].pairs == {"train+test": 5}


def test_frames_beyond_the_stated_length_come_from_the_reader(look):
    def change(splits):
        for split, row in (("train", 2), ("train", 3), ("test", 0)):
            splits[split]["audio"][row, -1] = 1

    found = [line for line in look(change).attention if "beyond" in line]
    where = "in 3 clips (train 2, test 1), first in train, row 2 (id 'b$_$1')"
    assert found == [f"frames of audio beyond the stated length (left out) {where}"]


def test_far_values_deserve_attention(look):
    def change(splits):
        splits["test"]["audio"][1, 0, 0] = -1000

    line = next(line for line in look(change).attention if "deviations" in line)
    first = np.array([1, 3, 5, 7, 0, 2])
    far = (first.mean() + 1000) / first.std()
    assert line == f"audio: values up to {far:.0f} standard deviations from the mean (test, column 0 of 0 to 1)"


def test_unimodal_labels():
    own = {"label_text": [1, -2, 0, 3], "label_audio": [-1, 2, 0, -3], "label_vision": [1, 1, 1, 1]}
    inspection = inspect({"train": prepared(TRAIN, **own)})
    assert inspection.splits["train"].labels.correlations == pytest.approx({"text": 1, "audio": -1, "vision": None})
    some = dict(own, label_text=[1, 2, None, 1])
    found = inspect({"train": prepared(TRAIN, **some)}).splits["train"].labels.correlations["text"]
    assert found == pytest.approx(np.corrcoef([1, 2, 1], [1, -2, 3])[0, 1])
    assert "Correlation of the label" in format_table(inspection)


def test_a_prepared_data_set_says_the_same_but_for_padding(look):
    from_file = look()
    splits = {"train": prepared(TRAIN), "validation": prepared(VALID), "test": prepared(TEST)}
    found = inspect(splits)
    assert all(
        frames.steps is frames.padding is None for of in found.splits.values() for frames in of.sequences.values()
    )
    expected, found = from_file.to_dict(), found.to_dict()
    for split in expected["splits"].values():
        split["text"]["tokens"] = None
        for frames in split["sequences"].values():
            frames["steps"] = frames["padding"] = None
    assert found == expected


def test_word_vectors_and_tokens_of_a_prepared_data_set():
    vectors = [np.full((n, 3), n, dtype=np.float32) for n in (1, 2, 0, 3)]
    clips = prepared(TRAIN, word_vectors=vectors, input_ids=[[101, 102], [], [101], [7, 8, 9, 10]])
    first = next(iter(clips.samples()))
    assert first["text"] == "It was good" and first["word_vectors"].tolist() == [[1, 1, 1]]
    report = inspect({"train": clips}).splits["train"]
    assert report.sequences["word_vectors"].missing == 1 and report.sequences["word_vectors"].lengths.mean == 2
    assert report.text.tokens.mean == pytest.approx(7 / 3)
    assert inspect({"train": DatasetClips(Samples(clips._rows.dataset))}).to_dict()["splits"]["train"]["clips"] == 4


def test_text_alone():
    rows = {"id": ["a", "b", "c"], "text": ["so", "well well", "no"], "label": [1.0, -1.0, 0.0]}
    inspection = inspect({"train": DatasetClips(Dataset.from_dict(rows, features({})))})
    assert inspection.widths == {} and inspection.overlaps["features"].across == 0
    assert inspection.attention == [] and format_table(inspection).endswith("Attention\n  nothing")


def test_to_dict_is_plain(look):
    found = look().to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {
        "training", "task", "splits", "label_edges", "widths", "constant_columns", "overlaps", "attention",
    }  # fmt: skip
    assert found["splits"]["train"]["sequences"]["audio"]["padding"] == 0.625


def test_table(look):
    inspection = look()
    table = format_table(inspection)
    lines = table.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "Clips & labels", "Text", "Sequences", "Across splits", "Attention",
    ]  # fmt: skip
    assert all(f"  {line}" in lines for line in inspection.attention) and inspection.attention
    assert max(map(len, lines)) <= 100
    assert lines[1] == "  a score, sentiment in [-3, 3]" and "negative" in lines[2]
    cells = [" ".join(line.split()) for line in lines]
    assert "train 4 3 -2.00 -0.50 0.50 1.50 3.00 0.50 1 1 2" in cells
    assert "train 1 2.7 3 4 4 4.7 5 6 6" in cells
    assert "train 1 2.0 2 3 3 62.5% 16.7% 0 2.2 sd" in cells  # sevens and a zero


def test_labels_that_are_all_one():
    inspection = inspect({"train": prepared([(*clip[:5], 1.0) for clip in TRAIN])})
    assert inspection.attention[0] == "label: 1 in every clip of train"
    assert inspection.splits["train"].labels.histogram == [4]


def test_labels_beyond_their_scale_deserve_attention():
    clips = [(*clip[:5], label) for clip, label in zip(TRAIN, [0, 1, 4.5, -2], strict=True)]
    told = "label: from -2 to 4.5 in train, beyond its scale [-3, 3]; training refuses such labels"
    assert inspect({"train": prepared(clips)}).attention[0] == told


def test_a_score_of_two_values_deserves_attention():
    read = "read as a score in [-3, 3]; if they are classes, say so by problem_type"
    for low, high in ((-1, 1), (0, 1)):
        splits = {
            split: prepared([(*clip[:5], [low, high][row % 2]) for row, clip in enumerate(clips)])
            for split, clips in (("train", TRAIN), ("test", TEST))
        }
        assert inspect(splits).attention[0] == f"label: only {low} and {high}, {read}"
    task = Task(("joy", "fear"), scales=((-1, 1), (0, 5)))
    rows = {"id": ["a", "b", "c"], "text": ["so", "no", "yes"], "label": [[0, 1.0], [0.5, 2.0], [1, 1.0]]}
    rows = Dataset.from_dict(rows, features({}, label=label_type(task)))
    found = inspect({"train": DatasetClips(Samples(rows, task=task))}).attention
    assert found == [f"fear: only 1 and 2, {read.replace('[-3, 3]', '[0, 5]')}"]


def test_bins():
    assert len(bin_edges(np.arange(-15, 16).astype(np.float32) / 5)) == 32  # MOSI: steps of 0.2
    assert len(bin_edges(np.arange(-18, 19) / 6)) == 38  # MOSEI: of 1/6
    uneven = np.random.default_rng(0).uniform(-3, 3, 100)
    edges = bin_edges(uneven)
    assert len(edges) == 32 and edges[0] < uneven.min() and uneven.max() < edges[-1]


def test_errors(look):
    with pytest.raises(DataError, match="Rules"):
        look(rules="zero")
    with pytest.raises(DataError, match="no splits"):
        inspect({})
    with pytest.raises(DataError, match="test: there are no clips"):
        inspect({"train": prepared(TRAIN), "test": prepared([])})
    other = DatasetClips(Dataset.from_dict({"id": ["a"], "text": ["so"], "label": [1.0]}, features({})))
    with pytest.raises(DataError, match=r"test has sequences of the widths \{\}, but train of \{'audio': 2"):
        inspect({"train": prepared(TRAIN), "test": other})
    with pytest.raises(DataError, match="train: a clip has no label"):
        inspect({"train": prepared([(*TRAIN[0][:5], None)])})
    kind = features({}, label=ClassLabel(names=["sad", "glad"]))
    for label in (None, -1):
        rows = Dataset.from_dict({"id": ["a", "b"], "text": ["so", "no"], "label": [1, label]}, kind)
        with pytest.raises(DataError, match="train: a clip has no label"):
            inspect({"train": DatasetClips(rows)})


@pytest.mark.parametrize("kind", ["file", "demo", "text", "zeros", "one clip"])
def test_plot(look, tmp_path, kind):
    pytest.importorskip("matplotlib")
    from selfmm_hf.data.inspection.plot import plot

    if kind == "file":
        inspection = look()
    elif kind == "demo":
        corpus = demo_corpus(sizes={"train": 9, "test": 5})
        inspection = inspect({split: DatasetClips(rows) for split, rows in corpus.items()})
        assert inspection.values["train"].keys() >= {"label", "words", "audio", "far vision", *UNIMODAL_LABELS.values()}
    elif kind == "text":
        rows = {"id": ["a", "b"], "text": ["", "..."], "label": [1.0, -1.0]}
        inspection = inspect({"train": DatasetClips(Dataset.from_dict(rows, features({})))})
    elif kind == "zeros":
        inspection = inspect({"train": prepared([(*clip[:3], [], [[0.0]], 0.0) for clip in TRAIN])})
    else:
        inspection = inspect({"first": prepared(TRAIN[:1])})
    file = plot(inspection, tmp_path / "picture.png")
    assert isinstance(file, Path) and file.read_bytes().startswith(b"\x89PNG")
