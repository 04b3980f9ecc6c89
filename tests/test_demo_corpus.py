import numpy as np
import pytest

from selfmm_hf.data import DataError, load_splits
from selfmm_hf.data.columns import UNIMODAL_LABELS
from selfmm_hf.data.demo import FUSION_WEIGHTS, SIZES, demo_corpus, demo_text_config, demo_tokenizer

CORPUS = {split: list(rows.with_format("numpy")) for split, rows in demo_corpus().items()}


def column(split, modality):
    return np.array([sample[UNIMODAL_LABELS[modality]] for sample in CORPUS[split]])


def test_sizes_shapes_and_ranges():
    assert {split: len(samples) for split, samples in CORPUS.items()} == SIZES
    for samples in CORPUS.values():
        for sample in samples:
            assert sample["audio"].dtype == sample["vision"].dtype == np.float32
            assert sample["audio"].shape[1] == 5 and sample["vision"].shape[1] == 6
            assert min(len(sample["audio"]), len(sample["vision"])) >= 2
            assert all(-3 <= sample[name] <= 3 for name in ("label", *UNIMODAL_LABELS.values()))
    ids = [sample["id"] for samples in CORPUS.values() for sample in samples]
    assert len(set(ids)) == len(ids)


def test_the_same_seed_gives_the_same_corpus():
    again, other = demo_corpus(sizes={"train": 5}), demo_corpus(seed=1, sizes={"train": 5})
    for one, two in zip(CORPUS["train"], again["train"].with_format("numpy"), strict=False):
        assert one["text"] == two["text"] and np.array_equal(one["audio"], two["audio"])
    assert again["train"]["text"] != other["train"]["text"]


def test_the_fused_label_is_what_the_modalities_make_of_it():
    for sample in CORPUS["test"]:
        fused = sum(weight * sample[UNIMODAL_LABELS[name]] for name, weight in FUSION_WEIGHTS.items())
        assert abs(sample["label"] - fused) <= 0.1 + 1e-6
        assert sample["label"] * 5 == pytest.approx(round(sample["label"] * 5), abs=1e-6)  # steps of 0.2


def test_modalities_agree_mostly_and_disagree_sometimes():
    text, audio, vision = (column("train", name) for name in FUSION_WEIGHTS)
    opposed = np.mean((text * audio < -0.25) | (text * vision < -0.25) | (audio * vision < -0.25))
    assert 0.1 < opposed < 0.4
    fused = np.array([sample["label"] for sample in CORPUS["train"]])
    for values in (text, audio, vision):
        assert 0.7 < np.corrcoef(values, fused)[0, 1] < 0.95


@pytest.mark.parametrize("modality", FUSION_WEIGHTS)
def test_each_modality_shows_its_own_sentiment(modality):
    """A linear fit to crude statistics of the modality alone finds its sentiment, better than that of the others."""

    vocabulary = sorted(demo_tokenizer().get_vocab())

    def statistics(sample):
        if modality == "text":
            words = sample["text"].split()
            return [float(words.count(word)) for word in vocabulary]
        frames = sample[modality]
        return [*frames.mean(0), *frames.max(0), *frames.min(0), 1.0]

    design = {split: np.array([statistics(sample) for sample in CORPUS[split]]) for split in ("train", "test")}
    gram = design["train"].T @ design["train"] + np.eye(design["train"].shape[1])
    fitted = {
        name: design["test"] @ np.linalg.solve(gram, design["train"].T @ column("train", name))
        for name in FUSION_WEIGHTS
    }
    own = np.corrcoef(fitted[modality], column("test", modality))[0, 1]
    assert own > 0.8
    assert all(
        own > np.corrcoef(fitted[modality], column("test", name))[0, 1] for name in FUSION_WEIGHTS if name != modality
    )


def test_the_tokenizer_knows_every_word():
    tokenizer, config = demo_tokenizer(), demo_text_config()
    for sample in CORPUS["train"][:200]:
        ids = tokenizer(sample["text"])["input_ids"]
        assert tokenizer.unk_token_id not in ids and max(ids) < config.vocab_size
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert len(ids) <= config.max_position_embeddings


def test_load_splits_names_what_is_wrong():
    with pytest.raises(DataError, match=r"no data set 'mosy'.*demo, mosi, mosei, sims"):
        load_splits("mosy")
    with pytest.raises(DataError, match="takes no data"):
        load_splits("demo", "file.pkl")
    with pytest.raises(DataError, match="--data"):
        load_splits("mosei")
