"""Everything in hub_configs/, and the cards of the Spaces: each file is of a known kind, and as its readers want it."""

import os
import re
import subprocess
from pathlib import Path

import fresh
import pytest
import yaml
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from huggingface_hub import RepoCard
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from selfmm_hf.metrics import METRICS, class_metrics, emotion_metrics, regression_metrics
from selfmm_hf.resources import CONFIGS, LICENCE
from selfmm_hf.runs.options import PRESETS, read_options
from selfmm_hf.training.parameter_groups import TEXT_RATE

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "hub_configs"
BORROWED = ["custom", "emer", "iemocap"]  # nobody has published any: those of MOSI
PUBLISHED = sorted(PRESETS.keys() - {"demo", *BORROWED})
LAUNCHES = sorted((FOLDER / "accelerate").glob("*.yaml"), key=lambda file: file.name)
METRIC = FOLDER / "metrics" / "multimodal_sentiment"
SPACES = [ROOT / "spaces_demo", METRIC]

KINDS = {
    r"[a-z0-9_]+\.yaml": "a preset",
    r"accelerate/[a-z0-9_]+\.yaml": "a launch configuration",
    r"sweeps/[a-z0-9_]+\.yaml": "configurations for `selfmm benchmark`",  # tests/test_benchmark.py
    r"search/[a-z0-9_]+\.yaml": "a space for `selfmm search`",  # tests/test_search.py
    r"cards/[a-z_]+\.md": "a template of a card",  # tests/test_hub.py
    r"metrics/multimodal_sentiment/(multimodal_sentiment|metrics|app)\.py": "the metric",
    r"published/(mosi|mosei|sims|simsv2|iemocap|emer)\.yaml": "published figures",  # tests/test_published.py
    r"published/robustness\.yaml": "published figures",  # tests/test_robustness.py
    r"published/research\.yaml": "digests of ids and labels",  # tests/test_research.py
    r"metrics/multimodal_sentiment/(README\.md|requirements\.txt)": "what makes a Space of it",
}

# The table of hyper-parameters of config_regression.py (official code, commits 1786283 and e694b8c) and of MMSA's
# config_regression.json (simsv2; but H, which is 3 there, a mistake). Where a row has several, they are in this order:
# fusion, text, audio, vision; rates and decays are those of text, audio, vision and all others.
OFFICIAL = {
    "mosi": dict(
        batch=32, rates=[5e-5, 1e-3, 1e-4, 1e-3], decays=[1e-3, 0.01, 0.001, 0.001], hidden=[32, 64],
        heads=[128, 64, 16, 32], dropouts=[0.1, 0, 0.1, 0.1], limit=3, patience=8, tokens=50,
    ),
    "mosei": dict(
        batch=32, rates=[5e-5, 5e-3, 1e-4, 1e-3], decays=[1e-3, 0, 0, 0.01], hidden=[32, 32],
        heads=[128, 32, 16, 16], dropouts=[0, 0.1, 0, 0.1], limit=3, patience=8, tokens=50,
    ),
    "sims": dict(
        batch=32, rates=[5e-5, 5e-3, 5e-3, 1e-3], decays=[1e-3, 0.01, 0.01, 0.001], hidden=[16, 64],
        heads=[128, 64, 16, 32], dropouts=[0, 0.1, 0.1, 0], limit=1, patience=8, tokens=39,
    ),
    "sims_prerelease": dict(
        batch=16, rates=[5e-5, 5e-3, 5e-3, 1e-3], decays=[1e-3, 0.01, 0, 0.001], hidden=[32, 64],
        heads=[64, 64, 16, 16], dropouts=[0, 0.1, 0, 0.1], limit=1, patience=12, tokens=39,
    ),
    "simsv2": dict(
        batch=16, rates=[5e-5, 1e-3, 1e-3, 1e-3], decays=[0.01, 0, 0, 0.001], hidden=[16, 64],
        heads=[128, 64, 32, 32], dropouts=[0, 0, 0.1, 0], limit=1, patience=8, tokens=39,
    ),
}  # fmt: skip


def files(folder=FOLDER):
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_every_file_is_of_a_known_kind():
    names = [path.relative_to(FOLDER).as_posix() for path in files()]
    assert [name for name in names if not any(re.fullmatch(kind, name) for kind in KINDS)] == []
    assert len(LAUNCHES) == 6 and len(files(METRIC)) == 5


@pytest.mark.parametrize("file", files(), ids=lambda file: file.relative_to(FOLDER).as_posix())
def test_lines_are_readable(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and file.parent.name != "cards"] == []


def test_the_package_reads_this_folder():
    assert CONFIGS == FOLDER and LICENCE == ROOT / "LICENSE"
    assert set(PRESETS) == {path.stem for path in FOLDER.glob("*.yaml")} == {"demo", *BORROWED, *OFFICIAL}


@pytest.mark.parametrize("name", PRESETS)
def test_every_key_of_a_preset_is_used(name, tmp_path):
    written = yaml.safe_load(PRESETS[name].read_text(encoding="utf-8"))
    run, model, args = read_options(["--config", name, "--output_dir", str(tmp_path), "--use_cpu"])
    read = vars(args) | vars(run) | model
    for key, value in written.items():
        if key == "output_dir":
            assert read[key] == str(tmp_path)
        elif value is None:
            assert read.get(key) is None
        elif isinstance(value, dict):
            assert read[key] == {prefix: float(rate) for prefix, rate in value.items()}
        else:
            assert read[key] == value, key
    assert set(model) <= set(written)


@pytest.mark.parametrize("name", [*PUBLISHED, *BORROWED])
def test_every_value_of_a_preset_has_its_source(name):
    header, body = PRESETS[name].read_text(encoding="utf-8").split("\ndataset: ")
    assert re.search(r"^# Source of every value without its own: thuiar/\S+, commit [0-9a-f]{7}, ", header, re.M)
    lines = [line for line in body.splitlines()[1:] if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"\w+:|\s*[\w.]+: +(\S+|\[.*\]) +# \S.*", line)] == []


def test_the_values_of_the_demo_are_the_projects_own():
    assert "Every value is the project's own choice" in PRESETS["demo"].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_official_values(name):
    run, model, args = read_options(["--config", name, "--use_cpu"])
    parts = ["encoders.text", "encoders.audio", "encoders.vision"]
    tasks = ["fusion", "text", "audio", "vision"]
    assert dict(
        batch=args.per_device_train_batch_size,
        rates=[*(args.learning_rates[part] for part in parts), args.learning_rate],
        decays=[*(args.weight_decays[part] for part in parts), args.weight_decay],
        hidden=[model["audio_hidden_size"], model["vision_hidden_size"]],
        heads=[model[f"{task}_head_dim"] for task in tasks],
        dropouts=[model[f"{task}_head_dropout"] for task in tasks],
        limit=model["label_range"],
        patience=args.early_stopping_patience,
        tokens=run.max_text_tokens,
    ) == OFFICIAL[name]  # fmt: skip
    language = "chinese" if name.startswith("sims") else "uncased"
    assert run.dataset == name.removesuffix("_prerelease") and run.text_encoder == f"google-bert/bert-base-{language}"
    assert (args.gradient_accumulation_steps, model["audio_output_dim"], model["vision_output_dim"]) == (4, 16, 32)
    assert (model["audio_num_layers"], model["vision_num_layers"], args.seed) == (1, 1, 1111)
    assert set(args.learning_rates) == set(args.weight_decays) == set(parts)


@pytest.mark.parametrize("name", BORROWED)
def test_presets_that_nobody_has_published_train_as_that_of_mosi(name):
    """All that says how is learned; of the sizes of the model those that are there."""
    (_, model, mosi), (_, ours, args) = (read_options(["--config", one, "--use_cpu"]) for one in ("mosi", name))
    for option in ("learning_rate", "weight_decay", "num_train_epochs", "seed", "per_device_train_batch_size",
                   "gradient_accumulation_steps", "early_stopping_patience"):  # fmt: skip
        assert getattr(mosi, option) == getattr(args, option), option
    rates = dict(mosi.learning_rates)
    assert rates.pop("encoders.text") == TEXT_RATE  # of a pretrained one in "custom", where it is not named
    if name == "iemocap":
        rates["encoders.text"] = args.learning_rate
    assert args.learning_rates == ({} if name == "emer" else rates)
    assert args.weight_decays == ({} if name == "emer" else mosi.weight_decays)
    assert {key: value for key, value in ours.items() if key != "modalities"}.items() <= model.items()
    assert len(ours) == {"custom": 0, "emer": 1, "iemocap": len(model) - 1}[name]


@pytest.mark.parametrize("file", LAUNCHES, ids=lambda file: file.stem)
def test_accelerate_knows_every_key(file):
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    config = load_config_from_file(str(file))  # refuses keys that it does not know
    known = vars(launch_command_parser().parse_args(["train.py"]))
    assert set(config.fsdp_config) <= set(known)
    assert config.mixed_precision == written["mixed_precision"]
    assert f"--config_file hub_configs/accelerate/{file.name} " in file.read_text(encoding="utf-8")


def test_how_each_configuration_launches():
    configs = {file.stem: load_config_from_file(str(file)) for file in LAUNCHES}
    assert {name: (one.distributed_type.value, one.mixed_precision) for name, one in configs.items()} == {
        "cpu": ("NO", "no"), "cpu_bf16": ("NO", "bf16"), "gpu_bf16": ("NO", "bf16"), "gpu_fp16": ("NO", "fp16"),
        "multi_gpu": ("MULTI_GPU", "bf16"), "fsdp": ("FSDP", "bf16"),
    }  # fmt: skip
    assert {name for name, one in configs.items() if one.use_cpu} == {"cpu", "cpu_bf16"}
    # -1: accelerate asks for --num_processes
    several = {"multi_gpu", "fsdp"}
    assert {name: one.num_processes for name, one in configs.items()} == {n: -1 if n in several else 1 for n in configs}


@pytest.mark.parametrize(
    ("name", "launch", "more", "expected"),
    [
        ("cpu_bf16", [], [], "NO 1 cpu bf16"),
        ("multi_gpu", ["--num_processes=2", "--main_process_port=0"], ["--use_cpu"], "MULTI_CPU 2 cpu bf16"),
    ],
)
def test_what_a_cpu_can_launch(name, launch, more, expected, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from accelerate import Accelerator\n"
        "from selfmm_hf.runs.options import read_options\n"
        "args, state = read_options(sys.argv[1:])[2], Accelerator().state\n"
        "if state.is_main_process:\n"
        "    print(state.distributed_type.value, args.world_size, state.device.type, state.mixed_precision)\n"
        "state.destroy_process_group()\n"
    )
    config = FOLDER / "accelerate" / f"{name}.yaml"
    command = [fresh.python(), "-m", "accelerate.commands.launch", "--config_file", config, *launch, script, *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == expected  # after lines of Gloo, with some versions of torch


def test_fsdp_is_as_its_comments_say(monkeypatch):
    config = load_config_from_file(str(FOLDER / "accelerate" / "fsdp.yaml")).fsdp_config
    for key, value in config.items():
        monkeypatch.setenv(key.upper(), str(value).lower() if isinstance(value, bool) else str(value))
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.state_dict_type.name) == (2, "FULL_STATE_DICT")
    assert plugin.reshard_after_forward is True and plugin.auto_wrap_policy is transformer_auto_wrap_policy
    assert not plugin.cpu_ram_efficient_loading and not plugin.activation_checkpointing


def test_the_precision_stands_in_the_launch_configurations_alone():
    for file in PRESETS.values():
        keys = yaml.safe_load(file.read_text(encoding="utf-8")).keys()
        assert not keys & {"bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "tf32", "mixed_precision"}, file.name


@pytest.mark.parametrize("folder", SPACES, ids=lambda folder: folder.name)
def test_the_card_of_a_space(folder):
    card = RepoCard.load(folder / "README.md", repo_type="space")
    data = card.data.to_dict()
    assert data.keys() >= {"title", "emoji", "colorFrom", "colorTo", "license", "short_description"}
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {data["colorFrom"], data["colorTo"]} <= colors and len(data["emoji"]) == 1
    assert len(data["short_description"]) <= 60 and data["license"] == "mit"
    assert data["sdk"] == "gradio" and (folder / data["app_file"]).is_file()
    assert re.fullmatch(r"6\.\d+\.\d+", data["sdk_version"]) and data["python_version"] == "3.12"
    assert card.text.lstrip().startswith("# ")


def test_the_card_of_the_metric():
    card = RepoCard.load(METRIC / "README.md", repo_type="space")
    assert card.data.to_dict()["tags"] == ["evaluate", "metric"]
    for metrics in METRICS.values():
        assert [name for name in metrics([1.0], [1.0]) if f"`{name}`" not in card.text] == []
    for metrics in (regression_metrics, emotion_metrics, class_metrics):
        found = metrics([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], ["a", "b"])
        assert [name for name in found if not name.endswith(("_a", "_b")) and f"`{name}`" not in card.text] == []
    assert "## Limits" in card.text and "## Citation" in card.text
