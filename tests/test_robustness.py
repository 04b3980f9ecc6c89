"""Missing data: the masks, training with them, and the report of both published protocols."""

import json
import re
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import mmsa_file
from torch.utils.data import DataLoader, RandomSampler
from transformers import BertConfig, BertModel

import selfmm_cli as cli
from selfmm_hf.data import load_splits
from selfmm_hf.data import synthetic as demo
from selfmm_hf.data.masking import Tokens, with_missing, without
from selfmm_hf.data.synthetic import demo_tokenizer
from selfmm_hf.data.targets import score
from selfmm_hf.evaluation.robustness import measure as command
from selfmm_hf.evaluation.robustness.curves import plot_robustness
from selfmm_hf.evaluation.robustness.protocols import Condition, conditions, predict
from selfmm_hf.evaluation.robustness.published import published
from selfmm_hf.evaluation.robustness.tables import headlines, label, markdown, measure, of_each, summarise
from selfmm_hf.metrics import mosi_metrics, sims_metrics
from selfmm_hf.model.task_selfmm import Task
from selfmm_hf.runs.options import read_options
from selfmm_hf.task_metrics import metrics_of
from selfmm_hf.training.collator import SelfMMCollator
from selfmm_hf.training.missing_data import MissingData

ROOT = Path(__file__).resolve().parents[1]
DEMO = ["--config", str(ROOT / "hub_configs" / "demo.yaml"), "--disable_tqdm", "true", "--use_cpu", "true"]
MODALITIES = ("text", "audio", "vision")
CLS, SEP, UNK = 2, 3, 1
TOKENS = Tokens(UNK, (0, UNK, CLS, SEP))


def clip(tokens=6, audio=9, vision=4, seed=0):
    random = np.random.default_rng(seed)
    return {
        "input_ids": [CLS, *random.integers(5, 50, tokens).tolist(), SEP],
        "attention_mask": [1] * (tokens + 2),
        "audio": random.normal(size=(audio, 5)).astype(np.float32),
        "vision": random.normal(size=(vision, 4)).astype(np.float32),
        "label": float(random.uniform(-3, 3)),
    }


def clips(count=7):
    return [clip(1 + row % 5, row % 4, 1 + row % 3, row) for row in range(count)]


def rates(rate):
    return dict.fromkeys(MODALITIES, rate)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_have_the_stated_rate(rate):
    long = clip(4000, 4000, 4000)
    masked = with_missing(long, rates(rate), [1111, 0], TOKENS)
    inner = masked["input_ids"][1:-1]
    assert np.mean(inner == UNK) == pytest.approx(rate, abs=0.04)
    assert np.array_equal(inner[inner != UNK], np.array(long["input_ids"][1:-1])[inner != UNK])
    for name in ("audio", "vision"):
        gone = (masked[name] == 0).all(1)
        assert gone.mean() == pytest.approx(rate, abs=0.04) and masked[name].dtype == np.float32
        assert np.array_equal(masked[name][~gone], long[name][~gone])  # a frame is there or not, as a whole
    assert not np.array_equal((masked["audio"] == 0).all(1), (masked["vision"] == 0).all(1))


def test_special_tokens_lengths_and_the_sample_itself_stay():
    before, sample = clip(), clip()
    masked = with_missing(sample, rates(1.0), [0], TOKENS)
    assert masked["input_ids"].tolist() == [CLS, *[UNK] * 6, SEP]
    assert masked["attention_mask"] == sample["attention_mask"] and masked["label"] == sample["label"]
    assert masked["audio"].shape == sample["audio"].shape and not masked["audio"].any()
    assert same(sample, before)


def test_masks_are_deterministic_and_grow_with_the_rate():
    sample = clip(40, 40, 40)
    masked = [with_missing(sample, rates(rate), [1111, 5], TOKENS) for rate in (0.2, 0.2, 0.6)]
    assert same(*masked[:2])
    assert not same(masked[0], with_missing(sample, rates(0.2), [1112, 5], TOKENS))
    assert not same(masked[0], with_missing(sample, rates(0.2), [1111, 6], TOKENS))
    for name in ("audio", "vision"):
        assert not masked[2][name][(masked[0][name] == 0).all(1)].any()  # what is missing, stays missing
    alone = with_missing(sample, {"vision": 0.2}, [1111, 5])
    assert np.array_equal(alone["vision"], masked[0]["vision"])  # whatever the others miss
    assert alone["audio"] is sample["audio"] and alone["input_ids"] is sample["input_ids"]


def test_word_vectors_and_absent_modalities():
    sample = {"text": np.ones((5, 3), np.float32), "audio": None, "vision": np.zeros((0, 4), np.float32), "label": 1.0}
    masked = with_missing(sample, rates(1.0), [0])
    assert not masked["text"].any() and masked["audio"] is None and len(masked["vision"]) == 0


def test_the_token_of_a_tokenizer():
    tokenizer = demo_tokenizer()
    assert Tokens.of(None) is None
    assert Tokens.of(tokenizer).unknown == tokenizer.unk_token_id
    assert {tokenizer.cls_token_id, tokenizer.sep_token_id} <= set(Tokens.of(tokenizer).kept)
    tokenizer.unk_token = None
    with pytest.raises(ValueError, match="no token for unknown words"):
        Tokens.of(tokenizer)


def test_no_missing_data_change_nothing(tiny_model):
    samples, model = clips(), tiny_model()
    batch = SelfMMCollator()(samples)
    del batch["labels"]
    with torch.no_grad():
        expected = model(**batch).logits[:, 0].numpy()
    every = Condition("complete", MODALITIES, MODALITIES)
    assert np.array_equal(predict(model, samples, every, TOKENS), expected)
    never = Condition("random", MODALITIES, MODALITIES, 0.0, 1111)
    assert np.array_equal(predict(model, samples, never, TOKENS), expected)
    assert not np.array_equal(
        predict(model, samples, Condition("random", MODALITIES, MODALITIES, 0.5, 1111), TOKENS), expected
    )


@pytest.mark.parametrize("present", [one.present for one in conditions(MODALITIES) if one.protocol == "absent"])
@pytest.mark.parametrize("absent_modality", ["zero", "learned"])
def test_subsets_are_as_inputs_left_out(tiny_model, present, absent_modality):
    model = tiny_model(absent_modality=absent_modality)
    for parameter in model.absent.values():
        torch.nn.init.normal_(parameter)
    samples = clips()
    found = predict(model, samples, Condition("absent", MODALITIES, present), TOKENS)
    batch = SelfMMCollator()(samples)
    inputs = {"text": ("input_ids", "attention_mask"), **{one: (one, f"{one}_lengths") for one in ("audio", "vision")}}
    with torch.no_grad():
        expected = model(**{name: batch[name] for one in present for name in inputs[one]}).logits[:, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    zeros = predict(model, samples, Condition("zeros", MODALITIES, present), TOKENS)
    masked = [with_missing(one, dict.fromkeys(set(MODALITIES) - set(present), 1.0), [0], TOKENS) for one in samples]
    every = Condition("complete", MODALITIES, MODALITIES)
    assert np.array_equal(zeros, predict(model, masked, every, TOKENS))
    assert not np.allclose(zeros, found, atol=1e-4)


def test_clips_that_have_nothing_left_are_clips_still(tiny_model):
    samples = [{**one, "vision": None} for one in clips(3)]
    found = predict(tiny_model(), samples, Condition("absent", MODALITIES, ("vision",)), TOKENS)
    assert len(found) == 3 and np.ptp(found) < 1e-6
    batch = SelfMMCollator()(samples)
    assert not without(batch, ["audio"])["audio_lengths"].any() and batch["audio_lengths"].any()


def test_the_conditions_are_those_of_the_papers():
    every = conditions(MODALITIES)
    assert every[0] == Condition("complete", MODALITIES, MODALITIES) and len(every) == 1 + 9 * 3 + 6 * 2 == len(
        {*every}
    )
    random = [one for one in every if one.protocol == "random"]
    assert sorted({one.rate for one in random}) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert {one.seed for one in random} == {1111, 1112, 1113}
    subsets = [label(one) for one in every if one.protocol == "zeros"]
    assert subsets == ["text", "audio", "vision", "text, audio", "text, vision", "audio, vision"]
    assert len(conditions(["text", "audio"])) == 1 + 27 + 4 and len(conditions(["text"])) == 28


def training_data(count=9, seed=1111, max_rate=1.0):
    return MissingData([clip(30, 30, 30, row) for row in range(count)], TOKENS, max_rate, seed)


def read(data, epoch, rows):
    data.epoch = epoch
    return [data[row] for row in rows]


def test_half_of_the_clips_are_complete_and_others_each_epoch():
    data = training_data(101, max_rate=0.8)
    seen = []
    for epoch in (0, 1, 2):
        data.epoch = epoch
        rates = data.rates()
        assert ((rates == 0).sum(0) == 50).all() and 0.7 < rates.max() < 0.8
        seen.append(rates)
    assert len({(rates == 0).tobytes() for rates in seen}) == 3
    assert len({column.tobytes() for column in (seen[1] == 0).T}) == 3  # each modality on its own
    for row, one in enumerate(data):
        complete, rate = same(one, data.samples[row]), data.rates()[row].max()
        assert complete if rate == 0 else not complete or rate < 0.2


def test_what_is_missing_depends_on_seed_epoch_and_place_alone():
    first = read(training_data(), 3, range(9))
    again = training_data()
    read(again, 1, [4, 2])
    for one, other in zip(first, reversed(read(again, 3, range(8, -1, -1))), strict=True):
        assert same(one, other)
    assert same(again[-1], first[-1])
    assert not all(map(same, first, read(training_data(), 4, range(9))))
    assert not all(map(same, first, read(training_data(seed=1112), 3, range(9))))


def test_workers_know_the_epoch():
    data, alone = training_data(), training_data()
    loader = DataLoader(data, 3, num_workers=2, persistent_workers=True, collate_fn=list)
    for epoch in (1, 2):
        data.epoch = epoch
        found = [one for batch in loader for one in batch]
        assert all(map(same, found, read(alone, epoch, range(9))))
    shuffled = DataLoader(data, 2, sampler=RandomSampler(data), collate_fn=list)
    assert {one["label"] for batch in shuffled for one in batch} == set(data["label"])


@pytest.fixture
def small_corpus(monkeypatch):
    monkeypatch.setattr(demo, "SIZES", {"train": 30, "validation": 9, "test": 11})


def train(folder, *options):
    cli.main(["train", *DEMO, "--num_train_epochs", "3", "--output_dir", str(folder), *map(str, options)])


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as exit_info:
        cli.main([*map(str, arguments)])
    assert exit_info.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_run_with_missing_data_resumes_exactly(small_corpus, tmp_path):
    options = [
        "--max_missing_rate", 1, "--per_device_train_batch_size", 8, "--save_strategy", "steps", "--eval_strategy",
        "steps", "--save_steps", 3, "--eval_steps", 3, "--save_total_limit", 9, "--num_train_epochs", 2,
    ]  # fmt: skip
    train(tmp_path / "whole", *options)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    for checkpoint in (tmp_path / "killed").glob("checkpoint-*"):  # 4 steps an epoch: that of step 3 is within one
        if int(checkpoint.name.partition("-")[2]) > 3:
            shutil.rmtree(checkpoint)
    (tmp_path / "killed" / "all_results.json").unlink()
    train(tmp_path / "killed", *options, "--resume_from_checkpoint", "true")
    train(tmp_path / "complete", *options[2:])
    for name in ("all_results.json", "predictions.parquet", "pseudo_labels.parquet"):
        whole, killed, complete = ((tmp_path / one / name).read_bytes() for one in ("whole", "killed", "complete"))
        assert whole == killed, name
        assert whole != complete or name == "pseudo_labels.parquet", name  # the fused labels still, after two epochs
    assert "max_missing_rate: 1.0" in (tmp_path / "whole" / "options.yaml").read_text()


def test_the_highest_rate_is_a_rate():
    assert read_options([])[0].max_missing_rate == 0
    for rate in ("1.5", "-0.1", "nan"):
        with pytest.raises(ValueError, match="max_missing_rate must be in"):
            read_options(["--max_missing_rate", rate])


def test_the_report_of_a_run(small_corpus, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run, out = tmp_path / "run", tmp_path / "out"
    train(run)
    cli.main(["robustness", str(run), "--output_dir", str(out)])
    printed = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "robustness.json", "robustness.md", "robustness.png", "robustness.svg", "predictions.parquet"
    }  # fmt: skip
    text = (out / "robustness.md").read_text()
    assert text in printed and "run on demo, test split" in text and str(tmp_path) not in text
    assert "\n| 0.9  | " in text and "\n| audio, vision | " in text and "nothing may be chosen" in text
    report = json.loads((out / "robustness.json").read_text())
    results = json.loads((run / "all_results.json").read_text())
    assert report["random"]["0"]["mae"] == pytest.approx(results["test_mae"], abs=1e-5)
    assert list(report["random"]) == ["0", *(f"0.{tenth}" for tenth in range(1, 10)), "mean"]
    assert list(report["absent"]) == list(report["zeros"])
    maes = [one["mae"] for rate, one in report["random"].items() if rate != "mean"]
    assert report["random"]["mean"]["mae"] == pytest.approx(np.mean(maes))

    rows = pq.read_table(out / "predictions.parquet").to_pylist()
    assert len(rows) == 40 * 11 == 40 * report["clips"]
    some = [row for row in rows if row["protocol"] == "random" and row["rate"] == 0.3]
    found = []
    for seed in (1111, 1112, 1113):
        ours = [row for row in some if row["seed"] == seed]
        found.append(mosi_metrics([row["fusion"] for row in ours], [row["label"] for row in ours])["mae"])
    assert report["random"]["0.3"]["mae"] == pytest.approx(np.mean(found))

    cli.main(["robustness", str(run / "model"), "--output_dir", str(tmp_path / "again")])
    assert (tmp_path / "again" / "robustness.json").read_bytes() == (out / "robustness.json").read_bytes()
    assert (tmp_path / "again" / "predictions.parquet").read_bytes() == (out / "predictions.parquet").read_bytes()

    capsys.readouterr()
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert "exists already" in refused(capsys, "robustness", run, "--output_dir", out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    new = tmp_path / "new"
    checkpoint = next(iter(run.glob("checkpoint-*")))
    assert "is a checkpoint of a run" in refused(capsys, "robustness", checkpoint, "--output_dir", new)
    assert "no finished model" in refused(capsys, "robustness", tmp_path, "--output_dir", new)
    assert "unexpected extra argument" in refused(capsys, "robustness", run, checkpoint, "--output_dir", new)
    assert "no folder" in refused(capsys, "robustness", tmp_path / "nowhere", "--output_dir", new)
    assert "demo is generated" in refused(capsys, "robustness", run, "--data", out, "--output_dir", new)
    shutil.copytree(run / "model", tmp_path / "model of nobody")
    assert "name --dataset" in refused(capsys, "robustness", tmp_path / "model of nobody", "--output_dir", new)
    (run / "all_results.json").write_text(json.dumps({**results, "test_mae": 9.0}))
    assert "not the data that it was tested on" in refused(capsys, "robustness", run, "--output_dir", new)
    (run / "all_results.json").unlink()
    assert "has not ended" in refused(capsys, "robustness", run, "--output_dir", new)
    assert not new.exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("dataset", "limit"), [("mosi", 3.0), ("sims", 1.0)])
def test_the_report_of_published_files(tmp_path, capsys, dataset, limit):
    pytest.importorskip("matplotlib")
    tokenizer = demo_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=9, max_position_embeddings=20)  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    file = mmsa_file(tmp_path / "file.pkl", limit=limit)  # of which some clips have no picture
    options = ["--dataset", dataset, "--data", file, "--text_encoder", tmp_path / "encoder", "--num_train_epochs", 1]
    options += ["--output_dir", tmp_path / "run", "--use_cpu", "true", "--disable_tqdm", "true"]
    cli.main(["train", *map(str, options), "--max_missing_rate", "1"])
    cli.main(["robustness", str(tmp_path / "run"), "--output_dir", str(tmp_path / "out")])
    text = (tmp_path / "out" / "robustness.md").read_text()
    ours = ["1.353", "58.59", "70.51", "56.53", "1.381"] if dataset == "mosi" else ["0.586", "72.81"]
    assert [one for one in ours if one not in text] == []
    assert "Self-MM (LNLN, NeurIPS 2024)" in text and "chosen on the test split" in text
    moved = shutil.move(file, tmp_path / "moved.pkl")
    options = ["robustness", str(tmp_path / "run"), "--output_dir", str(tmp_path / "more")]
    assert "no file or folder" in refused(capsys, *options)
    cli.main([*options, "--data", str(moved)])
    assert (tmp_path / "more" / "robustness.json").read_bytes() == (tmp_path / "out" / "robustness.json").read_bytes()


def test_tokens_come_from_the_tokenizer(tmp_path):
    samples = load_splits("mosi", str(mmsa_file(tmp_path / "file.pkl")))["train"]
    tokenizer = demo_tokenizer()
    samples.tokenize(tokenizer, 50)
    data = MissingData(samples, Tokens.of(tokenizer), 1.0, 5)
    data.samples = samples
    found = with_missing(samples[0], rates(1.0), [0], data.tokens)["input_ids"].tolist()
    assert found[0] == tokenizer.cls_token_id and found[-1] == tokenizer.sep_token_id
    assert set(found[1:-1]) == {tokenizer.unk_token_id}
    assert data["label"] == samples["label"] and len(data) == 18


def test_tables_of_models_with_few_modalities():
    labels = np.array([-1.0, 2.0, 0.0, 1.0])
    for modalities in (["text"], ["text", "audio"]):
        predictions = {one: np.full(4, one.rate, np.float32) for one in conditions(modalities)}
        measured = measure(predictions, labels, score(3))
        report = {"name": "x", "dataset": "mosi", "clips": 4, "label_range": 3.0, "absent_modality": "zero",
                  "guessed": 0.0, **summarise(measured, np.zeros(1), labels, score(3))}  # fmt: skip
        assert report["random"]["0"]["corr"] is None is report["random"]["mean"]["corr"]
        assert ("Only some modalities" in markdown(report, [])) == (len(modalities) > 1)
        assert all("mae" in figures for kind in ("random", "absent", "zeros") for figures in report[kind].values())


def test_tables_of_emotions_are_narrow_and_have_each_beside_what_is_published():
    task = Task(("neutral", "happy", "sad", "angry"), "multi_label_classification")
    labels = np.random.default_rng(0).integers(0, 2, (40, 4)).astype(float)
    predictions = {one: np.abs(labels - (len(one.missing) > 1)) for one in conditions(MODALITIES)}
    report = {"name": "x", "dataset": "iemocap", "clips": 40, "label_range": None, "absent_modality": "zero",
              "headlines": headlines(task), "of_each": of_each(task),
              **summarise(measure(predictions, labels, task), labels, labels, task)}  # fmt: skip
    text = markdown(report, published("iemocap"))
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    cells = [[[cell.strip() for cell in line.strip("|").split("|")] for line in table] for table in tables]
    assert [table[0] for table in cells] == [
        [first, *names] for first in ("rate", "present", "present") for names in (["Accuracy", "F1"], task.names)
    ]
    assert all(len(set(map(len, table))) == 1 for table in tables)  # aligned
    rows = {line[0]: line[1:] for line in cells[5][2:]}
    assert float(rows["guessing"][0]) < 70 and list(rows)[-1] == "guessing"
    assert rows["text"] == ["0.00"] * 4 and rows["all"] == ["100.00"] * 4
    assert rows["text, Self-MM (CorrKD, CVPR 2024)"] == ["", "", "68.70", ""]
    assert rows["all, Self-MM (CorrKD, CVPR 2024)"] == ["72.70", "90.80", "86.70", "88.40"]
    assert not any("CorrKD" in line[0] for line in cells[3])  # of which the model is told, as none published is
    assert of_each(score(3)) == [] and of_each(Task(("a", "b"))) == ["mae_a", "mae_b"]


@pytest.mark.draws
def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    labels = np.random.default_rng(0).uniform(-3, 3, 50)
    predictions = {one: labels * (1 - one.rate) + len(one.missing) for one in conditions(MODALITIES)}
    report = {"name": "a$_$1", "dataset": "mosi", "label_range": 3.0,
              **summarise(measure(predictions, labels, score(3)), np.zeros(1), labels, score(3))}  # fmt: skip
    files = [tmp_path / "one.png", tmp_path / "one.svg"]
    plot_robustness(report, published("mosi"), files)
    assert files[0].stat().st_size > 20_000 and "a$_$1" in files[1].read_text()  # matplotlib names texts in comments


FOUR = Task(("neutral", "happy", "sad", "angry"), "multi_label_classification")
LABELS = {"mosi": score(3), "mosei": score(3), "sims": score(1), "iemocap": FOUR}


def test_published_figures_are_consistent():
    rows = published()
    assert {row.dataset for row in rows} == {"mosi", "mosei", "sims", "iemocap"} and published("demo") == []
    known = [label(one) for one in conditions(MODALITIES) if one.protocol in ("random", "zeros")]
    for row in rows:
        task = LABELS[row.dataset]
        names, one = [*headlines(task), *of_each(task)], np.full((1, len(task.names)), 0.5)
        assert set(row.metrics) <= set(names) <= set(metrics_of(task, one, one))
        assert row.protocol in ("random", "subsets") and "arXiv" in row.source
        for name, cells in row.metrics.items():
            assert set(cells) <= {*known, "0", "mean", "all"}
            assert all(0 < value < (3 if name == "mae" else 1) for value in cells.values())
            parts = [value for key, value in cells.items() if key not in ("mean", "all")]
            if "mean" in cells and len(parts) > 1 and len(parts) == (10 if row.protocol == "random" else 6):
                assert np.mean(parts) == pytest.approx(cells["mean"], abs=0.00051 if name == "mae" else 0.000051)


def test_scores_beyond_the_range_of_sims_are_no_sign_of_other_data(small_corpus, monkeypatch):
    labels = np.array([1.0, -1.0, 0.5], dtype=np.float32)
    monkeypatch.setattr(command, "predict", lambda *_: labels * 1.4)
    net, processor = Mock(), Mock(tokenizer=None)
    net.config.modalities, net.config.task = ["audio"], score(1)
    found = sims_metrics(labels * 1.4, labels)["mae"]
    assert command._predictions(net, [], processor, labels, found)
    with pytest.raises(ValueError, match="not the data that it was tested on"):
        command._predictions(net, [], processor, labels, found + 0.1)


def test_how_far_the_same_data_may_differ_depends_on_their_scale(monkeypatch):
    net, processor = Mock(), Mock(tokenizer=None)
    net.config.modalities = ["audio"]
    for limit, same, other in ((0.01, 1e-5, 1e-3), (100, 0.1, 2)):
        net.config.task = Task(("intensity",), scales=((-limit, limit),))
        labels = np.linspace(-limit, limit, 5, dtype=np.float32)
        monkeypatch.setattr(command, "predict", lambda *_, labels=labels, limit=limit: labels + limit / 10)
        assert command._predictions(net, [], processor, labels, limit / 10 + same)
        with pytest.raises(ValueError, match="not the data that it was tested on"):
            command._predictions(net, [], processor, labels, limit / 10 + other)


def test_a_model_alone_is_not_measured_by_other_labels_or_features(small_corpus, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    train(tmp_path / "run", "--num_train_epochs", 1)
    alone, out = shutil.move(tmp_path / "run" / "model", tmp_path / "alone"), tmp_path / "out"

    def told(dataset, file):
        return refused(capsys, "robustness", alone, "--dataset", dataset, "--data", file, "--output_dir", out)

    message = told("sims", mmsa_file(tmp_path / "sims.pkl", limit=1.0))
    assert "predicts float32 in [-3, 3]" in message and "the data are float32 in [-1, 1]" in message
    assert re.search(r"reads audio of \d+ columns, but the data have 7", told("mosi", mmsa_file(tmp_path / "mosi.pkl")))
    assert not out.exists()


def test_a_model_of_classes_alone_finds_the_classes_of_scores(tmp_path):
    pytest.importorskip("matplotlib")
    file = mmsa_file(tmp_path / "file.pkl", classification_labels=lambda rows: [row % 3 for row in range(rows)])
    options = ["--dataset", "mosi", "--data", file, "--modalities", "audio", "vision", "--num_train_epochs", 1]
    options += ["--problem_type", "single_label_classification", "--use_cpu", "true", "--disable_tqdm", "true"]
    cli.main(["train", *map(str, options), "--output_dir", str(tmp_path / "run")])
    cli.main(["robustness", str(tmp_path / "run"), "--output_dir", str(tmp_path / "of run")])
    shutil.move(tmp_path / "run" / "model", tmp_path / "run of")
    options = ["--dataset", "mosi", "--data", str(file), "--output_dir", str(tmp_path / "alone")]
    cli.main(["robustness", str(tmp_path / "run of"), *options])
    found = [(tmp_path / one / "predictions.parquet").read_bytes() for one in ("of run", "alone")]
    assert found[0] == found[1]


def test_modalities_that_are_called_as_other_rows():
    names, labels = ("mean", "all"), np.linspace(-3, 3, 9)
    predictions = {one: labels + len(one.missing) * (1 + ("mean" in one.present)) for one in conditions(names)}
    found = summarise(measure(predictions, labels, score(3)), labels, labels, score(3))["zeros"]
    assert {row: figures["mae"] for row, figures in found.items()} == pytest.approx(
        {"mean alone": 2, "all alone": 1, "mean": 1.5, "all": 0}
    )


def test_a_run_that_is_replaced_leaves_no_report_of_the_old_one(small_corpus, tmp_path):
    pytest.importorskip("matplotlib")
    run, measured = tmp_path / "run", tmp_path / "run" / "robustness"
    train(run, "--num_train_epochs", 1)
    cli.main(["robustness", str(run), "--output_dir", str(measured)])
    shutil.copy(measured / "robustness.json", run)
    train(run, "--num_train_epochs", 1, "--seed", 5, "--overwrite_output_dir")
    assert not measured.exists() and not (run / "robustness.json").exists()
    measured.mkdir()
    (measured / "notes.txt").touch()
    (measured / "predictions.parquet").touch()
    train(run, "--num_train_epochs", 1, "--overwrite_output_dir")
    assert len(list(measured.iterdir())) == 2  # there was no report
