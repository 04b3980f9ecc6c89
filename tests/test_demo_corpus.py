from unittest.mock import Mock

import numpy as np
import pytest

from selfmm_hf import SelfMMFeatureExtractor
from selfmm_hf.data import DataError, load_splits, synthetic
from selfmm_hf.data.columns import UNIMODAL_LABELS
from selfmm_hf.data.synthetic import FUSION_WEIGHTS, demo_corpus, utterance
from selfmm_hf.data.synthetic.clip import render
from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer

SIZES = {"train": 80, "test": 40}
SAID = {"train": 400, "test": 120}  # are drawn at once, without sound and face


@pytest.fixture(scope="module")
def corpus():
    return {split: list(rows.with_format("numpy")) for split, rows in demo_corpus(sizes=SIZES).items()}


def column(samples, modality):
    return np.array([sample[UNIMODAL_LABELS[modality]] for sample in samples])


def test_sizes_shapes_and_ranges(corpus):
    assert {split: len(samples) for split, samples in corpus.items()} == SIZES
    for samples in corpus.values():
        for sample in samples:
            assert sample["audio"].dtype == sample["vision"].dtype == np.float32
            assert sample["audio"].shape[1] == 33 and sample["vision"].shape[1] == 41
            assert min(len(sample["audio"]), len(sample["vision"])) >= 2
            assert all(-3 <= sample[name] <= 3 for name in ("label", *UNIMODAL_LABELS.values()))
    ids = [sample["id"] for samples in corpus.values() for sample in samples]
    assert len(set(ids)) == len(ids)


def test_the_same_seed_gives_the_same_corpus(corpus):
    again, other = demo_corpus(sizes={"train": 5}), demo_corpus(seed=1, sizes={"train": 5})
    for one, two in zip(corpus["train"], again["train"].with_format("numpy"), strict=False):
        assert one["text"] == two["text"]
        for name in ("audio", "vision"):
            np.testing.assert_allclose(one[name], two[name], atol=1e-4)
    assert again["train"]["text"] != other["train"]["text"]


def test_features_are_those_of_the_recipe(corpus, tmp_path):
    """The sound by the extractor itself; the drawn clip of it too, as far as the codecs and the drawing allow."""
    one, features = utterance(0, "test", 0), corpus["test"][0]
    extractor = SelfMMFeatureExtractor()
    found, _ = extractor.extract({"audio": one.sound, "sampling_rate": 22050})
    np.testing.assert_allclose(found["audio"], features["audio"], atol=1e-4)
    render(one, tmp_path / "clip.mp4")
    found, absent = extractor.extract(tmp_path / "clip.mp4")
    assert absent == {} and abs(len(found["vision"]) - len(features["vision"])) <= 1
    extractor.fit_normalization([{name: clip[name] for name in ("audio", "vision")} for clip in corpus["train"]])
    frames = min(len(found["audio"]), len(features["audio"]))
    normal = [extractor.normalize("audio", one[:frames]) for one in (found["audio"], features["audio"])]
    assert np.abs(normal[0] - normal[1]).mean() < 0.25  # deviations; of AAC


def test_the_fused_label_is_what_the_modalities_make_of_it(corpus):
    for sample in corpus["test"]:
        fused = sum(weight * sample[UNIMODAL_LABELS[name]] for name, weight in FUSION_WEIGHTS.items())
        assert abs(sample["label"] - fused) <= 0.1 + 1e-6
        assert sample["label"] * 5 == pytest.approx(round(sample["label"] * 5), abs=1e-6)  # steps of 0.2


def test_modalities_agree_mostly_and_disagree_sometimes(corpus):
    text, audio, vision = (column(corpus["train"], name) for name in FUSION_WEIGHTS)
    opposed = np.mean((text * audio < -0.25) | (text * vision < -0.25) | (audio * vision < -0.25))
    assert 0.1 < opposed < 0.4
    fused = np.array([sample["label"] for sample in corpus["train"]])
    for values in (text, audio, vision):
        assert 0.7 < np.corrcoef(values, fused)[0, 1] < 0.95


@pytest.fixture
def said(monkeypatch):
    """More utterances, of which there are only the words."""
    monkeypatch.setattr(synthetic, "synthesise_voice", Mock())
    monkeypatch.setattr(synthetic, "face_motion", Mock())
    samples = {}
    for split, size in SAID.items():
        drawn = [utterance(0, split, row) for row in range(size)]
        samples[split] = [
            {"text": one.text, **{UNIMODAL_LABELS[name]: value for name, value in one.sentiment.items()}}
            for one in drawn
        ]
    return samples


@pytest.mark.parametrize("modality", FUSION_WEIGHTS)
def test_each_modality_shows_its_own_sentiment(corpus, said, modality):
    """A linear fit to crude statistics of the modality alone finds its sentiment, better than that of the others."""
    if modality == "text":
        assert [one["text"] for one in said["train"]][: SIZES["train"]] == [one["text"] for one in corpus["train"]]
        corpus = said
    vocabulary = sorted(demo_tokenizer().get_vocab())

    def statistics(sample):
        if modality == "text":
            words = sample["text"].split()
            return [float(words.count(word)) for word in vocabulary]
        frames = sample[modality]
        return [*(frames.mean(0) / scale), *(frames.std(0) / scale), 1.0]

    scale = 1.0 if modality == "text" else np.concatenate([one[modality] for one in corpus["train"]]).std(0) + 1e-6
    design = {split: np.array([statistics(sample) for sample in corpus[split]]) for split in ("train", "test")}
    gram = design["train"].T @ design["train"] + np.eye(design["train"].shape[1])
    fitted = {
        name: design["test"] @ np.linalg.solve(gram, design["train"].T @ column(corpus["train"], name))
        for name in FUSION_WEIGHTS
    }
    own = np.corrcoef(fitted[modality], column(corpus["test"], modality))[0, 1]
    assert own > 0.8
    assert all(
        own > np.corrcoef(fitted[modality], column(corpus["test"], name))[0, 1]
        for name in FUSION_WEIGHTS
        if name != modality
    )


def test_the_tokenizer_knows_every_word(corpus):
    tokenizer, config = demo_tokenizer(), demo_text_config()
    for sample in corpus["train"]:
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
