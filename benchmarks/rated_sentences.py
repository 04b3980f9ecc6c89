"""Makes a data set of rated sentences, to train a text encoder on before it sees clips.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    tar xzf vaderSentiment-3.3.2.tar.gz --strip-components 2 vaderSentiment-3.3.2/additional_resources
    python benchmarks/rated_sentences.py hutto_ICWSM_2014.tar.gz --out sentences

The archive has 23,703 sentences of film and product reviews, editorials and tweets (Hutto and Gilbert, "VADER", ICWSM
2014). Each was rated by twenty people, from -4 to 4; the mean is scaled to [-3, 3]. The film reviews give the test
split, 500 sentences, and the validation split, 1,000. All others are for training.
"""

import argparse
import csv
import random
import tarfile
from pathlib import Path

SOURCES = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets")


def sentences(archive: tarfile.TarFile, source: str) -> list[tuple[str, str, float]]:
    """Returns the id, text and rating of each sentence."""
    file = archive.extractfile(f"hutto_ICWSM_2014/{source}_GroundTruth.txt")
    rows = []
    for line in file.read().decode("utf-8", errors="replace").split("\n"):
        if line:
            number, rating, text = line.rstrip("\r").split("\t", 2)
            rows.append((f"{source}{number}", text, round(float(rating) * 0.75, 4)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a data set of rated sentences.")
    parser.add_argument("archive", type=Path, help="hutto_ICWSM_2014.tar.gz of vaderSentiment's source archive")
    parser.add_argument("--out", type=Path, default=Path("sentences"), help="the folder to write")
    arguments = parser.parse_args()
    with tarfile.open(arguments.archive) as archive:
        films, *others = (sentences(archive, source) for source in SOURCES)
    random.Random(0).shuffle(films)
    splits = [*["test"] * 500, *["valid"] * 1000]
    rows = [*films, *(row for source in others for row in source)]
    splits += ["train"] * (len(rows) - len(splits))
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label", "split"])
        writer.writerows((*row, split) for row, split in zip(rows, splits, strict=True))
    print(f"{arguments.out}: {len(rows)} sentences, {splits.count('train')} of them for training")


if __name__ == "__main__":
    main()
