"""Draws the pictures of README and guide: the strip from a finished run, the two curves from plain values.

``python -m tools.pictures --run workspace/runs/demo --faces workspace/faces/faces`` writes ``docs/strip.png`` and
``docs/curves.png``; without a run only the curves.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.ticker import MaxNLocator

from helpers import plots
from helpers.data.store import FaceStore
from helpers.evaluation.predictions import read_predictions
from helpers.evaluation.verdict import verdict
from helpers.runs.run import Run
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent

_LOOK = rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "axes.grid": True,
                    "grid.alpha": 0.25, "axes.titlesize": 10, "axes.titleweight": "bold"})  # fmt: skip

_COLOURS = {"pass": "#228833", "fail": "#c02020"}


@_LOOK
def strip(run: Run, store: FaceStore) -> plots.Picture:
    """Test faces with what the run says of them, how it was learned, and how it is judged, side by side.

    The faces are a fixed draw from each dataset, not a choice; a wrong emotion or gender stands in red.
    """
    table = read_predictions(run).query("split == 'test'").set_index("row")
    figure = plots.Picture(figsize=(12.5, 3.1), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(5.4, 3.2, 3.9))
    rows = store.examples("test", 3)
    axes = left.subplots(2, -(-len(rows) // 2)).ravel()
    for axis, row in zip(axes, rows, strict=False):
        axis.imshow(store.image(row), interpolation="nearest")
        axis.axis("off")
        said, wrong = _said(table.loc[row])
        axis.set_title(said, fontsize=8, fontweight="normal", color=_COLOURS["fail"] if wrong else "black")
    left.suptitle("What it says of faces it has never seen", fontsize=10)
    history = pd.DataFrame(run.history)
    (axis,) = np.atleast_1d(middle.subplots())
    for name, colour, words in (("train", plots.TRAIN, "training"), ("val", plots.VALIDATION, "validation")):
        axis.plot(history["epoch"], 100 * history[f"{name}_emotion_accuracy"], "o-", ms=3, color=colour, label=words)
    axis.set(title="Emotion, % right", xlabel="epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, fontsize=8)
    (axis,) = np.atleast_1d(right.subplots())
    axis.set(title="The verdict, with 95 % intervals", xlim=(0, 1), ylim=(-0.5, 5.5))
    axis.axis("off")
    for place, line in enumerate(verdict(run.read_metrics(), run.manifest["drawn"], run.weights)):
        axis.text(0, 5 - place + 0.16, f"{line.title}, {line.wanted}", fontsize=8)
        axis.text(0, 5 - place - 0.22, line.found, fontsize=7, color="0.35")
        axis.text(1, 5 - place, line.status, fontsize=8, ha="right", color=_COLOURS.get(line.status, "0.35"))
    drawn = "Drawn faces, which prove the line and nothing about real ones. " if run.manifest["drawn"] else ""
    figure.text(0.995, 0.0, f"{drawn}Red: a wrong answer.", ha="right", va="bottom", fontsize=7, color="0.35")
    return figure


def _said(row: pd.Series) -> tuple[str, bool]:
    """What was answered about a face, and whether a class is wrong."""
    words, wrong = [], False
    for name, task in TASKS.items():
        answer = row[f"{name}_answer"]
        words.append(task.classes[int(answer)] if task.classes else f"{answer:.0f}")
        wrong |= bool(task.classes) and row[name] >= 0 and row[name] != answer
    return f"{words[0]}\n{', '.join(words[1:])}", wrong  # such as sad, 34, male


@_LOOK
def curves() -> plots.Picture:
    """A good and a bad course of training side by side, from plain made-up values."""
    epochs = np.arange(1, 31)
    rise = 1 - np.exp(-epochs / 7)
    fall = np.clip(epochs - 9, 0, None) * 0.45
    sides = {
        "Good: validation follows": (40 + 36 * rise, 38 + 34 * rise),
        "Bad: learned by heart": (40 + 56 * rise, 38 + 26 * rise - fall),
    }
    figure = plots.Picture(figsize=(8, 2.9), layout="constrained")
    for axis, (title, (train, validation)) in zip(figure.subplots(1, 2, sharey=True), sides.items(), strict=True):
        axis.plot(epochs, train, color=plots.TRAIN, label="training faces")
        axis.plot(epochs, validation, color=plots.VALIDATION, label="validation")
        best = int(epochs[validation.argmax()])
        axis.axvline(best, color="grey", linewidth=0.8, linestyle="--")
        gap = f"gap at the end: {train[-1] - validation[-1]:.0f} points"
        axis.annotate(gap, (epochs[-1], validation[-1] - 4), ha="right", va="top", fontsize=8)
        axis.set(title=title, xlabel="epoch (dashed: the one that is kept)", ylim=(40, 100))
    figure.axes[0].set_ylabel("emotion, % right")
    figure.axes[1].legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Write the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="folder of an evaluated and exported run")
    parser.add_argument("--faces", type=Path, help="folder of the packed faces that it was trained on")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    args = parser.parse_args(arguments)
    made = {"curves": curves()}
    if args.run:
        made["strip"] = strip(Run.open(args.run), FaceStore.open(args.faces))
    for name, figure in made.items():
        path = args.out / f"{name}.png"
        path.write_bytes(figure.png(dpi=110))
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
