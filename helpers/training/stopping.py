"""How a user stops training: by an interrupt, or by a file in the run's folder."""

import os
import signal
import threading

from helpers.runs.run import Run


class StopRequest:
    """True once the user has interrupted, or the run's stop file is there; the file is taken away.

    Within its context an interrupt is only noted, so that the step under way is finished and nothing is torn; a second
    one acts at once. Signals reach the main thread only; elsewhere the interrupt stays as it is.
    """

    def __init__(self, run: Run):
        self._run, self._asked = run, False
        self._before = signal.getsignal(signal.SIGINT)

    def __bool__(self) -> bool:
        if os.path.exists(self._run.stop_path):
            self._run.stop_path.unlink(missing_ok=True)
            self._asked = True
        return self._asked

    def __enter__(self) -> "StopRequest":
        self._listen(self._note)
        return self

    def __exit__(self, *_) -> None:
        self._listen(self._before)

    def _note(self, *_) -> None:
        self._asked = True
        self._listen(self._before)

    def _listen(self, handler) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
