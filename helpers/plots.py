"""Figures from plain values, in one look. Every function returns a matplotlib Figure; none shows or keeps it."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from helpers.config import AGE_RANGE, TASKS

TRAIN, VALIDATION, TEST = "#4477aa", "#ee6677", "#228833"
"""One colour per split, told apart by colour-blind readers too (Paul Tol's bright scheme)."""

_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "font.size": 10,
    "legend.frameon": False,
}


class Picture(Figure):
    """A figure that notebooks show by itself: outside pyplot none is kept in memory, and none needs its backend."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, dpi=100)
        return buffer.getvalue()


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the one look, without changing the user's own settings."""

    @functools.wraps(draw)
    def styled(*args, **options):
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **options)

    return styled


def _figure(rows: int, columns: int, width: float, height: float, title: str = "", **options):
    figure = Picture(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    if title:
        figure.suptitle(title)
    return figure, axes


@_styled
def class_balance(audit: dict[str, dict], title: str = "Faces per class") -> Figure:
    """Stacked bars per dataset and task of the classes in each split; ``audit`` as in a store's manifest."""
    panels = [(name, task, found[task]) for name, found in audit.items() for task in TASKS if found[task]]
    figure, axes = _figure(1, len(panels), 1.0 + 3.6 * len(panels), 3.6, title)
    for axis, (name, task, splits) in zip(axes[0], panels, strict=True):
        base = np.zeros(len(splits["train"]))
        for (split, counts), colour in zip(splits.items(), (TRAIN, VALIDATION, TEST), strict=True):
            axis.bar(list(counts), list(counts.values()), bottom=base, color=colour, label=split)
            base += list(counts.values())
        axis.set_title(f"{name}: {task}")
        axis.tick_params(axis="x", rotation=45)
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("faces")
    axes[0, 0].legend()
    return figure


@_styled
def faces(
    images: list[np.ndarray], titles: list[str], columns: int = 8, title: str = "", marks: list[bool] | None = None
) -> Figure:
    """A grid of faces, uint8 RGB of any sizes, each with a caption; those that are marked in red."""
    columns = min(columns, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure, axes = _figure(rows, columns, 1.35 * columns, 1.6 * rows + 0.3, title)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, caption, mark in zip(axes.flat, images, titles, marks or [False] * len(images), strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(caption, fontsize=8, fontweight="normal", color="#c02020" if mark else "black")
    return figure


@_styled
def curves(history: list[dict], title: str = "Training") -> Figure:
    """Losses, accuracies, age error and learning rate by epoch; the best epoch is marked."""
    figure, axes = _figure(2, 3, 13, 6.4, title)
    epochs = [row["epoch"] for row in history]
    panels = (
        ("loss", "Loss (training: augmented and mixed)", None),
        ("emotion_accuracy", "Emotion accuracy", PercentFormatter(1.0)),
        ("gender_accuracy", "Gender accuracy", PercentFormatter(1.0)),
        ("age_mae", "Age error in years", None),
    )
    best = max((row["epoch"] for row in history if row["best"]), default=None)
    for axis, (name, text, form) in zip(axes.flat, panels, strict=False):
        for split, colour in (("train", TRAIN), ("val", VALIDATION)):
            values = [np.nan if row[f"{split}_{name}"] is None else row[f"{split}_{name}"] for row in history]
            label = {"train": "training faces", "val": "validation"}[split]
            axis.plot(epochs, values, color=colour, marker="o", markersize=3, label=label)
        axis.set_title(text)
        if form:
            axis.yaxis.set_major_formatter(form)
    pairs = [(row["train_emotion_accuracy"], row["val_emotion_accuracy"]) for row in history]
    gaps = [np.nan if None in pair else pair[0] - pair[1] for pair in pairs]
    axes[1, 1].plot(epochs, gaps, color=TEST, marker="o", markersize=3)
    axes[1, 1].axhline(0.1, color="grey", linestyle=":")
    axes[1, 1].set_title("Emotion gap, training minus validation")
    axes[1, 1].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[1, 2].plot(epochs, [row["lr"] for row in history], color="black", marker="o", markersize=3)
    axes[1, 2].set_title("Learning rate")
    for axis in axes.flat:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if best is not None:
            axis.axvline(best, color="grey", linewidth=0.8, linestyle="--")
    for axis in axes[1]:
        axis.set_xlabel("epoch (dashed: best)")
    axes[0, 0].legend()
    return figure


@_styled
def confusion(matrix: list[list[int]], names: tuple[str, ...], title: str) -> Figure:
    """A confusion matrix, rows the truth: shares of each row as colour and text, counts below them."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.8 + 0.75 * len(names)
    figure, axes = _figure(1, 1, side + 0.6, side, title)
    text = [[f"{share:.0%}\n{count}" for share, count in zip(*row, strict=True)]
            for row in zip(shares, counts, strict=True)]  # fmt: skip
    sns.heatmap(
        shares, vmin=0, vmax=1, annot=text, fmt="", cmap="Blues", square=True, ax=axes[0, 0],
        xticklabels=names, yticklabels=names, annot_kws={"fontsize": 8}, cbar=False,
    )  # fmt: skip
    axes[0, 0].grid(visible=False)
    axes[0, 0].set_xlabel("answered")
    axes[0, 0].set_ylabel("true")
    return figure


@_styled
def per_class(found: dict[str, dict], title: str) -> Figure:
    """Recall, precision and F1 of each class with their 95 % intervals."""
    figure, axes = _figure(1, 1, 2.5 + 1.1 * len(found), 3.4, title)
    axis, places = axes[0, 0], np.arange(len(found))
    for shift, (name, colour) in enumerate((("recall", TRAIN), ("precision", VALIDATION), ("f1", TEST))):
        values = [part[name]["value"] for part in found.values()]
        ends = [[part[name]["value"] - part[name]["low"] for part in found.values()],
                [part[name]["high"] - part[name]["value"] for part in found.values()]]  # fmt: skip
        # A class that is never answered has no precision, and a bootstrap's interval can miss its own estimate.
        ends = np.maximum(np.nan_to_num(ends), 0)
        axis.errorbar(places + 0.15 * (shift - 1), values, ends, color=colour, fmt="o", capsize=3, label=name)
    axis.set_xticks(places, [f"{name}\n(n = {part['recall']['n']})" for name, part in found.items()])
    axis.set_ylim(0, 1.04)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    return figure


@_styled
def ages(true: np.ndarray, answered: np.ndarray, title: str) -> Figure:
    """Answered over true age, and the error's size by decade of true age; both in years."""
    figure, axes = _figure(1, 2, 10, 4.4, title)
    left, right = axes[0]
    left.plot(AGE_RANGE, AGE_RANGE, color="grey", linewidth=0.8)
    left.scatter(true, answered, s=8, alpha=0.4, color=TRAIN, edgecolors="none")
    left.set(xlabel="true age", ylabel="answered age", title=f"{len(true)} faces")
    decades = (true // 10).astype(int)
    present = np.unique(decades)
    errors = [np.abs(answered - true)[decades == decade] for decade in present]
    right.bar([f"{10 * d}-{10 * d + 9}\nn={len(e)}" for d, e in zip(present, errors, strict=True)],
              [error.mean() for error in errors], color=TRAIN)  # fmt: skip
    right.set(xlabel="true age", title="Mean absolute error")
    right.tick_params(axis="x", labelsize=8)
    right.grid(axis="x", visible=False)
    return figure


def save_all(figures: dict[str, Figure], folder: Path) -> None:
    """Write each figure as ``<name>.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
