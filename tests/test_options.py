import dataclasses
import importlib.util
import json

import pytest
import yaml

from selfmm_hf.runs.options import read_options
from selfmm_hf.training.arguments import SelfMMTrainingArguments


@pytest.fixture
def read(tmp_path):
    """Reads options from the text of YAML files and a command line."""

    def read_text(*files, command=()):
        arguments = []
        for number, text in enumerate(files):
            path = tmp_path / f"{number}.yaml"
            path.write_text(text, encoding="utf-8")
            arguments += ["--config", str(path)]
        # --use_cpu, as a run on an accelerator is no matter here
        return read_options([*arguments, "--output_dir", str(tmp_path / "run"), "--use_cpu", *command])

    return read_text


def test_an_option_may_be_longer_than_a_file_name(read):
    rates = json.dumps({f"encoders.text.encoder.layer.{layer}": 1e-5 for layer in range(12)})
    run, _, args = read(command=["--learning_rates", rates])
    assert len(rates) > 255 and args.learning_rates == json.loads(rates)
    assert rates in run.overrides


def test_the_command_line_overrides_the_file(read):
    text = "audio_hidden_size: 9\nvision_hidden_size: 8\nlearning_rate: 0.5\ndataset: mosi\nlearning_rates: {a: 1}\n"
    command = ["--audio_hidden_size", "3", "--learning_rate=0.25", "--dataset", "sims", "--learning_rates", '{"b": 2}']
    run, model, args = read(text, command=command)
    assert model == {"audio_hidden_size": 3, "vision_hidden_size": 8}
    assert (args.learning_rate, args.learning_rates, run.dataset) == (
        0.25,
        {"a": 1.0, "b": 2.0},
        "sims",
    )  # maps are merged


def test_the_command_line_may_come_first(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 5\nbatch_eval_metrics: false\n")
    for config in (["--config", f"{tmp_path}/a.yaml"], [f"--config={tmp_path}/a.yaml"]):
        _, _, args = read_options(["--seed", "7", *config, "--output_dir", str(tmp_path), "--use_cpu"])
        assert args.seed == 7


def test_values_of_every_kind(read):
    run, model, args = read(
        """
        modalities: [vision, audio]
        audio_bidirectional: true
        vision_bidirectional: false
        vision_pooling: mean
        freeze_text_encoder: yes
        audio_dim: null
        text_encoder: ~
        vision_dropout: 0.25
        absent_modality: learned
        overwrite_output_dir: true
        learning_rate: 5e-3
        weight_decay: 0
        max_steps: -1
        learning_rates: {encoders.text: 5e-5, encoders.audio: 1.0e-3}
        weight_decays:
          heads: 0
        coupled_weight_decay: false
        load_best_model_at_end: false
        label_names: [labels]
        seed: 3
        """
    )
    assert model == {
        "modalities": ["vision", "audio"], "audio_bidirectional": True, "vision_bidirectional": False,
        "vision_pooling": "mean", "freeze_text_encoder": True, "vision_dropout": 0.25, "absent_modality": "learned",
    }  # fmt: skip
    assert (run.text_encoder, run.overwrite_output_dir, run.max_text_tokens) == (None, True, 50)
    assert (args.learning_rate, args.weight_decay, args.max_steps, args.seed) == (5e-3, 0.0, -1, 3)
    assert args.learning_rates == {"encoders.text": 5e-5, "encoders.audio": 1e-3}
    assert args.weight_decays == {"heads": 0.0}
    assert (args.coupled_weight_decay, args.load_best_model_at_end, args.label_names) == (False, False, ["labels"])


def test_defaults_and_an_empty_file(read):
    for files in ((), ("",), ("# nothing\n",)):
        run, model, args = read(*files)
        assert (run.dataset, run.data, model) == ("demo", None, {})
        assert (args.convention, args.learning_rates, args.weight_decays, args.seed) == ("default", {}, {}, 1111)


def test_the_later_of_two_files_wins(read):
    run, model, args = read("seed: 5\naudio_dim: 3\ndataset: mosi\n", "seed: 6\nvision_dim: 4\n")
    assert (args.seed, run.dataset, model) == (6, "mosi", {"audio_dim": 3, "vision_dim": 4})


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("audio_hiden_size", "audio_hidden_size"),
        ("learning_rte", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("datasets", "dataset"),
        ("video_dim", "vision_dim"),
        ("freeze_text_encodr", "freeze_text_encoder"),
    ],
)
def test_a_misspelt_key_names_the_nearest(read, wrong, nearest):
    with pytest.raises(ValueError, match=rf"0\.yaml: unrecognized option {wrong}\. Did you mean {nearest}\?"):
        read(f"{wrong}: 3\n")
    if "-" not in wrong:  # on the command line --learning-rate is --learning_rate
        with pytest.raises(ValueError, match=rf"Unrecognized option --{wrong}\. Did you mean --{nearest}\?"):
            read(command=[f"--{wrong}", "3"])
        with pytest.raises(ValueError, match=rf"Unrecognized option --{wrong}\. Did you mean --{nearest}\?"):
            read(command=[f"--{wrong}=3"])


@pytest.mark.parametrize("wrong", ["audio_hidden", "learning_rat", "mod"])
def test_no_option_may_be_abbreviated(read, wrong):
    with pytest.raises(ValueError, match=f"Unrecognized option --{wrong}\\."):
        read(command=[f"--{wrong}", "3"])


@pytest.mark.parametrize("key", ["text_config", "id2label", "config", "help", "xyzzy", "1"])
def test_keys_that_are_no_options(read, key):
    with pytest.raises(ValueError, match=f"nrecognized option {key}"):
        read(f"{key}: 3\n")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("audio_dim", "five"),
        ("audio_dim", "2.5"),
        ("audio_dim", "true"),
        ("vision_dropout", "much"),
        ("audio_bidirectional", "maybe"),
        ("learning_rate", "fast"),
        ("seed", "1.5"),
        ("num_train_epochs", "many"),
        ("learning_rates", "3"),
        ("learning_rates", "fast"),
        ("learning_rates", "{encoders.text: fast}"),
        ("weight_decays", "{encoders.text: {a: 1}}"),
        ("weight_decays", "[1, 2]"),
        ("audio_dim", "{a: 1}"),
        ("convention", "papier"),
    ],
)
def test_wrong_values_are_refused(read, option, value):
    with pytest.raises(ValueError, match=option):
        read(f"{option}: {value}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("audio_dim: [1, 2]", "Unrecognized option 2"),
        ("lr_scheduler_type: constnt", r"constnt'? is not a valid SchedulerType"),
    ],
)
def test_wrong_values_that_are_refused_without_their_option(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


def test_an_unknown_convention_names_the_known(read):
    with pytest.raises(ValueError, match=r"convention must be one of \['default', 'official', 'paper'\], got 'papier'"):
        read(command=["--convention", "papier"])


def test_the_official_convention_refuses_float16_however_it_is_asked_for(read, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")  # by `accelerate launch`
    with pytest.raises(ValueError, match=r"official convention skips optimizer steps.* use float32 or bf16"):
        read(command=["--convention", "official"])
    with pytest.raises(ValueError, match="a CPU would compute in float32 all the same: use float32 or bf16"):
        read()


@pytest.mark.parametrize("text", ["- a\n- b\n", "word", "3"])
def test_a_file_without_keys(read, text):
    with pytest.raises(ValueError, match="must hold options as `key: value`"):
        read(text)


@pytest.mark.parametrize(
    "content",
    [b"a: [1\n", b"a: b: c\n", b"\tseed: 1\n", b"\xff\xfe\x00", b"!!python/object:os.x {}"],
)
def test_a_file_that_is_no_yaml(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.yaml is not YAML"):
        read_options(["--config", str(tmp_path / "a.yaml"), "--output_dir", str(tmp_path)])


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(ValueError, match=r"There is no configuration file .*, and the presets are custom, demo, "):
            read_options(["--config", str(path), "--output_dir", str(tmp_path)])


def test_a_preset_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, _, _ = read_options(["--config", "simsv2", "--use_cpu"])
    assert (run.dataset, run.max_text_tokens) == ("simsv2", 39)
    (tmp_path / "simsv2").write_text("dataset: mosi\n")  # a file of that name comes first
    assert read_options(["--config", "simsv2", "--use_cpu"])[0].dataset == "mosi"


@pytest.mark.parametrize(
    "named", [["--dataset", "custom"], ["--dataset=custom"], ["--seed", "3", "--dataset", "custom"]]
)
def test_the_preset_of_ones_own_data_is_taken_where_none_is_named(named, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    named = [*named, "--text_encoder", "encoder"]
    run, model, args = read_options([*named, "--learning_rates", '{"encoders.audio": 0.5}', "--use_cpu"])
    assert args.learning_rates == {"encoders.audio": 0.5, "encoders.vision": 1e-4}
    assert args.weight_decays["encoders.text"] == 1e-3 and (args.learning_rate, args.seed) == (
        1e-3,
        3 if "3" in named else 1111,
    )
    assert (run.preset_taken, run.dataset, run.presets[0][0], model) == (True, "custom", "custom.yaml", {})
    assert run.given["learning_rates"] == args.learning_rates and "--config" not in run.overrides
    (tmp_path / "custom").write_text("seed: 7\n")  # never taken instead
    assert read_options([*named, "--use_cpu"])[2].seed != 7
    (tmp_path / "options.yaml").write_text(yaml.safe_dump(run.given))
    again = read_options(["--config", "options.yaml", "--use_cpu"])
    assert again[0].given == run.given and not again[0].preset_taken
    assert again[2].learning_rates == args.learning_rates and again[2].weight_decays == args.weight_decays


def test_that_preset_has_no_rate_for_a_text_encoder_which_may_be_of_word_vectors(tmp_path):
    for named in (["--dataset", "custom"], ["--config", "custom"]):
        run, _, args = read_options([*named, "--use_cpu"])
        assert args.learning_rates == {"encoders.audio": 1e-3, "encoders.vision": 1e-4}
        args = read_options([*named, "--use_cpu", "--learning_rates", '{"encoders.text": 0.5}'])[2]
        assert args.learning_rates["encoders.text"] == 0.5  # as the user says
        [(_, published)] = run.presets  # whoever trains with it gets the same rates
        (tmp_path / "preset.yaml").write_text(published, encoding="utf-8")
        again = read_options(["--config", str(tmp_path / "preset.yaml"), "--use_cpu"])[0]
        assert again.given == run.given and "# learning_rate_audio" in published


def test_no_preset_is_taken_beside_one_that_is_named(read):
    for text, command in (("seed: 5\n", ["--dataset", "custom"]), ("dataset: custom\n", []), ("", [])):
        run, _, args = read(text, command=command)
        assert (run.preset_taken, args.learning_rates) == (False, {})
    run, _, args = read(command=["--dataset", "mosi"])
    assert (run.preset_taken, args.learning_rates) == (False, {})
    with pytest.raises(ValueError, match="dataset"):
        read(command=["--dataset"])


def test_config_without_a_file(read):
    with pytest.raises(ValueError, match="config"):
        read(command=["--config"])


def test_the_recipe_names_no_folder_of_this_machine(tmp_path):
    (tmp_path / "data.pkl").touch()
    file = tmp_path / "mine.yaml"
    file.write_text(
        "# See https://github.com/thuiar/Self-MM, in /home/me/papers/self-mm.pdf\ndata: ~/data/a.pkl\n",
        encoding="utf-8-sig",  # as Windows writes it
    )
    given = ["--config", file, "--data", tmp_path / "data.pkl", "--output_dir", tmp_path, "--disable_tqdm", "true"]
    given += ["--text_encoder=google-bert/bert-base-uncased", "--seed", "3", "--modalities", "text", "audio"]
    options, *_ = read_options([*map(str, given), "--learning_rates", '{"encoders.text": 1e-5}'])
    text = "# See https://github.com/thuiar/Self-MM, in self-mm.pdf\ndata: a.pkl\n"
    assert options.presets == [("mine.yaml", text)]
    assert options.overrides == [
        "--data", "data.pkl", "--text_encoder=google-bert/bert-base-uncased", "--seed", "3",
        "--modalities", "text", "audio", "--learning_rates", '{"encoders.text": 1e-5}',
    ]  # fmt: skip


@pytest.fixture
def with_deepspeed(monkeypatch):
    """As if the package were there; nothing of it is used where it is refused."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "deepspeed" or find_spec(name))


@pytest.mark.parametrize("given", [
    {"zero_optimization": {"stage": 3}}, {"zero_optimization": {"stage": "3"}, "bf16": {"enabled": True}},
    {"tensor_parallel": {"autotp_size": 2}},
])  # fmt: skip
def test_deepspeed_may_not_split_the_weights(tmp_path, monkeypatch, with_deepspeed, given):
    file = tmp_path / "deepspeed.json"
    file.write_text(json.dumps(given))
    with pytest.raises(ValueError, match="ZeRO stage 1 or 2, or FSDP"):
        read_options(["--deepspeed", str(file)])
    with pytest.raises(ValueError, match="ZeRO stage 1 or 2, or FSDP"):
        read_options(["--deepspeed", json.dumps(given)])
    with pytest.raises(ValueError, match="ZeRO stage 1 or 2, or FSDP"):
        SelfMMTrainingArguments(deepspeed=given)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(file))
    with pytest.raises(ValueError, match="ZeRO stage 1 or 2, or FSDP"):
        read_options([])


def test_deepspeed_of_accelerate_launch(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    with pytest.raises(ValueError, match="ZeRO stage 1 or 2, or FSDP"):
        read_options([])
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    if importlib.util.find_spec("deepspeed") is None:
        with pytest.raises(ValueError, match="pip install deepspeed"):
            read_options([])


@pytest.mark.parametrize("given", ["nowhere.json", "{", "[]", '{"zero_optimization": 3}'])
def test_what_is_no_configuration_of_deepspeed(with_deepspeed, given):
    with pytest.raises(ValueError, match="must be a configuration of DeepSpeed"):
        read_options(["--deepspeed", given])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--auto_find_batch_size true", "its steps would have fewer samples. For less memory divide per_device_train"),
        ("--batch_eval_metrics true", "metrics need all predictions of a split"),
        ("--bf16_full_eval true", "another model than the saved one; bf16 computes in bfloat16"),
        ("--fp16_full_eval true", "another model than the saved one"),
        ("--dataloader_drop_last true", "evaluations would leave out clips"),
        ("--dataloader_persistent_workers true --dataloader_num_workers 1", "would not equal one that was not stopped"),
        ("--eval_do_concat_batches false", "eval_do_concat_batches must be True, got False"),
        ("--label_names label", r"label_names must be \['labels'\], got \['label'\]"),
        ("--label_smoothing_factor 0.1", "labels are numbers, not classes"),
        ("--neftune_noise_alpha 5", "neftune_noise_alpha must be None"),
        ("--prediction_loss_only true", "the validation loss is computed from the predictions"),
        ("--remove_unused_columns true", "the collator needs columns"),
        ("--use_liger_kernel true", "this model has no such kernels"),
        ('--accelerator_config {"use_seedable_sampler":false}', "accelerator_config.use_seedable_sampler must be True"),
        ('--accelerator_config {"split_batches":true}', "accelerator_config.split_batches must be False"),
        ('--accelerator_config {"even_batches":false}', "accelerator_config.even_batches must be True"),
        ("--fp16 true", "a CPU would compute in float32 all the same: use float32 or bf16"),
        ("--optim sgd", "are for coupled_weight_decay false: with it, the optimizer is Adam"),
        ("--optim adamw_torch_fused", "are for coupled_weight_decay false"),  # the default of every other Trainer
        ("--optim_args eps=1", "are for coupled_weight_decay false"),
        ("--optim galore_adamw --coupled_weight_decay false", "learning_rates and weight_decays would be ignored"),
        ("--num_train_epochs 0", "num_train_epochs must be positive"),
        ("--per_device_train_batch_size -4", "per_device_train_batch_size must be positive"),
        ("--gradient_accumulation_steps 0", "gradient_accumulation_steps must be positive"),
        ("--learning_rate nan", "learning_rate must be a finite number"),
        ('--learning_rates {"encoders.text":-1}', "finite numbers, 0 or more"),
        ("--learning_rates fast", "learning_rates.*: invalid JSON object value: 'fast'"),
        ("--max_text_tokens 1", "max_text_tokens must be at least 3"),
    ],
)
def test_what_could_not_be_followed_is_refused(read, option, message):
    with pytest.raises(ValueError, match=message):
        read(command=option.split())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("train_sampling_strategy", "group_by_length"),
        ("train_sampling_strategy", "batch_rebalance"),
        ("enable_jit_checkpoint", "true"),
        ("dataloader_in_order", "false"),
    ],
)
def test_what_some_versions_of_transformers_have_is_refused(read, option, value):
    if option not in SelfMMTrainingArguments.__dataclass_fields__:
        pytest.skip(f"this version of transformers has no {option}")
    with pytest.raises(ValueError, match=f"{option} must be .*would not equal one|{option}.* invalid choice"):
        read(f"{option}: {value}\n")


@pytest.mark.parametrize(
    ("name", "package"), [("adamw_bnb_8bit", "bitsandbytes"), ("schedule_free_adamw", "schedulefree")]
)
def test_an_optimizer_that_is_not_installed_is_refused(read, name, package):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ValueError, match=f"optim {name} cannot be used: .*install"):
        read(f"optim: {name}\ncoupled_weight_decay: false\n")


def test_the_optimizer_that_is_logged_is_the_one_that_was_asked_for(read):
    assert read()[2].to_dict()["optim"] is None  # Adam, of no name there
    args = read("optim: adafactor\ncoupled_weight_decay: false\n")[2]
    assert args.to_dict()["optim"] == "adafactor"
    assert read("coupled_weight_decay: false\n")[2].optim.startswith("adamw_torch")
    for one in (args, read()[2]):
        assert dataclasses.replace(one, seed=5).optim == one.optim


@pytest.mark.parametrize("name", ["optimizer", "scheduler"])
def test_deepspeed_may_not_have_its_own(with_deepspeed, name):
    with pytest.raises(ValueError, match=f"may not have its own {name}, for which learning_rates"):
        read_options(["--deepspeed", json.dumps({name: {"type": "AdamW"}})])
