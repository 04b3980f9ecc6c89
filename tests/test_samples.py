"""Rows of Arrow as samples: what a batch needs, and no more memory than that."""

import pickle
import subprocess
import sys

import fresh
import numpy as np
import pyarrow as pa
import pytest
from conftest import mmsa_file
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader

from selfmm_hf.data import fit_processor, load_splits
from selfmm_hf.data.columns import features
from selfmm_hf.data.safe_pickle import DataError
from selfmm_hf.data.samples import Samples
from selfmm_hf.data.synthetic.words import demo_tokenizer
from selfmm_hf.training.collator import SelfMMCollator


@pytest.fixture
def samples(tmp_path):
    return load_splits("mosi", str(mmsa_file(tmp_path / "file.pkl")))["train"]


def in_memory(rows=7, width=3):
    random = np.random.default_rng(1)
    frames = [random.normal(size=(row % 4, width)).astype(np.float32) for row in range(rows)]
    columns = {
        "id": list(map(str, range(rows))),
        "text": ["the movie was good"] * (rows - 1) + [" "],
        "word_vectors": frames,
        "label": np.linspace(-3, 3, rows).astype(np.float32),
    }
    return Dataset.from_dict(columns, features({"word_vectors": width})), frames


def test_a_sample_is_what_the_data_set_says(samples):
    assert len(samples) == 18 and samples.widths == {"audio": 7, "vision": 6}
    for row, expected in enumerate(samples.dataset.with_format("numpy")):
        found = samples[row]
        assert set(found) == {"audio", "vision", "label"}
        assert all(np.array_equal(found[name], expected[name]) for name in found)
        assert not found["audio"].flags.owndata and found["audio"].dtype == np.float32
    assert samples["id"] == samples.dataset["id"][:]
    assert np.array_equal(samples[-1]["audio"], samples[17]["audio"])
    assert samples.lengths("vision").tolist() == [row % 4 for row in range(18)]
    for row in (18, -19):
        with pytest.raises(IndexError, match=f"no clip {row}, there are 18"):
            samples[row]


def test_columns_left_out_are_not_read(samples):
    fewer = Samples(samples.dataset, {"audio"})
    assert set(fewer[0]) == {"vision", "label"} and "audio" not in fewer.column_names and "audio" not in fewer.widths


def test_data_sets_in_memory_selected_and_shuffled():
    dataset, frames = in_memory()
    plain = Samples(dataset)
    assert all(np.array_equal(plain[row]["text"], frames[row]) for row in range(7))
    order = [5, 0, 3]
    chosen = Samples(dataset.select(order))
    assert [chosen[row]["label"] for row in range(3)] == [plain[row]["label"] for row in order]
    assert all(np.array_equal(chosen[row]["text"], frames[old]) for row, old in enumerate(order))
    assert chosen.lengths("text").tolist() == [1, 0, 3]
    sliced = Samples(dataset.select(range(2, 6)))  # `datasets` slices here, it does not copy
    assert all(np.array_equal(sliced[row]["text"], frames[row + 2]) for row in range(4))


def test_other_data_have_another_fingerprint():
    rows, frames = in_memory()
    known = Samples(rows).fingerprint()
    assert Samples(rows, {"word_vectors"}).fingerprint() == known == Samples(in_memory()[0]).fingerprint()
    columns = rows.with_format(None)[:]
    frames[5][0, 0] += 0.01
    for name, value in (
        ("id", [*"012345", "8"]),
        ("text", ["fine"] * 7),
        ("label", [0.5] * 7),
        ("word_vectors", frames),
    ):
        other = Dataset.from_dict({**columns, name: value}, rows.features)
        assert Samples(other).fingerprint() != known, name


def test_no_clip_is_left_out_of_the_fingerprint(tmp_path):
    def fingerprint(change=lambda audio: audio):
        file = mmsa_file(tmp_path / "unaligned_50.pkl", audio=lambda rows: change(np.ones((rows, 4, 7), np.float32)))
        return load_splits("mosi", str(file))["train"].fingerprint()

    def last_frame_of_the_last_clip(audio):
        audio[-1, 1] += 0.5  # the second of two
        return audio

    assert fingerprint() == fingerprint() != fingerprint(last_frame_of_the_last_clip)


def of_frames(*clips, chunks=1, text="so"):
    """A data set, three wide by its type, whatever `clips` hold."""
    types = features({"audio": 3})
    kind = types.arrow_schema.field("audio").type
    columns = {"id": [f"clip{row}" for row in range(len(clips))], "text": [text] * len(clips), "audio": list(clips)}
    columns["label"] = [1.0] * len(clips)
    tables = []
    for part in np.array_split(np.arange(len(clips)), chunks):
        arrays = {name: pa.array([values[row] for row in part]) for name, values in columns.items() if name != "audio"}
        frames = pa.array([columns["audio"][row] for row in part], pa.list_(pa.list_(pa.float32())))
        arrays["audio"] = pa.ExtensionArray.from_storage(kind, frames)
        tables.append(pa.table(arrays).select([*types]))
    return Dataset(pa.concat_tables(tables).cast(types.arrow_schema))


ONE, NONE = [[1.0, 2.0, 3.0]], []


@pytest.mark.parametrize(
    ("clips", "problem"),
    [
        ([ONE, ONE * 2, [[9.0] * 4], ONE], r"row 2 \(id 'clip2'\): frame 0 has 4 values, expected 3"),
        ([ONE, [*ONE, [9.0] * 4, [9.0] * 2], ONE], r"row 1 \(id 'clip1'\): frame 1 has 4 values"),
        ([NONE, NONE, ONE, [[]]], r"row 3 \(id 'clip3'\): frame 0 has 0 values"),
        ([ONE, NONE, None, ONE], r"row 2 \(id 'clip2'\): null instead of frames"),
        ([ONE, [*ONE, None], ONE], r"row 1 \(id 'clip1'\): frame 1 is null"),
        ([ONE, NONE, [*ONE, [1.0, None, 1.0]]], r"row 2 \(id 'clip2'\): frame 1 holds a null"),
    ],
)
@pytest.mark.parametrize("chunks", [1, 2])
def test_frames_of_another_width_are_never_read_shifted(clips, problem, chunks):
    with pytest.raises(DataError, match=f"column 'audio', {problem}"):
        Samples(of_frames(*clips, chunks=chunks))
    sound = [clip for clip in clips if clip and all(frame and len(frame) == 3 and None not in frame for frame in clip)]
    assert [samples["audio"].tolist() for samples in Samples(of_frames(*sound, chunks=1))] == sound


def test_what_lies_outside_of_a_slice_is_of_no_interest():
    rows = of_frames([[9.0] * 4], None, ONE, [*ONE, [4.0, 5.0, 6.0]], [None])
    samples = Samples(rows.select(range(2, 4)))
    assert [samples[row]["audio"].tolist() for row in range(2)] == [ONE, [*ONE, [4.0, 5.0, 6.0]]]
    assert list(samples.faults()) == []


def test_texts_that_are_null():
    with pytest.raises(DataError, match=r"column 'text', row 0 \(id 'clip0'\): the value is null"):
        Samples(of_frames(ONE, text=None))


def test_ids_that_occur_twice_and_frames_that_are_not_finite(monkeypatch):
    monkeypatch.setattr("selfmm_hf.data.samples.VALUES_AT_ONCE", 6)  # two frames at a time
    rows = of_frames(
        ONE, [*ONE, [1.0, np.inf, 1.0], [np.nan] * 3], [[3e38, 3e38, 3e38]], NONE, [[np.nan] * 3], chunks=2
    )
    table = rows.data.table.set_column(0, "id", pa.array(["a", "b", "c", "b", "a"]))
    samples = Samples(Dataset(table))
    assert list(samples.faults()) == [
        "column 'id': ids occur twice, 'b' in rows 1 and 3",
        "column 'audio', row 1 (id 'b'): values that are not finite, first in frame 1",
        "column 'audio', row 4 (id 'a'): values that are not finite, first in frame 0",
    ]
    assert len(list(samples.faults(not_finite=False))) == 1


def test_tokens(samples):
    tokenizer = demo_tokenizer()
    samples.tokenize(tokenizer, 3)
    assert samples[4]["input_ids"].tolist() == tokenizer(samples["text"][4], truncation=True, max_length=3)["input_ids"]
    assert samples.lengths("text").tolist() == [3] * 18
    blank = Samples(in_memory()[0], {"word_vectors"})
    blank.tokenize(tokenizer, 50)
    assert blank.lengths("text").tolist() == [6] * 6 + [0]
    batch = SelfMMCollator(pad_token_id=0)([blank[5], blank[6]])
    assert batch["attention_mask"].tolist() == [[1] * 6, [0] * 6]


def test_a_worker_process_reads_for_itself(samples):
    """Forked, of what was pickled, as where a worker is spawned."""
    samples.tokenize(demo_tokenizer(), 9)
    copy, collate = pickle.loads(pickle.dumps((samples, SelfMMCollator())))
    assert all(np.array_equal(copy[3][name], samples[3][name]) for name in samples[3])
    batches = [
        list(DataLoader(one, 5, collate_fn=collate, num_workers=workers, multiprocessing_context=context))
        for one, workers, context in ((samples, 0, None), (copy, 1, "fork"))
    ]
    for here, there in zip(*batches, strict=True):
        assert all((here[name] == there[name]).all() for name in here)


MEMORY = """
import sys
import numpy as np
from datasets import Dataset
from selfmm_hf.data.samples import Samples

def anonymous_and_mapped():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["RssAnon"].split()[0]) / 1024, int(lines["VmRSS"].split()[0]) / 1024

samples = Samples(Dataset.from_file(sys.argv[1]))
before, total = anonymous_and_mapped()
most, most_total = 0, 0
for number, row in enumerate(np.random.default_rng(0).permutation(len(samples))):
    samples[row]["audio"].sum()
    if number % 50 == 0:
        now = anonymous_and_mapped()
        most, most_total = max(most, now[0]), max(most_total, now[1])
print(most - before, most_total - total)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_epoch_does_not_fill_the_memory(tmp_path):
    rows = {
        "id": [*"0123456789"],
        "text": [""] * 10,
        "audio": [np.ones((500, 74), np.float32)] * 10,
        "label": [0.0] * 10,
    }
    dataset = Dataset.from_dict(rows, features({"audio": 74}))
    concatenate_datasets([dataset] * 200).save_to_disk(tmp_path, num_shards=1)  # 296 MB
    (file,) = tmp_path.glob("*.arrow")
    process = subprocess.run([fresh.python(), "-c", MEMORY, file], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    anonymous, resident = map(float, process.stdout.split())
    assert anonymous < 20 and resident < 150, (anonymous, resident)


def test_texts_that_are_cut_are_counted():
    texts = ["great", "the food is great", "the movie was wonderful and the food is great", "\U0001f600 " * 30]
    rows = {"id": list("abcd"), "text": texts, "label": [0.0] * 4}
    samples = Samples(Dataset.from_dict(rows))
    assert samples.tokenize(demo_tokenizer(), 6) == 1 and samples.tokenize(demo_tokenizer(), 11) == 0
    assert samples.lengths("text").tolist() == [3, 6, 11, 0]


@pytest.mark.parametrize("texts", [["", " "], [""] * 1000 + ["great"], ["great"] + [""] * 1000])
def test_blank_texts_have_no_tokens(texts):
    rows = {"id": [str(row) for row in range(len(texts))], "text": texts, "label": [0.0] * len(texts)}
    samples = Samples(Dataset.from_dict(rows))
    samples.tokenize(demo_tokenizer(), 20)
    assert (samples.lengths("text") > 0).tolist() == [bool(text.strip()) for text in texts]
    assert len(samples[0]["input_ids"]) == len(samples[0]["attention_mask"]) == samples.lengths("text")[0]


def test_splits_are_made_ready_as_new_clips_are():
    random = np.random.default_rng(0)
    widths, made = {"audio": 33, "vision": 41}, {}
    for split, clips in (("train", 6), ("validation", 2)):
        frames = {name: [random.normal(2, 3, (9, width)).astype(np.float32)] * clips for name, width in widths.items()}
        rows = {"id": [f"{split}{row}" for row in range(clips)], "text": ["great food"] * clips, "label": [0.0] * clips}
        made[split] = Samples(Dataset.from_dict({**rows, **frames}, features(widths)))
    raw = made["validation"][0]["audio"]
    processor = fit_processor(made, demo_tokenizer(), max_tokens=7)
    assert np.abs(made["train"][0]["audio"].mean(0)).max() < 1e-5
    assert np.allclose(processor.feature_extractor.normalize("audio", raw), made["validation"][0]["audio"])
    assert list(made["train"][0]["input_ids"]) == processor(text=["great food"])["input_ids"][0].tolist()
    assert processor.max_text_tokens == 7
