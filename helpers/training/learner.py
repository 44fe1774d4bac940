"""One step of training: from a batch to changed weights, on whatever device and in whatever precision there is."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils.memory import should_reduce_batch_size
from timm.utils import ModelEmaV3
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from helpers.config import TASKS, InputError, TrainConfig
from helpers.data.loaders import Batch, draw_seed
from helpers.training.losses import task_losses, total_loss
from helpers.training.mixing import Shares, mix
from helpers.training.model import FaceModel
from helpers.training.schedule import Rates, make_optimizer, mixing_at
from helpers.training.watch import Watch

_DROPOUT = 2  # keeps dropout's draws apart from those of augmentation and mixing in the same step


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Device, processes and precision of this session."""
    AcceleratorState._reset_state()  # else a second run in the same kernel could not have another precision
    cuda = torch.cuda.is_available()  # Apple's MPS has no float64 to sum losses in
    precision = {"float32": "no", "float16": "fp16", "bfloat16": "bf16"}.get(config.precision)
    if precision is None:
        precision = ("bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16") if cuda else "no"
    if precision == "fp16" and not cuda:
        raise InputError("The field 'precision' is 'float16', which needs a GPU; set it to 'auto'.")
    return Accelerator(cpu=not cuda, mixed_precision=precision)


def _compiles(config: TrainConfig, device: torch.device) -> bool:
    if config.compile == "auto":
        return device.type == "cuda" and torch.cuda.get_device_capability()[0] >= 8
    return config.compile == "on"


class Learner:
    """A model and all that changes with it: averaged weights, optimiser, loss scale, and how a batch is cut up.

    Args:
        config: how it learns.
        model: the network.
        steps: of an epoch.
        accelerator: where it learns.
        class_weights: of the emotions, see :func:`helpers.training.losses.class_weights`.
        log: called with what the user should know.

    Attributes:
        measured: the network that is measured and kept: with averaged weights where the config has them.
        sums: per task the summed loss and the count of known rows since the epoch began, (3, 2) float64.
        rate: the heads' learning rate in the last step.
        parts: into how many parts a batch is cut, so that it fits the device.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: FaceModel,
        steps: int,
        accelerator: Accelerator,
        class_weights: Tensor | None = None,
        log=lambda line: None,
    ):
        device = accelerator.device
        # The layout that faces come in; it halves a step's time on a CPU.
        model = model.to(device, memory_format=torch.channels_last)
        self.config, self.steps, self.accelerator, self._log = config, steps, accelerator, log
        # A copy in full precision, whatever the network itself will be wrapped in.
        self._average = ModelEmaV3(model, config.ema, use_warmup=True)
        self._average.module.requires_grad_(False)
        optimizer = make_optimizer(model.backbone, model.heads, config)
        self._rates = Rates(optimizer, config, steps)
        self._plain = model
        self._model, self._optimizer = accelerator.prepare(model, optimizer)
        self._forward = self._model
        if _compiles(config, device):
            torch._dynamo.reset()  # its limit of variants counts those of earlier runs in the same kernel
            self._forward = torch.compile(self._model, dynamic=False)  # one variant for each size of face
        self._weights = None if class_weights is None else class_weights.to(device)
        self.watch = Watch(device, norms=accelerator.scaler is None)
        self.sums = torch.zeros(len(TASKS), 2, dtype=torch.float64, device=device)
        self.rate, self.parts = config.lr, 1

    @property
    def measured(self) -> FaceModel:
        if not self.config.ema:
            self._average.set(self._plain)
        return self._average.module

    def state(self) -> dict:
        """Everything that a checkpoint needs."""
        scaler = self.accelerator.scaler
        return {
            "model": self._plain.state_dict(),
            "average": self._average.module.state_dict() if self.config.ema else None,
            "optimizer": self._optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "sums": self.sums.cpu(),
            "parts": self.parts,
        }

    def load(self, state: dict) -> None:
        """Go on from what :meth:`state` gave; raises a RuntimeError where the network is another one."""
        self._plain.load_state_dict(state["model"])
        if self.config.ema:
            self._average.module.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.sums.copy_(state["sums"])
        self.parts = state["parts"]

    def train(self) -> None:
        """Into training mode, at the start of an epoch."""
        self._model.train()

    def step(self, batch: Batch, size: int) -> None:
        """Learn from one batch, whose faces are resized to ``size``; waits for nothing on the device.

        Where the device runs out of memory the batch is cut into twice as many parts whose gradients are added up, so
        the step stays the same but for BatchNorm, which normalises each part by its own statistics.

        Raises:
            InputError: not even two faces at a time fit the device, or the optimiser's state does not.
        """
        self.rate = self._rates.set(batch.step)
        while not self._gradients(batch, size):
            self._cut(len(batch.rows))
        norm = self.accelerator.clip_grad_norm_(self._model.parameters(), self.config.clip_norm)
        try:
            self._optimizer.step()
        except torch.OutOfMemoryError as error:  # its first step makes its state, twice the size of the network
            raise self._too_large("the optimiser's state") from error
        self._optimizer.zero_grad()
        if self.config.ema:
            self._average.update(self._plain, batch.step + 1)
        self.watch.add(batch.step, self._loss, norm)

    def _gradients(self, batch: Batch, size: int) -> bool:
        """Add up the batch's gradients; returns whether the device had the memory for it."""
        config, sums, self._loss = self.config, [], 0.0
        try:
            batch = batch.to(self.accelerator.device)
            faces = self._plain.normalise(batch.resized(size))
            probability = mixing_at(config, batch.step / self.steps)
            faces, shares = mix(faces, batch.targets, batch.step, config, probability)
            torch.manual_seed(draw_seed(config.seed, batch.step, _DROPOUT))
            places = torch.arange(len(faces)).tensor_split(min(self.parts, len(faces) // 2 or 1))
            for place in places:
                with nullcontext() if place is places[-1] else self.accelerator.no_sync(self._model):
                    sums.append(self._backward(faces[place[0] : place[-1] + 1], _part(shares, place), batch.known))
        except TorchDynamoException as error:
            self._forward = self._model
            self._optimizer.zero_grad()
            self._log(f"torch.compile failed ({type(error).__name__}): training goes on without it, more slowly")
            return self._gradients(batch, size)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if self.accelerator.num_processes > 1:
                raise InputError(
                    f"The GPU is out of memory ({str(error).splitlines()[0]}); with several processes the batch is not "
                    f"cut by itself: set batch_size = {max(2, config.batch_size // 2)} and start a run under another "
                    "name."
                ) from error
            self._optimizer.zero_grad()
            return False
        self.sums += torch.stack(sums).sum(dim=0)
        return True

    def _backward(self, faces: Tensor, shares: Shares, known: tuple[int, int, int]) -> Tensor:
        """Gradients of a part of the step; returns its summed losses and counts, (3, 2)."""
        losses = task_losses(self._forward(faces), shares, self.config, self._weights)
        whole = {task: (total, count) for (task, (total, _)), count in zip(losses.items(), known, strict=True)}
        loss = total_loss(whole, self.config)
        # Processes' gradients are averaged, but each has divided by the count of all.
        self.accelerator.backward(loss * self.accelerator.num_processes)
        self._loss = self._loss + loss.detach()
        return torch.stack([torch.stack(losses[task]) for task in TASKS]).detach().double()

    def _cut(self, faces: int) -> None:
        if faces // (2 * self.parts) < 2:
            raise self._too_large(f"{max(2, faces // self.parts)} faces at a time")
        self.parts *= 2
        torch.cuda.empty_cache()
        self._log(
            f"the GPU is out of memory: each batch is now cut into {self.parts} parts of {faces // self.parts} faces, "
            "whose gradients are added up"
        )

    def _too_large(self, what: str) -> InputError:
        return InputError(
            f"The GPU is out of memory even with {what}; close what else uses it, or choose a smaller img_size (now "
            f"{self.config.img_size}) or backbone."
        )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the device's memory is full, in the words of any of its libraries."""
    known = isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
    return known or "ALLOC_FAILED" in str(error)


def _part(shares: Shares, place: Tensor) -> Shares:
    """The shares of the faces at ``place``, which is a range."""
    first, last = int(place[0]), int(place[-1]) + 1
    return [(share, targets.map(lambda labels: labels[first:last])) for share, targets in shares]


def agreed(accelerator: Accelerator, value):
    """What the main process says, in every process."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def cpu_threads(device: torch.device) -> int:
    """Threads to compute with: on a CPU all cores that this process may use, though the loader shares them.

    That is a tenth faster than one less.
    The number does not follow ``workers``, since sums over another number of threads differ in their last bit.
    """
    return len(os.sched_getaffinity(0)) if device.type == "cpu" else torch.get_num_threads()


@contextmanager
def computing_with(threads: int):
    """Compute with so many threads, and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
