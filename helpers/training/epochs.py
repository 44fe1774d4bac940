"""What an epoch is worth: its measures, whether it is the best so far, and what to say of it."""

from __future__ import annotations

import numpy as np

from helpers.config import CRITERIA, TASKS, TrainConfig
from helpers.data.store import FaceStore
from helpers.session.gpu import read_gpus
from helpers.training.learner import Learner
from helpers.training.losses import task_losses, total_loss
from helpers.training.predict import Predictions, predict


def measure_epoch(config: TrainConfig, learner: Learner, store: FaceStore, sets: dict[str, np.ndarray]) -> dict:
    """A line of the history: the mean training losses of the epoch, and fixed rows without augmentation.

    Args:
        learner: whose sums hold the epoch's losses.
        sets: ``train`` and ``val`` -> the rows to measure.
    """
    row = _gpu_state()
    totals, counts = learner.sums.cpu().unbind(1)
    row |= _losses("train", dict(zip(TASKS, zip(totals, counts, strict=True), strict=True)), config)
    for name, rows in sets.items():
        found = predict(learner.measured, store, rows, workers=config.workers)
        if name == "val":
            row |= _losses(name, task_losses(found.outputs, [(1.0, found.targets)], config), config)
        row |= {f"{name}_{measure}": value for measure, value in _point_measures(found).items()}
    return row


def _losses(name: str, losses: dict, config: TrainConfig) -> dict[str, float]:
    row = {f"{name}_loss": float(total_loss(losses, config))}
    return row | {
        f"{name}_{task}_loss": float(total / count.clamp(min=1e-6)) for task, (total, count) in losses.items()
    }


def _gpu_state() -> dict[str, int | str | None]:
    """Temperature of the hottest GPU at the end of an epoch, in °C, and what slows it down."""
    hottest = max(read_gpus(), key=lambda gpu: gpu.temperature or 0, default=None)
    return {
        "gpu_temperature": hottest.temperature if hottest else None,
        "gpu_slowed_by": hottest.slowed_by if hottest else "",
    }


def _point_measures(found: Predictions) -> dict[str, float | None]:
    """Accuracies and age error over the rows that carry each label; None where none does."""
    measures = {}
    for task, name in (("emotion", "emotion_accuracy"), ("gender", "gender_accuracy"), ("age", "age_mae")):
        _, labels, answers = found.known(task)
        value = np.abs(answers - labels) if task == "age" else answers == labels
        measures[name] = float(value.mean()) if len(value) else None
    return measures


def judge(config: TrainConfig, state: dict, row: dict) -> bool:
    """Whether an epoch is the best so far; a tie goes to the lower validation loss.

    Args:
        state: changed in place: ``best`` (measure and negative loss of the best epoch), ``mark`` (the measure that the
            next gain is counted from) and ``stale`` (epochs without a gain of ``min_delta``).
        row: the epoch's measures.
    """
    value = row[f"val_{config.select_by}"]
    score = [value if config.select_by.endswith("accuracy") else -value, -row["val_loss"]]
    state["stale"] = 0 if score[0] > state["mark"] + config.min_delta else state["stale"] + 1
    if state["stale"] == 0:
        state["mark"] = score[0]
    best = state["best"] is None or score > state["best"]
    if best:
        state["best"] = score
    return best


def gap(row: dict) -> float | None:
    """Emotion accuracy on the fixed training rows minus validation; None where one of them is not known."""
    pair = row["train_emotion_accuracy"], row["val_emotion_accuracy"]
    return None if None in pair else pair[0] - pair[1]


def gap_advice(history: list[dict], config: TrainConfig) -> str:
    """What to change, in a sentence, where the gap has passed its bound or twice that in the last epoch; else nothing.

    Args:
        history: of the run; what has been said of an earlier epoch is not said again.
    """
    bound = CRITERIA["gap"].bound
    *before, points = [100 * (gap(row) or 0.0) for row in history]
    if points <= bound or any(points <= 2 * bound or earlier > 2 * bound for earlier in before if earlier > bound):
        return ""
    raised = f"augment (now {config.augment:g}), mix_probability ({config.mix_probability:g}) or dropout_in "
    raised += f"({config.dropout_in:g})"
    if points <= 2 * bound:
        return (
            f"the gap is {points:.0f} points: the network begins to learn its training faces by heart; in the next run "
            f"raise {raised}"
        )
    return (
        f"the gap is {points:.0f} points: the network has learned its training faces by heart; stop here, since the "
        f"best epoch is kept, and start a run with more {raised}, a higher weight_decay (now "
        f"{config.weight_decay:g}), a smaller backbone, or more data"
    )


def describe(row: dict) -> str:
    """One epoch of the history in a line."""
    parts = [f"epoch {row['epoch']}", f"loss {row['train_loss']:.3f} / {row['val_loss']:.3f} (train / validation)"]
    for name, text in (("emotion_accuracy", "emotion {:.1%}"), ("gender_accuracy", "gender {:.1%}"),
                       ("age_mae", "age error {:.1f} years")):  # fmt: skip
        if row[f"val_{name}"] is not None:
            parts.append(text.format(row[f"val_{name}"]))
    if row.get("gpu_temperature") is not None:
        parts.append(f"GPU {row['gpu_temperature']} °C")
    if row.get("gpu_slowed_by"):
        parts.append(f"slowed down by {row['gpu_slowed_by']}")
    return ", ".join(parts) + (", best so far" if row["best"] else "")
