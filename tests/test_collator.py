import numpy as np
import pytest
import torch

from selfmm_hf.training.collator import SelfMMCollator


def frames(count, width=5, start=0.0):
    return np.arange(start, start + count * width, dtype=np.float64).reshape(count, width)


def test_pads_to_the_longest_and_counts():
    batch = SelfMMCollator()(
        [{"audio": frames(2), "vision": frames(1, 3)}, {"audio": frames(4), "vision": frames(1, 3)}]
    )
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "audio": (2, 4, 5), "audio_lengths": (2,), "vision": (2, 1, 3), "vision_lengths": (2,),
    }  # fmt: skip
    assert batch["audio"].dtype == torch.float32
    assert batch["audio_lengths"].tolist() == [2, 4]
    assert batch["audio"][0, :2].tolist() == frames(2).tolist()
    assert not batch["audio"][0, 2:].any()


def test_takes_read_only_arrays():  # what comes out of Arrow; PyTorch warns of those
    one = frames(2).astype(np.float32)
    one.flags.writeable = False
    assert SelfMMCollator()([{"audio": one}])["audio"][0].tolist() == one.tolist()


@pytest.mark.parametrize("nothing", [None, [], np.zeros((0, 5), np.float32), np.zeros((0,))])
@pytest.mark.parametrize("first", [True, False])
def test_an_absent_sequence_has_length_zero(nothing, first):
    samples = [{"audio": nothing}, {"audio": frames(2)}, {}]
    batch = SelfMMCollator()(samples if first else samples[::-1])
    assert batch["audio"].shape == (3, 2, 5)
    assert batch["audio_lengths"].tolist() == [0, 2, 0]
    assert batch["audio"][1].tolist() == frames(2).tolist()
    assert "vision" not in batch


@pytest.mark.parametrize("nothing", [None, [], np.zeros((0, 5), np.float32)])
def test_a_batch_without_a_sequence_leaves_it_out(nothing):
    batch = SelfMMCollator()([{"audio": nothing, "input_ids": None, "vision": frames(1, 2)}, {"vision": frames(2, 2)}])
    assert set(batch) == {"vision", "vision_lengths"}


def test_tokens():
    samples = [
        {"input_ids": [7, 8], "token_type_ids": [0, 1]},
        {"input_ids": [9, 10, 11], "attention_mask": [1, 1, 0], "token_type_ids": [0, 0, 1]},
        {"input_ids": None},
        {"input_ids": []},
    ]
    batch = SelfMMCollator(pad_token_id=4)(samples)
    assert batch["input_ids"].tolist() == [[7, 8, 4], [9, 10, 11], [4, 4, 4], [4, 4, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert {value.dtype for value in batch.values()} == {torch.long}


def test_no_token_types_where_the_tokenizer_gives_none():
    assert set(SelfMMCollator()([{"input_ids": [7, 8]}])) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    ("labels", "expected"), [([0.5, -2], [0.5, -2.0]), ([[0.5, 1], np.array([-1, 0])], [[0.5, 1.0], [-1.0, 0.0]])]
)
def test_labels_of_one_or_several_targets_and_the_index(labels, expected):
    batch = SelfMMCollator()([{"label": label, "index": 5 + row, "id": "a"} for row, label in enumerate(labels)])
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == expected
    assert batch["index"].tolist() == [5, 6]
    assert set(batch) == {"labels", "index"}


def test_other_sequences_by_name():
    batch = SelfMMCollator(sequences=("eye",))([{"eye": frames(3, 2), "audio": frames(1)}])
    assert set(batch) == {"eye", "eye_lengths"}


def test_a_collated_batch_goes_through_the_model(tiny_model):
    samples = [
        {"input_ids": [7, 8], "audio": frames(2), "vision": frames(1, 4), "label": 1.0},
        {"input_ids": None, "audio": frames(3), "vision": None, "label": -1.0},
        {"input_ids": [9], "audio": [], "label": 0.0},
    ]
    outputs = tiny_model()(**SelfMMCollator()(samples))
    assert {name: value.tolist() for name, value in outputs.present.items()} == {
        "text": [True, False, True], "audio": [True, True, False], "vision": [True, False, False],
    }  # fmt: skip
    assert outputs.loss.isfinite()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([{"audio": frames(3)}, {"audio": frames(2, 1)}], r"have one width, got \[5\] and \[1\]"),
        ([{"audio": frames(3)}, {"audio": frames(2, 4)}], r"have one width, got \[5\] and \[4\]"),
        ([{"input_ids": [1, 2, 3]}, {"input_ids": [1, 2], "attention_mask": [1]}], "attention_mask must have a value"),
    ],
)
def test_what_does_not_fit_is_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        SelfMMCollator()(samples)


def test_embeds_stand_for_tokens():
    samples = [{"input_ids": [1, 2], "text_embeds": [0.5, 1.0]}, {"input_ids": [], "text_embeds": np.zeros(2)}]
    batch = SelfMMCollator()(samples)
    assert batch.keys() == {"text_embeds"} and batch["text_embeds"].dtype == torch.float32
    assert batch["text_embeds"].tolist() == [[0.5, 1.0], [0.0, 0.0]]
