"""A page in one file that reads faces in any browser: model, detector and program are inside, no server is asked."""

import base64
import gzip
import json
from contextlib import suppress
from functools import partial
from html import escape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from threading import Thread

from helpers.export.graph import EXPORTS, open_session
from helpers.export.predictor import DETECTOR, DETECTOR_LICENCE, SHIPPED_MODEL, Predictor, open_graph
from helpers.files import write_file
from helpers.session.runtime import place
from helpers.tasks import TASKS

SHIPPED_CAMERA_MODEL = SHIPPED_MODEL.with_name("faces_camera.onnx")
"""As SHIPPED_MODEL, at less than half the time, so that it keeps up with a camera."""

CAMERA_DETECTOR = DETECTOR.with_name("detector_camera.onnx")
"""As DETECTOR, at a third of the time, for faces of a fifth of the picture's width and more."""

_WEB = Path(__file__).parent / "web"
_RUNTIME = _WEB / "runtime"


def write_page(model: Path, path: Path, detector: Path | None = CAMERA_DETECTOR) -> Path:
    """Write one HTML file that opens from the disk or any static host and reads a camera or pictures.

    Args:
        model: a file that :func:`helpers.export.graph.export_graph` wrote; classes and terms are read from it.
        path: of the page.
        detector: takes ``picture``, uint8 RGB (H, W, 3), and gives ``boxes``, int64 (N, 4) as left, top, right, bottom
            in pixels, the surest first, and ``scores``, float32 (N,). With None the whole picture is the face.

    Returns:
        ``path``.

    Raises:
        InputError, PredictorError: a file is missing, damaged or not such a graph, or the page cannot be written.
    """
    about = _about(model)
    parts = {"model": gzip.compress(model.read_bytes(), mtime=0)}
    if detector:
        open_graph(detector, ("picture", "boxes", "scores"))
        parts["detector"] = gzip.compress(detector.read_bytes(), mtime=0)
    parts["wasm"] = (_RUNTIME / "ort-wasm-simd-threaded.wasm.gz").read_bytes()
    parts["ort"] = gzip.compress((_RUNTIME / "ort.wasm.bundle.min.mjs").read_bytes(), mtime=0)
    parts["worker"] = gzip.compress((_WEB / "worker.js").read_bytes(), mtime=0)
    packed = (
        f'<script type="application/gzip" id="{name}">{base64.b64encode(part).decode()}</script>'
        for name, part in parts.items()
    )
    page = Template((_WEB / "page.html").read_text(encoding="utf-8")).substitute(
        style=(_WEB / "page.css").read_text(encoding="utf-8"),
        script=(_WEB / "page.js").read_text(encoding="utf-8"),
        licence=escape("\n\n".join(text.read_text("utf-8") for text in (_RUNTIME / "LICENSE", DETECTOR_LICENCE))),
        about=json.dumps(about).replace("<", "\\u003c"),  # "</script>" in a text would end the script
        parts="\n".join(packed),
    )
    write_file(path, page)
    return path


def _about(model: Path) -> dict:
    """What the page says of a model and how it names its answers."""
    open_session(model)  # says what comes first where there is none
    known = Predictor(model).about
    classes = {name: known[name].split(",") if task.classes else None for name, task in TASKS.items()}
    tasks = [{"name": name, "classes": named, "unit": known.get(name, "")} for name, named in classes.items()]
    return {"tasks": tasks, "exports": EXPORTS, "model": known}


def open_page(path: Path) -> None:
    """Show a page: on Colab in a new window, which the kernel serves; elsewhere say where it lies."""
    if place() == "colab":
        from google.colab import output

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(path.parent)))
        Thread(target=server.serve_forever, daemon=True).start()
        with suppress(Exception):  # outside Colab's own page there is no browser to ask
            output.serve_kernel_port_as_window(server.server_port, path=f"/{path.name}")
            return
    print(f"Open {path} in a browser.")


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line in the cell for each."""

    def log_message(self, *_):
        pass
