"""What a model says of stored faces: the one way in which validation, evaluation and export ask it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from helpers.config import TASKS, UNKNOWN
from helpers.data.loaders import Targets, plain_loader
from helpers.data.store import FaceStore
from helpers.session.progress import Progress, silent
from helpers.training.model import FaceModel


@dataclass(frozen=True)
class Predictions:
    """Answers and labels for ``rows`` of a store, in that order.

    Attributes:
        rows: int64 (N,).
        outputs: what :meth:`FaceModel.answer` gives, on the CPU: ``emotion`` (N, 7) and ``gender`` (N, 2)
            log-probabilities, ``age`` (N,) years.
        targets: the rows' labels.
    """

    rows: np.ndarray
    outputs: dict[str, torch.Tensor]
    targets: Targets

    def known(self, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the rows that carry the task's label: their positions, the labels and the predictions.

        A prediction is the most probable class, or the age in years.
        """
        labels = getattr(self.targets, task).numpy()
        where = np.flatnonzero(~np.isnan(labels) if task == "age" else labels != UNKNOWN)
        answers = self.outputs[task].numpy()
        return where, labels[where], (answers if task == "age" else answers.argmax(axis=1))[where]


@torch.inference_mode()
def predict(
    model: FaceModel,
    store: FaceStore,
    rows: np.ndarray,
    *,
    flip: bool = False,
    batch_size: int = 128,
    workers: int = 0,
    progress: Progress = silent,
) -> Predictions:
    """Run the model in evaluation mode over stored faces at their own size, without augmentation.

    ``flip`` takes the mean over each face and its mirror image, as :meth:`FaceModel.answer` does.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    batches = []
    loader = plain_loader(store, rows, batch_size, workers)
    try:
        for batch in loader:
            batch = batch.to(device)
            answers = _answer(model, model.normalise(batch.resized(model.img_size)), flip)
            batches.append((batch.rows, {name: value.float().cpu() for name, value in answers.items()}, batch.targets))
            progress(len(batches), len(loader))
    finally:
        model.train(training)
    done = torch.cat([rows for rows, _, _ in batches])
    # Batches are grouped by size of face; this brings the rows back into the order in which they were asked for.
    order = torch.argsort(done)[torch.argsort(torch.argsort(torch.from_numpy(rows)))]
    outputs = {name: torch.cat([answers[name] for _, answers, _ in batches])[order] for name in batches[0][1]}
    labels = [torch.cat([getattr(targets, task).cpu() for _, _, targets in batches])[order] for task in TASKS]
    return Predictions(rows, outputs, Targets(*labels))


def _answer(model: FaceModel, pixels: torch.Tensor, flip: bool) -> dict[str, torch.Tensor]:
    """The model's answers, in halves where the device has not the memory for the whole batch."""
    try:
        return model.answer(pixels, flip)
    except torch.OutOfMemoryError:
        if len(pixels) == 1:
            raise
    halves = [_answer(model, part, flip) for part in pixels.chunk(2)]
    return {name: torch.cat([half[name] for half in halves]) for name in halves[0]}
