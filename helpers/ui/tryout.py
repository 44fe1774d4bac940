"""Widgets to try one augmentation technique at any strength on the same faces."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np

from helpers import plots
from helpers.data.augment import TECHNIQUES, TOO_STRONG, features_kept, show_technique

DRAWS = 4
"""Pictures of each face: the same technique drawn anew."""


class TryOut:
    """A list of techniques, a slider for the strength, and below them each face with some draws of the technique.

    Args:
        faces: uint8 RGB pictures to try it on.
        strength: where the slider starts.
    """

    def __init__(self, faces: list[np.ndarray], strength: float = 1.0):
        self._faces = faces
        look = {"style": {"description_width": "90px"}, "layout": widgets.Layout(width="420px")}
        self.technique = widgets.Dropdown(options=list(TECHNIQUES), description="Technique", **look)
        self.strength = widgets.FloatSlider(
            value=strength, min=0.0, max=2.0, step=0.1, description="Strength", continuous_update=False, **look
        )
        self.message, self.picture = widgets.HTML(), widgets.Image(format="png")
        for box in (self.technique, self.strength):
            box.observe(self._draw, names="value")
        self.view = widgets.VBox([self.technique, self.strength, self.message, self.picture])
        self._draw()

    def _draw(self, _=None) -> None:
        name, strength = self.technique.value, self.strength.value
        images, captions, marks = [], [], []
        for face in self._faces:
            images, captions, marks = [*images, face], [*captions, "original"], [*marks, False]
            for seed in range(DRAWS):
                images.append(show_technique(name, face, strength, seed))
                kept = features_kept(face, images[-1], TECHNIQUES[name].group)
                marks.append(kept < TOO_STRONG)
                captions.append(f"{kept:.0%} kept" + (", too strong" if marks[-1] else ""))
        text = f"{name}, {TECHNIQUES[name].amount(strength)}"
        self.picture.value = plots.faces(images, captions, DRAWS + 1, text, marks)._repr_png_()
        drawn = len(marks) - len(self._faces)
        self.message.value = (
            f"<b style='color:#c02020'>Too strong</b> for {sum(marks)} of {drawn} draws: lower the strength, or leave "
            "the technique out."
            if any(marks)
            else "Every draw keeps the face readable."
        )

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)
