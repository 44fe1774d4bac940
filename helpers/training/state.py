"""Everything that changes while a network learns: built by one function, and held by a checkpoint."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader

from helpers.config import TrainConfig
from helpers.data.loaders import EpochSampler, train_loader
from helpers.data.store import FaceStore
from helpers.files import InputError
from helpers.tasks import TASKS
from helpers.training.early_stopping import EarlyStopping
from helpers.training.loss_guard import LossGuard
from helpers.training.model import FaceModel, create_model
from helpers.training.objective import Objective
from helpers.training.processes import make_accelerator
from helpers.training.schedule import make_optimizer, make_rates, size_at

SAMPLE_ROWS = 500
"""Fixed training rows per task, without augmentation, behind the training curves of each epoch."""


@dataclass(frozen=True)
class TrainingFaces:
    """What is learned from and what is measured on.

    Attributes:
        store: holds them.
        train, validation: rows of the splits.
        sample: the training rows that are measured on.
        steps: of an epoch.
    """

    store: FaceStore
    train: np.ndarray
    validation: np.ndarray
    sample: np.ndarray
    steps: int


class Training:
    """A network that learns, and how far it is. :func:`build` makes it; :mod:`helpers.training.loop` moves it on.

    Attributes:
        config: how it learns.
        faces: from what.
        accelerator, device: processes, and where this one learns.
        log: called with what the user should know.
        model: the network itself.
        wrapped, network: the same as several processes share it, and as a step calls it, perhaps compiled.
        ema: a moving average of its weights, or None.
        measured: the network that is measured and kept: with averaged weights where the config has them.
        optimizer, rates, scaler: AdamW, its learning rates by step, and the loss scale of float16.
        precision: the type that the network computes in, None for float32.
        objective: the loss.
        guard: sees a loss that explodes.
        early_stopping: knows the best epoch.
        step: how many are done.
        seconds: how long they took, over all sessions.
        history: a line for each finished epoch, see :func:`helpers.training.loop.validate`.
        loss_sums: per task the summed loss and the count of known rows since the epoch began, (tasks, 2) float64.
        accumulation: into how many parts a batch is cut, so that it fits the device.
    """

    def __init__(self, config: TrainConfig, faces: TrainingFaces, model: FaceModel, accelerator: Accelerator):
        self.device = device = accelerator.device
        self.config, self.faces, self.accelerator = config, faces, accelerator
        self.log: Callable[[str], None] = lambda line: None
        # The layout that faces come in; it halves a step's time on a CPU.
        self.model: FaceModel = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = ModelEmaV3(model, config.optimiser.ema, use_warmup=True) if config.optimiser.ema else None
        self.measured: FaceModel = self.ema.module if self.ema else self.model
        self.optimizer = make_optimizer(model.backbone, model.heads, config.optimiser)
        self.rates = make_rates(self.optimizer, config.schedule, config.optimiser.lr, faces.steps)
        self.wrapped = accelerator.prepare_model(model)
        self.network = compiled(self.wrapped, config.run.compile, device)
        self.precision = precision_on(device, config.run.precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == torch.float16)
        labels = {task: faces.store.labels(task)[faces.train] for task in TASKS}
        self.objective = Objective(config.loss, labels, device)
        self.guard = LossGuard(device, norms=not self.scaler.is_enabled())
        self.early_stopping = EarlyStopping(config.run)
        self.step, self.seconds, self.accumulation = 0, 0.0, 1
        self.history: list[dict] = []
        self.loss_sums = torch.zeros(len(TASKS), 2, dtype=torch.float64, device=device)

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return self.step // self.faces.steps

    @property
    def epoch_is_complete(self) -> bool:
        """Whether the last step was the last one of its epoch."""
        return self.step % self.faces.steps == 0

    @property
    def finished(self) -> bool:
        """Whether the epochs or the patience are used up."""
        return self.epoch >= self.config.schedule.epochs or self.early_stopping.wait >= self.config.run.patience

    def autocast(self) -> AbstractContextManager:
        """Where the network computes in the session's precision."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not None)

    def size_of(self, epoch: int) -> int:
        """Pixels a side of the faces in an epoch, counted from 0."""
        return size_at(epoch, self.config.model.img_size, self.config.schedule)

    def batches(self, size: int | None = None) -> DataLoader:
        """The batches of the epoch under way that are still to come; puts the network into training mode.

        ``size`` replaces the pixels a side that the schedule says.
        """
        config = self.config
        self.model.frozen = self.epoch < config.schedule.head_epochs
        self.wrapped.train()
        return train_loader(
            self.faces.store, self.faces.train, config.data, config.augmentation, seed=config.run.seed,
            size=size or self.size_of(self.epoch), first_step=self.step, rank=self.accelerator.process_index,
            ranks=self.accelerator.num_processes,
        )  # fmt: skip

    def state_dict(self) -> dict:
        """What a checkpoint holds: tensors, numbers, text, lists and dicts."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return parts | {name: getattr(self, name) for name in _NUMBERS} | {"loss_sums": self.loss_sums.cpu()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what :meth:`state_dict` gave; raises a RuntimeError where the network is another one."""
        for name, part in self._parts().items():
            if state[name]:  # a GPU that needs no loss scaling has left no scale to one that does
                part.load_state_dict(state[name])
        for name in _NUMBERS:
            setattr(self, name, state[name])
        self.loss_sums.copy_(state["loss_sums"])

    def _parts(self) -> dict[str, Any]:
        """What has a state of its own."""
        parts = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler, "guard": self.guard}
        return parts | {"early_stopping": self.early_stopping} | ({"ema": self.ema.module} if self.ema else {})


_NUMBERS = ("step", "seconds", "history", "accumulation")


def build(config: TrainConfig, store: FaceStore, folder: Path = Path(), *, fetch_weights: bool = True) -> Training:
    """All that training needs, at its first step; the one way to it for sessions, estimates, benchmarks and tests.

    Args:
        config: how it learns.
        store: the faces.
        folder: of the run, beside which lies the earlier one that it may start from.
        fetch_weights: False where a checkpoint is loaded next, or weights do not matter.

    Raises:
        InputError: the network cannot be built or cannot read faces of the sizes that it will meet, or the device has
            not the precision.
    """
    train, validation = store.rows("train"), store.rows("validation")
    steps = EpochSampler(train, config.data.batch_size, config.run.seed).steps_per_epoch
    faces = TrainingFaces(store, train, validation, store.fixed_sample("train", SAMPLE_ROWS), steps)
    sizes = {size_at(epoch, config.model.img_size, config.schedule) for epoch in range(config.schedule.epochs)}
    accelerator = make_accelerator(heads_alone=config.schedule.head_epochs > 0)
    together, processes = min(config.data.batch_size, len(train)), accelerator.num_processes
    if together < 2 * processes:  # BatchNorm has no statistics of one face
        raise InputError(
            f"A step of {together} faces leaves fewer than 2 for each of {processes} processes; raise batch_size (now "
            f"{config.data.batch_size}), pack more faces than {len(train)}, or start fewer processes."
        )
    with accelerator.main_process_first():
        torch.manual_seed(config.run.seed)
        model = create_model(config.model, sorted(sizes), fetch_weights, folder)
    return Training(config, faces, model, accelerator)


def precision_on(device: torch.device, choice: str) -> torch.dtype | None:
    """The type to compute in by the knob ``precision``; None for float32.

    Raises:
        InputError: float16 was chosen, and there is no GPU.
    """
    if choice == "auto" and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
    if choice == "float16" and device.type != "cuda":
        raise InputError("The field 'precision' is 'float16', which needs a GPU; set it to 'auto'.")
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(choice)


def compiled(network: nn.Module, choice: str, device: torch.device) -> nn.Module | Callable:
    """The network, compiled where the knob ``compile`` says so: ``on``, or ``auto`` on GPUs from Ampere on."""
    ampere = device.type == "cuda" and torch.cuda.get_device_capability()[0] >= 8
    if choice == "off" or (choice == "auto" and not ampere):
        return network
    torch._dynamo.reset()  # its limit of variants counts those of earlier runs in the same kernel
    return torch.compile(network, dynamic=False)  # one variant for each size of face
