"""Progress of long work: the one callback that every long loop takes, and a bar to hang on it."""

from collections.abc import Callable

from tqdm.auto import tqdm

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` now and then while work goes on."""


def bar(title: str) -> Progress:
    """A tqdm bar with time left, in a terminal or a notebook; it closes itself at the end, and may begin anew.

    Args:
        title: in front of it.
    """
    shown: list[tqdm] = []

    def progress(done: int, total: int) -> None:
        if not shown or done < shown[0].n:
            # What was done before this call (a resumed run's steps) must not count as done in no time.
            shown[:] = [tqdm(total=total, initial=done, desc=title, mininterval=0.5, dynamic_ncols=True)]
        shown[0].update(done - shown[0].n)
        if done >= total:
            shown[0].close()

    return progress


def duration(seconds: float) -> str:
    """A time in words, in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def silent(done: int, total: int) -> None:
    """Show nothing."""
