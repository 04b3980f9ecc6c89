"""The corpora of benchmarks/corpora.py are what they say, and benchmarks/label_family.py counts what it says."""

import dataclasses
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from selfmm_hf.data.mmsa import read_mmsa

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import corpora
import crema_d
import label_family
from corpora import FAMILY, Corpus


def said_of(clips=20_000, seed=0, **knobs):
    """What the modalities say (clips, 3), and the labels."""
    return corpora.sentiments(Corpus(**knobs), np.random.default_rng(seed), clips)


def correlation(one, other):
    return np.corrcoef(one, other)[0, 1]


def test_a_share_of_the_clips_has_one_modality_that_contradicts():
    said, _ = said_of(contradicting=0.3, noise=(0.01, 0), mean=1.5, deviation=0.2)
    opposite = said < 0
    assert opposite.any(1).mean() == pytest.approx(0.3, abs=0.01)
    assert opposite.sum(1).max() == 1
    assert opposite.mean(0) == pytest.approx([0.1] * 3, abs=0.01)


def test_without_contradiction_the_noise_alone_tells_them_apart():
    said, label = said_of(contradicting=0.0, noise=(0.3, 0.1), deviation=0.8)
    assert np.std(said[:, 0] - said[:, 1]) == pytest.approx(0.3 * 2**0.5, rel=0.02)
    assert np.std(label - said @ Corpus().weights) == pytest.approx(0.1, rel=0.02)
    assert (said.mean(), said.std()) == (pytest.approx(0, abs=0.03), pytest.approx((0.8**2 + 0.3**2) ** 0.5, rel=0.02))


def test_the_label_is_nearest_to_the_modality_of_the_most_weight():
    said, label = said_of(weights=(0.2, 0.7, 0.1), contradicting=0.5)
    of = [correlation(one, label) for one in said.T]
    assert of[1] > of[0] + 0.1 > of[2] + 0.12


def test_the_rules():
    said = np.array([[2.0, -1.0, -2.0], [0.5, -1.0, -2.0], [-2.0, 1.0, -3.0], [2.0, 1.0, 0.0]])
    mean = [0.25, -0.5, -1.5, 1.25]
    assert corpora.label(Corpus(rule="mean"), said) == pytest.approx(mean)
    assert corpora.label(Corpus(rule="strongest"), said) == pytest.approx([2, -2, -3, 2])
    assert corpora.label(Corpus(rule="irony"), said) == pytest.approx([-1.5, *mean[1:]])
    with pytest.raises(ValueError, match=r"mean, strongest, irony or rated; got 'loudest'"):
        corpora.label(Corpus(rule="loudest"), said)


@pytest.fixture
def small():
    return Corpus(clips=200, label_range=1.0, step=0.2, lacking=0.3, mean=0.8)


def test_labels_lie_on_the_steps_of_their_range(small):
    file, truths = corpora.make(small)
    for split, clips in {"train": 200, "valid": 40, "test": 80}.items():
        labels = file[split]["regression_labels"]
        assert labels.shape == (clips,) and truths[split].shape == (clips, 3)
        assert np.abs(labels).max() == 1 and np.nanmax(np.abs(truths[split])) == 1
        assert labels * 5 == pytest.approx(np.rint(labels * 5), abs=1e-6)
        assert labels.mean() > 0.15
    fine, _ = corpora.make(replace(small, step=0.0))
    assert len(np.unique(fine["train"]["regression_labels"])) > 20 > len(np.unique(file["train"]["regression_labels"]))


def test_what_a_clip_lacks_is_not_there_and_not_known(small):
    file, truths = corpora.make(small)
    audio, vision = (np.array(file["train"][f"{name}_lengths"]) == 0 for name in ("audio", "vision"))
    assert audio.mean() == pytest.approx(0.3, abs=0.1) and vision.mean() == pytest.approx(0.3, abs=0.1)
    assert (audio & ~vision).any() and (vision & ~audio).any()
    assert np.array_equal(np.isnan(truths["train"]), np.stack([np.zeros(200, bool), audio, vision], 1))
    assert not file["train"]["audio"][audio].any() and file["train"]["audio"][~audio].any((1, 2)).all()


def test_a_corpus_is_that_of_its_seed(small):
    one, again, other = corpora.make(small), corpora.make(small), corpora.make(small, seed=1)
    for split in corpora.SPLITS:
        assert np.array_equal(one[1][split], again[1][split], equal_nan=True)
        assert one[0][split]["raw_text"] == again[0][split]["raw_text"] != other[0][split]["raw_text"]
        for name in ("text_bert", "audio", "vision", "regression_labels"):
            assert np.array_equal(one[0][split][name], again[0][split][name])
            assert not np.array_equal(one[0][split][name], other[0][split][name])


def test_the_input_carries_as_much_of_each_modality_as_is_said():
    file, truths = corpora.make(Corpus(clips=1000, signal=(1.0, 0.0, 0.5)))
    place = {word: number for number, word in enumerate(corpora.WORDS)}
    text = [np.mean([place[word] for word in words.split()]) for words in file["train"]["raw_text"]]
    audio, vision = (file["train"][name].sum(1) for name in ("audio", "vision"))
    lengths = {name: np.array(file["train"][f"{name}_lengths"])[:, None] for name in ("audio", "vision")}
    audio, vision = audio / lengths["audio"], vision / lengths["vision"]
    _, _, lines = np.linalg.svd(vision - vision.mean(0))
    true = truths["train"].T
    assert correlation(text, true[0]) > 0.9
    assert abs(correlation(vision @ lines[0], true[2])) > 0.9
    assert max(abs(correlation(column, true[1])) for column in audio.T) < 0.15


def test_the_file_is_read_and_its_tokens_are_those_of_the_encoder(small, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    file, _ = corpora.make(small)
    corpora.write(file, tmp_path / "corpus.pkl")
    corpora.write_encoder(tmp_path / "encoder")
    known = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    for sample in read_mmsa(tmp_path / "corpus.pkl")["validation"].samples():
        assert sample["input_ids"].tolist() == known(sample["text"])["input_ids"]
        assert known.unk_token_id not in sample["input_ids"] and len(sample["input_ids"]) <= corpora.TOKENS
    assert AutoModel.from_pretrained(tmp_path / "encoder").config.vocab_size == len(known) == len(corpora.WORDS) + 5


def test_no_two_of_the_family_are_the_same():
    assert len(set(FAMILY.values())) == len(FAMILY) == 17
    assert all(sum(corpus.weights) == pytest.approx(1) for corpus in FAMILY.values())
    assert {corpus.rule for corpus in FAMILY.values()} == {"mean", "strongest", "irony", "rated"}


def test_crema_d_is_drawn_by_its_statistics():
    drawn = crema_d.draw(np.random.default_rng(0), 50_000)
    assert drawn.shape == (50_000, 4) and np.abs(drawn).max() <= 1
    found = crema_d.statistics(drawn[:, 1:])
    for name in ("means", "deviations", "correlations"):
        assert getattr(found, name) == pytest.approx(getattr(crema_d.ALL, name), abs=0.01), name
    assert found.contradictions == pytest.approx(crema_d.ALL.contradictions, abs=0.02)
    text = crema_d.statistics(drawn[:, [0, 2, 3]])  # as the voice
    assert text.correlations == pytest.approx(found.correlations, abs=0.01)
    said, label = said_of(rule="rated")
    assert correlation(said[:, 2], label) == pytest.approx(crema_d.ALL.correlations[2], abs=0.01)
    assert said[:, 2].std() == pytest.approx(3 * crema_d.ALL.deviations[1], rel=0.03)


def test_the_statistics_are_those_of_the_data(shared):
    sentiments, heaps = crema_d.read(shared / "data" / "crema_d" / "tabulatedVotes.csv")
    assert sentiments.shape == (7442, 3)
    found = {name: crema_d.statistics(sentiments[heaps == name], np.mean(heaps == name)) for name in crema_d.HEAPS}
    for name, expected in {"all": crema_d.ALL, **crema_d.HEAPS}.items():
        figures = dataclasses.asdict(found.get(name) or crema_d.statistics(sentiments))
        for figure, value in dataclasses.asdict(expected).items():
            assert figures[figure] == pytest.approx(value, abs=0.0011), (name, figure)


def test_sentiments_are_read_from_the_votes(tmp_path):
    header = ",A,D,F,H,N,S,fileName," + ",".join(f"mean{emotion}Resp" for emotion in crema_d.VALENCE)
    rows = ["100001,1,0,0,3,0,0,one,40,-1,-1,80,-1,-1", "200001,0,0,0,0,5,0,one,-1,-1,-1,-1,60,-1",
            "300001,2,2,0,3,0,0,one,50,30,-1,90,-1,-1"]  # fmt: skip
    (tmp_path / "votes.csv").write_text("\n".join([header, *rows]), "utf-8")
    sentiments, heaps = crema_d.read(tmp_path / "votes.csv")
    assert sentiments == pytest.approx(np.array([[(3 * 0.8 - 0.4) / 4, 0, (3 * 0.9 - 2 * 0.5 - 2 * 0.3) / 7]]))
    assert heaps.tolist() == ["negative"]  # four votes of seven, though of two kinds


TRUE = np.array([-2.0, -1.0, 1.0, 2.0])


def test_the_figures_of_labels():
    fused = np.array([-1.0, -1.0, 1.0, 1.0])
    epochs = np.array([fused, TRUE + 0.5, -fused, TRUE / 2])
    found = label_family.figures(epochs, fused, TRUE)
    y_m = correlation(fused, TRUE)
    assert found == pytest.approx(np.array([[y_m, 0.5], [1, 0.5], [-y_m, 2.5], [1, 0.75]]))
    unmoved = label_family.figures(epochs[:1], fused, TRUE)
    assert unmoved == pytest.approx(np.array([[y_m, 0.5]] * 4))


def test_the_worst_of_correlation_and_of_error_may_be_of_two_epochs():
    found = label_family.figures(np.array([TRUE + 3, [1.0, -1, 0, 0]]), np.zeros(4), TRUE)
    assert found[label_family.WORST] == pytest.approx([correlation([1, -1, 0, 0], TRUE), 3])
    assert found[label_family.Y_M].tolist() == [0, 1.5]  # constant


def test_clips_that_lack_the_modality_do_not_count():
    labels, fused = np.array([[9.0, -2, -1, 1, 2]]), np.array([0.0, -1, -1, 1, 1])
    found = label_family.figures(labels, fused, np.array([np.nan, *TRUE]))
    assert found[label_family.END] == pytest.approx([1, 0])


def test_outcomes_are_means_over_the_seeds():
    one, other = (np.zeros((3, 4, 2)), np.ones(4)), (np.ones((3, 4, 2)), np.full(4, 2.0))
    labels, errors = label_family.means([one, other])
    assert (labels == 0.5).all() and labels.shape == (3, 4, 2) and errors.tolist() == [1.5] * 4


def cells(y_m, worst, end):
    """Figures of three modalities, all the same but for the last."""
    one = [y_m, end, worst, end]
    return np.array([[y_m] * 4, [y_m] * 4, one])


@pytest.mark.parametrize(
    ("worst", "label_range", "count"),
    [((0.798, 0.502), 3, 0), ((0.796, 0.5), 3, 1), ((0.8, 0.504), 3, 1), ((0.798, 0.502), 1, 1), ((0.9, 0.4), 1, 0)],
)
def test_cells_worse_than_y_m_are_counted(worst, label_range, count):
    found = label_family.harmed(cells((0.8, 0.5), worst, (0.9, 0.4)), label_range)
    assert found.tolist() == [False, False, bool(count)]


@pytest.mark.parametrize(
    ("end", "label_range", "count"),
    [((0.895, 0.405), 3, 0), ((0.88, 0.4), 3, 1), ((0.9, 0.42), 3, 1), ((0.895, 0.405), 1, 1), ((0.95, 0.3), 1, 0)],
)
def test_cells_behind_another_convention_are_counted(end, label_range, count):
    mine, best = cells((0.8, 0.5), (0.8, 0.5), end), cells((0.8, 0.5), (0.8, 0.5), (0.9, 0.4))
    bad = cells((0.8, 0.5), (0.1, 2), (0.1, 2))
    assert label_family.behind(mine, [bad, best], label_range).tolist() == [False, False, bool(count)]
    assert not label_family.behind(mine, [bad], label_range).any()
    assert not label_family.behind(mine, [], label_range).any()


def test_mistakes_are_found_by_convention_and_modality():
    good, bad = cells((0.8, 0.5), (0.8, 0.5), (0.9, 0.4)), cells((0.8, 0.5), (0.1, 2), (0.1, 2))
    found = label_family.mistakes({"default": (good, None), "official": (bad, None)}, 3)
    assert not found["default"].any()
    assert found["official"].tolist() == [[False, False], [False, False], [True, True]]
