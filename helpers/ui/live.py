"""Views that are drawn again while a cell works."""

import html
import time
from contextlib import suppress

import numpy as np
from IPython.display import HTML, display

from helpers import plots
from helpers.config import TrainConfig
from helpers.data.store import FaceStore
from helpers.runs.run import Run
from helpers.runs.tensorboard import log_to_tensorboard
from helpers.session.progress import Progress, duration
from helpers.session.workspace import Workspace
from helpers.training.messages import describe_epoch
from helpers.training.predict import watched
from helpers.training.processes import begin_peak_memory, peak_memory
from helpers.training.schedule import size_at

COPY_EVERY = 600.0
"""Seconds between copies of a running training to the archive."""

DRAW_EVERY = 0.5
"""Seconds between two drawings of the bars."""

_LINES = 200  # of the log that are shown


class LiveTraining:
    """What a notebook shows of a run under way, each in its place, and the copies that it keeps.

    From the top: bars, curves, what the network says of the same few faces, and the log, the newest line first. All
    but the bars come from the run's folder, so they are there again when the cell is run again, on any machine. Plain
    displays, no widgets: a saved notebook shows them as they were last.

    Args:
        config: what is trained.
        store: from what.
        workspace: its archive gets a copy of the run now and then, so that a lost machine costs minutes.
        board: whether the epochs are written for TensorBoard too.

    Attributes:
        hooks: what :func:`helpers.training.session.training_session` calls.
    """

    def __init__(self, config: TrainConfig, store: FaceStore, workspace: Workspace, board: bool = False):
        self._config, self._store, self._workspace, self._board = config, store, workspace, board
        self._bars, self._curves, self._faces, self._log = (display(HTML(""), display_id=True) for _ in range(4))
        self._lines: list[str] = []
        self._copied = self._opened = time.monotonic()
        self._drawn, self._first, self._at = 0.0, -1, (0, 1)
        epochs = range(config.schedule.epochs)
        pixels = [size_at(epoch, config.model.img_size, config.schedule) ** 2 for epoch in epochs]
        self._cost = np.cumsum([0, *pixels])  # of the epochs before each: time grows about as the pixels do
        self.hooks = {
            "on_open": self._open, "on_step": self._step, "on_epoch": self.show, "on_save": self._keep,
            "on_log": self.log, "on_close": self.close,
        }  # fmt: skip

    def _open(self, run: Run) -> None:
        """Show what there is of the run, and begin to count."""
        with suppress(OSError):
            self._lines = (run.folder / "train.log").read_text(encoding="utf-8").splitlines()
        begin_peak_memory()
        self._opened, self._first = time.monotonic(), -1
        self._bars.update(HTML("The first batches are loaded …"))
        self.show(run)

    def _step(self, done: int, total: int) -> None:
        if self._first < 0:
            self._first = done - 1
        self._at, now = (done, total), time.monotonic()
        if now - self._drawn > DRAW_EVERY or done == total:
            self._drawn = now
            self._bars.update(HTML(self._progress(now - self._opened)))

    def _progress(self, seconds: float) -> str:
        """Two bars, with what is left and until when."""
        done, total = self._at
        epochs = self._config.schedule.epochs
        epoch, step = divmod(done - 1, steps := total // epochs)
        before, now, end = np.interp(np.array([self._first, done, total]) / steps, range(epochs + 1), self._cost)
        left = seconds * (end - now) / (now - before)
        return (
            f"{_bar(f'Epoch {epoch + 1} of {epochs}', step + 1, steps)}"
            f"{_bar('All epochs', done, total)}about {duration(left)} left, until {_clock(left)}; "
            f"{(done - self._first) / seconds:.3g} steps/s; {peak_memory()}"
            "<br><small>Was this page loaded again? Training goes on unseen: stop, and run this cell again.</small>"
        )

    def show(self, run: Run) -> None:
        """Draw the curves, the faces and the log again, each in its place."""
        self._show_log()
        if self._board:
            log_to_tensorboard(run)
        if run.history:
            self._curves.update(plots.curves(run.history, run.title, self._config.schedule.epochs))
        if run.history and "watched" in run.history[-1]:
            self._faces.update(watched_faces(run.history, self._store))

    def log(self, line: str) -> None:
        """Show a line on top of those before."""
        self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}")
        self._show_log()

    def _show_log(self) -> None:
        text = html.escape("\n".join(reversed(self._lines[-_LINES:])))
        look = "max-height:16em;overflow:auto;white-space:pre-wrap;word-break:normal;margin:0"
        self._log.update(HTML(f"<b>Log, the newest line first</b><pre style='{look}'>{text}</pre>"))

    def _keep(self, run: Run) -> None:
        if time.monotonic() - self._copied > COPY_EVERY:
            self._save(run)

    def _save(self, run: Run) -> None:
        """Copy what there is of the run to the archive; where that fails it is safe on this machine."""
        self._workspace.save(run.folder, self.log)
        self._copied = time.monotonic()

    def close(self, run: Run) -> None:
        """Copy the run to the archive, when training ended with an error too, and leave a report in the place."""
        self._save(run)
        results, text = run.read_results(), "no epoch is complete yet"
        if results:
            epochs, best = self._config.schedule.epochs, describe_epoch(results["best"] | {"best": False})
            text = f"{results['epochs']} of {epochs} epochs in {duration(60 * results['minutes'])}; the best: {best}"
        end = "Complete" if results.get("finished") else "Not complete (run this cell again to go on)"
        self._bars.update(HTML(f"<b>{end}</b>: {text}; ended at {_clock()}; {peak_memory()}"))


def watched_faces(history: list[dict], store: FaceStore) -> plots.Picture:
    """The same validation faces with what the network says of them after the last epoch.

    Below each face's labels stands whether its first one was answered right, epoch by epoch.

    Args:
        history: of a run; epochs whose line does not tell of the faces are passed over.
        store: holds the faces.
    """
    told, images, captions, wrong = [row for row in history if "watched" in row], [], [], []
    for at, row in enumerate(watched(store)):
        lines = [f"{truth}: {answer} {'✓' if right else '✗'}" for truth, answer, right in told[-1]["watched"][at]]
        trail = "".join("✓" if epoch["watched"][at][0][2] else "✗" for epoch in told[-10:])
        images.append(store.image(row))
        captions.append("\n".join([*lines, trail]))
        wrong.append(trail.endswith("✗"))
    title = f"The same validation faces after epoch {told[-1]['epoch']}, truth: answer ({wrong.count(False)} right)"
    return plots.faces(images, captions, len(images), title, wrong)


def shown_bar(title: str) -> Progress:
    """A bar that leaves nothing behind, where :func:`helpers.session.progress.bar` would leave a dead widget."""
    place, drawn = display(HTML(title), display_id=True), [0.0]

    def progress(done: int, total: int) -> None:
        if done >= total or time.monotonic() - drawn[0] > DRAW_EVERY:
            place.update(HTML(_bar(title, done, total) if done < total else ""))
            drawn[0] = time.monotonic()

    return progress


def _bar(title: str, done: int, total: int) -> str:
    return (
        f"<div><progress value='{done}' max='{total}' style='width:50%' aria-label='{title}'></progress> "
        f"{title}: {done / total:.0%} ({done}/{total})</div>"
    )


def _clock(ahead: float = 0.0) -> str:
    """The time of day, in so many seconds; with the date where that is another day."""
    then = time.localtime(time.time() + ahead)
    return time.strftime("%H:%M %Z" if then.tm_yday == time.localtime().tm_yday else "%a %d %b %H:%M %Z", then)
