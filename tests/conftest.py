import gc
import multiprocessing
import os
import pickle
import shutil
import tempfile
import tracemalloc
from functools import cache
from importlib import import_module
from importlib.util import find_spec

os.environ["HF_HUB_OFFLINE"] = "1"  # before datasets and transformers are imported
if "PYTEST_XDIST_WORKER" not in os.environ:  # one cache for all workers: what one of them prepares, the others find
    os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

from pathlib import Path
from types import SimpleNamespace

import fresh
import numpy as np
import pytest
import torch
from accelerate.utils import memory
from transformers import BertConfig, dynamic_module_utils

import selfmm_cli
from selfmm_hf import SelfMMConfig, SelfMMModel

# Skipped, because accelerate collects garbage after each training, which takes a tenth of a small one.
memory.gc = SimpleNamespace(collect=lambda: 0)
# Cached, because each saved model, in each checkpoint, reads what the files of its code import.
dynamic_module_utils.get_relative_import_files = cache(dynamic_module_utils.get_relative_import_files)

SHARED = Path(__file__).resolve().parents[2] / "shared"
WIDTHS = {"audio": 5, "vision": 4}


def tiny_text_config(**options):
    defaults = dict(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=37,
        max_position_embeddings=19, initializer_range=0.2,
    )  # fmt: skip
    return BertConfig(**{**defaults, **options})


def mmsa_file(path, limit=3.0, **columns):
    """Writes a small file in the MMSA layout: 18 training, 5 validation and 5 test clips."""
    random = np.random.default_rng(0)
    data = {}
    for split, rows in (("train", 18), ("valid", 5), ("test", 5)):
        labels = np.round(random.uniform(-limit, limit, rows), 1).astype(np.float32)
        ids = np.zeros((rows, 3, 6), np.float32)
        ids[:, 0, :4], ids[:, 1, :4] = [2, 5, 6, 3], 1
        data[split] = {
            "id": [f"{split}{row}$_$1" for row in range(rows)],
            "raw_text": ["good film" if label > 0 else "bad film" for label in labels],
            "text_bert": ids,
            "audio": random.normal(size=(rows, 4, 7)).astype(np.float32),
            "vision": random.normal(size=(rows, 3, 6)).astype(np.float32),
            "audio_lengths": [1 + row % 4 for row in range(rows)],
            "vision_lengths": [row % 4 for row in range(rows)],  # some have no picture
            "regression_labels": labels,
        }
        for name in ("audio", "vision"):
            for row, length in enumerate(data[split][f"{name}_lengths"]):
                data[split][name][row, length:] = 0
        data[split] |= {name: make(rows) for name, make in columns.items()}
    path.write_bytes(pickle.dumps(data, protocol=4))
    return path


def command(*arguments):
    """Runs `selfmm` with these arguments; returns its exit status."""
    try:
        selfmm_cli.main([*map(str, arguments)])
    except SystemExit as stop:
        return stop.code
    return 0


def assert_same_outputs(found, expected, rows=slice(None), atol=1e-5):
    """Checks that all tensors of `found` are those of `expected`, or of these rows of it."""
    torch.testing.assert_close(found.logits, expected.logits[rows], atol=atol, rtol=0)
    for name in ("unimodal_logits", "representations", "present"):
        found_of, expected_of = getattr(found, name), getattr(expected, name)
        assert found_of.keys() == expected_of.keys()
        for task, value in expected_of.items():
            torch.testing.assert_close(found_of[task], value[rows], atol=atol, rtol=0, msg=f"{name}[{task}]")


def pytest_configure(config):
    if config.getoption("numprocesses", None):  # one for all workers
        fresh.python()


def pytest_unconfigure():
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["HF_DATASETS_CACHE"])


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """Freezes what has been imported: the garbage collections of each training pass it over."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def pixels(request, monkeypatch):
    """Draws a single pixel, except in tests that look at pictures: drawing is half of a small training."""
    if "draws" in request.keywords or not find_spec("matplotlib"):
        return
    monkeypatch.setattr("selfmm_hf.runs.run.plot_run", lambda folder, *_: (folder / "run.png").write_bytes(PNG))
    figure = import_module("matplotlib.figure")

    def savefig(self, file, **_):
        Path(file).write_bytes(PNG) if isinstance(file, str | Path) else file.write(PNG)

    monkeypatch.setattr(figure.Figure, "savefig", savefig)


# A grey pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636800000082008177cd72b60000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Makes nothing wait for the disk: no test survives a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session")
def shared():
    """Returns the folder of shared data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}")
    return SHARED


@pytest.fixture
def tiny_model():
    """Makes a model in eval mode, float32; `text_config=None` leaves the text out."""

    def make(seed=0, **config_options):
        defaults = dict(
            text_config=tiny_text_config(), vision_dim=WIDTHS["vision"], audio_hidden_size=6, vision_hidden_size=7,
            audio_output_dim=5, vision_output_dim=6, fusion_head_dim=17, text_head_dim=11, audio_head_dim=9,
            vision_head_dim=13,
        )  # fmt: skip
        torch.manual_seed(seed)
        return SelfMMModel(SelfMMConfig(**{**defaults, **config_options})).eval()

    return make


EMOTIONS = {0: "neutral", 1: "happy", 2: "sad", 3: "angry"}
TASKS = {
    "scores": {"id2label": {0: "valence", 1: "arousal"}, "label_scales": [[-1, 1], [1, 5]]},
    "one_sided": {"id2label": {0: "intensity"}, "label_scales": [[0, 3]]},
    "emotions": {"id2label": EMOTIONS, "problem_type": "multi_label_classification"},
    "classes": {"id2label": EMOTIONS, "problem_type": "single_label_classification"},
}


@pytest.fixture
def model_of(tiny_model):
    """Makes a model of one of `TASKS`, with another prediction for each clip, and its processor."""
    from selfmm_hf import SelfMMFeatureExtractor, SelfMMProcessor
    from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer

    def make(task):
        options = {"modalities": ["text", "audio", "eye"], "eye_dim": 4, "text_config": demo_text_config()}
        model = tiny_model(**options, **TASKS[task])
        for head in model.heads.values():
            torch.nn.init.normal_(head.out.weight, std=5.0)
        given = {name: {"kind": "features", "dim": width} for name, width in (("audio", 5), ("eye", 4))}
        return model, SelfMMProcessor(SelfMMFeatureExtractor(vision=None, **given), demo_tokenizer())

    return make


@pytest.fixture
def tiny_batch():
    """Makes the arguments of `forward` for clips of mixed lengths, with `labels` if `targets` are asked for."""

    def make(batch=3, seed=0, targets=0, text=True, **widths):
        generator = torch.Generator().manual_seed(seed)

        def mixed(*lengths):
            return torch.tensor([lengths[clip % len(lengths)] for clip in range(batch)])

        arguments = {}
        if text:
            lengths = mixed(4, 7, 2)
            mask = (torch.arange(7) < lengths.unsqueeze(1)).long()
            tokens = torch.randint(5, 50, (batch, 7), generator=generator)
            types = torch.randint(0, 2, (batch, 7), generator=generator)
            arguments = {"input_ids": tokens * mask, "attention_mask": mask, "token_type_ids": types * mask}
        lengths = {"audio": mixed(6, 2, 9), "vision": mixed(3, 8, 1)}
        for name, width in {**WIDTHS, **widths}.items():
            one = lengths.get(name, mixed(2, 5, 3))
            frames = torch.randn(batch, int(one.max()), width, generator=generator)
            real = torch.arange(frames.shape[1]) < one.unsqueeze(1)
            arguments |= {name: frames * real.unsqueeze(-1), f"{name}_lengths": one}
        if targets:
            arguments["labels"] = torch.randn(batch, targets, generator=generator)
        return arguments

    return make


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Makes a model folder as training leaves it, untrained, for clips of up to 20 s."""
    from test_decoding import voice
    from test_feature_extraction import RATE, clip

    from selfmm_hf import SelfMMFeatureExtractor, SelfMMProcessor
    from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer
    from selfmm_hf.hub.model_folder import save_loadable

    extractor = SelfMMFeatureExtractor(max_seconds=20.0)
    extractor.fit_normalization([extractor.extract(clip(audio=voice(seconds, RATE)))[0] for seconds in (0.5, 1.0)])
    torch.manual_seed(0)
    model = SelfMMModel(SelfMMConfig(text_config=demo_text_config(), audio_dim=33, vision_dim=41)).eval()
    folder = tmp_path_factory.mktemp("model")
    save_loadable(folder, model, SelfMMProcessor(extractor, demo_tokenizer()))
    return folder


@pytest.fixture(scope="module")
def forked_workers():
    """Forks the processes of `selfmm extract` from one that has imported everything; each spawned one imports 15 s."""
    spawning, forking = multiprocessing.get_context, multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["selfmm_hf.clips.one_clip", "librosa_alone"])
    with pytest.MonkeyPatch.context() as patch:
        kinds = {"spawn": forking}
        patch.setattr(multiprocessing, "get_context", lambda kind=None: kinds.get(kind) or spawning(kind))
        yield


@pytest.fixture
def peak_memory():
    """Calls a function; returns how many bytes Python and numpy held at most beyond those before."""

    def peak(function, *arguments):
        function(*arguments)  # what the first call loads does not count
        tracemalloc.start()
        try:
            kept = function(*arguments)
            most = tracemalloc.get_traced_memory()[1]
            del kept
            return most
        finally:
            tracemalloc.stop()

    return peak
