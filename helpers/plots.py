"""Figures from plain values, in one look. Every function returns a matplotlib Figure; none shows or keeps it."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from types import MappingProxyType

import numpy as np
import seaborn as sns
from IPython.core.pylabtools import print_figure
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from helpers.config import CRITERIA
from helpers.files import write_file
from helpers.metrics import mean
from helpers.tasks import AGE_RANGE, TASKS

TRAIN, VALIDATION, TEST = "#4477aa", "#ee6677", "#228833"
"""One colour per split, told apart by colour-blind readers too (Paul Tol's bright scheme)."""

GAP = "#aa3377"
"""The gap's, of the same scheme."""

_STATUS = {"pass": "#2e7d32", "borderline": "#b26a00", "fail": "#b71c1c"}
"""Colours of what a criterion found; grey where none has judged."""

FEW = 10
"""Faces below which a bar claims nothing."""

_HALO = withStroke(linewidth=3, foreground="white")

_styled = rc_context({
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "font.size": 10,
    "axes.titleweight": "bold", "axes.titlesize": 11, "figure.titlesize": 13, "figure.titleweight": "bold",
    "legend.frameon": False, "text.parse_math": False, "axes.formatter.useoffset": False,
})  # fmt: skip
"""Draws in the one look, without changing the user's own settings."""


class Picture(Figure):
    """A figure that notebooks show by itself: outside pyplot none is kept in memory, and none needs its backend.

    Attributes:
        about: text that the PNG file holds besides the picture, such as the weights that it tells of.
        alt: what stands for the picture where it cannot be seen; its titles where nothing is said.
    """

    alt = ""

    about: Mapping[str, str] = MappingProxyType({})

    def png(self, dpi: int = 100) -> bytes:
        """The file's content."""
        return print_figure(self, dpi=dpi, bbox_inches=None, metadata=dict(self.about))

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        titles = [self.get_suptitle(), *(axis.get_title() for axis in self.axes)]
        return self.png(), {"alt": self.alt or ". ".join(title.replace("\n", " ") for title in titles if title)}


def _figure(rows: int, columns: int, width: float, height: float, title: str, used: int | None = None):
    """An empty figure and its axes, of which only the first ``used`` are seen."""
    figure = Picture(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[rows * columns if used is None else used :]:
        axis.axis("off")
    figure.suptitle(title)
    return figure, axes


@_styled
def class_balance(audit: dict[str, dict], title: str = "Faces per class") -> Picture:
    """Stacked bars per dataset and task of the classes in each split; ``audit`` as in a store's manifest."""
    panels = [(name, task, found[task]) for name, found in audit.items() for task in TASKS if found[task]]
    columns = min(3, len(panels))  # more side by side would be shrunk to fit the page
    rows = -(-len(panels) // columns)
    figure, axes = _figure(rows, columns, 1.0 + 3.2 * columns, 0.4 + 2.9 * rows, title, len(panels))
    for axis, (name, task, splits) in zip(axes, panels, strict=False):
        base = np.zeros(len(splits["train"]))
        for (split, counts), colour in zip(splits.items(), (TRAIN, VALIDATION, TEST), strict=True):
            axis.bar(list(counts), list(counts.values()), bottom=base, color=colour, label=split)
            base += list(counts.values())
        axis.set_title(f"{name}: {task}")
        axis.tick_params(axis="x", rotation=45, grid_alpha=0)
    axes[0].set_ylabel("faces")
    axes[0].legend()
    return figure


@_styled
def faces(
    images: list[np.ndarray], titles: list[str], columns: int = 8, title: str = "", marks: list[bool] | None = None
) -> Picture:
    """A grid of faces, uint8 RGB of any sizes, each with a caption; those that are marked in red."""
    columns = min(columns, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure, axes = _figure(rows, columns, 1.35 * columns, 1.6 * rows + 0.3, title, used=0)
    for axis, image, caption, mark in zip(axes, images, titles, marks or [False] * len(images), strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(caption, fontsize=8, fontweight="normal", color="#c02020" if mark else "black")
    return figure


@_styled
def scores(cards: list[tuple[str, str, str, str, str]], title: str, columns: int = 3) -> Picture:
    """One card for each task or fact, some side by side.

    Args:
        cards: name, value, what it is measured on, the outcome in words, and its status (see a verdict's findings).
    """
    rows = -(-len(cards) // columns)
    figure, axes = _figure(rows, columns, 3.2 * columns, 0.4 + 1.7 * rows, title)
    for axis, (name, value, about, outcome, status) in zip(axes, cards, strict=True):
        axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
        axis.grid(visible=False)
        axis.text(0.5, 0.88, name, ha="center", va="center", fontweight="bold")
        axis.text(0.5, 0.60, value, ha="center", va="center", fontsize=20)
        axis.text(0.5, 0.34, about, ha="center", va="center", fontsize=8)
        box = {"facecolor": _STATUS.get(status, "#546e7a"), "edgecolor": "none", "boxstyle": "round,pad=0.4"}
        axis.text(0.5, 0.10, outcome, ha="center", va="center", color="white", fontweight="bold", fontsize=9, bbox=box)
    figure.alt = f"{title}. " + "; ".join(f"{card[0]} {card[1]}, {card[2]}: {card[3]}" for card in cards)
    return figure


@_styled
def groups(found: dict[str, dict], title: str, scale: float, unit: str) -> Picture:
    """A measure of each group with its interval and count, by ``grouping -> group`` of
    :func:`helpers.evaluation.groups.by_group`; groups too small to judge are grey.
    """
    shown = {name: parts for name, parts in found.items() if name != "worst" and "note" not in parts}
    figure, axes = _figure(1, max(1, len(shown)), 13, 3.6, title)
    for axis, (name, parts) in zip(axes, shown.items(), strict=False):
        for at, part in enumerate(parts.values()):
            # Null in a file: no bound.
            value, low, high = scale * np.array([part["measure"][end] for end in ("value", "low", "high")], float)
            spread = np.nan_to_num([[value - low], [high - value]], posinf=0)
            axis.errorbar([at], [value], spread, fmt="o", capsize=3, color="grey" if part["small"] else TRAIN)
        names = [f"{group}\nn={part['measure']['n']}" for group, part in parts.items()]
        axis.set_xticks(range(len(parts)), names, fontsize=7)
        axis.set_title(f"by {name}")
        axis.margins(x=0.1)
    axes[0].set_ylabel(unit.strip())
    return figure


@_styled
def reliability(bins: list[dict], kept: np.ndarray, accuracy: np.ndarray, title: str) -> Picture:
    """Left, accuracy over confidence with its interval; right, the accuracy of the most confident share of faces."""
    figure, (left, right) = _figure(1, 2, 10, 4.0, title)
    left.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for part in bins:
        value, low, high = (part["accuracy"][end] for end in ("value", "low", "high"))
        left.errorbar(part["confidence"], value, [[value - low], [high - value]], fmt="o", capsize=3, color=TRAIN)
    left.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02),
             title="On the line: as often right as it says")  # fmt: skip
    right.plot(kept, accuracy, color=TRAIN)
    right.set(xlabel="share of faces that are answered, the surest first", ylabel="share that is right",
              title="Answering only when sure", xlim=(0, 1))  # fmt: skip
    for axis in (left, right):
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


@_styled
def curves(history: list[dict], title: str = "Training", epochs: int = 0) -> Picture:
    """Losses, each task's measure, the gap and the learning rate by epoch; the best epoch is marked.

    Args:
        history: a line for each epoch.
        epochs: where the axis ends at least, such as the planned last epoch.
    """
    columns = -(-(len(TASKS) + 3) // 2)
    figure, axes = _figure(2, columns, 13 * columns / 3, 6.4, title, len(TASKS) + 3)
    both, gap = {"train_": TRAIN, "val_": VALIDATION}, CRITERIA["gap"]
    # Title, key in the history, the colours of its lines by what stands before the key, factor, and what is aimed at.
    panels: list[tuple[str, str, dict[str, str], float, float | None]]
    panels = [("Loss (training: augmented and mixed)", "loss", both, 1.0, None)]
    for name, task in TASKS.items():
        aim = CRITERIA[name].bound if name in CRITERIA else None
        panels.append((f"{task.title.capitalize()},{task.unit}", task.key, both, task.scale, aim))
    text = f"{gap.task.capitalize()} gap, training minus validation, points"
    panels += [(text, "gap", {"": GAP}, 100.0, gap.bound), ("Learning rate", "lr", {"": "black"}, 1.0, None)]
    best = max((row["epoch"] for row in history if row["best"]), default=None)
    done = [row["epoch"] for row in history]
    last = max(epochs, *done[-1:], 2)
    for axis, (text, key, colours, factor, aim) in zip(axes, panels, strict=False):
        for before, colour in colours.items():
            values = factor * np.array([row[before + key] for row in history], float)  # what is not known becomes NaN
            axis.plot(done, values, color=colour, marker="o", markersize=3)
            telling = best is not None and before != "train_" and key != "lr"
            for at in {done.index(best), len(done) - 1} if telling else ():
                side = ("left", 3) if done[at] < last / 2 else ("right", -3)  # clear of the axis
                axis.annotate(f"{values[at]:.3g}", (done[at], values[at]), (side[1], 4), fontsize=8, color=colour,
                              textcoords="offset points", ha=side[0], path_effects=[_HALO])  # fmt: skip
        axis.set_title(text)
        axis.set_xlim(1 - 0.04 * last, 1.04 * last)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if aim is not None:
            axis.axhline(aim, color="grey", linestyle=":")
        if best is not None:
            axis.axvline(best, color="grey", linewidth=0.8, linestyle="--")
    figure.supxlabel("epoch (dashed: best; dotted: what is aimed at)", fontsize="medium")
    axes[0].legend(["training faces", "validation"])
    return figure


@_styled
def curves_of_runs(histories: dict[str, list[dict]], title: str = "Validation, run by run") -> Picture:
    """Each task's measure on the validation split by epoch, a line with its last value for each run."""
    figure, axes = _figure(1, len(TASKS), 4.3 * len(TASKS), 3.4, title)
    for axis, task in zip(axes, TASKS.values(), strict=True):
        for (name, history), style in zip(histories.items(), cycle(("-", "--", "-.", ":")), strict=False):
            values = task.scale * np.array([row[f"val_{task.key}"] for row in history], float)
            axis.plot([row["epoch"] for row in history], values, linestyle=style, marker="o", markersize=3, label=name)
            if history:
                axis.annotate(f"{values[-1]:.3g}", (history[-1]["epoch"], values[-1]), fontsize=8)
        axis.set_title(f"{task.title.capitalize()},{task.unit}")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.supxlabel("epoch", fontsize="medium")
    axes[0].legend()
    return figure


@_styled
def rates(rates: np.ndarray, losses: list[float], smooth: np.ndarray, suggestion: float | None) -> Picture:
    """A learning-rate range test: the loss against the rate, as it was and smoothed, with the rate it suggests."""
    figure, (axis,) = _figure(1, 1, 7, 3.6, "Learning-rate finder")
    axis.plot(rates, losses, color=TRAIN, alpha=0.35, label="loss of each step")
    axis.plot(rates, smooth, color=TRAIN, label="smoothed")
    if suggestion:
        axis.axvline(suggestion, color=GAP, linestyle="--", label=f"suggestion: {suggestion:g}")
    axis.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(0.8 * smooth.min(), 1.5 * smooth[0]))
    axis.legend()
    return figure


@_styled
def confusion(matrix: list[list[int]], names: tuple[str, ...], title: str) -> Picture:
    """A confusion matrix, rows the truth: shares of each row as colour and text, counts below; no text for none."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.8 + 0.75 * len(names)
    figure, (axis,) = _figure(1, 1, side + 0.6, side, title)
    text = [[f"{share:.0%}\n{count}" if count else "" for share, count in zip(*row, strict=True)]
            for row in zip(shares, counts, strict=True)]  # fmt: skip
    sns.heatmap(
        shares, vmin=0, vmax=1, annot=text, fmt="", cmap="Blues", square=True, ax=axis,
        xticklabels=names, yticklabels=names, annot_kws={"fontsize": 8}, cbar=False,
    )  # fmt: skip
    axis.grid(visible=False)
    axis.set(xlabel="answered", ylabel="true")
    return figure


@_styled
def per_class(found: dict[str, dict], title: str) -> Picture:
    """Recall, precision and F1 of each class with their 95 % intervals."""
    figure, (axis,) = _figure(1, 1, 2.5 + 1.1 * len(found), 3.4, title)
    places = np.arange(len(found))
    for shift, (name, colour) in enumerate((("recall", TRAIN), ("precision", VALIDATION), ("f1", TEST))):
        parts = [part[name] for part in found.values()]
        value, low, high = (np.array([part[end] for part in parts], float) for end in ("value", "low", "high"))
        # A class that is never answered has no precision, and a bootstrap's interval can miss its own estimate.
        spread = np.maximum(np.nan_to_num([value - low, high - value]), 0)
        axis.errorbar(places + 0.15 * (shift - 1), value, spread, color=colour, fmt="o", capsize=3, label=name)
    axis.set_xticks(places, [f"{name}\n(n = {part['recall']['n']})" for name, part in found.items()])
    axis.set_ylim(0, 1.04)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    return figure


@_styled
def ages(true: np.ndarray, answered: np.ndarray, errors: np.ndarray, title: str) -> Picture:
    """Answered over true age, and the size of the errors by decade of true age; all in years."""
    figure, (left, right) = _figure(1, 2, 10, 4.4, title)
    left.plot(AGE_RANGE, AGE_RANGE, color="grey", linewidth=0.8)
    left.scatter(true, answered, s=8, alpha=0.4, color=TRAIN, edgecolors="none")
    left.set(xlabel="true age", ylabel="answered age", title=f"{len(true)} faces")
    starts, decades, counts = np.unique(true // 10 * 10, return_inverse=True, return_counts=True)
    names = [f"{start:.0f}-{start + 9:.0f}\nn={count}" for start, count in zip(starts, counts, strict=True)]
    found = [mean(errors[decades == number]) for number in range(len(starts))]
    value, high = (np.array([part[end] for part in found]) for end in ("value", "high"))
    few = counts < FEW
    right.bar(names, value, color=np.where(few, "lightgrey", TRAIN), capsize=3,
              yerr=np.where(few, 0, np.nan_to_num(high - value, posinf=0)))  # fmt: skip
    right.set(xlabel="true age", title=f"Mean absolute error{f' (grey: fewer than {FEW} faces)' if few.any() else ''}")
    right.tick_params(axis="x", labelsize=8, grid_alpha=0)
    return figure


def save_all(figures: dict[str, Picture], folder: Path) -> None:
    """Write each figure as ``<name>.png``; raises an InputError where it cannot be written."""
    for name, figure in figures.items():
        write_file(folder / f"{name}.png", figure.png(dpi=110))
