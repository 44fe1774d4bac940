"""From the store to batches: which rows a step sees, and their faces as uint8 tensors.

The sampler hands out (step, rows) and a batch's augmentation is seeded by (seed, step). So a batch is a function of
the seed and the step alone, whatever the number of workers, and training can go on from any step.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from helpers.config import TASKS, InputError, TrainConfig
from helpers.data.augment import Augmenter
from helpers.data.geometry import resize, warp
from helpers.data.images import reduce
from helpers.data.store import FaceStore

_RANKS = 1000
"""Purposes of draws below this number belong to a step as a whole, multiples of it to the ranks."""


@dataclass(frozen=True)
class Targets:
    """Labels of a batch, each of shape (B,): emotion and gender int64 with -1 unknown, age float32 with NaN unknown."""

    emotion: torch.Tensor
    age: torch.Tensor
    gender: torch.Tensor

    def map(self, change) -> Targets:
        """``change`` applied to each tensor."""
        return Targets(change(self.emotion), change(self.age), change(self.gender))


@dataclass(frozen=True)
class Batch:
    """Faces and labels of one step, all pixels in one tensor: each further one costs a transfer between processes.

    Attributes:
        step: number of the step, from 0.
        rows: store rows, int64 (B,), in the order of the faces.
        pixels: uint8, the faces one after another.
        shapes: (count, height, width) of each run of faces of one size.
        warps: float32 (B, 2, 3), how each face is warped when it is resized, or None.
        targets: the labels in the order of the faces.
        known: how many faces of the whole step, those of other processes too, carry each label, in the order of TASKS.
    """

    step: int
    rows: torch.Tensor
    pixels: torch.Tensor
    shapes: tuple[tuple[int, int, int], ...]
    warps: torch.Tensor | None
    targets: Targets
    known: tuple[int, int, int]

    @property
    def faces(self) -> list[torch.Tensor]:
        """The faces as uint8 RGB tensors (n, H, W, 3), one per size of face; views, not copies."""
        parts = self.pixels.split([count * height * width * 3 for count, height, width in self.shapes])
        return [part.view(*shape, 3) for part, shape in zip(parts, self.shapes, strict=True)]

    def resized(self, size: int) -> torch.Tensor:
        """All faces, warped where they are to be, as float (B, 3, size, size) from 0 to 255."""
        if self.warps is None:
            return torch.cat([resize(faces, size) for faces in self.faces])
        warps = self.warps.split([count for count, _, _ in self.shapes])
        return torch.cat([warp(faces, part, size) for faces, part in zip(self.faces, warps, strict=True)])

    def to(self, device: torch.device) -> Batch:
        """The batch with faces, warps and labels on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Called by the loader for a GPU, so that copies to it need not wait."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, change) -> Batch:
        warps = None if self.warps is None else change(self.warps)
        return replace(self, pixels=change(self.pixels), warps=warps, targets=self.targets.map(change))


class EpochSampler(Sampler):
    """Yields (step, rows) from ``first_step`` on to the end of that step's epoch.

    Each epoch is drawn from (seed, epoch) alone; a last, smaller batch is left out, since BatchNorm's statistics over a
    handful of faces would be noise.

    Args:
        rows: what is trained on.
        batch_size: rows of a step, over all ranks together.
        seed: with the epoch, what the order depends on.
        first_step: where to begin.
        plan: how often each row comes in an epoch and which rows a batch takes its parts from; None means each once.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        first_step: int = 0,
        plan: Plan | None = None,
    ):
        self.rows, self.batch_size, self.seed, self.first_step = rows, min(batch_size, len(rows)), seed, first_step
        self.plan = plan
        self.steps_per_epoch = len(rows) // self.batch_size

    def __len__(self) -> int:
        return self.steps_per_epoch - self.first_step % self.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        epoch, start = divmod(self.first_step, self.steps_per_epoch)
        rng = np.random.default_rng([self.seed, epoch])
        order = self.plan.draw(self.rows, rng) if self.plan else rng.permutation(self.rows)
        for index in range(start, self.steps_per_epoch):
            yield epoch * self.steps_per_epoch + index, order[index * self.batch_size : (index + 1) * self.batch_size]


@dataclass(frozen=True)
class Plan:
    """Expected draws of each row in an epoch, and its dataset, both in the rows' order.

    Attributes:
        expected: float (N,), with the sum N: an epoch has as many draws as there are rows.
        dataset: int (N,).
    """

    expected: np.ndarray
    dataset: np.ndarray

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rows of an epoch: each ``floor`` or ``ceil`` of its expected times, datasets spread evenly over it.

        Systematic sampling: one random offset, so that the counts add up to the expected sum (Madow 1949).
        """
        order = rng.permutation(len(rows))
        edges = np.floor(np.cumsum(self.expected[order]) + rng.random())
        edges[-1] = len(rows)  # whatever rounding has left of the sum
        counts = np.diff(edges, prepend=0.0).astype(int)
        drawn = rng.permutation(np.repeat(order, counts))
        # Within its dataset the k-th of n draws stands at (k + u) / n of the epoch, so each batch has about its quota.
        place = np.empty(len(drawn))
        for dataset in np.unique(self.dataset):
            own = np.flatnonzero(self.dataset[drawn] == dataset)
            place[own] = (np.arange(len(own)) + rng.random()) / len(own)
        return rows[drawn[np.argsort(place, kind="stable")]]


def draw_plan(store: FaceStore, rows: np.ndarray, config: TrainConfig) -> Plan | None:
    """The plan that a config's quotas and balance ask for; None where they ask for nothing.

    Raises:
        InputError: the quotas are not ``dataset=number, ...`` with datasets that the store holds.
    """
    if not config.quotas and not config.balance:
        return None
    names = list(store.manifest["sources"])
    dataset = pd.Categorical(store.table.column("dataset").take(rows).to_numpy(), categories=names).codes
    parts = dict(zip(names, np.bincount(dataset, minlength=len(names)), strict=True))
    if config.quotas:
        parts = _quotas(config.quotas, names)
    expected = np.zeros(len(rows))
    emotion = store.labels("emotion")[rows]
    for number, name in enumerate(names):
        own = dataset == number
        if own.any() and parts.get(name):
            # A row without an emotion counts as a class of its own, so that balancing leaves it where it is.
            _, classes, counts = np.unique(emotion[own], return_inverse=True, return_counts=True)
            weights = (1.0 / counts[classes]) ** config.balance
            expected[own] = parts[name] * weights / weights.sum()
    if not expected.any():
        raise InputError(f"The field 'quotas' is {config.quotas!r}, which leaves no training face.")
    return Plan(expected * len(rows) / expected.sum(), dataset)


def _quotas(text: str, names: list[str]) -> dict[str, float]:
    """``fer2013=2, utkface=1`` as dataset -> parts."""
    found = {}
    for item in text.split(","):
        name, _, parts = (part.strip() for part in item.partition("="))
        if name not in names or not parts.replace(".", "", 1).isdigit():
            raise InputError(
                f"The field 'quotas' is {text!r}, but it takes dataset=number, separated by commas, "
                f"of {', '.join(names)}."
            )
        found[name] = float(parts)
    return found


class FaceBatches(Dataset):
    """Makes a :class:`Batch` of (step, rows).

    Args:
        store: where the faces are.
        augmenter: applied to each face, or None.
        seed: with the step and the rank, what the augmentation's draws depend on.
        shrink_to: larger faces are reduced so that their longer side has this many pixels. Used in training only,
            where it saves augmentation's time and warping does not average.
        rank, ranks: every process takes its share of each step's rows.
    """

    def __init__(
        self,
        store: FaceStore,
        augmenter: Augmenter | None = None,
        seed: int = 0,
        shrink_to: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ):
        self.store, self.augmenter, self.seed, self.shrink_to = store, augmenter, seed, shrink_to
        self.rank, self.ranks = rank, ranks
        self._emotion, self._age, self._gender = (store.labels(task) for task in TASKS)
        self._known = np.stack([store.known(task) for task in TASKS])

    def __getitem__(self, item: tuple[int, np.ndarray]) -> Batch:
        step, together = item
        rows = together[self.rank :: self.ranks]
        if self.augmenter:
            self.augmenter.reseed(draw_seed(self.seed, step, _RANKS * self.rank))
        sizes: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
        for row in rows:
            face = self._face(row)
            sizes.setdefault(face.shape[:2], []).append((row, face))
        ordered = np.array([row for group in sizes.values() for row, _ in group])
        shapes = tuple((len(group), *size) for size, group in sizes.items())
        pixels = np.concatenate([face.reshape(-1) for group in sizes.values() for _, face in group])
        warps = torch.from_numpy(self.augmenter.warps(len(rows))) if self.augmenter else None
        targets = Targets(
            torch.from_numpy(self._emotion[ordered].astype(np.int64)),
            torch.from_numpy(self._age[ordered].astype(np.float32)),
            torch.from_numpy(self._gender[ordered].astype(np.int64)),
        )
        known = tuple(self._known[:, together].sum(axis=1).tolist())
        return Batch(step, torch.from_numpy(ordered), torch.from_numpy(pixels), shapes, warps, targets, known)

    def _face(self, row: int) -> np.ndarray:
        face = self.store.image(row)
        face = reduce(face, self.shrink_to) if self.shrink_to else face
        return self.augmenter(face) if self.augmenter else face


def train_loader(
    store: FaceStore,
    rows: np.ndarray,
    config: TrainConfig,
    first_step: int = 0,
    size: int | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> DataLoader:
    """Augmented batches of the epoch that ``first_step`` lies in, from that step on; ``rank``'s share of each.

    ``size`` is what the faces will be resized to; None means the config's image size.
    """
    size = size or config.img_size
    augmenter = Augmenter(config.augment, config.augment_without)
    augmenter.prepare({min(side, size) for side in store.sides})
    batches = FaceBatches(store, augmenter, config.seed, size, rank, ranks)
    sampler = EpochSampler(rows, config.batch_size, config.seed, first_step, draw_plan(store, rows, config))
    return make_loader(batches, sampler, config.workers)


def plain_loader(store: FaceStore, rows: np.ndarray, batch_size: int, workers: int) -> DataLoader:
    """The given rows once, in order, as they are stored."""
    batches = [(step, rows[start : start + batch_size]) for step, start in enumerate(range(0, len(rows), batch_size))]
    return make_loader(FaceBatches(store), batches, workers)


def draw_seed(seed: int, step: int, purpose: int = 0) -> int:
    """A 32-bit seed for the draws of a step; another ``purpose`` gives draws that do not resemble the first."""
    return int(np.random.SeedSequence([seed, step, purpose]).generate_state(1)[0])


def make_loader(batches: FaceBatches, sampler, workers: int) -> DataLoader:
    """A loader that hands each (step, rows) of the sampler to a worker whole and gives its batch back unchanged."""
    return DataLoader(
        batches,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_quiet_worker,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_unchanged,
    )


def _unchanged(batch: Batch) -> Batch:
    return batch


def _quiet_worker(_: int) -> None:
    """One thread per worker: they already share the cores, and OpenCV's pool does not survive a fork.

    An interrupt is for the training process alone, which ends its workers when it is done with the step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
