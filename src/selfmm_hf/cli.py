"""The commands of `selfmm`; the first of them, `train`, is `train.py` too."""

import argparse
import gc
import importlib.util
import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .arguments import seconds
from .one_training import FirstProcessFailed
from .terminal import escape_what_cannot_be_encoded, printable, unwritten

PROG = "selfmm"


def main(arguments: list[str] | None = None) -> None:
    """The command `selfmm`."""
    escape_what_cannot_be_encoded()
    arguments = sys.argv[1:] if arguments is None else arguments
    commands: dict[str, tuple[Callable[[list[str]], None], str]] = {
        "train": (train, "train a model: --config FILE.yaml, or the name of a preset, and options"),
        "benchmark": (benchmark, "many runs, configurations x seeds -> a table with intervals and comparisons"),
        "search": (search, "try options of a space, on the validation split -> the best as a configuration file"),
        "demo": (demo, "train on the embedded corpus, load the saved model back, and predict"),
        "extract": (extract, "a folder of clips and a table of labels -> a data set of features"),
        "predict": (predict, "the sentiment of clips: a table, JSON or a page"),
        "data": (data, "prepare, inspect or verify a data set"),
        "report": (report, "runs or a sweep to be looked at: a page and pictures"),
        "convert": (convert, "convert a checkpoint of the official code or of MMSA into a model folder"),
        "export": (export, "a model -> an ONNX file, which runs without torch"),
        "robustness": (robustness, "how a finished model fares where data are missing: tables and curves"),
        "push": (push, "a model, a data set or a Space -> a repository on the Hub"),
    }
    parser = argparse.ArgumentParser(prog=PROG, description="Self-MM as a Hugging Face model.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in commands.items():
        subparsers.add_parser(name, help=text, add_help=False)
    command = parser.parse_args(arguments[:1]).command
    try:
        commands[command][0](arguments[1:])
    except KeyboardInterrupt:
        raise SystemExit(f"\n{PROG}: interrupted") from None
    finally:
        if problem := unwritten():
            raise SystemExit(f"{PROG}: error: {problem}.")


def train(arguments: list[str] | None = None) -> None:
    """`selfmm train`, and `train.py`: trains with a YAML file and options that override it."""
    escape_what_cannot_be_encoded()
    with _trained(sys.argv[1:] if arguments is None else arguments):
        pass
    from accelerate import PartialState

    # Else a process that ends first may abort: the group has threads, and what was trained, in cycles, holds the group.
    gc.collect()
    PartialState().destroy_process_group()


def demo(arguments: list[str]) -> None:
    """`selfmm demo`: trains on the embedded corpus, draws the run, loads the model as a stranger would."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit(f"{PROG}: error: the demo draws its run with matplotlib: pip install 'selfmm-hf[plots]'.")
    from .demo import show
    from .options import PRESETS

    options = ["--config", str(PRESETS["demo"]), "--overwrite_output_dir", *arguments, "--dataset", "demo"]
    with _trained(options) as run:
        show(run.folder, run.splits)


def benchmark(arguments: list[str]) -> None:
    """`selfmm benchmark run`, `selfmm benchmark table`."""
    parser = argparse.ArgumentParser(prog=f"{PROG} benchmark", description="Many runs, and what they say together.")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser(
        "run",
        help="do each configuration with each seed, as far as they are not done",
        epilog="All other options are those of `selfmm train`, and hold for all runs.",
        allow_abbrev=False,
    )
    run.add_argument("--sweep", help="YAML file, or ablation, conventions or modalities; without: one configuration")
    run.add_argument("--seeds", type=int, default=5, help="how many, from --seed on; 5 by default")
    run.add_argument("--out", required=True, help="folder; the same command goes on where it was stopped")

    table = commands.add_parser("table", help="the table of a sweep, from its folder alone")
    table.add_argument("folder", help="the --out of `selfmm benchmark run`")
    table.add_argument("--against", help="the configuration to compare with; the first by default")
    table.add_argument("--json", action="store_true", help="print everything, as JSON")

    options, training = parser.parse_known_args(arguments)
    if training and options.command == "table":
        parser.error(f"unrecognized arguments: {' '.join(training)}")
    _need("scipy", "benchmark")
    from .benchmark import commands as benchmark_commands

    if options.command == "table":
        print(_or_exit(lambda: benchmark_commands.table(options)), end="")
        return
    sweep = _or_exit(lambda: benchmark_commands.prepare_sweep(options, training))
    raise SystemExit(1 if benchmark_commands.run(options, sweep, training) else 0)


def search(arguments: list[str]) -> None:
    """`selfmm search`: options of a space, tried on the validation split."""
    parser = argparse.ArgumentParser(
        prog=f"{PROG} search",
        description="Trains with options drawn from a space. The test split is not even loaded.",
        epilog="All other options are those of `selfmm train`, and hold for all trials.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--space", default="official", help="YAML file of choices; by default that of the official code"
    )
    parser.add_argument("--trials", type=int, default=50, help="how many, with those that are done; 50 by default")
    parser.add_argument("--out", required=True, help="folder; the same command goes on where it was stopped")
    options, training = parser.parse_known_args(arguments)
    _need("optuna", "benchmark")
    from .benchmark import commands

    space = _or_exit(lambda: commands.prepare_search(options, training))
    raise SystemExit(0 if commands.search(options, space, training) else 1)


def data(arguments: list[str]) -> None:
    """`selfmm data prepare`, `selfmm data inspect`, `selfmm data verify`."""
    parser = argparse.ArgumentParser(prog=f"{PROG} data", description="Feature files and data set folders.")
    commands = parser.add_subparsers(dest="command", required=True)
    names = ["mosi", "mosei", "sims", "simsv2", "custom"]

    prepare = commands.add_parser("prepare", help="feature file -> Parquet folder for load_dataset and the Hub")
    prepare.add_argument("dataset", choices=names)
    prepare.add_argument("--file", required=True, help="published feature file; custom: a file or folder of your own")
    prepare.add_argument("--out", required=True, help="folder to write, or to add a configuration to")
    prepare.add_argument("--config", help="aligned or unaligned; by default what the file is")
    prepare.add_argument("--label_range", type=float, help="custom: labels lie in [-range, range]; 3 by default, or 1")
    prepare.add_argument(
        "--not_finite",
        default="zero",
        choices=["zero", "keep", "refuse"],
        help="what becomes of NaN and infinite frame values: 0 (default), kept, or an error",
    )
    prepare.add_argument("--overwrite", action="store_true", help="replace the configuration if it is there")

    inspect = commands.add_parser("inspect", help="what is in a file, a folder or a repository: a table and a picture")
    inspect.add_argument("path", help="feature file, folder, repository on the Hub, or demo")
    inspect.add_argument("--config", help="aligned or unaligned, where there are both")
    inspect.add_argument("--png", help="where to draw it")
    inspect.add_argument("--json", action="store_true", help="print JSON instead of the table")

    verify = commands.add_parser("verify", help="checksums and faults of a file or a prepared folder; exit status 1")
    verify.add_argument("path", help="feature file, or folder that `selfmm data prepare` has made")
    verify.add_argument("--dataset", choices=names, help="what a file should be; by default any published one")
    verify.add_argument("--file", help="what a folder was made from: every clip is held against it")

    options = parser.parse_args(arguments)
    from . import data_commands

    _or_exit(lambda: getattr(data_commands, options.command)(options))


def extract(arguments: list[str]) -> None:
    """`selfmm extract`: a folder of clips becomes a data set of one's own."""
    from .clip_commands import add_extract_arguments
    from .clip_commands import extract as extract_clips

    parser = argparse.ArgumentParser(prog=f"{PROG} extract", description=_described(extract))
    add_extract_arguments(parser)
    options = parser.parse_args(arguments)
    raise SystemExit(_or_exit(lambda: extract_clips(options)))


def predict(arguments: list[str]) -> None:
    """`selfmm predict`: how positive or negative the speakers of clips are."""
    parser = argparse.ArgumentParser(prog=f"{PROG} predict", description=_described(predict))
    parser.add_argument("clips", nargs="*", metavar="CLIP", help="file or URL with sound, picture, or both")
    parser.add_argument(
        "--text",
        help="what is said in the one clip that is named, or words alone; else what stands in a.txt beside a.mp4",
    )
    parser.add_argument(
        "--model", help="folder, or repository on the Hub; runs/demo/model of `selfmm demo` where it exists"
    )
    parser.add_argument("--revision", help="of the repository, to pin it")
    parser.add_argument("--transcriber", help="speech recognition model that fills in the words, such as a Whisper")
    parser.add_argument("--window_seconds", type=float, help="score pieces of this length too, 0.1 or more")
    parser.add_argument(
        "--max_seconds",
        type=seconds,
        help="longer clips are refused; by default the model's own limit, 300 unless it says otherwise",
    )
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each clip")
    parser.add_argument("--html", help="file to write: a page with a picture of each prediction")
    options = parser.parse_args(arguments)
    from . import predict as command

    pipe = _or_exit(lambda: command.load_pipeline(options))
    raise SystemExit(1 if _or_exit(lambda: command.predict(options, pipe)) else 0)


def report(arguments: list[str]) -> None:
    """`selfmm report`: one page and PNGs of runs, those that differ by their seeds taken together."""
    parser = argparse.ArgumentParser(prog=f"{PROG} report", description=report.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="folder of a run, or of a sweep of runs")
    parser.add_argument("--out", required=True, type=Path, help="folder to write; an earlier report there is replaced")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit(f"{PROG}: error: a report is drawn with matplotlib: pip install 'selfmm-hf[plots]'.")
    from datasets import disable_progress_bars

    from .report.command import write_report

    disable_progress_bars()
    print(f"The report: {_or_exit(lambda: write_report(options.runs, options.out))}")


def convert(arguments: list[str]) -> None:
    """`selfmm convert`: an official or MMSA `.pth` becomes a model folder."""
    parser = argparse.ArgumentParser(prog=f"{PROG} convert", description=_described(convert))
    parser.add_argument("checkpoint", help="the .pth file; only tensors are read from it")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--text_encoder", help="repository or folder of the text encoder, for configuration and tokenizer"
    )
    parser.add_argument("--label_range", type=float, default=3.0, help="3 for MOSI and MOSEI, 1 for SIMS")
    options = parser.parse_args(arguments)

    def prepare():
        from transformers import AutoTokenizer

        from .feature_extraction_selfmm import SelfMMFeatureExtractor
        from .loading_selfmm import load
        from .official_checkpoint import load_official_checkpoint
        from .processing_selfmm import SelfMMProcessor

        if Path(options.out).exists():
            raise ValueError(f"{options.out} exists already; name a new folder.")
        model = load_official_checkpoint(options.checkpoint, options.text_encoder, label_range=options.label_range)
        widths = {name: model.config.sequence_options(name)["input_dim"] for name in model.config.sequences}
        given = {name: {"kind": "features", "dim": width} for name, width in widths.items()}
        tokenizer = load(AutoTokenizer.from_pretrained, options.text_encoder) if options.text_encoder else None
        return model, SelfMMProcessor(SelfMMFeatureExtractor(**{"audio": None, "vision": None, **given}), tokenizer)

    def save():
        from .model_folder import save_loadable
        from .whole_files import whole

        model, processor = prepare()
        with whole(Path(options.out)) as part:
            save_loadable(part, model, processor)
        return model

    model = _or_exit(save)
    print(f"{options.out}: {model.num_parameters():,} parameters; load it with AutoModel and trust_remote_code=True.")


def export(arguments: list[str]) -> None:
    """`selfmm export`: a model becomes one ONNX file, which is run and compared with it."""
    parser = argparse.ArgumentParser(prog=f"{PROG} export", description=_described(export))
    parser.add_argument("model", help="folder, or repository on the Hub")
    parser.add_argument("--revision", help="of the repository, to pin it")
    parser.add_argument("--out", required=True, metavar="FILE.onnx", help="file to write; an earlier one is replaced")
    parser.add_argument(
        "--int8", action="store_true", help="weights of the text encoder in 8 bits: smaller, less exact"
    )
    options = parser.parse_args(arguments)
    for package in ("onnx", "onnxruntime"):
        _need(package, "onnx")

    def told():
        from .onnx_export import export as write

        for line in write(options):
            print(line, flush=True)

    _or_exit(told)


def robustness(arguments: list[str]) -> None:
    """`selfmm robustness`: one finished model on the test split, with data missing; a report, never a selection."""
    parser = argparse.ArgumentParser(prog=f"{PROG} robustness", description=robustness.__doc__)
    parser.add_argument("model", help="folder of a run or a model, or repository on the Hub")
    parser.add_argument("--out", required=True, help="folder to write: JSON, Parquet, Markdown, PNG and SVG")
    parser.add_argument("--dataset", help="demo, mosi, mosei, sims, simsv2 or custom; that of the run by default")
    parser.add_argument("--data", help="feature file, folder, or repository on the Hub; that of the run by default")
    parser.add_argument("--data_config", help="aligned or unaligned, where there are both")
    parser.add_argument("--data_revision", help="of the data set's repository")
    parser.add_argument("--revision", help="of the model's repository, to pin it")
    parser.add_argument("--beside", nargs="*", default=[], metavar="OUT", help="earlier reports, for the same picture")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit(f"{PROG}: error: the curves need matplotlib: pip install 'selfmm-hf[plots]'.")

    def report():
        from .robustness.command import robustness as measure

        return measure(options)

    print(_or_exit(report))
    print(f"Everything is in {options.out}")


def push(arguments: list[str]) -> None:
    """`selfmm push`: a folder becomes a repository on the Hub, by one commit."""
    parser = argparse.ArgumentParser(prog=f"{PROG} push", description=_described(push))
    parser.add_argument("folder", help="of a run, a model, a data set of `selfmm data prepare`, a metric or a Space")
    parser.add_argument("repository", help="NAME/REPOSITORY; a new one is private")
    parser.add_argument("--public", action="store_true", help="make it public once everything is there")
    parser.add_argument("--revision", help="branch; main by default")
    parser.add_argument("--message", help="of the commit")
    parser.add_argument("--model", help="of a Space: the repository of the model that it shows")
    parser.add_argument("--dry_run", action="store_true", help="list what would be sent, with sizes, and send nothing")
    options = vars(parser.parse_args(arguments))
    from . import hub

    if options.pop("dry_run"):
        plan = _or_exit(lambda: hub.plan(options["folder"], options["repository"], model=options["model"]))
        print(plan)
        _print_left(plan)
    else:
        _print_pushed(_or_exit(lambda: hub.push(**options)))


def _described(command: Callable) -> str:
    """What the docstring of a command says after its name."""
    text = (command.__doc__ or "").partition(": ")[2].replace("`", "")
    return text[:1].upper() + text[1:]


@contextmanager
def _trained(arguments: list[str]):
    """A run that has been trained and told of; then it is pushed, if so wanted. Its folder is its own until then."""
    with ExitStack() as alone:

        def prepare():
            from .options import read_options
            from .training import Run

            run = Run(*read_options(arguments))
            alone.enter_context(run.alone())
            return run

        run = _or_exit(prepare)
        # Full disks and the like end in their message; anything else that goes wrong in training, in a traceback.
        results = _or_exit(run.train, (OSError,), status=1)
        _print_results(results, run)
        yield run
        _print_pushed(_or_exit(run.publish))


def _need(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise SystemExit(f"{PROG}: error: this needs {package}: pip install 'selfmm-hf[{extra}]'.")


def _or_exit(do: Callable, bad: tuple[type[Exception], ...] = (ValueError, OSError), status: int = 2):
    """Bad input ends in its message; anything wrong with the program itself keeps its traceback."""
    try:
        return do()
    except bad as error:
        if problem := unwritten(error):
            raise SystemExit(f"{PROG}: error: {problem}.") from None
        if not isinstance(error, FirstProcessFailed):  # which the first process has said
            _complain(error)
        raise SystemExit(status) from None


def _complain(error: Exception) -> None:
    print(f"{PROG}: error: {printable(' '.join(str(error).split()))}", file=sys.stderr)


def _print_results(results: dict, run) -> None:
    from .metrics import FEW_CLIPS

    for split in ("validation", "test") if results else ():
        metrics = {k.removeprefix(f"{split}_"): v for k, v in results.items() if k.startswith(f"{split}_")}
        shown = {name: "undefined" if value != value else f"{value:.4f}" for name, value in metrics.items()}
        clips = len(run.splits[split])
        few = f"  ({clips} clips: too few)" if clips < FEW_CLIPS else ""
        print(f"{split:>10}  " + "  ".join(f"{name} {value}" for name, value in shown.items()) + few)
    if results:
        print(f"epoch {results['best_epoch']} of {results['epochs']}; everything is in {run.folder}")


def _print_pushed(pushed) -> None:
    if pushed is not None:
        print(f"{pushed.url} ({'private' if pushed.private else 'public'}), commit {pushed.commit}")
        print(*filter(None, (pushed.note, pushed.code)), sep="\n")
        _print_left(pushed)


def _print_left(sent) -> None:
    """What was not sent of a folder, and of its files."""
    if sent.scrubbed:
        print("Sent without the local paths and logins in them:", *(ascii(name) for name in sent.scrubbed))
    if sent.left:
        print("Not sent, since they do not belong to such a repository:", *(ascii(name) for name in sent.left))
