"""A GPU computes what a CPU computes. Run these tests wherever there is one: `pytest -m gpu`."""

import pytest
import torch
from conftest import assert_same_outputs, command
from test_benchmarks_run import run
from transformers import pipeline

from selfmm_hf.model.pipeline_selfmm import MultimodalSentimentPipeline
from selfmm_hf.runs.stored import StoredRun

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use (CUDA or ROCm)"),
]


def test_a_training_is_that_of_the_cpu():
    printed = run("gpu", "--device", DEVICE, "--rows", 64, "--agree_rows", 64, "--layers", 2, "--epochs", 2)
    assert "bf16, compiled" in printed  # and its exit status says that losses, labels and centres agree


def test_a_model_computes_what_it_does_on_the_cpu(tiny_model, tiny_batch):
    model, batch = tiny_model(), tiny_batch()
    with torch.no_grad():
        expected = model(**batch)
        found = model.to(DEVICE)(**{name: values.to(DEVICE) for name, values in batch.items()})
    for part in ("unimodal_logits", "representations", "present"):
        setattr(found, part, {name: values.cpu() for name, values in getattr(found, part).items()})
    found.logits = found.logits.cpu()
    assert_same_outputs(found, expected, atol=1e-4)


def test_the_pipeline_takes_a_device(model_folder):
    given = {"model": str(model_folder), "pipeline_class": MultimodalSentimentPipeline}
    on_cpu, on_gpu = (pipeline("multimodal-sentiment", device=device, **given) for device in ("cpu", DEVICE))
    words = {"text": "what a good film"}
    assert on_gpu(words)["score"] == pytest.approx(on_cpu(words)["score"], abs=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_in_half_precision_ends(tmp_path, precision):
    assert command("train", "--config", "demo", f"--{precision}", "true", "--num_train_epochs", 2, "--output_dir",
                   tmp_path / "run") == 0  # fmt: skip
    assert StoredRun.read(tmp_path / "run").results["epochs"] == 2
