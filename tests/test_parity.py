"""The replay of recorded runs of the official code, and that it sees a wrong recording."""

import json
import shutil
import subprocess
from pathlib import Path

import fresh
import pytest
from safetensors.torch import load_file, save_file

PARITY = Path(__file__).resolve().parents[1] / "benchmarks" / "parity.py"


RECORDED = Path(__file__).parent / "parity"  # by benchmarks/record_parity.py


@pytest.fixture
def writable(tmp_path):
    for file in RECORDED.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    return tmp_path


def replay(folder):
    return subprocess.run([fresh.python(), PARITY, folder], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("which", ["ours", "shared"])
def test_every_number_of_the_recording_is_met(which, request):
    folder = RECORDED if which == "ours" else request.getfixturevalue("shared") / "parity"
    if not folder.is_dir():
        pytest.skip(f"needs the recording {folder}")
    result = replay(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "OVER" not in result.stdout and "parity: all within tolerance" in result.stdout


def test_the_recording_is_small_and_nothing_but_numbers():
    files = list(RECORDED.iterdir())
    assert {file.suffix for file in files} == {".json", ".npz", ".safetensors"}
    assert sum(file.stat().st_size for file in files) < 300_000


def test_every_wrong_number_is_seen(writable):
    trajectory, metrics = (
        json.loads((writable / name).read_text()) for name in ("trajectory.json", "metrics_cases.json")
    )
    trajectory["epochs"][1]["batches"][2]["labels_after"]["audio"][3] += 0.01
    trajectory["epochs"][2]["valid"]["metrics"]["Corr"] = "nan"
    metrics["cases"][0]["result"]["MAE"] += 0.01
    (writable / "trajectory.json").write_text(json.dumps(trajectory))
    (writable / "metrics_cases.json").write_text(json.dumps(metrics))
    weights = load_file(writable / "final_weights.safetensors")
    weights["post_text_layer_2.weight"][1, 2] += 0.01
    save_file(weights, writable / "final_weights.safetensors")

    result = replay(writable)
    assert result.returncode == 1, result.stdout + result.stderr
    over = [line.split()[:2] for line in result.stdout.splitlines() if line.endswith("OVER")]
    assert over == [["labels", "2"], ["valid_metrics", "3"], ["final", "weights"]]
    assert "metrics: 87 of 88 equal" in result.stdout


@pytest.mark.parametrize("content", [None, "{"])
def test_an_unreadable_file_is_named_in_one_line(writable, content):
    file = writable / "trajectory.json"
    file.unlink() if content is None else file.write_text(content)
    result = replay(writable)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1 and str(file) in result.stderr
