"""The best epoch's network, and what a network says of stored faces: validation, evaluation and export ask it here."""

from dataclasses import dataclass

import numpy as np
import torch

from helpers.data.loaders import Labels, plain_loader
from helpers.data.store import FaceStore
from helpers.data.workers import loading
from helpers.files import InputError
from helpers.runs.run import Run
from helpers.session.progress import silent
from helpers.tasks import TASKS
from helpers.training.model import FaceModel, answers, create_model


def load_best(run: Run) -> FaceModel:
    """The model of the best epoch, in evaluation mode.

    Raises:
        InputError: no epoch is complete, or the checkpoint is damaged.
    """
    weights, model = run.best_weights(), create_model(run.config.model, fetch_weights=False)
    with run.fitting():
        model.load_state_dict(weights)
    model.grey = run.manifest.get("grey", {})
    return model.eval()


WATCHED = 8
"""Validation faces whose answers stand in the history, so that one can see them turn from wrong to right."""


def watched(store: FaceStore) -> np.ndarray:
    """The rows of those faces, chosen by the pixels' hash; faces with a label of the first task before others."""
    rows = store.fixed_sample("validation", WATCHED)
    return rows[np.argsort(~store.known(next(iter(TASKS)))[rows], kind="stable")][:WATCHED]


CLOSE = 5.0
"""Years off that still count as right."""

BATCH_SIZE = 128
"""Faces that are looked at together."""


@dataclass(frozen=True)
class Predictions:
    """What a model says of ``rows`` of a store, and their labels, in that order, on the CPU.

    Attributes:
        rows: int64 (N,).
        outputs: task -> output of its head, float32 (N, outputs).
        answers: task -> its answers, see :mod:`helpers.tasks`; with a flip, the mean over each face and its mirror.
        labels: task -> labels.
    """

    rows: np.ndarray
    outputs: dict[str, torch.Tensor]
    answers: dict[str, np.ndarray]
    labels: Labels

    def known(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels and decisions of the rows that carry the task's label."""
        labels = self.labels[task].numpy()
        known = TASKS[task].known(labels)
        return labels[known], TASKS[task].decisions(self.answers[task])[known]

    def told(self, rows: np.ndarray) -> list[list[list]]:
        """For each of some rows and each label that it carries: the truth, the answer, and whether that is right.

        Lists, since that is what a history reads back.

        An age is right within five years, as in the field's cumulative score.
        """
        faces: list[list[list]] = [[] for _ in rows]
        at = np.argmax(self.rows == rows[:, None], axis=1)
        for name, task in TASKS.items():
            labels, said = self.labels[name].numpy()[at], task.decisions(self.answers[name][at])
            for number in np.flatnonzero(task.known(labels)):
                answer = task.classes[said[number]] if task.classes else f"{said[number]:.0f}"
                score = task.scores(labels[number : number + 1], said[number : number + 1])[0]
                right = bool(score if task.classes else score <= CLOSE)
                faces[number].append([task.describe(labels[number]), answer, right])
        return faces

    def point_measures(self) -> dict[str, float | None]:
        """Each task's first measure over the rows that carry its label; None where none does."""
        scores = {task.key: task.scores(*self.known(name)) for name, task in TASKS.items()}
        return {key: float(values.mean()) if len(values) else None for key, values in scores.items()}


@torch.inference_mode()
def predict(
    model: FaceModel, store: FaceStore, rows: np.ndarray, flip: bool = False, workers: int = 0, progress=silent
) -> Predictions:
    """Run the model in evaluation mode over stored faces at their own size, without augmentation.

    ``flip`` also looks at each face's mirror image.

    Raises:
        InputError: it answers with what is no finite number, which every measure would take for some class.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    loader = plain_loader(store, rows, BATCH_SIZE, workers)
    done, outputs, mirrored, labels = [], [], [], []
    try:
        with loading():
            for batch in loader:
                done.append(batch.rows)
                labels.append(batch.labels)
                seen, (greys, _) = batch.to(device), model.views()
                views = [model.normalise(seen.resized(model.img_size, grey)) for grey in greys]
                outputs.append(_read(model, views))
                mirrored += [_read(model, [view.flip(3) for view in views])] if flip else []
                progress(len(done), len(loader))
    finally:
        model.train(training)
    # Batches are grouped by size of face; this brings the rows back into the order in which they were asked for.
    order = torch.argsort(torch.cat(done))[torch.argsort(torch.argsort(torch.from_numpy(rows)))]
    found = _joined(outputs, order)
    for task, values in found.items():
        if len(wrong := (~values.isfinite().all(dim=1)).nonzero()):
            name = store.table["name"][int(rows[wrong[0, 0]])]
            raise InputError(
                f"The network's answer for {task} is no finite number for {len(wrong)} of {len(rows)} faces, the first "
                f"of them {name}: start a run under another name with a lower learning rate."
            )
    said = answers(found, _joined(mirrored, order) if flip else None)
    return Predictions(rows, found, {task: values.numpy() for task, values in said.items()}, _joined(labels, order))


def _read(model: FaceModel, views: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The heads' outputs on the CPU, each for the view that its task is read from."""
    said = [_forward(model, view) for view in views]
    return {task: said[number][task] for task, number in model.views()[1].items()}


def _forward(model: FaceModel, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The heads' outputs on the CPU; in halves where the device has not the memory for the whole batch."""
    try:
        return {task: output.float().cpu() for task, output in model(pixels).items()}
    except torch.OutOfMemoryError:
        if len(pixels) == 1:
            raise
    halves = [_forward(model, part) for part in pixels.chunk(2)]
    return {task: torch.cat([half[task] for half in halves]) for task in halves[0]}


def _joined(batches: list[dict[str, torch.Tensor]], order: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: torch.cat([batch[name] for batch in batches])[order] for name in batches[0]}
