"""Loader processes: how each begins, and one sentence for what befalls them."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import torch

from helpers.files import InputError

SHARED = Path("/dev/shm")
"""Where batches pass from a loader's process to the one that asked for them."""

_LOST = ("DataLoader worker (pid", "shared memory", "ancdata", "Too many open files")
"""What torch says where a loader's process was killed, or has no memory or open file left to send its batch."""


def quiet_worker(_: int) -> None:
    """One thread per process: they already share the cores, and OpenCV's pool does not survive a fork.

    An interrupt is for the process that asked alone, which ends its workers when it is done with the step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


@contextmanager
def loading(mend: str = "set workers = 0 and run this again; a run goes on from its last checkpoint") -> Iterator[None]:
    """Around work with batches: say in a sentence what befell the loader's processes.

    Args:
        mend: what to do about it.

    Raises:
        InputError: one was killed, or could not send its batch, or raised an InputError itself.
    """
    try:
        yield
    except (RuntimeError, EOFError, ConnectionError, InputError) as error:
        told = None
        while told is None:
            # Its silence may be noticed before its end, of which a signal tells whose handler raises wherever we are.
            with suppress(RuntimeError):
                told = _told(error, mend)
        if told is error:
            raise
        raise told from error


def _told(error: Exception, mend: str) -> Exception:
    """What to raise in the error's place: a sentence for a process that was lost, else the error itself."""
    said = str(error).strip().splitlines() or [""]
    if isinstance(error, InputError) and len(said) > 1:  # with the stack of the process that raised it
        return InputError(said[-1].partition("InputError: ")[2])
    if not isinstance(error, EOFError | ConnectionError) and not any(word in str(error) for word in _LOST):
        return error
    time.sleep(0.5)  # for the signal
    return InputError(f"A loader process was lost ({said[-1]}), for want of memory or of room in {SHARED}: {mend}.")
