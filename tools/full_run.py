"""A whole run on a GPU that is lent in pieces of minutes: the same command again and again until it says it is done.

    python -m tools.full_run --faces FOLDER --out OUT [--minutes 8] [--changes '{"weights": "none"}']

Each call trains for about the minutes at most. The one that ends the training also measures on all splits, exports,
and times the model, and the first one tries out some steps before it: both take some minutes more. The run lies in
``OUT/run``; bring OUT back and carry it over again where the machine does not keep it. A finished OUT holds the
history, the log, ``metrics.json``, every prediction, the figures and ``model.onnx``. Exit status: 0 done, 3 call again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tqdm.auto import tqdm

from helpers.config import RECIPES, InputError, TrainConfig, read_json
from helpers.data.store import FaceStore
from helpers.evaluation.report import evaluate, summary
from helpers.evaluation.verdict import verdict, verdict_table
from helpers.export.onnx_export import export
from helpers.session.progress import bar
from helpers.session.runtime import inspect_machine, machine_table
from helpers.training.estimate import probe
from helpers.training.fit import fit
from helpers.training.run import Run

AGAIN = 3
"""Exit status of a call after which there is more to do."""


def work(faces: Path, out: Path, minutes: float, recipe: str, changes: dict) -> bool:
    """Train for the minutes, or finish; returns whether all is done."""
    folder, store = out / "run", FaceStore.open(faces)
    print(machine_table(inspect_machine()).to_string(header=False))
    config = Run.config_in(folder, recipe, **changes, max_minutes=minutes)
    if not Run.exists(folder):
        print(probe(config, store).describe())
    run = fit(config, store, folder, on_log=tqdm.write)
    results = folder / "results.json"
    if not results.exists() or not read_json(results, "what training reached")["finished"]:
        print(f"{len(run.history)} of {config.epochs} epochs; call again.")
        return False
    metrics = evaluate(run, store, progress=bar)
    print(summary(metrics).to_string(index=False))
    export(run, store)
    print(verdict_table(verdict(run.read_metrics(), run.manifest["drawn"])).to_string(index=False))
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run one piece; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder of a packed store")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that comes of it")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training in this call (default: %(default)s)")
    parser.add_argument("--recipe", choices=RECIPES, default="production")
    parser.add_argument("--changes", type=json.loads, default={}, help='such as {"weights": "none", "epochs": 60}')
    options = parser.parse_args(arguments)
    try:
        if not isinstance(options.changes, dict) or "max_minutes" in options.changes:
            raise InputError("--changes takes a JSON object of training fields, without max_minutes: see --minutes.")
        TrainConfig.from_dict(options.changes)
        done = work(options.faces, options.out, options.minutes, options.recipe, options.changes)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if done else AGAIN


if __name__ == "__main__":
    sys.exit(main())
