import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import fresh
import pytest
import torch

import selfmm_hf

PACKAGE = Path(selfmm_hf.__file__).parent / "model"
TRAVELLING = {path.name for path in PACKAGE.glob("*_selfmm.py")}
ALLOWED = {"torch", "transformers", "numpy", *sys.stdlib_module_names}

FRESH_PROCESS = """
import sys
sys.modules["selfmm_hf"] = None  # cannot be imported here
import torch
from transformers import AutoConfig, AutoModel

folder, again, batch = sys.argv[1:]
batch = torch.load(batch)
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
assert type(config).__module__.startswith("transformers_modules."), type(config)
assert type(model).__module__.startswith("transformers_modules."), type(model)
model.save_pretrained(again)
for name in (folder, again):
    model = AutoModel.from_pretrained(name, trust_remote_code=True)
    with torch.no_grad():
        outputs = model(**batch)
    torch.save({"logits": outputs.logits, **outputs.unimodal_logits}, f"{name}/found.pt")
"""


@pytest.fixture
def saved(tiny_model, tmp_path):
    model = tiny_model(absent_modality="learned", audio_bidirectional=True, id2label={0: "valence", 1: "arousal"})
    for one in model.absent.values():
        torch.nn.init.normal_(one)
    model.save_pretrained(tmp_path / "model")
    return model


def test_loads_in_a_fresh_process_without_the_package(saved, tiny_batch, tmp_path):
    batch = tiny_batch()
    batch["audio_lengths"][1] = 0
    torch.save(batch, tmp_path / "batch.pt")
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [fresh.python(), "-c", FRESH_PROCESS, tmp_path / "model", tmp_path / "again", tmp_path / "batch.pt"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with torch.no_grad():
        outputs = saved(**batch)
    # "again" was saved by the remote code itself: it has its code with it.
    for name in ("model", "again"):
        found = torch.load(tmp_path / name / "found.pt")
        for task, expected in {"logits": outputs.logits, **outputs.unimodal_logits}.items():
            torch.testing.assert_close(found[task], expected, atol=1e-5, rtol=0)


def test_the_saved_folder_names_its_code(saved, tmp_path):
    assert {path.name for path in (tmp_path / "model").glob("*.py")} == TRAVELLING
    assert json.loads((tmp_path / "model" / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "configuration_selfmm.SelfMMConfig",
        "AutoModel": "modeling_selfmm.SelfMMModel",
    }


def test_the_configuration_names_all_code():
    """By what it names, transformers tells the code of two folders apart, and copies what is saved."""
    text = (PACKAGE / "configuration_selfmm.py").read_text(encoding="utf-8")
    missing = [name for name in TRAVELLING if f"from .{Path(name).stem} import " not in text]
    assert missing == ["configuration_selfmm.py"]


def test_the_code_that_travels_needs_nothing_else(saved, tmp_path):
    for name in TRAVELLING:
        path = Path(tmp_path / "model" / name)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        optional = {one for node in ast.walk(tree) if isinstance(node, ast.Try) for one in ast.walk(node)}
        for node in ast.walk(tree):
            if node in optional:
                continue
            if isinstance(node, ast.Import):
                assert {one.name.split(".")[0] for one in node.names} <= ALLOWED, path
            elif isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and f"{node.module}.py" in TRAVELLING, (path, ast.unparse(node))
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] in ALLOWED, (path, ast.unparse(node))


@pytest.mark.parametrize(
    "entry",
    ["configuration_selfmm", "feature_extraction_selfmm", "processing_selfmm", "pipeline_selfmm", "modeling_selfmm"],
)
def test_a_file_names_all_that_it_needs_of_the_others(entry):
    """Some versions of transformers fetch only what the file itself imports, not what those files import in turn."""

    def named(name):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}

    direct = named(entry)
    assert direct and direct >= {other for name in direct for other in named(name)} - {entry}
