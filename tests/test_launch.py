"""Whole runs of train.py as `accelerate launch` starts them with the configurations of hub_configs/accelerate/."""

import json
import os
import subprocess
from pathlib import Path

import fresh
import numpy as np
import pytest
import torch
from conftest import mmsa_file
from packaging.version import Version
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from selfmm_hf.data import synthetic as demo

ROOT = Path(__file__).resolve().parents[1]

# FSDP over processes on the CPU, which accelerate, made for GPUs, would quietly turn into DDP.
FSDP_ON_CPU = """
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

original = AcceleratorState.__init__

def init(self, *args, fsdp_plugin=None, **kwargs):
    original(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP

AcceleratorState.__init__ = init

from torch.distributed.fsdp import FSDPModule
from selfmm_hf.training.trainer import SelfMMTrainer

train = SelfMMTrainer.train

def check(self, *args, **kwargs):
    result = train(self, *args, **kwargs)
    units = [name for name, module in self.model.named_modules() if isinstance(module, FSDPModule)]
    assert {"", "encoders.text.encoder.layer.0", "encoders.text.encoder.layer.1"} <= set(units), units
    assert self.args.world_size == 2
    return result

SelfMMTrainer.train = check

import sys
from selfmm_cli import main
main(["train", *sys.argv[1:]])
"""


@pytest.fixture
def data(tmp_path):
    """Options of a small run: a feature file and a text encoder with two layers."""
    tokenizer = demo.demo_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=9, max_position_embeddings=20, hidden_dropout_prob=0.0,
                        attention_probs_dropout_prob=0.0)  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    file = mmsa_file(tmp_path / "file.pkl")
    dropouts = [f"--{task}_head_dropout=0" for task in ("fusion", "text", "audio", "vision")]
    return [
        "--config", "mosi", "--data", file, "--text_encoder", tmp_path / "encoder", *dropouts, "--disable_tqdm", "true",
        "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2", "--use_cpu", "true",
    ]  # fmt: skip


def launch(configuration, script, processes, *options):
    command = [
        fresh.python(), "-m", "accelerate.commands.launch", "--quiet",
        "--config_file", ROOT / "hub_configs" / "accelerate" / f"{configuration}.yaml",
        "--mixed_precision", "no", "--num_processes", processes, "--main_process_port", 0, script, *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.skipif(Version(torch.__version__) < Version("2.13"), reason="FSDP on a CPU was seen with torch 2.13")
def test_fsdp_trains_resumes_and_saves_what_ddp_does(tmp_path, data):
    script = tmp_path / "fsdp.py"
    script.write_text(FSDP_ON_CPU)
    sharded, whole = tmp_path / "sharded", tmp_path / "whole"
    done = launch("fsdp", script, 2, *data, "--output_dir", sharded, "--num_train_epochs", 1)
    assert done.returncode == 0, done.stderr[-3000:]
    (sharded / "all_results.json").unlink()  # as if it had been stopped there
    options = ["--output_dir", sharded, "--num_train_epochs", 2, "--resume_from_checkpoint", "true"]
    done = launch("fsdp", script, 2, *data, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    done = launch("multi_gpu", "train.py", 2, *data, "--output_dir", whole, "--num_train_epochs", 2)
    assert done.returncode == 0, done.stderr[-3000:]

    results = [json.loads((folder / "all_results.json").read_text()) for folder in (sharded, whole)]
    confidence = [one.pop("label_confidence") for one in results]
    assert confidence[0].keys() == confidence[1].keys() == {"text", "audio", "vision"}
    for name, by_epoch in confidence[1].items():
        # Ranks of 24 clips: by rounding, two that nearly tie change places, after the last step of the training.
        np.testing.assert_allclose(confidence[0][name], by_epoch, atol=0.2)
    said = {name: value for name, value in results[1].items() if value is None or isinstance(value, str | dict)}
    numbers = {name: value for name, value in results[1].items() if name not in said}
    assert {
        **said,
        **{name: pytest.approx(value, abs=1e-4, nan_ok=True) for name, value in numbers.items()},
    } == results[0]
    card = (whole / "model" / "README.md").read_text()
    assert "trained on 2 x CPU" in card
    assert "accelerate launch --multi_gpu --num_processes 2 train.py --config preset.yaml --data file.pkl" in card
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (sharded, whole)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        if "key.bias" not in name:  # its gradient is rounding noise, which Adam turns into steps
            torch.testing.assert_close(value, weights[1][name], atol=1e-4, rtol=0, msg=name)
    assert (sharded / "model" / "config.json").read_text() == (whole / "model" / "config.json").read_text()
    files = [{path.relative_to(folder) for path in (folder / "model").rglob("*")} for folder in (sharded, whole)]
    assert files[0] == files[1]


def test_processes_that_would_train_on_their_own_are_refused(tmp_path, data):
    """
    Without `--use_cpu true`, the processes that accelerate starts on a machine without a GPU do not know each other.
    With older versions of transformers or accelerate they do.
    """
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = launch("multi_gpu", "train.py", 2, *data[:-2], "--output_dir", tmp_path / "run", "--num_train_epochs", 1)
    if done.returncode == 0:
        assert "trained on 2 x CPU" in (tmp_path / "run" / "model" / "README.md").read_text()
        return
    assert "one of 2 processes, but each would train on its own" in done.stderr
    assert not (tmp_path / "run").exists()
