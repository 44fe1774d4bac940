"""What changes while training goes on: the learning rates, the size of the faces, how often they are mixed.

Everything here is a function of the knobs and the step, so none of it is part of a checkpoint.
"""

from typing import Any

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from helpers.config import AugmentationConfig, OptimiserConfig, ScheduleConfig

GROWN_BY = 2 / 3
"""Share of the epochs by which the faces have their whole size."""

SMALLEST = 64
"""Pixels below which faces do not begin: a network of stride 32 would see fewer than 2 x 2 features of them."""


def size_at(epoch: int, img_size: int, schedule: ScheduleConfig) -> int:
    """Pixels a side in an epoch, counted from 0.

    The size grows in a straight line, in steps of 32 pixels, since each size costs a GPU some time to find its way
    again (progressive resizing, arXiv 2104.00298).
    """
    grown = min(1.0, epoch / (GROWN_BY * schedule.epochs))
    pixels = img_size * (schedule.first_size + (1 - schedule.first_size) * grown)
    return min(img_size, max(SMALLEST, 32 * round(pixels / 32))) if grown < 1 else img_size


def mixing_at(epoch: float, epochs: int, augmentation: AugmentationConfig) -> float:
    """The probability of Mixup or CutMix after ``epoch`` of ``epochs``: it rises, stays, and fades to none at the end.

    Faces that were seen a few times only cannot be learned by heart, so nothing is gained by mixing them; at the end
    the network should see faces as they are.
    """
    rise = 1.0 if augmentation.mix_ramp == 0 else min(1.0, epoch / augmentation.mix_ramp)
    left = 1.0 - epoch / epochs
    fade = 1.0 if augmentation.mix_fade == 0 else min(1.0, left / augmentation.mix_fade)
    return augmentation.mix_probability * rise * fade


def make_optimizer(backbone: Any, heads: nn.Module, optimiser: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW in groups, each with its share of the learning rate as ``lr_scale``; the last ones are the heads'."""
    kept = backbone.no_weight_decay() if hasattr(backbone, "no_weight_decay") else ()
    groups = param_groups_layer_decay(backbone, optimiser.weight_decay, kept, layer_decay=optimiser.layer_decay)
    for group in groups:
        group["lr_scale"] *= optimiser.backbone_lr
    groups += [group | {"lr_scale": 1.0} for group in param_groups_weight_decay(heads, optimiser.weight_decay)]
    # Fused: one pass over all parameters, and on a GPU no waiting for the loss scaler.
    return torch.optim.AdamW(groups, optimiser.lr, fused=True)


def make_rates(optimizer: torch.optim.Optimizer, schedule: ScheduleConfig, lr: float, steps: int) -> CosineLRScheduler:
    """Sets the learning rate of each group of an optimiser at a step, counted from 0, by its ``step_update``.

    Args:
        optimizer: as :func:`make_optimizer` gives it.
        schedule: names it.
        lr: the heads' peak rate.
        steps: of an epoch.
    """
    warmup, cycle = round(schedule.warmup * steps), dict[str, Any]()
    if schedule.schedule == "cosine":
        cycle = {"t_initial": max(1, schedule.epochs * steps - warmup)}
    else:  # arXiv 1608.03983; the lowest rate is the document's that this recipe is from
        cycle = {"t_initial": schedule.t_0 * steps, "lr_min": lr / 100, "cycle_mul": schedule.t_mult}
        cycle |= {"cycle_limit": schedule.epochs}
    return CosineLRScheduler(
        optimizer, warmup_t=warmup, warmup_lr_init=lr / 100, warmup_prefix=True, t_in_epochs=False, **cycle
    )
