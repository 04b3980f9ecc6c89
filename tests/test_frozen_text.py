"""A frozen text encoder reads each text once, and that changes no number."""

import json
from pathlib import Path

import pytest
import torch
from conftest import assert_same_outputs
from datasets import Dataset
from transformers import BertModel

import selfmm_cli as cli
from selfmm_hf.data import Samples
from selfmm_hf.data import synthetic as demo
from selfmm_hf.runs.options import read_options
from selfmm_hf.runs.run import Run
from selfmm_hf.training.collator import SelfMMCollator
from selfmm_hf.training.frozen_text import FrozenText

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ["the food is great", "", "the movie was wonderful and the food is great", "great"]


@pytest.fixture(scope="module", autouse=True)
def small_corpus():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SIZES", {"train": 30, "validation": 9, "test": 11})
        yield


@pytest.fixture(scope="module")
def whole(small_corpus, tmp_path_factory):
    """Results of a run that nothing disturbed, and how many tokens its text encoder has read: see `run`."""
    return run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def samples():
    """Four clips of text, the second without any."""
    rows = {"id": list("abcd"), "text": TEXTS, "label": [1.0, 0.0, 2.0, 1.5]}
    samples = Samples(Dataset.from_dict(rows))
    samples.tokenize(demo.demo_tokenizer(), 20)
    return samples


@pytest.fixture
def model(tiny_model, samples):
    return tiny_model(text_config=demo.demo_text_config(), modalities=["text"], absent_modality="learned")


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_embeds_stand_for_the_tokens(samples, model, batch_size, pooling):
    model.config.text_pooling = pooling
    torch.nn.init.normal_(model.absent["text"])
    frozen = FrozenText(samples)
    assert frozen[0].keys() == samples[0].keys()
    frozen.read(model, SelfMMCollator(sequences=()), batch_size, progress=False)
    assert len(frozen) == 4 and frozen["id"] == list("abcd") and (frozen.embeds[1] == 0).all()
    collate = SelfMMCollator(sequences=())
    tokens, embeds = (collate([one[clip] for clip in range(4)]) for one in (samples, frozen))
    assert set(embeds) == {"text_embeds", "labels"} and set(tokens) > {"input_ids", "labels"}
    found, expected = model(**embeds), model(**tokens)
    assert found.present["text"].tolist() == [True, False, True, True]
    assert_same_outputs(found, expected)
    torch.testing.assert_close(found.loss, expected.loss)


def test_no_text_at_all(samples, model):
    assert (model.encode_text(torch.zeros(2, 0, dtype=torch.long)) == torch.zeros(2, model.widths["text"])).all()
    assert (model.encode_text(torch.ones(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)) == 0).all()


def test_what_is_no_embedding_is_refused(tiny_model, tiny_batch):
    model, batch = tiny_model(), tiny_batch()
    width = model.widths["text"]
    with pytest.raises(ValueError, match="either input_ids or text_embeds"):
        model(**batch, text_embeds=torch.zeros(3, width))
    with pytest.raises(ValueError, match=rf"text_embeds must be of shape \(batch, {width}\), got \(3, {width + 1}\)"):
        model(text_embeds=torch.zeros(3, width + 1))
    with pytest.raises(ValueError, match="cannot take \\['text_embeds'\\]"):
        tiny_model(text_config=None)(audio=batch["audio"], text_embeds=torch.zeros(3, width))


def test_texts_that_are_cut_are_told(tmp_path, monkeypatch):
    warned = []
    monkeypatch.setattr("selfmm_hf.runs.run.logger.warning", warned.append)
    options = ["--dataset", "demo", "--output_dir", tmp_path / "run", "--use_cpu", "true"]
    for tokens in (50, 4):
        Run(*read_options([*map(str, options), "--max_text_tokens", str(tokens)]))
    warned = [line for line in warned if " texts of the " in line]
    assert [line.partition(" texts of the ")[2][:5] for line in warned] == ["train", "valid", "test "]
    assert all("have more than 4 tokens and are cut; see --max_text_tokens." in line for line in warned)


def run(folder, *options):
    """Results of a run of three epochs with a frozen encoder, and how many tokens its text encoder has read."""
    arguments = ["--config", ROOT / "hub_configs" / "demo.yaml", "--output_dir", folder, "--num_train_epochs", "3",
                 "--freeze_text_encoder", "true", "--use_cpu", "true", "--disable_tqdm", "true", *options]  # fmt: skip
    read = []
    made = Run.__init__

    def watched(self, *inputs, **named):
        made(self, *inputs, **named)
        self.model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: read.append(ids[0].numel()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "__init__", watched)
        cli.main(["train", *map(str, arguments)])
    return json.loads((folder / "all_results.json").read_text()), sum(read)


def test_a_run_reads_its_texts_once(whole, tmp_path, monkeypatch):
    once, tokens = whole
    assert 50 * 4 < tokens < 50 * 20, "50 clips of a dozen words at most"
    monkeypatch.setattr(Run, "_read_texts", lambda *_: None)
    each_time, more_tokens = run(tmp_path / "each_time")
    assert more_tokens > 2.5 * tokens
    for name, by_epoch in each_time.pop("label_confidence").items():
        assert once["label_confidence"][name] == pytest.approx(by_epoch, abs=1e-3)
    for name, value in each_time.items():
        assert once[name] == (pytest.approx(value, abs=1e-3) if isinstance(value, float) else value), name


def test_a_resumed_run_reads_by_the_encoder_that_it_began_with(tmp_path):
    folder, tokenizer = tmp_path / "encoder", demo.demo_tokenizer()
    tokenizer.save_pretrained(folder)

    def results(name, *options):
        run(tmp_path / name, "--text_encoder", folder, *options)
        return (tmp_path / name / "predictions.parquet").read_bytes()

    def save_encoder(seed):
        torch.manual_seed(seed)
        BertModel(demo.demo_text_config()).save_pretrained(folder)

    save_encoder(1)
    undisturbed = results("whole")
    results("resumed", "--num_train_epochs", "2")
    (tmp_path / "resumed" / "all_results.json").unlink()  # as if it had been stopped there
    save_encoder(2)
    assert results("resumed", "--resume_from_checkpoint", "true") == undisturbed


def test_a_run_killed_while_reading_goes_on(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(FrozenText, "read", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path / "run")
    assert run(tmp_path / "run", "--resume_from_checkpoint", "true")[0] == whole[0]


def test_texts_of_which_parts_are_missing_are_read_each_time(whole, tmp_path):
    assert run(tmp_path / "missing", "--max_missing_rate", "1.0")[1] > 2.5 * whole[1]
