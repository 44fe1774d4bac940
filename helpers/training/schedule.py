"""What changes while training goes on: the learning rates, the size of the faces, how often they are mixed.

Everything here is a function of the config and the step, so none of it is part of a checkpoint.
"""

from __future__ import annotations

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from helpers.config import TrainConfig

GROWN_BY = 2 / 3
"""Share of the epochs by which the faces have their whole size."""

SMALLEST = 64
"""Pixels below which faces do not begin: a network of stride 32 would see fewer than 2 x 2 features of them."""


def size_at(config: TrainConfig, epoch: int) -> int:
    """Pixels a side in an epoch, counted from 0.

    The size grows in a straight line, in steps of 32 pixels, since each size costs a GPU some time to find its way
    again (progressive resizing, arXiv 2104.00298).
    """
    grown = min(1.0, epoch / (GROWN_BY * config.epochs))
    pixels = config.img_size * (config.first_size + (1 - config.first_size) * grown)
    return min(config.img_size, max(SMALLEST, 32 * round(pixels / 32))) if grown < 1 else config.img_size


def mixing_at(config: TrainConfig, epoch: float) -> float:
    """The probability of Mixup or CutMix after so many epochs: it rises, stays, and fades to none at the end.

    Faces that were seen a few times only cannot be learned by heart, so nothing is gained by mixing them; at the end
    the network should see faces as they are.
    """
    rise = 1.0 if config.mix_ramp == 0 else min(1.0, epoch / config.mix_ramp)
    left = 1.0 - epoch / config.epochs
    fade = 1.0 if config.mix_fade == 0 else min(1.0, left / config.mix_fade)
    return config.mix_probability * rise * fade


def make_optimizer(backbone: nn.Module, heads: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW in groups, each with its share of the learning rate as ``lr_scale``; backbone groups are marked so."""
    kept = backbone.no_weight_decay() if hasattr(backbone, "no_weight_decay") else ()
    groups = param_groups_layer_decay(backbone, config.weight_decay, kept, layer_decay=config.layer_decay)
    for group in groups:
        group |= {"lr_scale": group["lr_scale"] * config.backbone_lr, "backbone": True}
    groups += [
        group | {"lr_scale": 1.0, "backbone": False} for group in param_groups_weight_decay(heads, config.weight_decay)
    ]
    # Fused: one pass over all parameters, and on a GPU no waiting for the loss scaler.
    return torch.optim.AdamW(groups, config.lr, fused=True)


class Rates:
    """Sets the learning rate of each group of an optimiser before a step.

    Args:
        optimizer: as :func:`make_optimizer` gives it.
        config: names the schedule.
        steps: of an epoch.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int):
        self._optimizer, self._alone = optimizer, config.head_epochs * steps
        warmup = round(config.warmup * steps)
        if config.schedule == "cosine":
            cycle = {"t_initial": max(1, config.epochs * steps - warmup)}
        else:  # arXiv 1608.03983; the lowest rate is the document's that this recipe is from
            cycle = {"t_initial": config.t_0 * steps, "lr_min": config.lr / 100,
                     "cycle_mul": config.t_mult, "cycle_limit": config.epochs}  # fmt: skip
        self._schedule = CosineLRScheduler(
            optimizer, warmup_t=warmup, warmup_lr_init=config.lr / 100, warmup_prefix=True, t_in_epochs=False, **cycle
        )

    def set(self, step: int) -> float:
        """Set the rates for a step, counted from 0; returns the heads' rate."""
        self._schedule.step_update(step)
        for group in self._optimizer.param_groups:
            if group["backbone"] and step < self._alone:
                group["lr"] = 0.0
        return self._optimizer.param_groups[-1]["lr"]
