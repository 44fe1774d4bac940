"""Widgets to page through the faces that the network took for something."""

import ipywidgets as widgets
import pandas as pd

from helpers import plots
from helpers.data.store import FaceStore
from helpers.evaluation.failures import captions, confused, judged
from helpers.tasks import TASKS

PAGE = 16
"""Faces that are shown together."""

_ANY = "any"


class FailureBrowser(widgets.VBox):
    """Two lists, what it is and what was answered, and below them those faces of the test split, the surest first.

    Args:
        table: of predictions.
        store: holds the faces.
        task: one with classes.
    """

    def __init__(self, table: pd.DataFrame, store: FaceStore, task: str = "emotion"):
        self._task, self._store = TASKS[task], store
        self._rows = judged(table, self._task)
        options = [_ANY, *self._task.classes]
        self.truth = widgets.Dropdown(options=options, description="Truth")
        self.said = widgets.Dropdown(options=options, description="Answered")
        self.page = widgets.BoundedIntText(1, min=1, max=1, description="Page")
        self.message, self.picture = widgets.HTML(), widgets.Image(format="png")
        for box in (self.truth, self.said, self.page):
            box.observe(self._draw, names="value")
        super().__init__([widgets.HBox([self.truth, self.said, self.page]), self.message, self.picture])
        self._draw()

    def _draw(self, change=None) -> None:
        truth, said = (None if box.value == _ANY else box.value for box in (self.truth, self.said))
        rows = confused(self._rows, truth, said)
        if truth is said is None:
            rows = rows[rows["wrong"]]
        self.page.max = max(1, -(-len(rows) // PAGE))
        if change and change["owner"] is not self.page and self.page.value != 1:
            self.page.value = 1  # which draws
            return
        shown = rows.iloc[PAGE * (self.page.value - 1) :][:PAGE]
        self.message.value = f"{len(rows)} faces{' that it read wrong' if truth is said is None else ''}"
        images, marks = [self._store.image(row) for row in shown["row"]], list(shown["wrong"])
        self.picture.value = plots.faces(images, captions(shown, self._task), 8, marks=marks).png()
