"""What notebook 07 shows: pictures of the user's or drawn ones, and what models say of them."""

import base64
import io
from pathlib import Path

from IPython.display import display
from PIL import Image

from helpers.export.predictor import SHIPPED_MODEL, Predictor, draw, read_picture
from helpers.files import user_path, write_file
from helpers.session.runtime import place
from helpers.session.workspace import Workspace

_SHOWN = 1280  # pixels of the longer side, so that a notebook stays small


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
