"""How long each step from a clip to its prediction takes, compared with the clip's own length.

    python benchmarks/clip_to_prediction.py CLIP [--model runs/demo/model] [--text WORDS] [--repeats 5]

One process, as many threads as there are cores. Loading libraries and the model happens once, and is listed by itself.
The steps are measured one by one, and the pipeline as a whole; medians of the repeats. Exit status 0 if the pipeline
takes less than a quarter of the length of the clip.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable


def seconds(run: Callable, repeats: int) -> tuple[float, float]:
    """Returns the first time and the median of the others."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times[0], statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--model", default="runs/demo/model")
    parser.add_argument("--text", default="the movie was good")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    begin = time.perf_counter()
    import librosa  # noqa: F401 - imported where it is first used, which would count it among the steps
    import torch
    import transformers
    from transformers import pipeline

    from selfmm_hf.model.audio_features_selfmm import SAMPLING_RATE, librosa33
    from selfmm_hf.model.decoding_selfmm import clip_facts, decode_audio, decode_video
    from selfmm_hf.model.pipeline_selfmm import MultimodalSentimentPipeline

    transformers.utils.logging.disable_progress_bar()
    imported = time.perf_counter() - begin
    begin = time.perf_counter()
    pipe = pipeline(
        "multimodal-sentiment", model=options.model, pipeline_class=MultimodalSentimentPipeline, device="cpu"
    )
    loaded = time.perf_counter() - begin

    extractor = pipe.processor.feature_extractor
    features, _ = extractor.extract(options.clip)
    sound = decode_audio(options.clip, SAMPLING_RATE)
    rate = extractor.recipe["vision"]["frame_rate"]
    frames = list(decode_video(options.clip, rate))
    steps = {
        "decode sound": lambda: decode_audio(options.clip, SAMPLING_RATE),
        "audio features (librosa33)": lambda: librosa33(sound),
        "decode picture": lambda: list(decode_video(options.clip, rate)),
        "vision features (face)": lambda: extractor.extract({"vision": frames}),
        "words and model": lambda: pipe({"text": options.text, **features}),
        "the pipeline as a whole": lambda: pipe(options.clip, text=options.text),
    }
    length = clip_facts(options.clip).duration
    print(f"{os.path.basename(options.clip)}: {length:.1f} s, {len(frames)} frames at {rate:g}/s")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads; Python {platform.python_version()}, "
          f"torch {torch.__version__}, transformers {transformers.__version__}")  # fmt: skip
    print(f"once: libraries {imported:.1f} s, model {loaded:.1f} s\n")
    print(f"{'step':<28} {'first':>8} {'median':>8}  of the clip's length")
    whole = 0.0
    for name, run in steps.items():
        first, whole = seconds(run, options.repeats)
        print(f"{name:<28} {first:7.2f}s {whole:7.2f}s  {whole / length:6.1%}")
    sys.exit(0 if whole < length / 4 else 1)


if __name__ == "__main__":
    main()
