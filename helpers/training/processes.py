"""Several processes that train together, and the threads of one."""

import os
import resource
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list

from helpers.session.gpu import GIGABYTE

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher sets for each of several processes, all of them."""

_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""What accelerate takes for more than one process too."""


def make_accelerator(heads_alone: bool) -> Accelerator:
    """Device and processes of this session. Precision is the step's own affair.

    Args:
        heads_alone: whether there are epochs in which the backbone gets no gradient.
    """
    if not all(name in os.environ for name in _LAUNCHED):  # left over from something else, and waited for in vain
        for name in (*_LAUNCHED, *_SIZES):
            os.environ.pop(name, None)
    cpu = not torch.cuda.is_available()  # Apple's MPS has no float64 to sum losses in
    # Several processes wait for the gradient of every parameter unless they are told to look which ones come.
    options = DistributedDataParallelKwargs(find_unused_parameters=heads_alone)
    return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[options])


def agreed(accelerator: Accelerator, value) -> Any:
    """What the main process says, in every process."""
    return value if accelerator.num_processes == 1 else broadcast_object_list([value])[0]


def any_of(accelerator: Accelerator, value: bool) -> bool:
    """Whether it is true in any process."""
    if accelerator.num_processes == 1:
        return value
    return bool(accelerator.reduce(torch.tensor(float(value), device=accelerator.device), "sum") > 0)


_KEPT: list = []
"""What was trained in several processes, kept until the process ends.

Freed at once, gloo's destructor waits for its thread while that waits for the interpreter's lock to free the last
message: seen as a hang with torch 2.11.
"""


def end(accelerator: Accelerator, trained) -> None:
    """Let the processes part, after the last of them is done with ``trained``."""
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()
        accelerator.end_training()
        _KEPT.append(trained)


def cpu_threads(device: torch.device, processes: int = 1) -> int:
    """Threads to compute with: on a CPU this process's part of all cores that it may use; the loader shares them.

    That is a tenth faster than one less. The number does not follow ``workers``, since sums over another number of
    threads differ in their last bit.
    """
    return max(1, len(os.sched_getaffinity(0)) // processes) if device.type == "cpu" else torch.get_num_threads()


@contextmanager
def computing_with(threads: int):
    """Compute with so many threads, and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def begin_peak_memory() -> None:
    """Forget what :func:`peak_memory` has seen, where the device can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> str:
    """The most memory that was used, in words: of the GPU; without one, of this process since it began."""
    if torch.cuda.is_available():
        return f"at most {torch.cuda.max_memory_reserved() / GIGABYTE:.1f} GB of the GPU's memory"
    return f"at most {1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIGABYTE:.1f} GB of memory"
