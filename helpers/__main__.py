"""The notebooks' steps from a command line: ``python -m helpers <step>``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from tqdm.auto import tqdm

from helpers.config import RECIPES, SAMPLE_FACES, InputError, TrainConfig, read_json, recipe
from helpers.session.progress import bar
from helpers.session.workspace import Workspace, open_workspace


def check(args: argparse.Namespace, workspace: Workspace) -> None:
    """01: show what this machine is and what to know before starting."""
    from helpers.session.runtime import advice, inspect_machine, machine_table, suggest_recipe

    machine = inspect_machine(workspace.folder)
    print(machine_table(machine).to_string(header=False), *advice(machine), workspace.note, sep="\n")
    print(f"Recipe to start with: {suggest_recipe(machine)}.")


def download(args: argparse.Namespace, workspace: Workspace) -> None:
    """02: download the datasets (or draw sample faces), audit them and pack the store."""
    from helpers.data.sources import fetch_all, save_paths

    print(f"{'Drawing sample faces' if args.source == 'sample' else 'Downloading from Kaggle'} ...")
    folders, problems = fetch_all(
        args.source, args.datasets, workspace.folder, drawn=args.sample_faces, progress=bar("Drawing faces")
    )
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    save_paths(workspace.paths_file, folders)
    _describe(_faces(args, workspace))


def preview(args: argparse.Namespace, workspace: Workspace) -> None:
    """03: draw the class balance and the augmented faces as pictures."""
    from helpers import plots
    from helpers.data.augment import preview_techniques

    store = _faces(args, workspace)
    images, titles = preview_techniques([store.image(row) for row in store.fixed_sample("train", 2)])
    figures = {
        "class_balance": plots.class_balance(store.manifest["audit"]),
        "augmentation": plots.faces(images, titles, columns=7, title="Each technique on the same faces"),
    }
    plots.save_all(figures, workspace.folder / "preview")
    print(f"Pictures are in {workspace.folder / 'preview'}.")


def train(args: argparse.Namespace, workspace: Workspace) -> None:
    """04: train, or go on with a run where it stopped."""
    from helpers.training.fit import describe, fit

    given = {knob.name: getattr(args, knob.name) for knob in fields(TrainConfig) if hasattr(args, knob.name)}
    if args.config:
        given = read_json(Path(args.config), "an object of training fields") | given
    config = recipe(args.recipe, **given)
    store = _faces(args, workspace)
    folder = _run_folder(args, workspace)
    run = fit(
        config, store, folder, on_step=bar("Training"), on_epoch=lambda run: tqdm.write(describe(run.history[-1]))
    )
    if not run.history:
        print(f"The run {run.folder} has no complete epoch yet; run the same command again to go on.")
        return
    given = f"--run {args.run} --faces {args.faces}" + (f" --save_dir {args.save_dir}" if args.save_dir else "")
    print(f"The run is in {run.folder}; next: python -m helpers evaluate {given}")


def evaluate(args: argparse.Namespace, workspace: Workspace) -> None:
    """05: measure a run on every split, the test split included."""
    from helpers.evaluation.report import evaluate as measure
    from helpers.evaluation.report import summary
    from helpers.training.run import Run

    run = Run.open(_run_folder(args, workspace))
    metrics = measure(run, _faces(args, workspace), progress=bar)
    print(summary(metrics).to_string(index=False))
    print(f"Figures are in {run.folder / 'figures'}.")


def export(args: argparse.Namespace, workspace: Workspace) -> None:
    """06: export to ONNX, prove it equal, time it, and give the verdict."""
    from helpers.evaluation.verdict import verdict, verdict_table
    from helpers.export.onnx_export import export as write_onnx
    from helpers.training.run import Run

    run = Run.open(_run_folder(args, workspace))
    result = write_onnx(run, _faces(args, workspace))
    print(verdict_table(verdict(run.read_metrics(), run.manifest["drawn"])).to_string(index=False))
    print(f"{run.folder / 'model.onnx'} has {result['bytes'] / 1e6:.1f} MB.")


def _faces(args: argparse.Namespace, workspace: Workspace):
    """The store to work on: packed from the paths file where one is given or just made, else opened as it is."""
    from helpers.data.sources import load_paths
    from helpers.data.store import FaceStore, pack

    folder = workspace.faces(args.faces)
    paths = Path(args.data_paths) if args.data_paths else workspace.paths_file
    if args.data_paths or (paths.exists() and args.step == "download"):
        return pack(load_paths(paths), folder, progress=lambda name: bar(f"Reading {name}"))
    return FaceStore.open(folder)


def _run_folder(args: argparse.Namespace, workspace: Workspace) -> Path:
    return Path(args.save_dir) / args.run if args.save_dir else workspace.run(args.run)


def _describe(store) -> None:
    from helpers.data.audit import audit_table

    print(audit_table(store.manifest["audit"]).to_string())
    for name, found in store.manifest["audit"].items():
        for file, reason in found["rejected_files"]:
            print(f"rejected from {name}: {file}: {reason}")
    print(f"{len(store)} faces are packed in {store.folder}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    parser.set_defaults(data_paths=None, faces="faces", run="run-1", save_dir=None)
    steps = parser.add_subparsers(dest="step", required=True, metavar="step")
    for step in (check, download, preview, train, evaluate, export):
        sub = steps.add_parser(step.__name__, help=step.__doc__, description=step.__doc__)
        sub.set_defaults(work=step)
        if step is check:
            continue
        sub.add_argument("--faces", help="name of the packed store (default: %(default)s)", default="faces")
        if step is download:
            sub.add_argument("--source", choices=("kaggle", "sample"), default="kaggle", help="sample: drawn faces")
            sub.add_argument("--datasets", nargs="+", help="which datasets (default: all)")
            sub.add_argument(
                "--sample_faces", type=int, default=SAMPLE_FACES, help="how many are drawn (default: %(default)s)"
            )
            continue
        sub.add_argument("--data_paths", help="JSON file {dataset: folder}; packs the store when it does not match")
        if step is preview:
            continue
        sub.add_argument("--run", help="name of the run (default: %(default)s)", default="run-1")
        sub.add_argument("--save_dir", help="folder that holds the runs (default: <workspace>/runs)")
        if step is train:
            sub.add_argument("--recipe", choices=RECIPES, default="seed", help="where the knobs start")
            sub.add_argument("--config", help="JSON file {knob: value}; knobs given here on the line win over it")
            for knob in fields(TrainConfig):
                # Without a default a knob that is not given is absent, so that the recipe's value stands.
                text = f"{knob.metadata['label']}: {knob.metadata['help']}".replace("%", "%%")
                sub.add_argument(f"--{knob.name}", type=type(knob.default), default=argparse.SUPPRESS, help=text)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one step; returns the exit status: 0, or 2 for an input that cannot be used."""
    args = _parser().parse_args(arguments)
    try:
        args.work(args, open_workspace(use_drive=False))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
