"""The training loop."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from helpers.config import TASKS, InputError, TrainConfig
from helpers.data.augment import techniques
from helpers.data.loaders import EpochSampler, draw_plan, draw_seed, train_loader
from helpers.data.store import FaceStore
from helpers.session.gpu import read_gpus
from helpers.session.progress import Progress, silent
from helpers.training.checkpoints import load_checkpoint, save_checkpoint
from helpers.training.losses import task_losses, total_loss
from helpers.training.mixing import mix
from helpers.training.model import FaceModel, create_model, parameter_counts
from helpers.training.predict import Predictions, predict
from helpers.training.run import Run

HISTORY_SAMPLE_ROWS = 500
"""Fixed training rows per task, without augmentation, behind the training curves of each epoch."""

_DROPOUT = 2  # keeps dropout's draws apart from those of augmentation and mixing in the same step


def fit(
    config: TrainConfig,
    store: FaceStore,
    folder: Path,
    *,
    on_step: Progress = silent,
    on_epoch: Callable[[Run], None] = lambda run: None,
    on_log: Callable[[str], None] = lambda line: None,
) -> Run:
    """Train until the epochs, the minutes or the patience are used up, or go on with a run where it stopped.

    An interrupt (Ctrl-C, or a cell's stop button) ends it after the current step; everything done is kept.

    Args:
        folder: the run's folder; made when it is not there.
        on_step: called as ``(step, steps of all epochs)`` after each step.
        on_epoch: called with the run after each epoch, its history and checkpoints written.
        on_log: called with each line that goes to ``train.log``: the start, every epoch, a stop.

    Raises:
        InputError: the config cannot be used with these faces, or the folder holds another run.
    """
    _check(config, store)
    rows, validation = store.rows("train"), store.rows("validation")
    sample = store.fixed_sample("train", HISTORY_SAMPLE_ROWS)
    torch.manual_seed(config.seed)
    model = create_model(config, fetch_weights=not (folder / Run.LAST).exists())
    model = model.to(memory_format=torch.channels_last)  # the layout faces come in; halves a step's time on a CPU
    run = Run.start(folder, config, store)
    run.echo = on_log
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = CosineAnnealingWarmRestarts(optimizer, config.t_0, config.t_mult, eta_min=config.lr / 100)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())  # Apple's MPS has no float64 to sum losses in
    model, optimizer = accelerator.prepare(model, optimizer)
    plain = accelerator.unwrap_model(model)
    state = _restore(run, plain, optimizer)
    steps = EpochSampler(rows, config.batch_size, config.seed).steps_per_epoch
    parameters, trainable = parameter_counts(plain)
    run.log(
        f"{'go on at' if state['step'] else 'start with'} step {state['step']} of {steps * config.epochs} on "
        f"{accelerator.device}; {config.backbone} with {parameters:,} parameters, {trainable:,} of them trainable; "
        f"{len(rows)} training and {len(validation)} validation faces"
    )

    about = {"parameters": parameters, "trainable_parameters": trainable}
    about |= {"training_faces": len(rows), "validation_faces": len(validation)}
    kept = store.manifest["knobs"]["max_side"]
    if config.img_size > kept:
        run.log(
            f"faces are stored with {kept} pixels a side at most, and enlarged to img_size = {config.img_size}; to use "
            f"what the files hold, pack them again with max_side = {config.img_size}"
        )
    first, ends = state["step"], time.monotonic() + (config.max_minutes * 60 or math.inf)

    with _stop_request() as stop, _cpu_threads(accelerator.device):
        while not (stop or _finished(config, state, steps)):
            if state["step"] > first and _late(state, steps, ends):  # one epoch at least, so that each call gets on
                run.log(f"{config.max_minutes:g} minutes are used up; start again to go on")
                break
            began = time.monotonic()
            loader = train_loader(store, rows, config, first_step=state["step"])
            model.train()
            for batch in loader:
                batch = batch.to(accelerator.device)
                schedule.step(batch.step / steps)
                faces = plain.normalise(batch.resized(config.img_size))
                faces, shares = mix(faces, batch.targets, batch.step, config)
                torch.manual_seed(draw_seed(config.seed, batch.step, _DROPOUT))
                losses = task_losses(model(faces), shares, config)
                accelerator.backward(total_loss(losses, config))
                accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
                optimizer.step()
                optimizer.zero_grad()
                state["sums"] = state["sums"].to(faces.device) + _sums(losses)
                state["step"] += 1
                on_step(state["step"], steps * config.epochs)
                if stop:
                    break
            if state["step"] % steps == 0:
                row = _measure_epoch(config, state, plain, store, sample, validation)
                row |= {"step": state["step"], "lr": schedule.get_last_lr()[0]}
                state["seconds"] += time.monotonic() - began
                _finish_epoch(run, state, row, plain, optimizer)
                run.write_results(minutes=state["seconds"] / 60, finished=_finished(config, state, steps), **about)
                on_epoch(run)
            else:
                state["seconds"] += time.monotonic() - began
                if state["sums"].isfinite().all():  # else the last good epoch is what to go on from
                    _save_last(run, state, plain, optimizer)
                run.log(f"stopped by the user at step {state['step']}; start again to go on")
    return run


def load_best(run: Run) -> FaceModel:
    """The model of the best epoch, in evaluation mode.

    Raises:
        InputError: no epoch is complete, or the checkpoint is damaged.
    """
    model = create_model(run.config, fetch_weights=False)
    _load_weights(model, load_checkpoint(run.best_path)["model"], run)
    return model.eval()


def _check(config: TrainConfig, store: FaceStore) -> None:
    """Refuse what could not be trained, before anything is written: techniques, rows, the measure of the best epoch."""
    techniques(config.augment_without)
    draw_plan(store, store.rows("train"), config)
    for split in ("train", "validation"):
        if len(store.rows(split)) < 2:
            raise InputError(f"The store {store.folder} has fewer than 2 {split} faces; pack a larger dataset.")
    task = config.select_by.partition("_")[0]
    if task in TASKS and not store.known(task)[store.rows("validation")].any():
        raise InputError(
            f"The field 'select_by' is {config.select_by!r}, but no validation face carries that label; "
            "choose another measure or add a dataset."
        )


def _restore(run: Run, model: FaceModel, optimizer) -> dict:
    """Progress of the run: from its last checkpoint, whose weights are loaded, or that of a new run."""
    if not run.last_path.exists():
        sums = torch.zeros(len(TASKS), 2, dtype=torch.float64)
        return {"step": 0, "seconds": 0.0, "sums": sums, "best": None, "mark": -math.inf, "stale": 0}
    state = load_checkpoint(run.last_path)
    _load_weights(model, state.pop("model"), run)
    optimizer.load_state_dict(state.pop("optimizer"))
    run.history = state.pop("history")
    run.write_history()
    return state


def _load_weights(model: FaceModel, weights: dict, run: Run) -> None:
    """Load a checkpoint's weights, or say that this version of timm builds another network."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"The checkpoints of {run.folder} do not fit the network that timm {version('timm')} builds; the run was "
            f"started with timm {run.manifest['libraries']['timm']}: install that version."
        ) from error


def _save_last(run: Run, state: dict, model: FaceModel, optimizer) -> None:
    """Write everything needed to go on; what the step determines (draws, learning rate) is not part of it."""
    weights = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": run.history}
    save_checkpoint(run.last_path, state | weights)


def _finished(config: TrainConfig, state: dict, steps: int) -> bool:
    """Whether the epochs or the patience are used up."""
    return state["step"] // steps >= config.epochs or state["stale"] >= config.patience


def _late(state: dict, steps: int, ends: float) -> bool:
    """Whether another epoch, as long as those before, would end after ``ends`` on the monotonic clock."""
    return time.monotonic() + state["seconds"] * steps / state["step"] > ends


def _sums(losses: dict) -> torch.Tensor:
    """Per task the summed loss and the count of known rows, (3, 2), without waiting for the device."""
    return torch.stack([torch.stack(losses[task]) for task in TASKS]).detach().double()


def _measure_epoch(config: TrainConfig, state: dict, model: FaceModel, store, sample, validation) -> dict:
    """One line of the history: the mean training losses of the epoch, and both fixed sets without augmentation.

    Raises:
        InputError: the training loss is no longer a number.
    """
    totals, counts = state["sums"].cpu().unbind(1)
    losses = {task: (total, count) for task, total, count in zip(TASKS, totals, counts, strict=True)}
    row = _gpu_state() | {"train_loss": float(total_loss(losses, config))}
    row |= {f"train_{task}_loss": float(total / count.clamp(min=1e-6)) for task, (total, count) in losses.items()}
    if not math.isfinite(row["train_loss"]):
        raise InputError(
            f"The loss is {row['train_loss']} after step {state['step']}; the last good epoch is kept: lower the "
            f"learning rate (lr = {config.lr:g}) and start a run under another name."
        )
    train, val = (predict(model, store, rows, workers=config.workers) for rows in (sample, validation))
    losses = task_losses(val.outputs, [(1.0, val.targets)], config)
    row["val_loss"] = float(total_loss(losses, config))
    row |= {f"val_{task}_loss": float(total / count.clamp(min=1e-6)) for task, (total, count) in losses.items()}
    for name, found in (("train", train), ("val", val)):
        row |= {f"{name}_{measure}": value for measure, value in _point_measures(found).items()}
    return row


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


def _finish_epoch(run: Run, state: dict, row: dict, model: FaceModel, optimizer) -> None:
    """Judge the epoch, then write the best weights, the last checkpoint and the history, in this order.

    A kill in between repeats the epoch, with the same draws and so the same result.
    """
    config = run.config
    value = row[f"val_{config.select_by}"]
    score = (value if config.select_by.endswith("accuracy") else -value, -row["val_loss"])
    row = {"epoch": len(run.history) + 1, "minutes": state["seconds"] / 60} | row
    row["best"] = state["best"] is None or list(score) > state["best"]
    state["stale"] = 0 if score[0] > state["mark"] + config.min_delta else state["stale"] + 1
    if state["stale"] == 0:
        state["mark"] = score[0]
    state["sums"] = torch.zeros_like(state["sums"])
    run.history.append(row)
    if row["best"]:
        state["best"] = list(score)
        save_checkpoint(run.best_path, {"model": model.state_dict(), "epoch": row["epoch"]})
    _save_last(run, state, model, optimizer)
    run.write_history()
    run.log(describe(row))


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


@contextmanager
def _cpu_threads(device: torch.device):
    """On a CPU, leave one core to the loader: both waiting for the same cores costs a sixth of the speed.

    The number does not follow ``workers``, since sums over another number of threads differ in their last bit.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _stop_request():
    """A list that is empty until the user interrupts: the step under way is finished first, so nothing is torn.

    A second interrupt acts at once. Signals reach the main thread only; elsewhere the interrupt stays as it is.
    """
    stop: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number, frame):
        stop.append(True)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
