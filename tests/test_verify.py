"""Verification finds what was changed."""

import json
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import command, mmsa_file

from selfmm_hf.data import DataError, find_builder
from selfmm_hf.data.prepare import prepare
from selfmm_hf.data.recipe import RECIPE_FILE
from selfmm_hf.data.verify import verify_file, verify_folder


def whole(rows):
    """Three frames in each clip, as those without picture would have to be looked at."""
    return np.ones((rows, 3, 6), np.float32)


@pytest.fixture
def file(tmp_path):
    return mmsa_file(tmp_path / "source.pkl", vision=whole, vision_lengths=lambda rows: [3] * rows)


@pytest.fixture
def folder(tmp_path, file):
    prepare(find_builder("mosi", str(file)), tmp_path / "out")
    return tmp_path / "out"


def rewrite(folder, change, consistently):
    """Changes the training split, and, `consistently`, the checksum that was noted of it."""
    (path,) = folder.glob("unaligned/train-*.parquet")
    pq.write_table(change(pq.read_table(path)), path)
    if consistently:
        from selfmm_hf.data.builder import checksums

        notes = folder / "unaligned" / "origin.json"
        origin = json.loads(notes.read_text())
        origin["files"][path.name] = checksums(path)["sha256"]
        notes.write_text(json.dumps(origin))


def column(table, name, values):
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(name), [values])


def narrower(table):
    """The audio with one frame of six values."""
    clips = table["audio"].to_pylist()
    clips[2][1].pop()
    kind = table.schema.field("audio").type
    return pa.ExtensionArray.from_storage(kind, pa.array(clips, kind.storage_type))


def test_a_whole_folder(folder, file, tmp_path):
    assert list(verify_folder(folder)) == list(verify_folder(folder, file)) == []
    other = mmsa_file(tmp_path / "other.pkl")
    assert any("column 'vision', row 0" in problem for problem in verify_folder(folder, other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.slice(1), "17 rows, expected 18"),
        (lambda table: column(table, "id", ["twice"] * 18), "column 'id': ids occur twice"),
        (
            lambda table: column(table, "label", np.full(18, 3.5, np.float32)),
            r"column 'label', row 0 \(id 'train0.*: the label is 3.5, expected a number in \[-3, 3\]",
        ),
        (
            lambda table: column(table, "label", np.full(18, np.nan, np.float32)),
            "column 'label', row 0 .*: the label is nan",
        ),
        (
            lambda table: column(table, "id", pa.nulls(18, pa.string())),
            r"split 'train', column 'id', row 0 \(id None\): .*null",
        ),
        (lambda table: column(table, "audio", narrower(table)), r"column 'audio', row 2 .*: frame 1 has 6 values, exp"),
        (lambda table: column(table, "text", ["other"] * 18), None),
    ],
)
def test_changes_are_found(folder, file, change, message):
    rewrite(folder, change, consistently=True)
    problems = list(verify_folder(folder))
    if message is None:  # only the source can tell
        assert problems == []
        assert len(list(verify_folder(folder, file))) == 18
    else:
        assert any(re.search(message, problem) for problem in problems), problems


def test_a_changed_byte_and_a_missing_file(folder):
    rewrite(folder, lambda table: table.slice(1), consistently=False)
    (problem,) = verify_folder(folder)
    assert re.search(r"train-00000-of-00001-[0-9a-f]{16}.parquet is not the file that was made", problem)
    next(folder.glob("unaligned/test-*.parquet")).unlink()
    assert len(list(verify_folder(folder))) == 2


def test_other_folders(tmp_path, folder):
    with pytest.raises(DataError, match="not a data set of `selfmm data prepare`"):
        list(verify_folder(tmp_path))
    for content in ("{", "[]", "{}"):
        (folder / "unaligned" / "origin.json").write_text(content)
        with pytest.raises(DataError, match=r"origin.json is damaged"):
            list(verify_folder(folder))


def test_a_file(tmp_path, file, monkeypatch):
    (problem,) = verify_file(file)
    assert "none of the published files: its SHA-256 is" in problem
    monkeypatch.setattr(
        "selfmm_hf.data.verify.published_as", lambda _: (find_builder("mosi", str(file)).__class__, "x")
    )
    assert list(verify_file(file)) == list(verify_file(file, "mosi")) == []
    with pytest.raises(DataError, match="is the published file of CMU-MOSI, x, not of sims"):
        list(verify_file(file, "sims"))

    def infinite(rows):
        return np.full((rows, 4, 7), np.inf, np.float32)

    problems = list(verify_file(mmsa_file(tmp_path / "spoilt.pkl", audio=infinite)))
    assert any("values of audio that are not finite (kept) in 18 of 18 rows" in problem for problem in problems)
    with pytest.raises(DataError, match=r"expected a number in"):
        list(verify_file(mmsa_file(tmp_path / "far.pkl", limit=30.0), "mosi"))


def test_a_source_with_other_columns(tmp_path, folder, file):
    scores = {f"regression_labels_{letter}": lambda rows: [0.5] * rows for letter in "TAV"}
    other = mmsa_file(tmp_path / "other.pkl", vision=whole, vision_lengths=lambda rows: [3] * rows, **scores)
    prepare(find_builder("mosi", str(other)), tmp_path / "more")
    for made, source in ((folder, other), (tmp_path / "more", file)):
        problems = list(verify_folder(made, source))
        assert len(problems) == 3, problems  # one for each split
        assert all("label_audio, label_text, label_vision only in one of them" in one for one in problems)


def test_an_id_in_two_splits(tmp_path, file):
    data = pickle.loads(file.read_bytes())
    data["test"]["id"][0] = data["train"]["id"][2]
    file.write_bytes(pickle.dumps(data))
    prepare(find_builder("mosi", str(file)), tmp_path / "out")
    for problems in (verify_file(file), verify_folder(tmp_path / "out")):
        assert any("the id 'train2$_$1' is in train and in test" in problem for problem in problems)


def test_a_fold_is_compared_with_its_table(tmp_path):
    table = write_corpus(tmp_path / "own")
    for number in (1, 2):
        prepare(find_builder("custom", str(table), f"fold{number}of2"), tmp_path / "out")
    assert list(verify_folder(tmp_path / "out", table)) == []
    np.save(table / "face" / "a0.npy", np.zeros((2, 3), np.float32))
    problems = list(verify_folder(tmp_path / "out", table))
    assert len(problems) == 2 and all("column 'face'" in problem for problem in problems), problems


def test_the_recipe_is_compared_with_that_of_the_source(tmp_path):
    table, recipe = write_corpus(tmp_path / "own"), tmp_path / "own" / RECIPE_FILE
    recipe.write_text("{}")
    prepare(find_builder("custom", str(table), "fold1of2"), tmp_path / "out")
    assert list(verify_folder(tmp_path / "out", table)) == []
    recipe.write_text('{"vision": null}')
    told = f"{tmp_path / 'out' / RECIPE_FILE}: another recipe than that of the source, {recipe}"
    assert list(verify_folder(tmp_path / "out", table)) == [told]
    recipe.unlink()
    assert list(verify_folder(tmp_path / "out", table)) == []


def write_corpus(folder):
    """A table of eight clips of four subjects."""
    (folder / "face").mkdir(parents=True)
    rows = [f"a{row},s{row // 2},{row % 7 - 3}" for row in range(8)]
    (folder / "table.csv").write_text("\n".join(["id,subject,label", *rows]))
    for row in range(8):
        np.save(folder / "face" / f"a{row}.npy", np.full((2, 3), row + 1, np.float32))
    return folder


def test_what_a_folder_should_be(tmp_path, folder, file, capsys):
    def refused(*arguments):
        assert command("data", "verify", *arguments) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    (tmp_path / "emotions.csv").write_text("id\n")
    emotions = "--emotions", tmp_path / "emotions.csv"
    assert "holds mosi, not sims" in refused(folder, "--dataset", "sims")
    assert "--source is for a prepared folder" in refused(file, "--source", file)
    assert "--emotions says what a folder was made of" in refused(folder, *emotions)
    assert "emotions are joined to mosei alone" in refused(folder, "--source", file, *emotions)
    assert "neither a feature file nor a folder with a table" in refused(folder, "--source", folder)
    assert command("data", "verify", folder, "--dataset", "mosi") == 0
