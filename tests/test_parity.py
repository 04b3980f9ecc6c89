"""The replay of a recorded run of the official code, and that it sees a wrong recording."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

PARITY = Path(__file__).resolve().parents[1] / "benchmarks" / "parity.py"


@pytest.fixture
def recording(shared):
    if not (shared / "parity").is_dir():
        pytest.skip(f"needs the recording {shared / 'parity'}")
    return shared / "parity"


@pytest.fixture
def writable(recording, tmp_path):
    for file in recording.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    return tmp_path


def replay(folder):
    return subprocess.run([sys.executable, PARITY, folder], capture_output=True, text=True, timeout=300)


def test_every_number_of_the_recording_is_met(recording):
    result = replay(recording)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "OVER" not in result.stdout and "parity: all within tolerance" in result.stdout


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
    assert "metrics: 131 of 132 equal" in result.stdout


@pytest.mark.parametrize("content", [None, "{"])
def test_an_unreadable_file_is_named_in_one_line(writable, content):
    file = writable / "trajectory.json"
    file.unlink() if content is None else file.write_text(content)
    result = replay(writable)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1 and str(file) in result.stderr
