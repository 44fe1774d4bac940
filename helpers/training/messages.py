"""What training says of itself, in sentences."""

from collections.abc import Iterable

import torch

from helpers.config import CRITERIA, TrainConfig
from helpers.metrics import difference, proportion
from helpers.tasks import TASKS
from helpers.training.model import parameter_counts
from helpers.training.state import Training


def describe_start(training: Training, grey: Iterable[str] = ()) -> str:
    """What is trained, on what and how, where it begins, and which tasks have only ``grey`` faces to learn from."""
    config, faces, processes = training.config, training.faces, training.accelerator.num_processes
    total, trainable = parameter_counts(training.model)
    begin, end = "go on at" if training.step else "start with", faces.steps * config.schedule.epochs
    text = f"{begin} step {training.step} of {end} on {training.device}"
    text += f" in {processes} processes" if processes > 1 else ""
    text += f" in {str(training.precision or torch.float32).removeprefix('torch.')}; {config.model.backbone} with "
    text += f"{total:,} parameters, {trainable:,} of them trainable; {len(faces.train)} training and "
    text += f"{len(faces.validation)} validation faces"
    if training.model.heads_anew and not training.step:
        text += f"; the earlier network had no such head for {', '.join(training.model.heads_anew)}, which starts anew"
    kept, size = faces.store.manifest["knobs"]["max_side"], config.model.img_size
    if tasks := " and ".join(grey):
        text += f"; all faces that teach {tasks} are grey: in use a grey view of each face will be read for that"
    if size > kept:
        text += f"; they are stored with {kept} pixels a side at most, and enlarged to img_size = {size}: to use what "
        text += f"the files hold, pack them again with max_side = {size}"
    return text


def describe_epoch(row: dict) -> str:
    """One epoch of the history in a line."""
    parts = [f"epoch {row['epoch']}", f"loss {row['train_loss']:.3f} / {row['val_loss']:.3f} (train / validation)"]
    for task in TASKS.values():
        if (value := row[f"val_{task.key}"]) is not None:
            parts.append(f"{task.brief} {task.scale * value:.1f}{task.unit}")
    if row.get("gpu_temperature") is not None:
        parts.append(f"GPU {row['gpu_temperature']} °C")
    if row.get("gpu_slowed_by"):
        parts.append(f"slowed down by {row['gpu_slowed_by']}")
    return ", ".join(parts) + (", best so far" if row["best"] else "")


def gap_advice(history: list[dict], config: TrainConfig) -> str:
    """What to change, in a sentence, where the gap has passed its bound or twice that in the last epoch; else nothing.

    It has passed a bound where its whole interval lies above it and validation is better than chance.

    Args:
        history: of the run; what has been said of an earlier epoch is not said again.
    """
    bound, augmentation = CRITERIA["gap"].bound, config.augmentation
    *before, passed = [sum(_sure_gap(row) > times * bound for times in (1, 2)) for row in history]
    if passed <= max(before, default=0):
        return ""
    raised = f"augment (now {augmentation.augment:g}), mix_probability ({augmentation.mix_probability:g}) or "
    raised += f"dropout_in ({config.model.dropout_in:g})"
    text = f"the gap is {100 * history[-1]['gap']:.0f} points: the network "
    if passed == 1:
        return f"{text}begins to learn its training faces by heart; in the next run raise {raised}"
    text += "has learned its training faces by heart; stop here, since the best epoch is kept, and start a run with "
    text += f"more {raised}, a higher weight_decay (now {config.optimiser.weight_decay:g}), a smaller backbone, or "
    return text + "more data"


def _sure_gap(row: dict) -> float:
    """The lower bound of an epoch's gap in points, on its counts of faces; 0 where validation may be chance alone."""
    task = TASKS[CRITERIA["gap"].task]
    if row["gap"] is None:
        return 0.0
    training, validation = (
        proportion(round(row[f"{split}_{task.key}"] * n), n)
        for split in ("train", "val")
        for n in [row.get(f"{split}_faces", 0)]  # which epochs of an older version do not tell
    )
    return 100 * difference(training, validation)["low"] if validation["low"] > 1 / len(task.classes) else 0.0
