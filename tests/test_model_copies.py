"""Folders and copies of them as a stranger has them: each is whole, and runs its own code."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import fresh
import pytest

import selfmm_hf
from selfmm_hf import SelfMMModel, SelfMMProcessor
from selfmm_hf.model.pipeline_selfmm import MultimodalSentimentPipeline

CODE = sorted(path.name for path in Path(selfmm_hf.__file__).with_name("model").glob("*_selfmm.py"))

BEGIN = """
import inspect, shutil, sys
sys.modules["selfmm_hf"] = None  # cannot be imported here
import json
from pathlib import Path
from transformers import AutoFeatureExtractor, AutoModel, AutoProcessor, pipeline
from transformers.utils import logging
logging.disable_progress_bar()
root = Path(sys.argv[1])
"""

# Whose code the objects of a folder run: what each file says of itself, as they see it.
FOLDERS = """
def marks(obj, file, seen):
    found = set()
    for one in [obj, *vars(type(obj)).values(), *(vars(obj).values() if isinstance(obj, type) else ())]:
        names = getattr(inspect.unwrap(one) if callable(one) else one, "__globals__", None)
        if names is None or id(names) in seen or not names["__name__"].startswith("transformers_modules."):
            continue
        seen.add(id(names))
        if names["__name__"].endswith(file.removesuffix(".py")):
            found.add(names["MARK"])
        for other in list(names.values()):
            if getattr(other, "__module__", "").startswith("transformers_modules."):
                found |= marks(other, file, seen)
    return found

wrong, files = [], sys.argv[2:]
for place, file, mark in [("whole", files[0], "a"), *((file, file, "b") for file in files), ("whole", files[0], "a")]:
    folder = root / place / "model"
    pipe = pipeline("multimodal-sentiment", model=str(folder), trust_remote_code=True)
    model, processor = (one.from_pretrained(folder, trust_remote_code=True) for one in (AutoModel, AutoProcessor))
    objects = (pipe, pipe.model, pipe.processor, model, model.config, processor)
    found = set().union(*(marks(one, file, set()) for one in objects))
    if found != {mark}:
        wrong.append([place, mark, sorted(found)])
print(json.dumps(wrong))
"""

COPIES = """
clip = {"text": "the movie was good"}
said = []

def save_each(folder, copy):
    AutoModel.from_pretrained(folder, trust_remote_code=True).save_pretrained(copy)
    AutoProcessor.from_pretrained(folder, trust_remote_code=True).save_pretrained(copy)

def save_pipe(folder, copy):
    pipeline(model=str(folder), trust_remote_code=True).save_pretrained(copy)

source = root / "model"
for number, save in enumerate((save_pipe, save_each, save_pipe)):
    copy = root / f"copy{number}"
    save(source, copy)
    shutil.rmtree(source)
    source = copy
    pipe = pipeline("multimodal-sentiment", model=str(copy), trust_remote_code=True)
    said.append([pipe(clip)["score"], sorted(path.name for path in copy.glob("*.py"))])
AutoFeatureExtractor.from_pretrained(copy, trust_remote_code=True)
print(json.dumps(said))
"""


def stranger(code, *arguments):
    """What a script prints in a process that cannot import the package."""
    root = arguments[0]
    environment = os.environ | {"HF_MODULES_CACHE": str(root / "modules"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [fresh.python(), "-c", BEGIN + code, *map(str, arguments)],
        env=environment, cwd=root, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "You are using a model of type" not in done.stderr  # transformers' warning of a wrong one
    return json.loads(done.stdout)


def test_folders_of_one_name_run_their_own_code(model_folder, tmp_path):
    """One that is all a, and those in which a single file is b."""
    whole = shutil.copytree(model_folder, tmp_path / "whole" / "model")
    for file in CODE:
        with (whole / file).open("a") as code:
            code.write("\nMARK = 'a'\n")
    for file in CODE:
        changed = shutil.copytree(whole, tmp_path / file / "model") / file
        changed.write_text(changed.read_text("utf-8").replace("\nMARK = 'a'\n", "\nMARK = 'b'\n"), "utf-8")
    assert stranger(FOLDERS, tmp_path, *CODE) == []


def test_whatever_is_saved_loads_three_copies_down_the_line(model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "model")
    scores = {score for score, code in stranger(COPIES, tmp_path) if code == CODE}
    assert len(scores) == 1  # of all three, which have all code


def test_a_model_of_the_package_is_saved_whole(model_folder, tmp_path):
    model, processor = SelfMMModel.from_pretrained(model_folder), SelfMMProcessor.from_pretrained(model_folder)
    pipe = MultimodalSentimentPipeline(model, processor=processor)
    pipe.save_pretrained(tmp_path / "model")
    expected = pipe({"text": "the movie was good"})["score"]
    assert [score for score, _ in stranger(COPIES, tmp_path)] == pytest.approx([expected] * 3)
