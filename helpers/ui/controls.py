"""A panel of widgets for the main knobs of a training run, made from the config's field metadata."""

from __future__ import annotations

import dataclasses
from dataclasses import fields

import ipywidgets as widgets

from helpers.config import STARTS, InputError, TrainConfig

MAIN_KNOBS = ("weights", "backbone", "img_size", "first_size", "epochs", "max_minutes", "batch_size", "lr",
              "backbone_lr", "weight_decay", "schedule", "ema", "patience", "label_smoothing", "class_weights",
              "mix_probability", "augment", "flip_test", "seed")  # fmt: skip


class ConfigPanel:
    """Widgets that edit a config. ``panel.config`` is always valid: a value that is refused is shown as such.

    Args:
        config: where the widgets start; without a click ``panel.config`` stays this.
    """

    def __init__(self, config: TrainConfig):
        self.config = config
        self.message = widgets.HTML()
        self.inputs = {}
        for knob in fields(TrainConfig):
            if knob.name in MAIN_KNOBS:
                self.inputs[knob.name] = _input(knob, getattr(config, knob.name))
                self.inputs[knob.name].observe(self._changed, names="value")
        rows = [
            widgets.HBox([box, widgets.HTML(f"<small>{_knob(name).metadata['help']}</small>")])
            for name, box in self.inputs.items()
        ]
        self.view = widgets.VBox([*rows, self.message])

    def _changed(self, change) -> None:
        try:
            values = {name: box.value for name, box in self.inputs.items()}
            if change["owner"] is self.inputs["weights"]:  # what suits the new start comes with it
                values |= STARTS[values["weights"]]
            self.config = dataclasses.replace(self.config, **values)
            for name in self.inputs.keys() & STARTS[values["weights"]].keys():
                if change["owner"] is self.inputs["weights"]:
                    self.inputs[name].value = values[name]
            self.message.value = ""
        except InputError as error:
            self.message.value = f"<b style='color:#c33'>Not used:</b> {error}"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)


def _knob(name: str) -> dataclasses.Field:
    return TrainConfig.__dataclass_fields__[name]


def _input(knob: dataclasses.Field, value) -> widgets.Widget:
    """The widget for a field: a list for choices, a text box where the range spans decades, else a bounded box."""
    about = knob.metadata
    look = {"style": {"description_width": "150px"}, "layout": widgets.Layout(width="340px", flex="0 0 340px")}
    look["description"] = about["label"]
    if "choices" in about:
        return widgets.Dropdown(options=about["choices"], value=value, **look)
    if isinstance(value, bool):
        return widgets.Checkbox(value=value, indent=True, **look)
    if isinstance(value, str):
        return widgets.Text(value=value, continuous_update=False, **look)
    if about.get("log"):
        return widgets.FloatText(value=value, continuous_update=False, **look)
    box = widgets.BoundedIntText if isinstance(value, int) else widgets.BoundedFloatText
    if isinstance(value, float) and about["high"] <= 2:
        look["step"] = 0.05 if value >= 0.05 else value or 0.05
    return box(value=value, min=about["low"], max=about["high"], **look)
