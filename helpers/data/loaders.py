"""From the store to batches: which rows a step sees, and their faces as uint8 tensors.

The sampler hands out (step, rows) and a batch's augmentation is seeded by (seed, step). So a batch is a function of
the seed and the step alone, whatever the number of workers, and training can go on from any step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from helpers.config import AugmentationConfig, DataConfig
from helpers.data.augment import Augmenter
from helpers.data.geometry import resize, warp
from helpers.data.images import reduce
from helpers.data.store import FaceStore
from helpers.data.workers import SHARED, quiet_worker
from helpers.tasks import TASKS

_RANKS = 1000
"""Purposes of draws below this number belong to a step as a whole, multiples of it to the ranks."""


Labels = dict[str, torch.Tensor]
"""Labels of a batch by task, in its own form: classes int64 (B,), ages float32 (B, 2); see :mod:`helpers.tasks`."""


@dataclass(frozen=True)
class Batch:
    """Faces and labels of one step, all pixels in one tensor: each further one costs a transfer between processes.

    Attributes:
        step: number of the step, from 0.
        rows: store rows, int64 (B,), in the order of the faces.
        pixels: uint8, the faces one after another.
        shapes: (count, height, width) of each run of faces of one size.
        warps: float32 (B, 2, 3), how each face is warped when it is resized, or None.
        labels: in the order of the faces.
        size: pixels a side that the faces will be resized to, where the loader knows it, else 0.
        known: task -> how many faces of the whole step, those of other processes too, carry its label.
    """

    step: int
    rows: torch.Tensor
    pixels: torch.Tensor
    shapes: tuple[tuple[int, int, int], ...]
    warps: torch.Tensor | None
    labels: Labels
    size: int
    known: dict[str, int]

    @property
    def faces(self) -> list[torch.Tensor]:
        """The faces as uint8 RGB tensors (n, H, W, 3), one per size of face; views, not copies."""
        parts = self.pixels.split([count * height * width * 3 for count, height, width in self.shapes])
        return [part.view(*shape, 3) for part, shape in zip(parts, self.shapes, strict=True)]

    def resized(self, size: int, grey: int | None = None) -> torch.Tensor:
        """All faces, warped or in ``grey`` where they are to be, as float (B, 3, size, size) from 0 to 255."""
        if self.warps is None:
            return torch.cat([resize(faces, size, grey) for faces in self.faces])
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
        labels = {task: change(values) for task, values in self.labels.items()}
        return replace(self, pixels=change(self.pixels), warps=warps, labels=labels)


class EpochSampler(Sampler):
    """Yields (step, rows) from ``first_step`` on to the end of that step's epoch.

    Each epoch is drawn from (seed, epoch) alone; a last, smaller batch is left out, since BatchNorm's statistics over a
    handful of faces would be noise.

    Args:
        rows: what is trained on.
        batch_size: rows of a step, over all ranks together.
        seed: with the epoch, what the order depends on.
        first_step: where to begin.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int, first_step: int = 0):
        self.rows, self.batch_size, self.seed, self.first_step = rows, min(batch_size, len(rows)), seed, first_step
        self.steps_per_epoch = len(rows) // self.batch_size

    def __len__(self) -> int:
        return self.steps_per_epoch - self.first_step % self.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        epoch, start = divmod(self.first_step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        for index in range(start, self.steps_per_epoch):
            yield epoch * self.steps_per_epoch + index, order[index * self.batch_size : (index + 1) * self.batch_size]


@dataclass
class FaceBatches(Dataset):
    """Makes a :class:`Batch` of (step, rows).

    Attributes:
        store: where the faces are.
        augmenter: applied to each face, or None.
        seed: with the step and the rank, what the augmentation's draws depend on.
        shrink_to: what faces will be resized to; larger ones are reduced so that their longer side has this many
            pixels. Used in training only, where it saves augmentation's time and warping does not average.
        rank, ranks: every process takes its share of each step's rows.
    """

    store: FaceStore
    augmenter: Augmenter | None = None
    seed: int = 0
    shrink_to: int | None = None
    rank: int = 0
    ranks: int = 1

    def __post_init__(self):
        self._labels = {task: self.store.labels(task) for task in TASKS}
        self._known = {task: self.store.known(task) for task in TASKS}

    def __getitem__(self, item: tuple[int, np.ndarray]) -> Batch:
        step, together = item
        rows = together[self.rank :: self.ranks]
        if self.augmenter:
            self.augmenter.reseed(draw_seed(self.seed, step, _RANKS * self.rank))
        sizes: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
        for row in rows:
            face = self.store.image(row)
            face = reduce(face, self.shrink_to) if self.shrink_to else face
            face = self.augmenter(face) if self.augmenter else face
            sizes.setdefault(face.shape[:2], []).append((row, face))
        ordered = np.array([row for group in sizes.values() for row, _ in group])
        shapes = tuple((len(group), *size) for size, group in sizes.items())
        pixels = torch.from_numpy(np.concatenate([face.reshape(-1) for group in sizes.values() for _, face in group]))
        warps = torch.from_numpy(self.augmenter.warps(len(rows))) if self.augmenter else None
        labels = {task: torch.from_numpy(values[ordered]) for task, values in self._labels.items()}
        # Codes are widened to torch's indices; years stay as they are.
        labels = {task: found.long() if found.dtype == torch.int8 else found for task, found in labels.items()}
        known = {task: int(rows_with[together].sum()) for task, rows_with in self._known.items()}
        return Batch(step, torch.from_numpy(ordered), pixels, shapes, warps, labels, self.shrink_to or 0, known)


def train_loader(
    store: FaceStore, rows: np.ndarray, data: DataConfig, augmentation: AugmentationConfig, *,
    seed: int, size: int, first_step: int = 0, rank: int = 0, ranks: int = 1,
) -> DataLoader:  # fmt: skip
    """Augmented batches of the epoch that ``first_step`` lies in, from that step on; ``rank``'s share of each.

    ``size`` is what the faces will be resized to, in pixels.
    """
    augmenter = Augmenter(augmentation.augment, augmentation.augment_without)
    augmenter.prepare({min(side, size) for side in store.sides})
    batches = FaceBatches(store, augmenter, seed, size, rank, ranks)
    sampler = EpochSampler(rows, data.batch_size, seed, first_step)
    # Of the processes on this machine each has its own loader.
    return make_loader(batches, sampler, data.workers, sampler.batch_size * min(size, max(store.sides)) ** 2 * 3)


def plain_loader(store: FaceStore, rows: np.ndarray, batch_size: int, workers: int) -> DataLoader:
    """The given rows once, in order, as they are stored."""
    batches = [(step, rows[start : start + batch_size]) for step, start in enumerate(range(0, len(rows), batch_size))]
    return make_loader(FaceBatches(store), batches, workers, min(batch_size, len(rows)) * max(store.sides) ** 2 * 3)


def draw_seed(seed: int, step: int, purpose: int = 0) -> int:
    """A 32-bit seed for the draws of a step; another ``purpose`` gives draws that do not resemble the first."""
    return int(np.random.SeedSequence([seed, step, purpose]).generate_state(1)[0])


_say_once = cache(print)

_PAGES = 64 * 1024
"""Bytes that the labels of a batch and the rest take at least."""


def make_loader(batches: FaceBatches, sampler, workers: int, size: int = 0) -> DataLoader:
    """A loader that hands each (step, rows) of the sampler to a worker whole and gives its batch back unchanged.

    Args:
        workers: loader processes; fewer are started where there are fewer cores, as on a smaller machine,
            or where ``/dev/shm`` has not the room for what they have ready.
        size: bytes of a batch, over all ranks together.
    """
    workers = min(workers, len(os.sched_getaffinity(0)))
    if workers and SHARED.exists():
        free, asked = shutil.disk_usage(SHARED).free, workers
        # Each has two batches ready; one more is learned from, and one is on its way to the GPU.
        workers = max(0, min(asked, int(free / (size + _PAGES) - 2) // 2))
        if workers < asked:
            _say_once(f"{SHARED} has {free / 1e6:.0f} MB free: {workers} loader processes are started, not {asked}.")
    return DataLoader(batches, sampler=sampler, batch_size=None, num_workers=workers, worker_init_fn=quiet_worker,
                      collate_fn=_shared if workers else None, pin_memory=torch.cuda.is_available())  # fmt: skip


def _shared(batch) -> Batch:
    """The batch where the other process sees it; in the thread that sends it a failure would be told to no one."""
    batch.rows.share_memory_()
    return batch._map(torch.Tensor.share_memory_)
