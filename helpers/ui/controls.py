"""A panel of widgets for the main knobs of a training run, made from the config's field metadata."""

import dataclasses

import ipywidgets as widgets

from helpers.config import STARTS, TrainConfig, start_of
from helpers.files import InputError


class ConfigPanel(widgets.VBox):
    """Widgets that edit a config. ``panel.config`` is always valid: a value that is refused is shown as such.

    Args:
        config: where the widgets start; without a click ``panel.config`` stays this.

    Attributes:
        config: what the widgets say.
        inputs: knob -> its widget.
        view: a row for each, the widget and what it is for.
        message: below them, why a value is not used.
    """

    def __init__(self, config: TrainConfig):
        self.config, self.message, values, rows = config, widgets.HTML(), config.flat(), []
        self.inputs: dict[str, widgets.Widget] = {}
        for name, knob in TrainConfig.knobs(panel=True).items():
            box = self.inputs[name] = _input(knob, values[name])
            box.observe(self._changed, names="value")
            rows.append(widgets.HBox([box, widgets.HTML(f"<small>{knob.metadata['help']}</small>")]))
        self.view = widgets.VBox(rows)
        super().__init__([self.view, self.message])

    def _changed(self, change) -> None:
        try:
            values = {name: box.value for name, box in self.inputs.items()}
            suited = STARTS[start_of(values["weights"])] if change["owner"] is self.inputs["weights"] else {}
            self.config = self.config.replace(**{**values, **suited})  # what suits the new start comes with it
            for name in self.inputs.keys() & suited.keys():
                self.inputs[name].value = suited[name]
            self.message.value = ""
        except InputError as error:
            self.message.value = f"<b style='color:#c33'>Not used:</b> {error}"


def _input(knob: dataclasses.Field, value) -> widgets.Widget:
    """The widget for a field: a list for choices, a text box where the range spans decades, else a bounded box."""
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
    if about.get("log"):
        return widgets.FloatText(**look)
    box = widgets.BoundedIntText if isinstance(value, int) else widgets.BoundedFloatText
    if isinstance(value, float) and about["high"] <= 2:
        look["step"] = 0.05 if value >= 0.05 else value or 0.05
    return box(min=about["low"], max=about["high"], **look)
