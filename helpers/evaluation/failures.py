"""Where a network fails: its most confident mistakes, and what it looked at."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from helpers.files import InputError
from helpers.tasks import Task
from helpers.training.model import FaceModel


def judged(table: pd.DataFrame, task: Task, split: str = "test") -> pd.DataFrame:
    """The rows of a split that carry the task's label, with what is shown of each.

    Args:
        table: of predictions.

    Returns:
        The rows with ``truth`` and ``said`` in words, ``wrong`` (for an age: years off), and ``sure``: the probability
        of the answer; of an age, minus its spread in years.
    """
    rows = table[(table["split"] == split) & task.known(task.read(table))].reset_index(drop=True)
    labels, answers = task.read(rows), rows[f"{task.name}_answer"].to_numpy()
    if task.classes:
        chances = rows[[f"p_{name}" for name in task.classes]].to_numpy()
        said, sure = [task.classes[code] for code in answers], chances.max(axis=1, initial=0.0)
        wrong: Any = answers != labels
    else:
        said, sure = [f"{years:.0f}" for years in answers], -rows[f"{task.name}_spread"].to_numpy()
        wrong = task.scores(labels, answers)
    return rows.assign(truth=[task.describe(label) for label in labels], said=said, wrong=wrong, sure=sure)


def worst(rows: pd.DataFrame, task: Task, count: int) -> pd.DataFrame:
    """The ``count`` most confident mistakes of :func:`judged`'s rows; of ages, those furthest off."""
    first = "sure" if task.classes else "wrong"
    return rows[rows["wrong"] > 0].sort_values([first, "name"], ascending=False).head(count)


def captions(rows: pd.DataFrame, task: Task) -> list[str]:
    """What stands above each face: truth, answer, and how sure."""
    if task.classes:
        return [f"{row.truth}\nsaid {row.said} {row.sure:.0%}" for row in rows.itertuples()]
    return [f"{row.truth} years\nsaid {row.said}" for row in rows.itertuples()]


def attention(model: FaceModel, face: np.ndarray, task: str, answer: int | None = None) -> np.ndarray:
    """What the network looked at for its answer, by Grad-CAM (arXiv 1610.02391).

    Args:
        model: in evaluation mode.
        face: uint8 RGB (H, W, 3).
        task: whose head is asked.
        answer: the output that is explained; None: the largest.

    Returns:
        uint8 RGB (H, W, 3), the face with what counted most in warm colours.

    Raises:
        InputError: the backbone gives no map of features with places in it.
    """
    device = next(model.parameters()).device
    pixels = model.preprocess(torch.from_numpy(face)[None].to(device), model.grey.get(task))
    with torch.enable_grad():
        features = model.backbone.forward_features(pixels).detach().requires_grad_()
        if features.dim() != 4:
            raise InputError("This backbone has no map of features that could be laid upon a face; its answers stand.")
        output = model.heads[task](model.backbone.forward_head(features, pre_logits=True))[0]
        (gradient,) = torch.autograd.grad(output[output.argmax() if answer is None else answer], features)
    _, first, second, last = features.shape
    places, channels = ((1, 2), 3) if first == second != last else ((2, 3), 1)  # some networks keep channels last
    heat = (gradient.mean(dim=places, keepdim=True) * features).sum(dim=channels)[0].relu().detach().cpu().numpy()
    heat = cv2.resize(heat / max(heat.max(), 1e-12), face.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    colours = cv2.applyColorMap((255 * heat.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return cv2.addWeighted(face, 0.55, colours, 0.45, 0)


def confused(rows: pd.DataFrame, truth: str | None, said: str | None) -> pd.DataFrame:
    """Those of :func:`judged`'s rows with a truth and an answer, either of which may be any, the surest first."""
    chosen = rows[(rows["truth"] == truth) | (truth is None)]
    return chosen[(chosen["said"] == said) | (said is None)].sort_values(["sure", "name"], ascending=False)
