"""What a finished run looks like: its exported model's answers, and one card of all that it reached."""

from pathlib import Path

import numpy as np

from helpers import plots
from helpers.config import CRITERIA
from helpers.data.store import FaceStore
from helpers.evaluation.figures import score_cards
from helpers.evaluation.verdict import verdict
from helpers.export.predictor import Face, Predictor
from helpers.plots import Picture
from helpers.runs.run import Run
from helpers.tasks import TASKS, Task

CLOSE = 5.0
"""Years within which an age counts as right in a picture; papers report their share as cs5."""


def answered_faces(run: Run, store: FaceStore, count: int = 8) -> Picture:
    """Different validation faces, as many of each dataset, with what the exported model says of them.

    Beside each answer stands its probability, whether it is right where that is known, and else what is true.
    """
    rows = store.examples("validation", -(-count // len(store.manifest["sources"])))
    rows = rows[np.unique(store.faces["sha"].to_numpy()[rows], return_index=True)[1]][:count]
    labels = {name: task.read(store.faces.iloc[rows]) for name, task in TASKS.items()}
    images = [store.image(row) for row in rows]
    captions, mistaken = list[str](), list[bool]()
    for at, answer in enumerate(Predictor(run.folder / "model.onnx", threshold=0.0).predict(images)):
        said = [_judged(task, answer.faces[0], labels[name][at : at + 1]) for name, task in TASKS.items()]
        captions.append("\n".join(text for text, _ in said))
        mistaken.append(not all(right for _, right in said))
    return plots.faces(images, captions, 4, f"{run.title}: mistakes in red", mistaken)


def _judged(task: Task, face: Face, label: np.ndarray) -> tuple[str, bool]:
    """An answer in words, and whether it is right or nothing is known against it; ``label`` is of one row."""
    said = getattr(face, task.name)
    if task.classes:
        text = f"{said} {getattr(face, f'{task.name}_probabilities')[said]:.0%}"
        score = task.scores(label, np.array([task.classes.index(said)]))[0]
    else:
        text, score = f"{said:.0f}{task.unit}", task.scores(label, np.array([said]))[0] <= CLOSE
    if not task.known(label)[0]:
        return text, True
    return (f"✓ {text}", True) if score else (f"✗ {text}, is {task.describe(label[0])}", False)


def finish_card(run: Run, bundle: Path) -> Picture:
    """The run's test scores, and what was exported: its speed, its size, what it took to train, and where it lies."""
    metrics, results = run.read_metrics(), run.read_results()
    findings = dict(zip(CRITERIA, verdict(metrics, run.manifest["drawn"], run.weights), strict=True))
    exported, best = metrics["export"], f"best: epoch {results['best']['epoch']}"
    megabytes = [f"{size / 1e6:.1f} MB" for size in (exported["bytes"], bundle.stat().st_size)]
    speed, equal = findings["latency"], f"equal to PyTorch: {findings['onnx'].status}"
    learned = f"{results['epochs']} epochs, {results['training_faces']} faces"
    milliseconds, minutes = f"{exported['milliseconds']['value']:.1f} ms", f"{results['minutes']:.0f} minutes"
    cards = [
        *score_cards(run, metrics.get("evaluation", {})),
        ("time for one face", milliseconds, "p95, one CPU thread", f"{speed.wanted}: {speed.status}", speed.status),
        ("size of the model", megabytes[0], f"{bundle.name} has {megabytes[1]}", equal, findings["onnx"].status),
        ("training", minutes, learned, best, ""),
    ]
    return plots.scores(cards, f"{run.title} is finished\n{bundle}")
