"""When a step fails: out of memory its batch is cut into parts, and it goes on uncompiled where compiling fails."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from helpers.data.loaders import Batch
from helpers.files import InputError
from helpers.training.mixing import Mixed
from helpers.training.state import Training


def parts_of(training: Training, faces: Tensor, mixed: Mixed) -> Iterator[tuple[Tensor, Mixed, AbstractContextManager]]:
    """The faces and labels in ``training.accumulation`` parts, usually one.

    Each comes with the context to learn from it in: several processes share their gradients in the last part alone.
    """
    parts = torch.arange(len(faces)).tensor_split(min(training.accumulation, len(faces) // 2 or 1))
    for part in parts:
        rows = slice(int(part[0]), int(part[-1]) + 1)
        labels = [(share, {task: values[rows] for task, values in found.items()}) for share, found in mixed]
        last = part is parts[-1]
        yield faces[rows], labels, nullcontext() if last else training.accelerator.no_sync(training.wrapped)


def cut_when_out_of_memory(step: Callable) -> Callable:
    """Let a training step cut its batch into twice as many parts where the device runs out of memory.

    The gradients of the parts are added up, so the step stays the same but for BatchNorm, which normalises each part by
    its own statistics. The step raises an InputError where not even two faces at a time fit, the optimiser's state does
    not, or several processes train together.
    """

    @functools.wraps(step)
    def cutting(training: Training, batch: Batch) -> None:
        while True:
            try:
                return step(training, batch)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if hopeless := _hopeless(training, batch, str(error).splitlines()[0]):
                    raise hopeless from error
            # Behind the handler, since the error's traceback holds the step's tensors.
            training.optimizer.zero_grad()
            training.accumulation *= 2
            torch.cuda.empty_cache()
            training.log(
                f"the GPU is out of memory: each batch is now cut into {training.accumulation} parts of "
                f"{len(batch.rows) // training.accumulation} faces, whose gradients are added up"
            )

    return cutting


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the device's memory is full, in the words of any of its libraries."""
    known = isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
    return known or "ALLOC_FAILED" in str(error)


def _hopeless(training: Training, batch: Batch, said: str) -> InputError | None:
    """Why smaller parts would not help, if so."""
    config, faces = training.config, len(batch.rows)
    if training.accelerator.num_processes > 1:
        return InputError(
            f"The GPU is out of memory ({said}); with several processes the batch is not cut by itself: set "
            f"batch_size = {max(2, config.data.batch_size // 2)} and start a run under another name."
        )
    if training.guard.last == batch.step:  # the gradients are there: it was the optimiser, which makes its state first
        what = "the optimiser's state"
    elif faces // (2 * training.accumulation) < 2:
        what = f"{max(2, faces // training.accumulation)} faces at a time"
    else:
        return None
    return InputError(
        f"The GPU is out of memory even with {what}; close what else uses it, or choose a smaller img_size (now "
        f"{config.model.img_size}) or backbone."
    )


def uncompile_where_it_fails(step: Callable) -> Callable:
    """Let a training step go on without torch.compile, more slowly, where that fails."""

    @functools.wraps(step)
    def uncompiling(training: Training, batch: Batch) -> None:
        try:
            return step(training, batch)
        except TorchDynamoException as error:
            problem = type(error).__name__
        training.network = training.wrapped
        training.optimizer.zero_grad()
        training.log(f"torch.compile failed ({problem}): training goes on without it, more slowly")
        return step(training, batch)

    return uncompiling
