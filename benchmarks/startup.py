"""How long the commands take to start, compared with importing torch and transformers.

    python benchmarks/startup.py [--model runs/demo/model] [--repeats 5]

Each line is a process of its own, in turns with the others: seconds of one core, and by the clock, medians of the
repeats. The last line is what `selfmm predict` takes beyond the imports and the model's computation. Exit status 0
if help takes less than half a second of a core, and that line less than 1.5 s.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

# What any model of transformers needs: transformers loads its parts when they are asked for.
IMPORTS = "import torch; from transformers import AutoModel, AutoProcessor, PreTrainedModel, pipeline"
COMPUTES = """
import sys, time
from selfmm_hf import MultimodalSentimentPipeline, load_model
model, processor = load_model(sys.argv[1])
pipe = MultimodalSentimentPipeline(model, processor=processor)
begin = time.perf_counter()
pipe({"text": "the movie was good"})
print(time.perf_counter() - begin)
"""


def measured(command: list[str]) -> tuple[float, float]:
    """Measures the seconds of a core, and by the clock."""
    before, begin = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    spent, after = time.perf_counter() - begin, os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/demo/model")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    selfmm = [sys.executable, "-m", "selfmm_cli"]
    commands = {
        "import torch, transformers": [sys.executable, "-c", "import torch, transformers"],
        "import a model's parts": [sys.executable, "-c", IMPORTS],
        "selfmm --help": [*selfmm, "--help"],
        "selfmm predict --help": [*selfmm, "predict", "--help"],
        "selfmm train --help": [*selfmm, "train", "--help"],
        "selfmm predict": [*selfmm, "predict", "--text", "the movie was good", "--model", options.model],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(options.repeats):
        for name, command in commands.items():
            times[name].append(measured(command))
    medians = {name: [statistics.median(one) for one in zip(*found, strict=True)] for name, found in times.items()}
    for name, (core, clock) in medians.items():
        print(f"{name:<28} {core:6.2f} s of a core {clock:6.2f} s by the clock")
    computes = [sys.executable, "-c", COMPUTES, options.model]
    done = subprocess.run(computes, check=True, capture_output=True, encoding="utf-8")
    beyond = medians["selfmm predict"][1] - medians["import a model's parts"][1] - float(done.stdout)
    print(f"{'beyond imports and model':<28} {beyond:36.2f} s by the clock")
    helped = max(core for name, (core, _) in medians.items() if name.endswith("--help"))
    sys.exit(0 if helped < 0.5 and beyond < 1.5 else 1)


if __name__ == "__main__":
    main()
