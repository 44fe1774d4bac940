"""Which epoch is the best, and when there has been no better one for too long."""

import math

from helpers.config import RunConfig
from helpers.tasks import TASKS


class EarlyStopping:
    """Compares the epochs' validation measures.

    Args:
        run: names the measure and the least gain that counts.

    Attributes:
        score: of the best epoch, its measure (larger is better) and its negative validation loss; None before one.
        best: the measure that the next gain is counted from.
        wait: epochs without a gain of ``min_delta``; training ends where they reach the patience.
    """

    def __init__(self, run: RunConfig):
        self._run = run
        self._sign = 1.0 if any(t.key == run.select_by and t.larger_is_better for t in TASKS.values()) else -1.0
        self.score: list[float] | None = None
        self.best, self.wait = -math.inf, 0

    def update(self, row: dict) -> bool:
        """Take in an epoch's line of the history; returns whether it is the best. A tie goes to the lower loss."""
        score = [self._sign * row[f"val_{self._run.select_by}"], -row["val_loss"]]
        self.wait = 0 if score[0] > self.best + self._run.min_delta else self.wait + 1
        if self.wait == 0:
            self.best = score[0]
        best = self.score is None or score > self.score
        if best:
            self.score = score
        return best

    def state_dict(self) -> dict:
        """What a checkpoint holds of it."""
        return {"score": self.score, "best": self.best, "wait": self.wait}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what :meth:`state_dict` gave."""
        vars(self).update(state)
