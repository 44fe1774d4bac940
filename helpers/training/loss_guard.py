"""Sees a loss that is no number or explodes, without making the device wait at each step."""

import math
import statistics
from collections import deque

import torch

EVERY = 50
"""Steps between two looks at the losses: each look waits for the device."""

EXPLODED = 20.0
"""A loss this many times that of the last look has left all reason."""

_ENOUGH = 5  # losses of which a median tells something


class LossGuard:
    """Keeps the losses and gradient norms of the last steps on the device until they are checked.

    Args:
        device: where losses are computed.
        norms: whether a norm that is no number is an error; with loss scaling it only skips the step, now and then.

    Attributes:
        lowest: the lowest that the median of the last losses has been.
    """

    def __init__(self, device: torch.device, norms: bool):
        self._kept = torch.zeros(EVERY, 2, device=device)
        self._norms, self.lowest = norms, math.inf
        self._steps: list[int] = []
        self._recent: deque[float] = deque(maxlen=EVERY)

    def state_dict(self) -> dict:
        """What a checkpoint holds of it."""
        return {"lowest": self.lowest}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.lowest = state["lowest"]

    def add(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Keep a step's loss and gradient norm, both scalars on the device."""
        self._kept[len(self._steps)] = torch.stack([loss.detach().float(), norm.detach().float()])
        self._steps.append(step)

    @property
    def last(self) -> int | None:
        """The last step that was kept and is not checked yet."""
        return self._steps[-1] if self._steps else None

    @property
    def full(self) -> bool:
        """Whether it is time to check."""
        return len(self._steps) == EVERY

    def check(self, together=lambda kept: kept) -> tuple[int, str] | None:
        """Look at what was kept and forget it.

        Args:
            together: adds up what all processes have kept.

        Returns:
            The first step that went wrong and what is wrong with it, or None.
        """
        steps, self._steps = self._steps, []
        kept = together(self._kept)[: len(steps)].tolist()
        for step, (loss, norm) in zip(steps, kept, strict=True):
            if not math.isfinite(loss):
                return step, f"the loss is {loss}"
            if self._norms and not math.isfinite(norm):
                return step, f"the gradient is {norm}"
            if loss > EXPLODED * self.lowest:
                return step, f"the loss is {loss:.3g} where it was {self.lowest:.3g}"
        if len(steps) == EVERY and 2 * sum(not math.isfinite(norm) for _, norm in kept) > EVERY:
            return steps[0], "most gradients from here on are no numbers in float16"
        self._recent.extend(loss for loss, _ in kept)
        if len(self._recent) >= _ENOUGH:
            self.lowest = min(self.lowest, statistics.median(self._recent))
        return None
