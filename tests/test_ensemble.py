"""Several seeds as one model: it predicts the mean, loads as any other, and is made of all seeds of a sweep."""

import json
import os
import re
import shutil
import subprocess

import fresh
import numpy as np
import pytest
import torch
from conftest import TASKS, assert_same_outputs, command
from test_benchmark import BASE, SIZES, TWO, sweep_file
from test_remote_code import FRESH_PROCESS
from test_trainer import arguments, corpus

from selfmm_hf import SelfMMConfig, SelfMMModel, SelfMMTrainer
from selfmm_hf.data import synthetic as demo
from selfmm_hf.evaluation.ensemble import Ensemble
from selfmm_hf.hub.saved_model import load_model
from selfmm_hf.model.task_selfmm import MULTI_LABEL, SINGLE_LABEL, Task


@pytest.fixture
def together(tiny_model):
    """Makes members, and the ensemble of them."""

    def make(count=3, **options):
        members = [tiny_model(seed=seed, **options) for seed in range(count)]
        for number, member in enumerate(members):
            for head in member.heads.values():
                torch.nn.init.normal_(head.out.weight, std=2.0 + number)
        ensemble = tiny_model(members=count, **options)
        for own, member in zip(ensemble.members, members, strict=True):
            own.load_state_dict(member.state_dict())
        return members, ensemble

    return make


@pytest.mark.parametrize("options", [{}, *TASKS.values()], ids=["sentiment", *TASKS])
def test_it_predicts_the_mean(together, tiny_batch, tmp_path, options):
    members, ensemble = together(**options)
    batch, task = tiny_batch(), ensemble.config.task
    batch["audio_lengths"][1] = 0
    batch["attention_mask"][2] = 0
    with torch.no_grad():
        found, each = ensemble(**batch), [member(**batch) for member in members]
    for logits in (lambda one: one.logits, *(lambda one, n=name: one.unimodal_logits[n] for name in ("text", "audio"))):
        expected = torch.stack([task.predictions(logits(one)) for one in each]).mean(0)
        torch.testing.assert_close(task.predictions(logits(found)), expected, atol=1e-6, rtol=1e-5)
    assert found.present["audio"].tolist() == [True, False, True]
    widths = {name: value.shape[1] for name, value in found.representations.items()}
    assert widths == {name: 3 * value.shape[1] for name, value in each[0].representations.items()}

    ensemble.save_pretrained(tmp_path)
    with torch.no_grad():
        assert_same_outputs(SelfMMModel.from_pretrained(tmp_path)(**batch), found)


@pytest.mark.parametrize("layer", [-1, "weighted"])
def test_texts_may_be_read_before(together, tiny_batch, layer):
    _, ensemble = together(2, text_layer=layer)
    batch = tiny_batch()
    tokens = {name: batch.pop(name) for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        expected = ensemble(**batch, **tokens)
        embeds = ensemble.encode_text(**tokens)
        assert embeds.shape[1:] == ensemble.text_shape
        assert_same_outputs(ensemble(**batch, text_embeds=embeds), expected)


def test_sure_members_have_finite_logits():
    sure = torch.tensor([[[-200.0, 200.0, 0.0]], [[-300.0, 100.0, 2.0]]])
    for kind in (MULTI_LABEL, SINGLE_LABEL):
        task = Task(("a", "b", "c"), kind)
        assert task.mean_logits(sure).isfinite().all()
        torch.testing.assert_close(task.predictions(task.mean_logits(sure)), task.predictions(sure).mean(0))


def test_it_loads_in_a_fresh_process_without_the_package(together, tiny_batch, tmp_path):
    _, ensemble = together(2)
    ensemble.save_pretrained(tmp_path / "model")
    torch.save(batch := tiny_batch(), tmp_path / "batch.pt")
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    words = [tmp_path / name for name in ("model", "again", "batch.pt")]
    done = subprocess.run(
        [fresh.python(), "-c", FRESH_PROCESS, *words], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with torch.no_grad():
        expected = ensemble(**batch).logits
    for name in ("model", "again"):
        torch.testing.assert_close(torch.load(tmp_path / name / "found.pt")["logits"], expected)


def test_what_cannot_be(together, tiny_model, tmp_path):
    for members in (0, 101, True, 2.0, "2"):
        with pytest.raises(ValueError, match="members must be a number from 1 to 100, got"):
            SelfMMConfig(members=members)
    with pytest.raises(ValueError, match="LSTMs and heads would have"):
        SelfMMConfig(members=100, audio_hidden_size=2000)
    with pytest.raises(ValueError, match="made of trained models, not of a text encoder"):
        SelfMMModel.from_text_encoder("any", members=2)
    with pytest.raises(ValueError, match="An ensemble is not trained, its members are"):
        SelfMMTrainer(together(2)[1], arguments(tmp_path), train_dataset=corpus(), eval_dataset=corpus(9, 1))
    before = {name: value for name, value in tiny_model().config.to_dict().items() if name != "members"}
    assert SelfMMConfig.from_dict(before).members == 1, "of a model from before"


# Of a sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SIZES", SIZES)
        arguments = ["--sweep", sweep_file(folder, **TWO), "--seeds", 2, "--output_dir", folder / "out", *BASE]
        assert command("benchmark", "run", *arguments) == 0
    return folder / "out"


def test_from_a_sweep_to_a_model(sweep, tmp_path, capsys):
    capsys.readouterr()
    model = tmp_path / "model"
    assert command("benchmark", "ensemble", sweep, "--configuration", "paper", "--output_dir", model) == 0
    said = capsys.readouterr().out
    assert said.count("| seed 1111 |") == said.count("| ensemble |") == 2 and "On validation, the MAE of" in said
    made = Ensemble.read(sweep, "paper")
    for split in ("validation", "test"):
        mean = np.mean([run.of_split(split)["fusion"] for run in made.runs.values()], axis=0)
        mae = np.abs(mean - made.together.of_split(split)["label"]).mean()
        assert re.search(rf"\| {split} \| MAE \|.*\n.*\n.*\n.*\n.*\n\| ensemble \| {mae:.3f} \|", said), said

    loaded = load_model(model)[0]
    assert len(loaded.members) == 2
    for own, seed in zip(loaded.members, (1111, 1112), strict=True):
        alone = load_model(sweep / "paper" / str(seed))[0]
        assert all(torch.equal(value, alone.state_dict()[name]) for name, value in own.state_dict().items())
    card = " ".join((model / "README.md").read_text().split())
    assert "the mean of those of 2 models, trained with the seeds 1111, 1112" in card and "with 2 seeds." in card
    assert "selfmm benchmark ensemble SWEEP --output_dir MODEL" in card and f"| test | {mae:.3f} |" in card
    assert "It takes 2 times the memory and the time of one." in card and "It takes 2 times" in said

    scores = []
    for one in (model, *(sweep / "paper" / str(seed) for seed in (1111, 1112))):
        assert command("predict", "--model", one, "--text", "the food is great", "--json") == 0
        scores.append(json.loads(capsys.readouterr().out)["score"])
    assert scores[0] == pytest.approx(np.mean(scores[1:]), abs=1e-5)
    assert command("push", model, "me/ensemble", "--dry_run") == 0
    assert "model.safetensors" in capsys.readouterr().out


def test_it_is_exported(sweep, tmp_path):
    pytest.importorskip("onnxruntime")
    model = tmp_path / "model"
    assert command("benchmark", "ensemble", sweep, "--configuration", "default", "--output_dir", model) == 0
    assert command("export", model, "--output", tmp_path / "model.onnx") == 0


def test_what_is_no_ensemble_is_refused(sweep, tmp_path, capsys):
    copy = shutil.copytree(sweep, tmp_path / "copy")
    (tmp_path / "there").mkdir()

    def refused(*options, to="new"):
        capsys.readouterr()
        assert command("benchmark", "ensemble", copy, *options, "--output_dir", tmp_path / to) == 2
        assert not (tmp_path / "new").exists()
        return capsys.readouterr().err

    assert "has the configurations default, paper: name one of them with --configuration" in refused()
    assert "no configuration 'other'; expected one of default, paper" in refused("--configuration", "other")
    assert "there exists already; name a new folder" in refused("--configuration", "paper", to="there")
    config = copy / "paper" / "1112" / "model" / "config.json"
    config.write_text(config.read_text().replace('"absent_modality": "zero"', '"absent_modality": "learned"'))
    assert "have different configurations or recipes" in refused("--configuration", "paper")
    (copy / "paper" / "1112" / "all_results.json").unlink()
    assert "paper, seed 1112, is not done, and an ensemble needs all seeds" in refused("--configuration", "paper")
    file = copy / "sweep.yaml"
    file.write_text(file.read_text().replace("seeds: 2", "seeds: 1"))
    assert "has one seed, and an ensemble needs two: `selfmm" in refused("--configuration", "default")
