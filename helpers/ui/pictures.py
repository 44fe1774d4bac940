"""What notebook 07 shows: pictures of the user's or drawn ones, and what models say of them."""

import base64
import io
from pathlib import Path

import numpy as np
from IPython.display import display
from PIL import Image

from helpers.export.predictor import DETECTOR, SHIPPED_MODEL, Predictor, draw, open_detector, read_picture
from helpers.files import user_path, write_file
from helpers.session.runtime import place
from helpers.session.workspace import Workspace

_SHOWN = 1280  # pixels of the longer side, so that a notebook stays small
_WIDER, _HIGHER = 1.37, 0.12  # by which a detector's crop of a drawn face becomes the picture that datasets hold


def choose_models(workspace: Workspace, run: str, before: str) -> tuple[Path, Path | None]:
    """The model to try, and one to compare it with if there is another.

    Args:
        run: name of an exported run; empty for the model that comes with this project.
        before: name of an earlier run; empty for that model again.
    """
    for name in filter(None, (run, before)):
        workspace.restore(workspace.run(name))
    model, earlier = (workspace.run(name) / "model.onnx" if name else SHIPPED_MODEL for name in (run, before))
    return model, None if earlier == model else earlier


def open_predictor(model: Path) -> Predictor:
    """A model that finds faces by itself; one of drawn faces gets as much hair and neck with each as taught it.

    The detector's crops look like those of real datasets, which are about half of a drawn face's picture.
    """
    predictor = Predictor(model, detect="built-in")
    if "drawn" not in predictor.about.get("trained_on", ""):
        return predictor
    find = open_detector(DETECTOR)

    def wider(picture: np.ndarray) -> np.ndarray:
        low, high = np.split(find(picture).astype(float), 2, axis=1)
        middle, half = (low + high) / 2 - (high - low) * [0.0, _HIGHER], _WIDER * (high - low) / 2
        return np.concatenate([middle - half, middle + half], axis=1)

    return Predictor(model, detect=wider)


def choose_pictures(workspace: Workspace, picture: str, upload: bool) -> list[Path]:
    """The path of the picture or folder that is named; what the user uploads to Colab; else a group of drawn people."""
    if upload and place() == "colab":
        from google.colab import files

        return [Path(name) for name in files.upload()]
    if picture:
        return [user_path(picture)]
    from drawn_faces.group import draw_group

    path = workspace.folder / "drawn_group.png"
    write_file(path, _png(Image.fromarray(draw_group())))
    return [path]


def show_answers(predictor: Predictor, pictures: list[Path]) -> None:
    """Print what is said of each face, and show the pictures with it."""
    for answer in predictor.stream(pictures):
        print(answer)
        if answer.faces:
            drawn = draw(read_picture(answer.source), answer.faces)
            drawn.thumbnail((_SHOWN, _SHOWN))
            content = base64.b64encode(_png(drawn)).decode()
            display({"image/png": content}, raw=True, metadata={"image/png": {"alt": str(answer)}})


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
