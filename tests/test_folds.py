"""Folds across subjects: who is in which, what is refused, and how a folder of one's own takes them."""

import random

import numpy as np
import pytest
from conftest import command
from datasets import load_dataset
from test_custom import write_table

from selfmm_hf.data import DataError, find_builder, load_splits
from selfmm_hf.data.custom.table import read_table
from selfmm_hf.data.folds import fold_name, fold_splits, folds_of, read_fold
from selfmm_hf.data.prepare import prepare

# Some have many clips, some a single one.
SUBJECTS = [f"s{number}" for number in range(23) for _ in range(1 + number % 5)]


def test_folds_are_of_whole_subjects_and_of_about_a_size():
    folds = folds_of(SUBJECTS, 5)
    assert len(set(zip(SUBJECTS, folds, strict=True))) == 23
    sizes = [folds.count(number) for number in range(1, 6)]
    assert sum(sizes) == len(SUBJECTS) and max(sizes) - min(sizes) <= 1
    order = list(range(len(SUBJECTS)))
    random.Random(0).shuffle(order)
    assert folds_of([SUBJECTS[row] for row in order], 5) == [folds[row] for row in order]
    with pytest.raises(DataError, match="there are 2 subjects, too few for 3 folds"):
        folds_of(["a", "b", "b"], 3)


def test_each_clip_is_tested_once_by_who_has_not_met_its_subject():
    folds, tested = folds_of(SUBJECTS, 5), []
    for number in range(1, 6):
        splits = fold_splits(SUBJECTS, folds, number)
        people = {split: {s for s, of in zip(SUBJECTS, splits, strict=True) if of == split} for split in set(splits)}
        assert people.keys() == {"train", "validation", "test"}
        assert sum(map(len, people.values())) == 23
        others = len(splits) - splits.count("test")
        assert 0.1 * others <= splits.count("validation") < 0.1 * others + 5
        tested += [row for row, split in enumerate(splits) if split == "test"]
    assert sorted(tested) == list(range(len(SUBJECTS)))
    with pytest.raises(DataError, match="but for fold 1, there are 1 subjects, too few to train and validate on"):
        fold_splits(["a", "b", "b"], [1, 2, 2], 1)


def test_a_subject_with_most_clips_is_not_validated_on():
    subjects = ["big"] * 500 + [f"s{number}" for number in range(12) for _ in range(10)]
    folds = folds_of(subjects, 5)
    for number in range(1, 6):
        splits = fold_splits(subjects, folds, number)
        assert "big" not in {one for one, split in zip(subjects, splits, strict=True) if split == "validation"}
        assert 0 < splits.count("validation") < splits.count("train")
    halves = ["a"] * 5 + ["b"] * 4 + ["c"] * 3
    assert fold_splits(halves, [1] * 5 + [2] * 7, 1) == ["test"] * 5 + ["train"] * 4 + ["validation"] * 3


@pytest.mark.parametrize("name", ["fold0of5", "fold6of5", "fold1of1", "fold1", "folds", "fold1of5 "])
def test_names_of_no_fold(name):
    with pytest.raises(DataError, match="expected a fold such as fold1of5"):
        read_fold(name)


def test_names_of_folds():
    assert read_fold(fold_name(2, 10)) == (2, 10)
    assert read_fold(None) is read_fold("unaligned") is None


def make(folder, subjects=SUBJECTS, **columns):
    rows = [
        {"id": f"clip{row}", "subject": subject, "label:valence": np.sin(row), "label:arousal": np.cos(row)}
        | {name: values[row] for name, values in columns.items()}
        for row, subject in enumerate(subjects)
    ]
    write_table(folder, rows)
    (folder / "task.yaml").write_text("scales: {valence: [-1, 1], arousal: [-1, 1]}")
    (folder / "face").mkdir(exist_ok=True)
    for row in range(len(subjects)):
        np.save(folder / "face" / f"clip{row}.npy", np.full((2, 3), row, np.float32))
    return folder


def test_a_folder_has_folds(tmp_path, capsys):
    folder = make(tmp_path / "own")
    subject_of = {f"clip{row}": subject for row, subject in enumerate(SUBJECTS)}
    tested = []
    for number in range(1, 4):
        splits = load_splits("custom", str(folder), f"fold{number}of3")
        people = [{subject_of[clip] for clip in samples["id"]} for samples in splits.values()]
        assert sum(map(len, people)) == len(set.union(*people)) == 23
        tested += splits["test"]["id"]
    assert sorted(tested) == sorted(subject_of)
    assert command("data", "inspect", folder, "--data_config", "fold3of3") == 0
    assert f"test valence{len(splits['test']):>13}" in capsys.readouterr().out
    prepare(find_builder("custom", str(folder), "fold3of3"), tmp_path / "out")
    prepare(find_builder("custom", str(folder), "fold1of3"), tmp_path / "out")
    assert load_splits("custom", str(tmp_path / "out"), "fold3of3")["test"]["id"] == splits["test"]["id"]
    with pytest.raises(DataError, match="has the configurations fold3of3, fold1of3: name one by --data_config"):
        load_splits("custom", str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"(?s)Config name is missing.*\['fold3of3', 'fold1of3'\]"):
        load_dataset(str(tmp_path / "out"))
    assert load_dataset(str(tmp_path / "out"), "fold3of3")["test"]["id"][:] == splits["test"]["id"]
    assert command("data", "verify", tmp_path / "out") == 0


def test_no_fold_is_taken_instead_of_another_configuration(tmp_path, capsys):
    split = [("train", "train", "validation", "test")[row % 4] for row in range(len(SUBJECTS))]
    folder, out = make(tmp_path / "own", split=split), tmp_path / "out"
    for name in ("Fold1of3", "aligned"):
        for call in (("inspect", folder), ("prepare", "custom", "--data", folder, "--output_dir", out)):
            assert command("data", *call, "--data_config", name) == 2
            said = f"table.csv: there is no configuration '{name}'; expected a fold such as fold1of5"
            assert said in capsys.readouterr().err
    assert command("data", "prepare", "custom", "--data", folder, "--output_dir", out) == 0
    assert "--data_config" not in capsys.readouterr().out
    prepare(find_builder("custom", str(folder), "fold1of3"), out)
    usual = load_splits("custom", str(folder))["test"]["id"]
    assert load_splits("custom", str(out))["test"]["id"] == load_dataset(str(out))["test"]["id"][:] == usual
    given = ("--data_config", "fold2of3")
    assert command("data", "prepare", "custom", "--data", folder, "--output_dir", out, *given) == 0
    assert f"selfmm train --dataset custom --data {out} --data_config fold2of3 ..." in capsys.readouterr().out


def test_folds_that_are_prescribed(tmp_path):
    folds = ["10" if int(subject[1:]) % 2 else "9" for subject in SUBJECTS]
    folder = make(tmp_path / "own", fold=folds)
    test = load_splits("custom", str(folder), "fold1of2")["test"]["id"]
    assert test == [f"clip{row}" for row, fold in enumerate(folds) if fold == "9"]
    with pytest.raises(DataError, match=r"table.csv: column 'fold' has 2 folds, '9', '10'; expected 5"):
        load_splits("custom", str(folder), "fold1of5")
    row = SUBJECTS.index("s2") + 1
    folds[row] = "10"
    make(folder, fold=folds)
    message = rf"column 'fold', row {row} \(id 'clip{row}'\): the subject 's2' is in the folds 9 and 10; put it in one"
    with pytest.raises(DataError, match=message):
        load_splits("custom", str(folder), "fold1of2")


def test_what_is_missing_is_said(tmp_path):
    folder = make(tmp_path / "own", ["a", "", "b", "c"])
    with pytest.raises(DataError, match=r"column 'subject', row 1 \(id 'clip1'\): expected the person in the clip"):
        load_splits("custom", str(folder), "fold1of2")
    with pytest.raises(
        DataError, match=r"column 'split' is missing; .*name a fold across subjects, --data_config fold1"
    ):
        load_splits("custom", str(folder))
    with pytest.raises(DataError, match=r"column 'split' is missing; expected id, label, split, got [^;]*$"):
        read_table(folder / "table.csv")  # of a caller that takes no folds
    with pytest.raises(DataError, match="expected a fold such as fold1of5, got 'fold7of5'"):
        load_splits("custom", str(folder), "fold7of5")
    write_table(folder, [{"id": "a", "label": 1, "split": "train"}])
    with pytest.raises(DataError, match=r"table.csv: column 'subject' is missing; expected id, label, subject, got"):
        load_splits("custom", str(folder), "fold1of5")
