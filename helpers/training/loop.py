"""The training loop: epochs, batches, step, validate."""

from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_

from helpers.config import CRITERIA, TrainConfig
from helpers.data.loaders import Batch, draw_seed
from helpers.data.store import FaceStore
from helpers.runs.run import Run
from helpers.tasks import TASKS
from helpers.training.fallbacks import cut_when_out_of_memory, parts_of, uncompile_where_it_fails
from helpers.training.mixing import mix
from helpers.training.predict import predict, watched
from helpers.training.processes import agreed
from helpers.training.schedule import mixing_at
from helpers.training.session import training_session
from helpers.training.state import Training

_DROPOUT = 2  # keeps dropout's draws apart from those of augmentation and mixing in the same step


def fit(config: TrainConfig, store: FaceStore, folder: Path, **options) -> Run:
    """Train until the epochs, the minutes or the patience are used up, or go on with a run where it stopped.

    An interrupt (Ctrl-C, or a cell's stop button) or a file ``stop`` in the run's folder ends it after the current
    step; everything done is kept. Started in several processes, as ``accelerate launch`` does, they train together.

    Args:
        folder: the run's folder; made when it is not there.
        options: of :func:`helpers.training.session.training_session`, which also tells what is raised.
    """
    with training_session(config, store, folder, **options) as session:
        training = session.training
        while session.goes_on():  # until the epochs, the patience or the minutes are used up
            for batch in training.batches():  # what is left of the epoch under way
                train_step(training, batch)
                if session.after_step():  # the bar, now and then a checkpoint; true where a stop was asked for
                    break
            if training.epoch_is_complete:
                session.after_epoch(validate(training))  # the best epoch, history, checkpoint, log
    return session.run


@cut_when_out_of_memory
@uncompile_where_it_fails
def train_step(training: Training, batch: Batch) -> None:
    """Learn from one batch; waits for nothing on the device. Every draw is a function of the seed and the step."""
    config, step, objective = training.config, batch.step, training.objective
    training.rates.step_update(step)  # rate
    batch = batch.to(training.device)
    faces = training.model.normalise(batch.resized(batch.size))
    probability = mixing_at(step / training.faces.steps, config.schedule.epochs, config.augmentation)
    faces, mixed = mix(faces, batch.labels, step, config.run.seed, probability)
    torch.manual_seed(draw_seed(config.run.seed, step, _DROPOUT))
    loss, sums = torch.zeros((), device=training.device), torch.zeros_like(training.loss_sums)
    for part, labels, synchronise in parts_of(training, faces, mixed):
        with synchronise:
            with training.autocast():
                outputs = training.network(part)  # forward
            losses = objective.sums(outputs, labels)  # loss
            part_loss = objective.total(losses, batch.known)
            # Processes' gradients are averaged, but each has divided by the count of all.
            training.scaler.scale(part_loss * training.accelerator.num_processes).backward()  # backward
        loss, sums = loss + part_loss.detach(), sums + objective.stacked(losses)
    training.scaler.unscale_(training.optimizer)
    norm = clip_grad_norm_(training.model.parameters(), config.optimiser.clip_norm)  # clip
    training.guard.add(step, loss, norm)
    training.scaler.step(training.optimizer)  # optimiser
    training.scaler.update()
    training.optimizer.zero_grad()
    if training.ema:
        training.ema.update(training.model, step + 1)  # average
    training.loss_sums += sums
    training.step = step + 1


def validate(training: Training) -> dict:
    """A line of the history: the epoch's mean training losses, and measures of fixed faces without augmentation.

    Validation faces have the same loss as training's, class weights included. Of several processes one measures.
    """
    faces, config = training.faces, training.config
    row: dict = {}
    training.loss_sums.copy_(training.accelerator.reduce(training.loss_sums, "sum"))
    if training.accelerator.is_main_process:
        row |= training.objective.means("train", training.loss_sums)
        judged = TASKS[CRITERIA["gap"].task]
        for name, rows in (("train", faces.sample), ("val", faces.validation)):
            predictions = predict(training.measured, faces.store, rows, workers=config.data.workers)
            row |= {f"{name}_{measure}": value for measure, value in predictions.point_measures().items()}
            if name == "val":
                losses = training.objective.sums(predictions.outputs, [(1.0, predictions.labels)])
                row |= training.objective.means(name, training.objective.stacked(losses))
                row["watched"] = predictions.told(watched(faces.store))
            row[f"{name}_faces"] = int(faces.store.known(judged.name)[rows].sum())
        pair = row[f"train_{judged.key}"], row[f"val_{judged.key}"]
        row |= {"gap": None if None in pair else pair[0] - pair[1]}
        rate, size = training.optimizer.param_groups[-1]["lr"], training.size_of(training.epoch - 1)
        row |= {"step": training.step, "lr": rate, "size": size}
    return agreed(training.accelerator, row)
