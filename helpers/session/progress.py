"""Progress of long work: the one callback that every long loop takes, and a bar to hang on it."""

from collections.abc import Callable

from tqdm.auto import tqdm

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` now and then while work goes on."""


def bar(title: str, leave: bool = True) -> Progress:
    """A tqdm bar with time left, in a terminal or a notebook; it closes itself at the end.

    Args:
        title: in front of it.
        leave: whether it stays to be seen when it is closed.
    """
    shown: list[tqdm] = []

    def progress(done: int, total: int) -> None:
        if not shown:
            # What was done before this call (a resumed run's steps) must not count as done in no time.
            shown.append(tqdm(total=total, initial=done, desc=title, leave=leave, mininterval=0.5, dynamic_ncols=True))
        shown[0].update(done - shown[0].n)
        if done >= total:
            shown[0].close()

    return progress


def duration(seconds: float) -> str:
    """A time in words, in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


class EpochBars:
    """Two bars with time left: the steps of the epoch under way, and of all epochs together.

    Args:
        epochs: how many there are at most.
    """

    def __init__(self, epochs: int):
        self._epochs, self._number = epochs, -1
        self._all, self._one = bar("Training"), bar("")

    def __call__(self, done: int, total: int) -> None:
        """``done`` steps of the ``total`` of all epochs."""
        steps = total // self._epochs
        number, step = divmod(done - 1, steps)
        if number != self._number:
            self._one, self._number = bar(f"Epoch {number + 1} of {self._epochs}", leave=False), number
        self._one(step + 1, steps)
        self._all(done, total)


def silent(done: int, total: int) -> None:
    """Show nothing."""
