"""The command `selfmm` as a whole, and what importing the package brings."""

import inspect
import re
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import typer
from conftest import command
from transformers import pipeline

import selfmm_cli
import selfmm_hf
from selfmm_cli import training_options
from selfmm_hf.clips.job import TIME_LIMIT
from selfmm_hf.runs.options import option_parser


def every_command(group=None, before=()):
    group = group or typer.main.get_command(selfmm_cli.app)
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from every_command(one, (*before, name))
        else:
            yield [*before, name]


def test_help_loads_nothing_slow():
    code = """
import sys
import selfmm_cli
for line in sys.argv[1:]:
    selfmm_cli.main([*line.split(), "--help"])
slow = {"torch", "transformers", "selfmm_hf", "numpy", "datasets", "pydantic"} & sys.modules.keys()
assert not slow, slow
"""
    lines = ["", *(" ".join(one) for one in every_command())]
    done = subprocess.run([sys.executable, "-c", code, *lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: ") == len(lines) == 17


def test_the_version(capsys):
    assert command("--version") == 0
    assert capsys.readouterr().out.split() == [selfmm_hf.__version__]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predcit"], "Did you mean 'predict'?"),
        (["predict", "--modle", "x"], "--model"),
        (["data", "prepare", "moshi", "--data", "x", "--output_dir", "y"], "mosi"),
        (["report"], "Missing"),
        (["train", "--learning_rte", "1"], "Unrecognized option --learning_rte. Did you mean --learning_rate?"),
    ],
)
def test_what_is_misspelt_is_said_in_one_line(arguments, said, capsys):
    assert command(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("selfmm: error: ") and said in line


def test_tracebacks_for_those_who_look_for_a_fault(monkeypatch, capsys):
    assert command("data", "verify", "nowhere") == 2
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("SELFMM_DEBUG", "1")
    assert command("data", "verify", "nowhere") == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed and printed.splitlines()[-1] == "selfmm: error: There is no nowhere."


@pytest.mark.parametrize("module", ["a_library", "selfmm_hf.data.verify"])
def test_an_error_of_another_package_is_not_taken_for_bad_input(module, monkeypatch, capsys):
    """Nor is one that C code raises, for which the last line is one of ours."""
    names = {"np": np, "__name__": module}
    exec("def verify(*_):\n    np.zeros(2) + np.zeros(3)", names)
    monkeypatch.setattr("selfmm_hf.data.verify.verify_file", names["verify"])
    assert command("data", "verify", __file__) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("(ValueError of another package; SELFMM_DEBUG=1 shows the traceback)")


def test_the_help_of_a_training_has_all_of_our_options():
    """It is read off the source; those of every Trainer are not in it."""
    documented = {name for _, options in training_options.panels() for name in options}
    parsed = {action.dest for action in option_parser()._actions}
    assert documented <= parsed
    own = {"dataset", "text_encoder", "convention", "momentum", "audio_pooling", "early_stopping_patience"}
    assert own <= documented and "warmup_steps" in parsed - documented
    assert all(re.search(r"[.:)]$", text) for _, options in training_options.panels() for text in options.values())


def test_the_help_of_all_options_has_those_of_every_trainer(capsys):
    assert command("train", "--help-all") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name, said in (("max_text_tokens", "texts are truncated"), ("momentum", "move by momentum over the epochs"),
                       ("audio_num_layers", "Layers of the audio LSTM")):  # fmt: skip
        assert re.search(rf"--{name}[ ,]", printed) and said in printed
    assert "--warmup_steps" in printed


def test_lazy_exports():
    assert all(getattr(selfmm_hf, name) is not None for name in selfmm_hf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = selfmm_hf.nothing


def test_the_pipeline_is_registered(model_folder):
    pipe = pipeline("multimodal-sentiment", model=str(model_folder))
    assert type(pipe) is selfmm_hf.MultimodalSentimentPipeline
    assert pipe({"text": "good"})["present"] == {"text": True, "audio": False, "vision": False}
    again = pipeline("multimodal-sentiment", model=str(model_folder), trust_remote_code=True)
    assert type(again) is selfmm_hf.MultimodalSentimentPipeline


@pytest.mark.parametrize("name", ["extract", "predict"])
def test_a_command_has_the_time_limit_of_the_package(name):
    function = getattr(import_module(f"selfmm_cli.{name}"), name)
    assert inspect.signature(function).parameters["time_limit"].default == TIME_LIMIT
