"""Widgets to try one augmentation technique at any strength on the same faces."""

import ipywidgets as widgets
import numpy as np

from helpers import plots
from helpers.data.augment import TECHNIQUES, TOO_STRONG, features_kept, show_technique

DRAWS = 4
"""Pictures of each face: the same technique drawn anew."""


class TryOut(widgets.VBox):
    """A list of techniques, a slider for the strength, and below them each face with some draws of the technique.

    Args:
        faces: uint8 RGB pictures to try it on.
        strength: where the slider starts.
    """

    def __init__(self, faces: list[np.ndarray], strength: float = 1.0):
        self._faces = faces
        look = {"style": {"description_width": "90px"}, "layout": widgets.Layout(width="420px")}
        self.technique = widgets.Dropdown(options=list(TECHNIQUES), description="Technique", **look)
        self.strength = widgets.FloatSlider(strength, max=2.0, description="Strength", continuous_update=False, **look)
        self.message, self.picture = widgets.HTML(), widgets.Image(format="png")
        for box in (self.technique, self.strength):
            box.observe(self._draw, names="value")
        super().__init__([self.technique, self.strength, self.message, self.picture])
        self._draw()

    def _draw(self, _=None) -> None:
        name, strength, shown = self.technique.value, self.strength.value, []
        for face in self._faces:
            shown.append((face, "original", False))
            for seed in range(DRAWS):
                draw = show_technique(name, face, strength, seed)
                kept = features_kept(face, draw, TECHNIQUES[name].group)
                too_strong = kept < TOO_STRONG
                shown.append((draw, f"{kept:.0%} kept{', too strong' if too_strong else ''}", too_strong))
        images, captions, marks = (list(part) for part in zip(*shown, strict=True))
        text = f"{name}, {TECHNIQUES[name].amount(strength)}"
        self.picture.value = plots.faces(images, captions, DRAWS + 1, text, marks).png()
        found = f"<b style='color:#dc3a3a'>Too strong</b> for {sum(marks)} of {DRAWS * len(self._faces)} draws"
        advice = f"{found}: lower the strength, or leave the technique out."
        self.message.value = advice if any(marks) else "Every draw keeps the face readable."
