"""The notebooks' steps from a command line: ``python -m helpers <step>``."""

import argparse
import difflib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import Field, asdict, fields, replace
from pathlib import Path
from threading import Timer
from traceback import walk_stack

INTERRUPTED = "interrupted: what is complete is kept, nothing is left half-written; run the same command again to go on"

try:
    from tqdm.auto import tqdm

    from helpers.config import RECIPES, SAMPLE_FACES, PackConfig, TrainConfig, decide
    from helpers.files import InputError, read_json, to_json, user_path, write_file
    from helpers.session.progress import bar
    from helpers.session.runtime import advice, fitted_to, inspect_machine, machine_table
    from helpers.session.workspace import Workspace, checked_name, open_workspace
except KeyboardInterrupt:  # while the libraries are loaded, which takes a second
    print(INTERRUPTED, file=sys.stderr)
    os._exit(130)


def check(args: argparse.Namespace, workspace: Workspace) -> None:
    """01: show what this machine is and what to know before starting."""
    machine = inspect_machine(workspace.folder)
    print(machine_table(machine).to_string(header=False), *advice(machine), workspace.note, sep="\n")
    config = decide("auto", {}, fitted=fitted_to(machine))
    print(f"To start with: {config.model.backbone}, {config.model.img_size} px, batch_size {config.data.batch_size}.")


def download(args: argparse.Namespace, workspace: Workspace) -> None:
    """02: download the datasets (or draw sample faces), audit them and pack the store."""
    from helpers.data.audit import audit_table, rejects_table
    from helpers.data.download import fetch_all
    from helpers.data.sources import save_paths

    print(f"{'Drawing sample faces' if args.source == 'sample' else 'Downloading from Kaggle'} ...")
    folders, problems = fetch_all(
        args.source, args.datasets, workspace.folder, own=args.own_faces, knobs=PackConfig(**_given(args, PACKING)),
        drawn=args.sample_faces, progress=bar("Drawing faces"),
    )  # fmt: skip
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    save_paths(workspace.paths_file, folders)
    store = _faces(args, workspace)
    audit = store.manifest["audit"]
    print(audit_table(audit).to_string())
    if len(rejects := rejects_table(audit)):
        print("\nLeft out, by reason:\n" + rejects.to_string(index=False))
    print(f"\n{len(store)} faces are packed in {store.folder}; its manifest.json lists all that was left out.")


def preview(args: argparse.Namespace, workspace: Workspace) -> None:
    """03: draw the class balance and the augmented faces as pictures."""
    from helpers import plots
    from helpers.data.augment import GROUPS, TECHNIQUES, preview_techniques

    store = _faces(args, workspace)
    faces = [store.image(row) for row in store.examples("train", 1)]
    figures = {"class_balance": plots.class_balance(store.manifest["audit"])}
    for group in GROUPS:
        names = [name for name, technique in TECHNIQUES.items() if technique.group == group]
        images, captions, marks = preview_techniques(faces, names)
        figures[f"augmentation_{group}"] = plots.faces(images, captions, len(names) + 1, group, marks)
    plots.save_all(figures, workspace.folder / "preview")
    print(f"Pictures are in {workspace.folder / 'preview'}.")


def train(args: argparse.Namespace, workspace: Workspace) -> None:
    """04: train, or go on with a run where it stopped."""
    from helpers.runs.run import Run
    from helpers.runs.tensorboard import log_to_tensorboard
    from helpers.training.loop import fit

    folder = _run_folder(args, workspace)
    config, store = _train_config(args, folder), _faces(args, workspace)
    # Under accelerate launch the processes would each take a GPU for it, and a run that goes on has its history.
    if "LOCAL_RANK" not in os.environ and not Run.exists(folder):
        from helpers.training.estimate import estimate

        print(estimate(config, store, folder, bar("Trying out")))
    hooks = {"on_open": log_to_tensorboard, "on_epoch": log_to_tensorboard} if args.tensorboard else {}
    run = fit(config, store, folder, on_step=bar("Training"), on_log=tqdm.write, **hooks)
    if run.writes and not run.history:
        print(f"The run {run.folder} has no complete epoch yet; run the same command again to go on.")
    elif run.writes:
        given = f"--run {args.run} --faces {args.faces}" + (f" --save_dir {args.save_dir}" if args.save_dir else "")
        print(f"The run is in {run.folder}; next: python -m helpers evaluate {given}")


def evaluate(args: argparse.Namespace, workspace: Workspace) -> None:
    """05: measure a run on every split, the test split included."""
    from helpers import plots
    from helpers.evaluation.card import write_card
    from helpers.evaluation.figures import all_figures, face_figures
    from helpers.evaluation.measures import measure, summary
    from helpers.evaluation.predictions import write_predictions
    from helpers.runs.run import Run

    run, store = Run.open(_run_folder(args, workspace)), _faces(args, workspace)
    table = write_predictions(run, store, progress=bar)
    metrics = measure(table)
    run.write_metrics("evaluation", metrics)
    plots.save_all(all_figures(run, metrics, table) | face_figures(run, store, table), run.folder / "figures")
    print(summary(metrics).to_string(index=False))
    print(f"Figures are in {run.folder / 'figures'}; {write_card(run)} tells what they mean.")


def labels(args: argparse.Namespace, workspace: Workspace) -> None:
    """05: find labels that look wrong, by networks that were not trained on the faces; takes three trainings."""
    from helpers import plots
    from helpers.evaluation.labels import answers_of_others, suspicious_labels, write_labels
    from helpers.runs.run import Run

    run, store = Run.open(_run_folder(args, workspace)), _faces(args, workspace)
    run.check_store(store)
    folder, path = run.folder / "labels", run.folder / "suspicious_labels.csv"
    answers = answers_of_others(run.config, store, folder, on_step=bar("Training"), on_log=tqdm.write)
    found = suspicious_labels(store, answers)
    write_labels(path, found)
    first = found.head(96)
    captions = [f"{row.label}?\nlooks {row.answered}" for row in first.itertuples()]
    picture = plots.faces([store.image(row) for row in first["row"]], captions, 12, "Labels that look wrong")
    plots.save_all({"suspicious_labels": picture}, run.folder / "figures")
    print(f"{len(found)} labels look wrong; look at {run.folder / 'figures' / 'suspicious_labels.png'}, take out of")
    print(f"{path} what is right, and pack again with --leave_out {path}")


def export(args: argparse.Namespace, workspace: Workspace) -> None:
    """06: export to ONNX, prove it equal, time it, and give the verdict."""
    from helpers.evaluation.verdict import verdict, verdict_table
    from helpers.export.bundle import write_bundle
    from helpers.export.check import check_graph
    from helpers.export.graph import export_graph
    from helpers.export.latency import time_graph
    from helpers.runs.run import Run

    run, store = Run.open(_run_folder(args, workspace)), _faces(args, workspace)
    size = export_graph(run).stat().st_size
    run.write_metrics("export", check_graph(run, store) | time_graph(run, store) | {"bytes": size})
    print(verdict_table(verdict(run.read_metrics(), run.manifest["drawn"], run.weights)).to_string(index=False))
    print(f"The model has {size / 1e6:.1f} MB; {write_bundle(run)} holds it with all that its use needs.")
    if args.variants:
        from helpers.export.variants import compare_variants

        print(compare_variants(run, store, run.folder, bar).round(4).to_string(index=False))


def predict(args: argparse.Namespace, workspace: Workspace) -> int:
    """07: read faces in pictures, folders or videos, by a run's export or by the model that comes with this project."""
    from helpers.export.predictor import SHIPPED_MODEL, Predictor, draw, read_picture

    to = user_path(args.to) if args.to else None if args.json else workspace.folder / "predicted"
    predictor = Predictor(_model(args, workspace, SHIPPED_MODEL), None if args.no_detector else "built-in")
    failed = 0
    answers = _of_videos(predictor, args.pictures, to) if args.video else predictor.stream(args.pictures)
    for number, answer in enumerate(answers, start=1):
        failed += bool(answer.error)
        print(to_json(asdict(answer)).rstrip() if args.json else answer)
        if to and answer.faces and not args.video:
            content = io.BytesIO()
            draw(read_picture(answer.source), answer.faces).save(content, "JPEG", quality=90)
            write_file(_drawn(to, number, answer.source, ".jpg"), content.getvalue())
    if to and to.exists():
        print(f"What was drawn lies in {to}.", file=sys.stderr)
    return 1 if failed else 0


def _drawn(to: Path, number: int, source: str, suffix: str) -> Path:
    """Where a picture or video is drawn: its number keeps equal names apart, and a long name has to fit a disk."""
    return to / f"{number:03}_{Path(source).stem[:50]}{suffix}"


def _of_videos(predictor, paths: list[str], to: Path | None) -> Iterator:
    """An answer for each frame of some videos, drawn where there is a folder for it; for one that is bad an error."""
    from helpers.export.predictor import Answer, PredictorError

    for number, path in enumerate(paths, start=1):
        try:
            yield from predictor.read_video(path, _drawn(to, number, path, ".webm") if to else None)
        except PredictorError as error:
            yield Answer(path, error=str(error))


def page(args: argparse.Namespace, workspace: Workspace) -> None:
    """07: write try_it.html, one file that reads a camera or pictures in any browser and asks no server."""
    from helpers.export.page import SHIPPED_CAMERA_MODEL, write_page

    model = _model(args, workspace, SHIPPED_CAMERA_MODEL)
    folder = model.parent if args.run is not None and args.model is None else workspace.folder
    path = write_page(model, folder / "try_it.html")
    print(f"{path} has {path.stat().st_size / 1e6:.1f} MB; open it in a browser.")


def _model(args: argparse.Namespace, workspace: Workspace, shipped: Path) -> Path:
    """The exported file that the line names, or one that comes with this project."""
    if args.model is not None:
        return user_path(args.model)
    return shipped if args.run is None else _run_folder(args, workspace) / "model.onnx"


def runs(args: argparse.Namespace, workspace: Workspace) -> None:
    """All runs side by side, by their best epoch on the validation split."""
    from helpers.runs.compare import runs_table

    table = runs_table(*([user_path(args.save_dir)] if args.save_dir else workspace.run_folders()))
    print(table.to_string(index=False) if len(table) else "There is no run with a complete epoch yet.")


def _train_config(args: argparse.Namespace, folder: Path) -> TrainConfig:
    """The recipe with what the config file and the line change; a run that is there goes on with what it has."""
    from helpers.runs.run import Run

    given = _given(args, TrainConfig.knobs())
    if args.config:
        given = read_json(user_path(args.config), "an object of training fields") | given
    return decide(args.recipe, given, fitted=fitted_to(inspect_machine()), **Run.configs(folder, given))


PACKING = {knob.name: knob for knob in fields(PackConfig)}


def _given(args: argparse.Namespace, knobs: dict[str, Field]) -> dict:
    """Those of some knobs that stand on the line."""
    return {name: getattr(args, name) for name in knobs if hasattr(args, name)}


def _faces(args: argparse.Namespace, workspace: Workspace):
    """The store to work on: packed from the paths file where one is given or just made, else opened as it is."""
    from helpers.data.sources import load_paths
    from helpers.data.store import FaceStore, pack, packed_knobs

    folder, given = workspace.faces(args.faces), _given(args, PACKING)
    if args.data_paths and "LOCAL_RANK" in os.environ:
        raise InputError(
            "Several processes cannot pack at once; run python -m helpers preview with the same --data_paths first, "
            "then this command without it."
        )
    if args.data_paths or args.step == "download":
        paths = user_path(args.data_paths) if args.data_paths else workspace.paths_file
        if not paths.exists() and (workspace.folder / paths).exists():
            paths = workspace.folder / paths  # where the download step writes it
        knobs = replace(packed_knobs(folder), **given)
        return pack(load_paths(paths), folder, knobs, progress=lambda name: bar(f"Reading {name}"))
    if given:
        raise InputError(f"The field {next(iter(given))!r} decides how datasets are packed; give --data_paths with it.")
    return FaceStore.open(folder)


def _run_folder(args: argparse.Namespace, workspace: Workspace) -> Path:
    return user_path(args.save_dir) / checked_name(args.run, "run") if args.save_dir else workspace.run(args.run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    parser.set_defaults(data_paths=None, faces="faces", run="run-1", save_dir=None)
    steps = parser.add_subparsers(dest="step", required=True, metavar="step")
    for step in (check, download, preview, train, runs, evaluate, labels, export, predict, page):
        sub = steps.add_parser(step.__name__, help=step.__doc__, description=step.__doc__)
        sub.set_defaults(work=step)
        add = sub.add_argument
        if step in (train, runs, evaluate, labels, export, predict, page):
            add("--save_dir", help="folder that holds the runs (default: <workspace>/runs)")
        if step in (predict, page):
            add("--run", default=None, help="name of an exported run (default: the model that comes with this project)")
            add("--model", help="ONNX file that notebook 06 has written, instead")
        if step is predict:
            add("pictures", nargs="+", help="pictures, or folders of pictures; with --video videos")
            add(
                "--json",
                action="store_true",
                help="print a JSON object for each picture or frame, and draw with --to alone",
            )
            add("--video", action="store_true", help="what is given are videos")
            add("--no_detector", action="store_true", help="each picture is one face")
            add("--to", help="folder for what is drawn (default: <workspace>/predicted)")
        if step is export:
            add("--variants", action="store_true", help="also write smaller and faster files, and measure them")
        if step in (train, evaluate, labels, export):
            add("--run", help="name of the run (default: %(default)s)", default="run-1")
        if step in (check, runs, predict, page):
            continue
        add("--faces", help="name of the packed store (default: %(default)s)", default="faces")
        if step is download:
            add("--source", choices=("kaggle", "sample"), default="kaggle", help="sample: drawn faces")
            add("--datasets", nargs="*", help="which datasets (default: all)")
            add("--own_faces", default="", help="CSV of your own faces: file, emotion, age, gender, subject, split")
            add("--sample_faces", type=int, default=SAMPLE_FACES, help="how many are drawn (default: %(default)s)")
        else:
            add("--data_paths", help="JSON file {dataset: folder}, here or in the workspace; packs them")
        _add_knobs(sub, PACKING)
        if step is train:
            add("--recipe", choices=("auto", *RECIPES), help="where the knobs start (default: production or the run's)")
            add("--config", help="JSON file {knob: value}; knobs given here on the line win over it")
            add("--tensorboard", action="store_true", help="write <run>/tensorboard too")
            _add_knobs(sub, TrainConfig.knobs())
    return parser


def _add_knobs(parser: argparse.ArgumentParser, knobs: dict[str, Field]) -> None:
    """An option for every knob; without a default, one that is not given is absent, and the recipe's value stands."""
    for name, knob in knobs.items():
        text = f"{knob.metadata['label']}: {knob.metadata['help']}".replace("%", "%%")
        kind = _truth if isinstance(knob.default, bool) else type(knob.default)
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help=text)


def _truth(text: str) -> bool:
    """``true`` or ``false`` as it is written on the line."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _interrupt(number: int, frame) -> None:
    """Ctrl-C; one that comes into an import waits for its end, since libraries break that are imported by half."""
    if any("importlib" in at.f_code.co_filename for at, _ in walk_stack(frame)):
        Timer(0.05, signal.raise_signal, [number]).start()
    else:
        signal.default_int_handler(number, frame)


def main(arguments: list[str] | None = None) -> int:
    """Run one step; returns the exit status.

    It is 0; 1 where a picture could not be read; 2 for an input that cannot be used; 130 after an interrupt.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows ASCII alone must not end the work at a "≥"
            stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        args, unknown = (parser := _parser()).parse_known_args(arguments)
        if unknown:  # the steps have few options besides training's
            near = difflib.get_close_matches(unknown[0].lstrip("-"), TrainConfig.knobs(), n=1)
            hint = f"; did you mean --{near[0]}?" if near else ""
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        status = args.work(args, open_workspace(use_drive=False)) or 0
        sys.stdout.flush()
        return status
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to be written would fail again
        if error.errno == errno.EPIPE:  # whoever reads the answers has enough of them, as head has
            return 0
        said, status = f"error: {error.strerror}; free some and run the same command again", 2
    except ValueError as error:
        if not hasattr(error, "_render_traceback_"):  # ours and the predictor's sentences have it
            raise
        said, status = f"error: {error}", 2
    except BaseException as error:  # a figure that is half drawn, say, may fail of an interrupt in its own way
        if not any(isinstance(one, KeyboardInterrupt) for one in (error, error.__context__)):
            raise
        said, status = INTERRUPTED, 130
    print(said, file=sys.stderr)  # behind the handlers: bars end their line when the error lets go of them
    return status


if __name__ == "__main__":
    if (status := main()) == 130:
        sys.stdout.flush()
        os._exit(status)  # sys.exit waits for threads, and ends by the signal itself where it came into an import
    sys.exit(status)
