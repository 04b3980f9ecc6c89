"""How much memory it takes to compute the features of a clip, short or long.

    python benchmarks/clip_memory.py CLIP [--seconds 60 300 900]

For each length, CLIP is repeated in a file of that length. A process of its own computes the features of CLIP, which
loads all that is needed, and then those of the file. Prints the process's peak memory after each of them, in MB
(10^6 bytes), and how much more the last length takes than the first, per second.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path


def repeat(clip: str, seconds: float, path: Path) -> None:
    """Repeats CLIP until so many seconds are over."""
    import av

    with av.open(str(path), "w") as new:
        begin, end, streams = 0.0, 0.0, {}
        while begin < seconds:
            with av.open(clip) as old:
                streams = streams or {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
                for packet in old.demux():
                    if packet.dts is None or begin + packet.pts * packet.time_base > seconds:
                        continue
                    end = max(end, float(begin + (packet.pts + packet.duration) * packet.time_base))
                    shift = round(begin / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    new.mux(packet)
            begin = max(end, begin) + 0.1  # decoders look ahead


def extract(short: str, long: str) -> None:
    """Prints the peak memory after the short clip and after the long one, bytes."""
    from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor

    extractor = SelfMMFeatureExtractor(max_seconds=86400)
    unit = 1 if sys.platform == "darwin" else 1024
    for clip in (short, long):
        features, absent = extractor.extract(clip)
        if absent:
            sys.exit(f"the clip has {', '.join(absent.values())}: choose one with a voice and a face")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, len(features["vision"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0, 300.0, 900.0])
    options = parser.parse_args()
    print(f"{'seconds':>8} {'frames':>8} {'loaded':>8} {'peak':>8} {'more':>8} MB")
    taken = []
    for seconds in options.seconds:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.mkv"
            repeat(options.clip, seconds, path)
            command = [sys.executable, __file__, "--extract", options.clip, str(path)]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
        loaded, _, peak, frames = map(int, printed.split())
        taken.append((peak - loaded) / 1e6)
        print(f"{seconds:8g} {frames:8} {loaded / 1e6:8.0f} {peak / 1e6:8.0f} {taken[-1]:8.0f}", flush=True)
    if len(taken) > 1:
        growth = (taken[-1] - taken[0]) / (options.seconds[-1] - options.seconds[0])
        print(f"from {options.seconds[0]:g} s to {options.seconds[-1]:g} s: {growth:.2f} MB a second")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--extract"]:
        extract(*sys.argv[2:])
    else:
        main()
