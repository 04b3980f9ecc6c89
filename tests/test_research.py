"""Data for research use are known whatever they are called, and do not become public."""

import csv
import json
import pickle

import numpy as np
import pytest
from conftest import mmsa_file
from huggingface_hub import HfApi
from test_data_commands import data
from test_hub import hub  # noqa: F401

from selfmm_hf.data import BUILDERS, Custom, Mosi, find_builder, research
from selfmm_hf.data.builder import FeatureConfig, checksums
from selfmm_hf.data.prepare import prepare
from selfmm_hf.data.prepared import origins
from selfmm_hf.data.research import content_digests, research_use
from selfmm_hf.hub.push import PushError, push

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own

VIDEOS = ["03bSnISJMiM", "zhpQhgha_KU"]
MULTIPLES = np.arange(-15, 16) / 5


@pytest.fixture
def known(monkeypatch):
    """A data set for research use of two videos, one of CH-SIMS' kind, and one whose labels are known."""
    names = [f"video_000{video}$_$000{clip}" for video in (1, 2) for clip in range(1, 15)]
    labels = [round(((row * 7) % 11 - 5) / 5, 1) for row in range(28)]
    digests = content_digests([(names, labels)])
    other = content_digests([(["a"] * 20, MULTIPLES[:20]), (["a"] * 11, MULTIPLES[20:])])
    known = {
        "CMU-MOSI": {"videos": [research._digest("video", one) for one in VIDEOS]},
        "CH-SIMS": {"labelled_videos": digests["labelled_videos"]},
        "CH-SIMS v2": {"labels": other["labels"]},
    }
    known = {title: {kind: set(one.get(kind, ())) for kind in digests} for title, one in known.items()}
    monkeypatch.setattr(research, "_known", lambda: known)
    return names, labels


@pytest.mark.parametrize(
    "form", ["{}$_$7", "{}[7]", "{}/0007", "train_{}_7", "7_{}", "{}", "https://youtu.be/{}?t=3", "{}7"]
)
def test_a_single_clip_of_a_known_video(known, form):
    ids = ["mine_1", *(form.format(one) for one in VIDEOS)]
    assert research_use([(ids[:1], [0.5]), (ids[1:2], [0.5])]) == research_use([(ids[2:], [0.1])]) == "CMU-MOSI"
    assert research_use([(["mine_1", form.format("aaaaaaaaaaa"), form.format(VIDEOS[0][:-1])], [0, 1, 1])]) is None


def test_videos_of_common_names_are_known_by_their_labels(known):
    names, labels = known
    mixed = np.random.default_rng(0).permutation(28)
    splits = [([names[row].replace("$_$", "/") for row in part], [np.float32(labels[row]) for row in part])
              for part in (mixed[:20], mixed[20:])]  # fmt: skip
    assert research_use(splits) == "CH-SIMS"
    assert research_use([(names, [-label for label in labels])]) is None, "of its user's own, by the same names"
    assert research_use([(names[:14], labels[:14])]) is None, "a single video may be so by chance"


def test_splits_are_known_by_their_labels(known):
    mixed = np.random.default_rng(0).permutation(MULTIPLES).astype(np.float32)
    ids = [f"clip{row}" for row in range(31)]
    assert research_use([(ids[:7], mixed[:7]), (ids[7:], mixed[7:])]) == "CH-SIMS v2", "all of them"
    first = np.float32(MULTIPLES[:20][::-1])
    assert research_use([(ids[:5], [3, 1, 1, 0, 0]), (ids[5:25], first)]) == "CH-SIMS v2", "a split"
    assert research_use([(ids[:19], first[1:])]) is None, "not known, as is said"
    assert content_digests([(ids[:2], [-0.0, 0.999])]) == content_digests([(ids[:2], [1.0, 0.0])])


def test_the_digests_are_those_of_the_data(shared):
    known = research._known()
    # Of IEMOCAP's clips, which have neither names nor scores, nothing is known: only its own builder takes its files.
    titles = [builder.TITLE for builder in BUILDERS.values() if builder.CITATION]
    assert [*known, "IEMOCAP"] == titles
    assert {title: len(one["videos"]) for title, one in known.items()} == {
        "CMU-MOSI": 93, "CMU-MOSEI": 2768, "CH-SIMS": 0, "CH-SIMS v2": 0
    }  # fmt: skip
    for name, title in (("mosi", "CMU-MOSI"), ("sims", "CH-SIMS"), ("simsv2", "CH-SIMS v2")):
        splits = {}
        with (shared / "data" / name / "label.csv").open(encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                ids, labels = splits.setdefault(row["mode"], ([], []))
                ids.append(row["id"])
                labels.append(float(row["label"]))
        assert research_use(list(splits.values())) == title
        digests = content_digests(list(splits.values()))
        assert set(digests["labels"]) == known[title]["labels"]
        for ids, labels in splits.values():
            assert research_use([([str(row) for row in range(len(ids))], labels)]) == title
            if known[title]["videos"]:
                assert all(research_use([([one], [0.5])]) == title for one in ids[::99])
            else:
                assert set(digests["labelled_videos"]) == known[title]["labelled_videos"]
                assert research_use([(ids[:40], [0.5] * 40)]) is None


def renamed(path, ids):
    content = pickle.loads(mmsa_file(path).read_bytes())
    for split in content.values():
        split["id"] = [ids.format(row) for row in split["id"]]
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


def test_a_published_file_is_known_under_another_name(tmp_path, monkeypatch, capsys):
    file = mmsa_file(tmp_path / "file.pkl")
    config = FeatureConfig(name="unaligned", checksums=("0" * 64, checksums(file)["sha1"]))
    monkeypatch.setattr(Mosi, "BUILDER_CONFIGS", (config,))
    assert data("prepare", "custom", "--data", file, "--output_dir", tmp_path / "out") == 0
    assert "These are clips of CMU-MOSI, for research use" in capsys.readouterr().out
    (origin,) = origins(tmp_path / "out")
    assert (origin["dataset"], origin["research"]) == ("custom", "CMU-MOSI")
    assert "is the published file of CMU-MOSI, unaligned, by its checksum" in origin["notices"][0]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license_name: research-use" in card and "CMU-MOSI is for research use: ask its authors" in card
    with pytest.raises(PushError, match="CMU-MOSI is for research use"):
        push(tmp_path / "out", "me/mine", public=True)


def test_features_of_known_clips_stay_private(hub, known, tmp_path):  # noqa: F811
    own = tmp_path / "own"
    prepare(find_builder("custom", str(mmsa_file(tmp_path / "own.pkl"))), own)
    assert origins(own)[0]["research"] is None and "State here on what terms" in (own / "README.md").read_text()
    assert not push(own, "me/own", public=True).private

    out = tmp_path / "out"
    prepare(find_builder("custom", str(renamed(tmp_path / "file.pkl", f"{VIDEOS[0]}_{{}}"))), out)
    file = out / "unaligned" / "origin.json"
    origin = json.loads(file.read_text())
    assert origin["research"] == "CMU-MOSI"
    for noted in (
        {},
        {"research": None},
        {"dataset": "mine", "research": None},
    ):  # as it is, and as it could be changed
        file.write_text(json.dumps(origin | noted))
        with pytest.raises(PushError, match="CMU-MOSI is for research use"):
            push(out, "me/mine", public=True)
        with pytest.raises(PushError, match=r"me/own holds the data set 'custom', not .*, clips of CMU-MOSI: name"):
            push(out, "me/own")
    HfApi(endpoint=hub.url).create_repo("me/open", repo_type="dataset", private=False)
    with pytest.raises(PushError, match=r"CMU-MOSI is for research use.*me/open is public"):
        push(out, "me/open")
    file.write_text(json.dumps(origin))
    assert push(out, "me/mine").private and push(out, "me/mine").private
    hub.repositories["dataset", "me/mine"].private = False  # by its owner, who may know better
    assert not push(out, "me/mine").private


def test_the_checksum_that_was_noted_is_looked_up(tmp_path):
    out = tmp_path / "out"
    prepare(find_builder("custom", str(mmsa_file(tmp_path / "file.pkl"))), out)
    file = out / "unaligned" / "origin.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sha256": Mosi.BUILDER_CONFIGS[0].checksums[0]}))
    with pytest.raises(PushError, match="CMU-MOSI is for research use"):
        push(out, "me/mine", public=True)
    assert not Custom.CITATION
