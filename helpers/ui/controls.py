"""A panel of widgets for the main knobs of a training run, made from the config's field metadata."""

import dataclasses
import html
import itertools
import re
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from helpers import plots
from helpers.config import FROM_RUN, RECIPES, STARTS, TrainConfig, decide, recipe_named, start_of
from helpers.data.store import FaceStore
from helpers.files import InputError, user_path
from helpers.runs.run import Run
from helpers.training.estimate import estimate
from helpers.training.rate_finder import find_rate

_KEPT: dict[tuple, tuple[Path, dict[str, Any]]] = {}
"""What was edited in this kernel, so that a cell that is run again shows it: by run, recipe and changes."""

# Widgets set each line as high as a button, so that long text falls apart. The red can be read on white and on black.
_HELP = "<small style='display:inline-block;line-height:1.3'>{}</small>"
_REFUSED = "<span style='display:inline-block;line-height:1.3;color:#dc3a3a'><b>Not used:</b> {}</span>"
_WORN = "<span style='opacity:0.6'><b>Out of date</b>, for other knobs: {}</span>"


class ConfigPanel(widgets.VBox):
    """Widgets that edit a config. ``panel.config`` is always valid: a refused value is marked beside its own box.

    Without a click it is what :func:`helpers.config.decide` says. A run that is there goes on with its own config.

    Args:
        recipe: name of one, or ``auto``.
        changes: knobs that win over it.
        folder: of the run.
        fitted: knobs that fit this machine's GPU; None without one.
        store: the faces, to try steps on.

    Attributes:
        config: what the widgets say.
        folder: of the run that is to be trained: another one after a click on "under a new name".
        edits: knob -> value, as it was edited last.
        inputs, notes: knob -> its widget, and what stands beside it.
        summary: what will be trained, always to be seen.
        buttons: what they do -> button.
        answer, picture: of the last trial.
    """

    def __init__(
        self, recipe: str, changes: Mapping[str, Any], folder: Path, fitted: Mapping[str, Any] | None, store: FaceStore
    ):
        self._recipe, self._changes, self._fitted, self._store = recipe, changes, fitted, store
        self._key, self._filling, self._refused = (folder, recipe, repr(changes)), False, set[str]()
        self._told, self._tried = "", (TrainConfig(), folder)
        self.folder, self.edits = _KEPT.get(self._key, (folder, {}))
        self.config = self._decided(self.folder, self.edits)
        self.inputs: dict[str, widgets.Widget] = {}
        self.notes: dict[str, widgets.HTML] = {}
        groups: dict[str, list[widgets.Widget]] = {"": []}
        for name, knob in TrainConfig.knobs().items():
            if "panel" in knob.metadata:
                self.inputs[name], self.notes[name] = box, note = _input(knob, self.config.flat()[name]), widgets.HTML()
                box.observe(lambda change, name=name: self._changed(name, change["new"]), names="value")
                group = "" if "first" in knob.metadata else knob.metadata["panel"]
                groups.setdefault(group, []).append(widgets.HBox([box, note]))
        first = groups.pop("")
        more = widgets.Accordion([widgets.VBox(rows) for rows in groups.values()], selected_index=None)
        for number, group in enumerate(groups):
            more.set_title(number, group.capitalize())
        self.summary, self.answer = widgets.HTML(), widgets.HTML()
        self.picture = widgets.Image(format="png", layout=widgets.Layout(width="700px", display="none"))
        self.path = widgets.Text(str(folder.parent.parent / "config.json"), description="File")
        self.buttons: dict[str, widgets.Button] = {}
        for text, do in (
            ("Estimate time and memory", self._estimate), ("Find a learning rate", self._find_rate),
            ("Back to the recipe", lambda: self._take(folder, {})), ("Go on under a new name", self._rename),
            ("Save", self._save), ("Load", self._load),
        ):  # fmt: skip
            button = self.buttons[text] = widgets.Button(description=text, layout=widgets.Layout(width="auto"))
            button.on_click(lambda _, do=do: self._work(do))
        rows = list(self.buttons.values())
        files = widgets.HBox([self.path, *rows[4:]])
        super().__init__([self.summary, *first, widgets.HBox(rows[:4]), self.answer, self.picture, more, files])
        self._show()

    def __repr__(self) -> str:
        """What a saved notebook says, and a page that was loaded again, where the widget itself is not there."""
        return re.sub("<.*?>", "", self.summary.value)

    def _decided(self, folder: Path, edits: dict[str, Any]) -> TrainConfig:
        """The config by recipe, changes and edits; raises an InputError where one of them is refused.

        What was edited before another start of the weights was chosen gives way to what suits that.
        """
        recipe = self._recipe
        if Run.exists(folder):
            recipe = "auto"
            edits = {name: value for name, value in edits.items() if name in TrainConfig.knobs(resumable=True)}
        elif "weights" in edits:
            start, before = start_of(edits["weights"]), list(edits)[: list(edits).index("weights")]
            if start != start_of(decide(recipe, self._changes, fitted=self._fitted).model.weights):
                edits = {name: edits[name] for name in edits if name not in before or name not in STARTS[start]}
        changes = {**self._changes, **edits}
        return decide(recipe, changes, fitted=self._fitted, **Run.configs(folder, changes))

    def _changed(self, name: str, value) -> None:
        """Take in one box; whatever it is refused for is its own affair."""
        if self._filling:
            return
        try:
            kept = {other: edit for other, edit in self.edits.items() if other != name}
            self._take(self.folder, {**kept, name: value}, self._refused - {name})
        except InputError as error:
            self._refused.add(name)
            self.notes[name].value = _REFUSED.format(html.escape(f"{error} ({self.config.flat()[name]!r} stays)"))

    def _take(self, folder: Path, edits: dict[str, Any], refused: Set[str] = frozenset()) -> None:
        """Train that run with these edits, unless an InputError says why not."""
        self.config = self._decided(folder, edits)
        self.folder, self.edits, self._refused = folder, edits, set(refused)
        self._show()

    def _show(self) -> None:
        """Say what will be trained, and bring the boxes up to the config; one that is refused stays as it was typed."""
        _KEPT[self._key] = self.folder, self.edits
        there, values, self._filling = Run.exists(self.folder), self.config.flat(), True
        for name, box in self.inputs.items():
            about = TrainConfig.knobs()[name].metadata
            box.disabled = there and "resumable" not in about
            if name not in self._refused:
                box.value, self.notes[name].value = values[name], _HELP.format(html.escape(about["help"]))
        self._filling = False
        self.summary.value = self._describe(there, values)
        self.buttons["Go on under a new name"].disabled = not there
        if self._told and self._tried != (self.config, self.folder):
            self.answer.value, self.picture.layout.display = _WORN.format(self._told), "none"

    def _describe(self, there: bool, values: dict[str, Any]) -> str:
        name = recipe_named(self._recipe, self._fitted)
        base, first = RECIPES[name].flat(), TrainConfig.knobs(first=True)
        shown = ", ".join(f"{knob.metadata['label'].lower()} {values[field]}" for field, knob in first.items())
        other = ", ".join(f"{knob} {value} (not {base[knob]})" for knob, value in values.items() if value != base[knob])
        text = f"Will train <b>{html.escape(self.folder.name)}</b> with {html.escape(shown)}; "
        differs = f"differs from <code>{name}</code> in {html.escape(other)}."
        text += differs if other else f"as <code>{name}</code> says."
        if there:
            free = " and ".join(knob.metadata["label"] for knob in TrainConfig.knobs(resumable=True).values())
            text += f"<br><b>This run is there</b> and goes on with the config that its weights come from: only {free} "
            text += "may change. For anything else go on under a new name, from its best weights."
        if self.folder != self._key[0]:
            text += f"<br>For the next session, write RUN = {html.escape(repr(self.folder.name))} above."
        return text

    def _work(self, do: Callable[[], None]) -> None:
        """Do what a button is for, and say what is wrong where it cannot be done."""
        try:
            do()
        except InputError as error:
            self._answer(_REFUSED.format(html.escape(str(error))))

    def _answer(self, text: str, picture: bytes = b"") -> None:
        self.answer.value, self._told, self._tried = text, text, (self.config, self.folder)
        self.picture.value, self.picture.layout.display = picture, "" if picture else "none"

    def _progress(self, done: int, total: int) -> None:
        self.answer.value = f"Trying out: step {done} of {total}"

    def _estimate(self) -> None:
        self._answer(html.escape(estimate(self.config, self._store, self.folder, self._progress)))

    def _find_rate(self) -> None:
        found = find_rate(self.config, self._store, self.folder, self._progress)
        picture = plots.rates(found.rates, found.losses, found.smooth, found.suggestion)
        self._answer(html.escape(found.describe()), picture.png())

    def _rename(self) -> None:
        """Choose a name that is free, and start from the best weights of the run that is there."""
        ((stem, number),) = re.findall(r"^(.*?)-?(\d*)$", self.folder.name)
        names = (self.folder.with_name(f"{stem}-{count}") for count in itertools.count(int(number or 1) + 1))
        self._take(next(name for name in names if not name.exists()), {"weights": f"{FROM_RUN}{self.folder.name}"})

    def _save(self) -> None:
        self.config.save(path := user_path(self.path.value))
        self._answer(f"Saved; without a notebook: python -m helpers train --config {html.escape(str(path))}")

    def _load(self) -> None:
        loaded, usual = TrainConfig.load(user_path(self.path.value)).flat(), self._decided(self.folder, {}).flat()
        start = {"weights": loaded["weights"]}  # first, since what is edited later wins over what suits it
        self._take(self.folder, {name: value for name, value in {**start, **loaded}.items() if value != usual[name]})


def _input(knob: dataclasses.Field, value) -> widgets.Widget:
    """The widget for a field: a list for choices, else a box that takes what is typed, so that it can be refused."""
    about, layout = knob.metadata, widgets.Layout(width="340px", flex="0 0 340px")
    look = {"value": value, "description": about["label"], "style": {"description_width": "150px"}, "layout": layout}
    if "or_form" in about:
        return widgets.Combobox(options=about["choices"], continuous_update=False, **look)
    if "choices" in about:
        return widgets.Dropdown(options=about["choices"], **look)
    if isinstance(value, bool):
        return widgets.Checkbox(**look)
    if isinstance(value, str):
        return widgets.Text(continuous_update=False, **look)
    return (widgets.IntText if isinstance(value, int) else widgets.FloatText)(**look)
