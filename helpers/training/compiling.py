"""torch.compile: where it is used, and how training goes on where it fails."""

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException


def compiled(network: nn.Module, choice: str, device: torch.device) -> nn.Module | Callable:
    """The network, compiled where the knob ``compile`` says so: ``on``, or ``auto`` on GPUs from Ampere on."""
    ampere = device.type == "cuda" and torch.cuda.get_device_capability()[0] >= 8
    if choice == "off" or (choice == "auto" and not ampere):
        return network
    torch._dynamo.reset()  # its limit of variants counts those of earlier runs in the same kernel
    return torch.compile(network, dynamic=False)  # one variant for each size of face


def uncompile_where_it_fails(step: Callable) -> Callable:
    """Let a training step go on without torch.compile, more slowly, where that fails."""

    @functools.wraps(step)
    def uncompiling(training, batch) -> None:
        try:
            return step(training, batch)
        except TorchDynamoException as error:
            problem = type(error).__name__
        training.network = training.wrapped
        training.optimizer.zero_grad()
        training.log(f"torch.compile failed ({problem}): training goes on without it, more slowly")
        return step(training, batch)

    return uncompiling
