import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import mmsa_file
from matplotlib.figure import Figure
from test_training import DEMO

import selfmm_cli as cli
from selfmm_hf.data import load_splits
from selfmm_hf.data import synthetic as demo
from selfmm_hf.data.columns import MODALITIES
from selfmm_hf.evaluation.report.clips import _widest
from selfmm_hf.evaluation.report.confusion import classes, confusion
from selfmm_hf.evaluation.report.data import Data, Group, _slugs, find_runs, group_runs
from selfmm_hf.evaluation.report.drawing import Table, axis_ends
from selfmm_hf.evaluation.report.learning import _confidence, _trust_panels
from selfmm_hf.evaluation.report.page import RIGHT, _table
from selfmm_hf.evaluation.report.representations import class_centres, project
from selfmm_hf.evaluation.report.results import _by_metric
from selfmm_hf.evaluation.report.robustness import robustness
from selfmm_hf.labels.pseudo_labels import PseudoLabels
from selfmm_hf.labels.quality import correlation
from selfmm_hf.metrics import METRICS, mosi_metrics, sims_metrics
from selfmm_hf.model.task_selfmm import Task
from selfmm_hf.runs.plot import draw_spread, looks_of
from selfmm_hf.runs.stored import RunError, StoredRun
from selfmm_hf.training.checkpoints import seal

pytestmark = pytest.mark.draws

pytest.importorskip("matplotlib")
EPOCHS, TRAIN, TEST = 4, 18, 30
SECTIONS = [
    "results", "learning", "labels", "quality", "clips", "space", "confusion", "scatter", "calibration", "modalities",
    "robustness",
]  # fmt: skip


def write_run(folder, seed=1111, modalities=MODALITIES, limit=3.0, epochs=EPOCHS, ids=None, **options):
    """What a finished run of before leaves, without predictions of training clips, nor the data and the model."""
    random = np.random.default_rng(seed)
    labels = np.round(random.uniform(-limit, limit, 2 * TEST), 1).astype(np.float32)
    said = {name: (labels + random.normal(0, limit / 6, 2 * TEST)).astype(np.float32) for name in modalities}
    fusion = (labels + random.normal(0, limit / 9, 2 * TEST)).astype(np.float32)
    absent = np.arange(2 * TEST) % 7 == 0
    predictions = {
        "id": [f"clip{row}$_$1" for row in range(2 * TEST)],
        "split": ["validation"] * TEST + ["test"] * TEST,
        "label": labels,
        "fusion": fusion,
        **{name: pa.array(values, mask=absent & (name == "vision")) for name, values in said.items()},
    }
    fused = np.round(random.uniform(-limit, limit, TRAIN), 1).astype(np.float32)
    generated = {
        name: np.concatenate([fused, *(np.float32(fused + random.normal(0, 0.2, TRAIN)) for _ in range(1, epochs))])
        for name in modalities
    }
    ids = [f"train{row}$_$1" for row in range(TRAIN)] if ids is None else ids
    pseudo = {"id": ids * epochs, "epoch": np.repeat(np.arange(1, epochs + 1, dtype=np.int32), TRAIN), **generated}
    metrics = {
        f"{split}_{name}": None if value != value else value
        for split, rows in (("validation", slice(TEST)), ("test", slice(TEST, None)))
        for name, value in METRICS[limit](fusion[rows], labels[rows]).items()
    }
    log = [
        entry
        for epoch in range(1, epochs + 1)
        for entry in (
            {"epoch": epoch, "loss": 2 / epoch},
            {"epoch": epoch, "eval_selection_loss": 1 / epoch + seed / 1e5},
        )
    ]
    folder.mkdir(parents=True)
    options = {"dataset": "mosi", "data": "gone/unaligned_50.pkl", "seed": seed, "output_dir": str(folder), **options}
    (folder / "options.yaml").write_text(yaml.safe_dump(options))
    pq.write_table(pa.table(predictions), folder / "predictions.parquet")
    pq.write_table(pa.table(pseudo), folder / "pseudo_labels.parquet")
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    results = {"convention": options.get("convention", "default"), "epochs": epochs, "best_epoch": epochs, **metrics}
    (folder / "all_results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="module")
def full_report(run_folder):
    """The folder of a report that is really drawn."""
    out = run_folder.parent / "out"
    report(out, run_folder)
    return out


@pytest.fixture
def sketched(monkeypatch):
    """Draws each panel, but renders none, which takes its time."""
    from matplotlib.figure import Figure

    def sketch(panel):
        panel.draw(Figure().subplots())
        return b"", "<svg ></svg>"

    monkeypatch.setattr("selfmm_hf.evaluation.report.write.render", sketch)


def report(out, *folders) -> "Page":
    cli.main(["report", *map(str, folders), "--output_dir", str(out)])
    return Page(out / "report.html")


def refused(capsys, *folders) -> str:
    """The one line with which the command refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["report", *map(str, folders), "--output_dir", str(folders[0].parent / "never")])
    lines = capsys.readouterr().err.strip().splitlines()
    assert exit_info.value.code == 2 and len(lines) == 1, lines
    assert not (folders[0].parent / "never").exists()
    return lines[0]


class Page(HTMLParser):
    """The page: its sections, pictures, tables; an error where elements are not closed or closed in another order."""

    def __init__(self, file):
        super().__init__()
        self.file, self.source = file, file.read_text(encoding="utf-8")
        self.open, self.sections, self.ids, self.pictures, self.drawings, self.cells, self.links = (
            [],
            [],
            [],
            [],
            [],
            [],
            [],
        )
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag != "meta":
            self.open.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "section":
            self.sections.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "svg":
            self.drawings.append(attributes["aria-label"])
        if tag in ("td", "th"):
            self.cells.append("")
        assert tag not in ("script", "img", "link", "iframe")
        assert not any(name.startswith("on") for name in attributes)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_every_figure_is_there_and_the_page_needs_nothing_else(full_report):
    page = Page(full_report / "report.html")
    assert page.sections == SECTIONS
    assert len(page.ids) == len(set(page.ids)), "names within the pictures clash"
    pictures = {link for link in page.links if link.endswith(".png")}
    assert pictures == {file.name for file in full_report.glob("*.png")}
    assert len(page.drawings) == len(pictures) and all(len(words) > 30 for words in page.drawings)
    for name in ("learning", "labels-text", "moved", "clips-test", "confusion-7", "residuals", "sign"):
        assert f"{name}.png" in pictures
    assert set(re.findall(r"https?://[^\s\"]+", page.source)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "space-fusion.png" not in pictures and "can no longer be read" in page.source
    inline = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}\b", inline), "a colour that does not follow the page"


def test_numbers_are_those_of_the_files(run_folder, full_report):
    folder, page = run_folder, Page(full_report / "report.html")
    results = json.loads((folder / "all_results.json").read_text())
    for name in ("mae", "corr", "acc_7", "acc_2_negative_positive"):
        assert f"{results[f'test_{name}']:.3f}" in page.cells and f"{results[f'validation_{name}']:.3f}" in page.cells
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    test = table[table["split"] == "test"]
    for task in ("fusion", *MODALITIES):
        here = test[test[task].notna()]
        assert f"{(here[task].astype(float) - here['label'].astype(float)).abs().mean():.3f}" in page.cells
        place = page.cells.index(task, page.cells.index("task"))
        assert page.cells[place + 1] == str(len(here))
    labels = pq.read_table(folder / "pseudo_labels.parquet").to_pandas()
    last, first = labels[labels["epoch"] == EPOCHS], labels[labels["epoch"] == 1]
    for name in MODALITIES:
        moved = np.abs(last[name].to_numpy(float) - first[name].to_numpy(float)).mean()
        assert f"{moved:.3f}" in page.cells
    spread = test[list(MODALITIES)].max(axis=1) - test[list(MODALITIES)].min(axis=1)
    widest = test.loc[spread.idxmax()]
    place = page.cells.index(widest["id"])
    assert page.cells[place - 1] == "1"
    assert page.cells[place + 2] == f"{widest['fusion']:.3f}".replace("-", "\N{MINUS SIGN}")


@pytest.mark.parametrize(("limit", "counts"), [(3.0, [7]), (1.0, [5, 3])])
def test_the_confusion_matrix_agrees_with_the_accuracy(limit, counts):
    random = np.random.default_rng(0)
    labels, predictions = random.uniform(-limit, limit, (2, 200))
    labels[:9], predictions[:4] = np.linspace(-limit, limit, 9), (2.5, -2.5, 0.1, -0.1)
    metrics = {3.0: mosi_metrics, 1.0: sims_metrics}[limit](predictions, labels)
    for count in counts:
        matrix, names = confusion(labels, predictions, limit, count)
        assert matrix.shape == (count, count) and len(names) == count and matrix.sum() == 200
        assert np.trace(matrix) / 200 == pytest.approx(metrics[f"acc_{count}"])
        assert matrix[:, 0].sum() == (classes(predictions, limit, count)[0] == 0).sum()


def test_several_seeds_and_configurations(tmp_path, sketched):
    for seed, epochs in ((1111, 4), (1112, 6)):
        write_run(tmp_path / "sweep" / "a" / str(seed), seed, epochs=epochs)
        write_run(tmp_path / "sweep" / "b" / str(seed), seed, convention="official")
    groups = group_runs(find_runs([tmp_path / "sweep"]))
    assert [(group.name, [run.seed for run in group.runs]) for group in groups] == [
        ("convention default", [1111, 1112]),
        ("convention official", [1111, 1112]),
    ]
    page = report(tmp_path / "out", tmp_path / "sweep")
    values = [
        json.loads((tmp_path / "sweep" / "a" / seed / "all_results.json").read_text()) for seed in ("1111", "1112")
    ]
    maes = [one["test_mae"] for one in values]
    assert f"{np.mean(maes):.3f} ± {np.std(maes, ddof=1):.3f}" in page.cells
    pictures = {file.name for file in (tmp_path / "out").glob("*.png")}
    assert {"results-mae.png", "learning-convention-official.png", "labels-convention-official-vision.png"} <= pictures
    assert "confusion-convention-default-7.png" in pictures
    assert "Convention official: seeds 1111, 1112" in page.source
    (tmp_path / "sweep" / "sweep.yaml").touch()
    assert [group.name for group in group_runs(find_runs([tmp_path / "sweep"]))] == ["a", "b"]


def test_what_runs_tell_of_conflict_and_of_their_confidence(tmp_path, sketched):
    confidence = {"text": [0.0, 0.1, 0.5, 0.6], "audio": [0.0, 0.0, 0.0, 0.02], "vision": [0.0, 0.2, 0.3, 0.4]}
    told = {"conflict_by": "labels", "test_conflict_share": 0.4, "test_mae_agreement": 0.1239, "test_mae_conflict": 0.7}
    for name, seed, more in (("a", 1, {}), ("a", 2, {"text": [0.0, 0.1, 0.5, 0.8]})):
        file = write_run(tmp_path / name / str(seed), seed) / "all_results.json"
        results = json.loads(file.read_text()) | told | {"label_confidence": confidence | more}
        file.write_text(json.dumps(results))
    page = report(tmp_path / "out", tmp_path / "a")
    assert "0.124 ± 0.000" in page.cells and "0.700 ± 0.000" in page.cells and "MAE, conflict" in page.cells
    assert "40 % of the test clips with two such scores" in page.source
    (drawing,) = [one for one in page.drawings if one.startswith("Confidence in the labels")]
    assert "text: where it differs from the fused label, the run trusts it to 70 %; audio adds nothing" in drawing
    place = page.cells.index("Confidence in the labels")
    assert page.cells[place + 1 : place + 6] == ["text", "0.000", "0.100", "0.100", "0.700"]

    write_run(tmp_path / "old", convention="official")  # which has no confidence, and tells nothing of conflict
    page = report(tmp_path / "both", tmp_path / "a", tmp_path / "old")
    pictures = {file.name for file in (tmp_path / "both").glob("*.png")}
    assert "trust-convention-default.png" in pictures and "trust-convention-official.png" not in pictures
    heads = page.cells.index("MAE, conflict")
    assert page.cells[heads + 1] == "convention default" and "0.700 ± 0.000" in page.cells
    old = page.cells.index("convention official")
    width = heads - page.cells.index("runs")
    assert page.cells[old + width - 1 : old + width + 1] == ["", ""]
    alone = report(tmp_path / "alone", tmp_path / "old")
    assert "conflict" not in alone.source and "onfidence" not in alone.source


def test_the_confidence_in_each_of_several_targets_is_drawn():
    def finished(seed, more):
        confidence = {
            f"{modality}, {target}": [0.0, 0.5 + more] for target in ("valence", "arousal") for modality in MODALITIES
        }
        results = {"best_epoch": 2, "label_confidence": confidence | {"text, arousal": [0.0, 0.01]}}
        return StoredRun(Path(f"{seed}"), {"seed": seed}, results=results)

    group = Group("", [finished(1, 0.0), finished(2, 0.2)])
    trust = _confidence(group)
    assert len(trust) == 6 and trust["audio, valence"] == [[0.0, 0.5], [0.0, 0.7]]
    valence, arousal = _trust_panels(group, trust, {name: of[0][-1] for name, of in trust.items()}, 1)
    assert (valence.title, arousal.title) == ("Confidence in the labels: valence", "Confidence in the labels: arousal")
    assert "text adds nothing: " in arousal.alt and "text adds nothing" not in valence.alt and "vision" in valence.alt
    axes = Figure().subplots()
    valence.draw(axes)
    assert [one.get_label() for one in axes.lines] == list(MODALITIES)

    old = StoredRun(Path("3"), {}, results={"best_epoch": 1, "label_confidence": {name: [0.5] for name in MODALITIES}})
    assert list(_confidence(Group("", [old]))) == list(MODALITIES)
    assert _confidence(Group("", [old, *group.runs])) == {}


def test_modalities_of_any_name_have_a_look_of_their_own(tmp_path, sketched):
    names = ["text", "eye", "gesture", "pulse"]
    looks = looks_of(["fusion", *names])
    assert all(len(set(of)) == 5 for of in list(zip(*looks.values(), strict=True))[::2])
    page = report(tmp_path / "out", write_run(tmp_path / "run", modalities=names))
    assert {f"labels-{name}.png" for name in names} <= {file.name for file in (tmp_path / "out").glob("*.png")}
    assert page.sections == SECTIONS
    draw_spread(Figure().subplots(), StoredRun.read(tmp_path / "run").generated)


def test_runs_that_do_not_go_together(tmp_path, capsys):
    run = write_run(tmp_path / "a")
    sims = write_run(tmp_path / "sims", limit=1.0, dataset="sims", data="gone.pkl")
    other = write_run(tmp_path / "b", seed=2, ids=[f"other{row}" for row in range(TRAIN)])
    assert "a report of each data set" in refused(capsys, run, sims)
    assert "not the same clips" in refused(capsys, run, other)


def test_the_same_run_in_two_sweeps_counts_once(tmp_path, sketched, capsys):
    for sweep in ("first", "second"):
        for seed in (1111, 1112):
            write_run(tmp_path / sweep / "default" / str(seed), seed, dataloader_num_workers=int(sweep == "second"))
        write_run(tmp_path / sweep / sweep / "1111", convention="paper", momentum=sweep == "first")
        (tmp_path / sweep / "sweep.yaml").touch()
    groups = group_runs(find_runs([tmp_path / "first", tmp_path / "second"]))
    assert [(one.name, [run.seed for run in one.runs]) for one in groups] == [
        ("default", [1111, 1112]), ("first", [1111]), ("second", [1111]),
    ]  # fmt: skip
    report(tmp_path / "out", tmp_path / "first", tmp_path / "second")

    write_run(tmp_path / "third" / "default" / "1111", weight_decay=0.5)
    (tmp_path / "third" / "sweep.yaml").touch()
    groups = group_runs(find_runs([tmp_path / "first", tmp_path / "third"]))
    assert [group.name for group in groups] == ["default (first)", "first", "default (third)"]

    runs = [write_run(tmp_path / name, momentum=False, **{name: 3.0}) for name in ("weight_decay", "learning_rate")]
    groups = group_runs(find_runs([*runs, tmp_path / "third" / "default" / "1111"]))
    assert [group.name for group in groups] == ["weight_decay", "learning_rate", "default"]  # options: too long

    long = {"momentum": True, "encoder": "x" * 40}
    runs = [write_run(tmp_path / name / "run", weight_decay=place, **long) for place, name in enumerate("xyz")]
    sweep = [write_run(tmp_path / "third" / "one" / str(seed), seed=seed, momentum=seed) for seed in (1, 2)]
    names = [group.name for group in group_runs(find_runs([*runs, *sweep]))]
    assert names == ["run (x/run)", "run (y/run)", "run (z/run)", "one (1)", "one (2)"]

    file = write_run(tmp_path / "fourth", 1111) / "predictions.parquet"
    table = pq.read_table(file).to_pydict()
    pq.write_table(pa.table(table | {"fusion": [value + 0.1 for value in table["fusion"]]}), file)
    assert "not the same predictions" in refused(capsys, tmp_path / "first", tmp_path / "fourth")


@pytest.mark.parametrize(
    "names, slugs",
    [
        ([""], [""]),
        (["official", "M-T A (sweep)"], ["official", "m-t-a-sweep"]),
        (["a", "A"], ["1-a", "2-a"]),  # one file where capital letters do not count
        (["!", "?"], ["1", "2"]),
        (["x" * 300, "x" * 301], ["1-" + "x" * 60, "2-" + "x" * 60]),
    ],
)
def test_pictures_are_named_by_what_sets_the_runs_apart(names, slugs):
    assert _slugs(names) == slugs


def test_a_smaller_report_leaves_no_pictures_of_the_larger_one(tmp_path, sketched):
    write_run(tmp_path / "a"), write_run(tmp_path / "b", convention="paper")
    report(tmp_path / "out", tmp_path / "a", tmp_path / "b")
    (tmp_path / "out" / "mine.png").touch()
    page = report(tmp_path / "out", tmp_path / "a")
    pictures = {file.name for file in (tmp_path / "out").glob("*.png")}
    assert pictures == {"mine.png", *(link for link in page.links if link.endswith(".png"))}


def test_the_same_run_gives_the_same_bytes(run_folder, full_report, tmp_path):
    report(tmp_path / "again", run_folder)
    assert len(list((tmp_path / "again").iterdir())) == len(list(full_report.iterdir()))
    for file in full_report.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("tasks", [None, [], ["text"]])
def test_runs_with_fewer_modalities_or_tasks(tmp_path, tasks, sketched):
    options = {} if tasks is None else {"unimodal_tasks": tasks}
    page = report(tmp_path / "out", write_run(tmp_path / "run", modalities=["text", "audio"], **options))
    assert page.sections == SECTIONS
    pictures = {file.name for file in (tmp_path / "out").glob("*.png")}
    shown = {name for name in MODALITIES if f"labels-{name}.png" in pictures}
    assert shown == set(["text", "audio"] if tasks is None else tasks)
    assert ("clips-test.png" in pictures) == (tasks is None)
    assert ("learns from" in page.source) == (tasks == [])


def test_labels_of_sims(tmp_path, sketched):
    page = report(tmp_path / "out", write_run(tmp_path / "run", limit=1.0, dataset="sims", data="gone.pkl"))
    pictures = {file.name for file in (tmp_path / "out").glob("*.png")}
    assert {"confusion-5.png", "confusion-3.png"} <= pictures and "confusion-7.png" not in pictures
    assert "predicted ≤ -0.7" in page.cells or "predicted ≤ \N{MINUS SIGN}0.7" in page.cells


def test_training_clips_among_the_predictions_change_nothing(tmp_path):
    """Runs of before do not have them."""
    before = StoredRun.read(write_run(tmp_path / "before"))
    file = write_run(tmp_path / "now") / "predictions.parquet"
    table = pq.read_table(file)
    training = table.slice(0, 5).to_pydict() | {"split": ["train"] * 5, "id": list("abcde"), "label": [3.0] * 5}
    pq.write_table(pa.concat_tables([pa.table(training, schema=table.schema), table]), file)
    now = StoredRun.read(tmp_path / "now")
    assert set(now.predictions["split"]) == {"validation", "test"} and now.same_clips(before)
    assert all(now.metrics(split) == before.metrics(split) for split in ("validation", "test"))


def test_constant_predictions_and_a_single_epoch(tmp_path, sketched):
    folder = write_run(tmp_path / "run", epochs=1)
    table = pq.read_table(folder / "predictions.parquet").to_pydict()
    for name in ("label", "fusion", *MODALITIES):
        table[name] = [0.0] * len(table["id"])
    pq.write_table(pa.table(table), folder / "predictions.parquet")
    assert report(tmp_path / "out", folder).sections == SECTIONS


def test_test_clips_of_one_modality_cannot_disagree(tmp_path, sketched):
    folder = write_run(tmp_path / "run", modalities=["audio", "vision"])
    table = pq.read_table(folder / "predictions.parquet").to_pydict()
    table["vision"] = [None] * len(table["id"])
    pq.write_table(
        pa.table(table | {"vision": pa.array(table["vision"], pa.float32())}), folder / "predictions.parquet"
    )
    page = report(tmp_path / "out", folder)
    assert page.sections == SECTIONS and "No test clip has two modalities that could disagree." in page.source


def test_a_run_that_has_not_come_to_its_end(tmp_path, sketched):
    whole = write_run(tmp_path / "sweep" / "1")
    broken = write_run(tmp_path / "sweep" / "2", seed=2)
    for name in ("all_results.json", "predictions.parquet", "pseudo_labels.parquet"):
        (broken / name).unlink()
    checkpoint = broken / "checkpoint-8"
    checkpoint.mkdir()
    state = json.loads((broken / "trainer_state.json").read_text())
    (checkpoint / "trainer_state.json").write_text(
        json.dumps({"global_step": 8, "log_history": state["log_history"][:4]})
    )
    (checkpoint / "pseudo_labels.safetensors").touch()
    seal(checkpoint)
    (broken / "trainer_state.json").unlink()
    assert len(StoredRun.read(broken).losses("loss")) == 2
    page = report(tmp_path / "out", broken)
    assert page.sections == ["learning"] and "Not finished: seed 2" in page.source
    page = report(tmp_path / "out", whole, broken)
    assert page.sections == SECTIONS and "Not finished: seed 2" in page.source
    shutil.rmtree(checkpoint)
    assert "first epoch" in report(tmp_path / "out", broken).source


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("options.yaml", b"a: [", "is damaged"),
        ("options.yaml", b"", "holds no options"),
        ("all_results.json", b"{", "is damaged"),
        ("all_results.json", b"{}", "has no 'best_epoch'"),
        ("all_results.json", b'{"best_epoch": 0, "epochs": 4}', "is damaged: it has best_epoch 0 of 4"),
        ("all_results.json", b'{"best_epoch": 5, "epochs": 4}', "is damaged: it has best_epoch 5 of 4"),
        ("trainer_state.json", None, "is missing: the run is not complete"),
        ("trainer_state.json", b"[]", "is damaged"),
        ("predictions.parquet", None, "is missing: the run is not complete"),
        ("predictions.parquet", b"PAR1", "is damaged"),
        ("pseudo_labels.parquet", b"", "is damaged"),
        ("robustness.json", b"{}", "has no 'random'"),
        ("robustness.json", b'{"random": {"0.1": 3}}', "is damaged: random.0.1 is 3, expected a map"),
        ("robustness.json", b'{"random": {"0.1": {}}}', "is damaged: random.0.1 has no 'mae'"),
        ("trainer_state.json", b'{"log_history": [{"loss": 1}]}', "is damaged: log_history[0] has no 'epoch'"),
        ("trainer_state.json", b'{"log_history": [{"epoch": 1, "loss": "1"}]}', "loss is '1', expected a number"),
        ("trainer_state.json", b'{"log_history": {}}', "log_history is {}, expected a list"),
        (
            "all_results.json",
            b'{"best_epoch": 1, "epochs": 1, "test_mae": [1]}',
            "test_mae is [1], expected a number or",
        ),
        (
            "all_results.json",
            b'{"best_epoch": 1, "epochs": 1, "label_confidence": {"text": [[0.5]]}}',
            "label_confidence.text[0] is [0.5], expected a number",
        ),
        (
            "all_results.json",
            b'{"best_epoch": 2, "epochs": 2, "label_confidence": {"text": [0.5]}}',
            "label_confidence.text has 1 epochs, fewer than best_epoch, 2",
        ),
        ("environment.json", b'{"data": {}}', "has no 'sessions'"),
        ("options.yaml", b"seed: [1]", "seed is [1], expected a whole number"),
    ],
)
def test_a_damaged_folder_ends_in_one_line(tmp_path, capsys, name, content, said):
    file = write_run(tmp_path / "run") / name
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)
    message = refused(capsys, tmp_path / "run")
    assert said in message and name in message


def test_folders_that_are_no_runs(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "holds no run" in refused(capsys, tmp_path / "empty")
    assert "not the folder of a run" in refused(capsys, tmp_path / "nothing")


@pytest.mark.parametrize("fault", ["column", "rows", "NaN", "words", "no test"])
def test_tables_that_do_not_fit(tmp_path, fault):
    folder = write_run(tmp_path / "run")
    file = folder / ("pseudo_labels.parquet" if fault == "rows" else "predictions.parquet")
    table = pq.read_table(file).to_pydict()
    rows = len(table["id"])
    if fault == "column":
        del table["label"]
    elif fault == "rows":
        table = {name: values[:-1] for name, values in table.items()}
    elif fault == "no test":
        table["split"] = ["validation"] * rows
    else:
        table["fusion"] = [float("nan") if fault == "NaN" else "words"] * rows
    pq.write_table(pa.table(table), file)
    with pytest.raises(RunError, match=folder.name):
        find_runs([folder])[0].generated  # noqa: B018


def write_robustness(folder, guess=1.0):
    """What `selfmm robustness` leaves in the folder of a run; at half the data, the error is 1 larger."""
    mae = json.loads((folder / "all_results.json").read_text())["test_mae"]
    figures = {"mae": mae, "acc_2_negative_positive": 0.71}
    stored = {"random": {"0": figures, "0.5": figures | {"mae": 1 + mae}, "mean": figures}, "zeros": {"text": figures}}
    (folder / "robustness").mkdir()
    (folder / "robustness" / "robustness.json").write_text(json.dumps(stored | {"guess": {"mae": guess}}))
    return mae


def test_robustness_is_drawn_where_it_was_measured(tmp_path, sketched, capsys):
    folder = write_run(tmp_path / "run")
    mae = write_robustness(folder)
    page = report(tmp_path / "out", folder)
    assert (tmp_path / "out" / "robustness-mae.png").is_file() and f"{1 + mae:.3f}" in page.cells
    assert "Published figures come from other features" in page.source  # of CMU-MOSI

    other = write_run(tmp_path / "other", seed=2)
    mean = (mae + write_robustness(other)) / 2
    shutil.move(other / "robustness" / "robustness.json", other / "robustness.json")
    figure = robustness(group_runs(find_runs([folder, other])))
    assert f"0 {mean:.3f}, 0.5 {1 + mean:.3f}." in figure.panels[0].alt
    axes = Figure().subplots()
    figure.panels[0].draw(axes)
    assert len(axes.collections) == 1 and len(axes.lines) == 3  # a band, its mean, what is published, a guess

    results = json.loads((other / "all_results.json").read_text())
    (other / "all_results.json").write_text(json.dumps(results | {"test_mae": mean + 1}))
    assert "robustness.json is not of this run: on the complete data, its MAE is" in refused(capsys, other)


def test_runs_of_several_data_sets_stand_beside_no_published_figures(tmp_path, sketched):
    for place, dataset in enumerate(("mosi", "mosei")):
        write_robustness(write_run(tmp_path / dataset, dataset=dataset), guess=1.0 + place)
    page = report(tmp_path / "out", tmp_path / "mosi", tmp_path / "mosei")
    assert "Self-MM on mosi, mosei: 2 runs" in page.source and "ublished" not in page.source
    axes = Figure().subplots()
    robustness(group_runs(find_runs([tmp_path / "mosi", tmp_path / "mosei"]))).panels[0].draw(axes)
    assert [one.get_label() for one in axes.lines] == ["dataset mosi", "dataset mosei"]  # and no guess


def test_each_group_has_its_own_constant_prediction():
    def group(name, f1, constant):
        results = {"test_acc": f1, "test_f1_macro": f1, "test_constant_acc": constant}
        return Group(name, [StoredRun(Path(name), {}, results=results)])

    titles = {"acc": "Acc"}
    (table,) = _by_metric([group("a", 0.5, 0.2), group("b", 0.6, 0.3)], "test", titles, [])
    assert table.head == ["", "a", "b", "constant (a)", "constant (b)"]
    assert table.rows == [("Acc", "0.500", "0.600", "0.200", "0.300")]
    (table,) = _by_metric([group("a", 0.5, 0.2), group("constant", 0.6, 0.2)], "test", titles, [])
    assert table.head == ["", "a", "constant", "constant"] and table.rows == [("Acc", "0.500", "0.600", "0.200")]


def test_sentences_are_shown_and_escaped(tmp_path, sketched):
    file = mmsa_file(tmp_path / "unaligned_50.pkl", raw_text=lambda rows: ["<b>&amp; $x_1$ \x00"] * rows)
    ids = [f"train{row}$_$1" for row in range(TRAIN)]
    folder = write_run(tmp_path / "run", ids=ids, data=str(file))
    (folder / "model").mkdir()
    with pytest.raises(SystemExit):  # the data are there, the model is not
        report(tmp_path / "out", folder)
    from selfmm_hf.evaluation.report.clips import case_study
    from selfmm_hf.evaluation.report.data import Data
    from selfmm_hf.evaluation.report.page import page

    figure = case_study(group_runs([StoredRun.read(folder)]), Data())
    source = page("<title>", ["a & b"], [figure], {panel.name: "<svg ></svg>" for panel in figure.panels})
    assert html.escape("<b>&amp; $x_1$ ") in source and "<b>" not in source and "\x00" not in source
    assert "<h1>&lt;title&gt;</h1>" in source and "a &amp; b" in source


def test_data_that_are_other_ones_by_now(tmp_path, sketched):
    file = mmsa_file(tmp_path / "unaligned_50.pkl")
    folder = write_run(tmp_path / "run", ids=[f"other{row}" for row in range(TRAIN)], data=str(file))
    page = report(tmp_path / "out", folder)
    assert "have changed since the run" in page.source and str(tmp_path) not in page.source


def test_data_with_other_texts_by_now(tmp_path, sketched):
    splits = load_splits("mosi", str(mmsa_file(file := tmp_path / "unaligned_50.pkl")))
    folder = write_run(tmp_path / "run", ids=splits["train"]["id"], data=str(file))
    known = {"data": {split: samples.fingerprint() for split, samples in splits.items()}, "sessions": []}
    (folder / "environment.json").write_text(json.dumps(known))
    assert not isinstance(Data().of(StoredRun.read(folder)), str)
    mmsa_file(file, raw_text=lambda rows: ["another text"] * rows)
    assert "have changed since the run" in Data().of(StoredRun.read(folder))


def test_the_widest_range_ignores_what_is_absent():
    values = np.array([[1.0, np.nan, 3.0, 0.0], [0.5, np.nan, -3.0, 2.0], [np.nan, 9.0, 0.0, np.nan]])
    assert _widest(values).tolist() == [2, 3, 0]


def test_projection_keeps_distances_of_a_plane():
    random = np.random.default_rng(0)
    plane = random.normal(size=(40, 2)) * (3, 1)
    features = plane @ np.linalg.qr(random.normal(size=(5, 5)))[0][:2] + 7
    centres = features[:2]
    points, middles, shares = project(features, centres)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]
    np.testing.assert_allclose(
        np.linalg.norm(points[0] - points[1:], axis=1), np.linalg.norm(plane[0] - plane[1:], axis=1)
    )
    np.testing.assert_allclose(middles, points[:2])
    points, _, shares = project(np.ones((4, 1)), np.ones((2, 1)))
    assert points.shape == (4, 2) and shares.tolist() == [0, 0]


@pytest.mark.parametrize("convention", ["default", "official"])
def test_class_centres_are_those_of_the_label_generation(tmp_path, convention):
    import torch

    from selfmm_hf.labels.conventions import CONVENTIONS

    random = torch.Generator().manual_seed(0)
    features, labels = torch.randn(9, 3, generator=random), torch.tensor([1.0, -1, 0, 2, -3, 0, 1, -0.2, 0.4])
    state = PseudoLabels(labels, {"fusion": 3, "text": 3}, CONVENTIONS[convention], Task())
    state.update(torch.arange(9), {"fusion": features, "text": features}, {}, 1)
    run = StoredRun(tmp_path, {}, results={"convention": convention})
    found = class_centres(features.double().numpy(), labels.numpy(), run)
    np.testing.assert_allclose(found, state.centres("fusion")[:, 0], atol=1e-6)


def test_a_whole_run_with_its_data_and_its_model(tmp_path, monkeypatch, sketched):
    monkeypatch.setattr(demo, "SIZES", {"train": 30, "validation": 9, "test": 11})
    folder = tmp_path / "run"
    cli.main(["train", *DEMO, "--num_train_epochs", "3", "--output_dir", str(folder)])
    page = report(tmp_path / "out", folder)
    pictures = {file.name for file in (tmp_path / "out").glob("*.png")}
    for task in ("fusion", *MODALITIES):
        assert f"space-{task}.png" in pictures
    assert {"corr.png", "error.png"} <= pictures
    results = json.loads((folder / "all_results.json").read_text())
    assert f"{results['generated_label_text_corr']:.3f}" in page.cells
    assert any(sentence in page.cells for sentence in demo.demo_corpus()["test"]["text"])
    run = StoredRun.read(folder)
    corpus = demo.demo_corpus()["train"]
    assert correlation(run.generated["text"][-1], np.array(corpus["label_text"])) == pytest.approx(
        results["generated_label_text_corr"]
    )


def test_negative_numbers_are_aligned_as_numbers():
    head = _table(Table(["", "Corr", "F1", ""], [("a", "-0.021 ± 0.506", "", "b-1.0"), ("b", "0.798", "0.8595", "")]))[
        "head"
    ]
    assert [kind for _, kind in head] == ["", RIGHT, RIGHT, ""]


def test_a_group_that_reaches_far_flattens_no_other():
    assert axis_ends([1.0, 2.5, 3.9]) == [3.9, 3.9, 3.9]
    assert axis_ends([1.0, 3.0, 30.0]) == [3.0, 3.0, 30.0]
