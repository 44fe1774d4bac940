"""One zip with all that a model needs to be used elsewhere."""

import os
import tempfile
import zipfile
from pathlib import Path

from helpers.evaluation.card import write_card
from helpers.export import predictor
from helpers.export.graph import open_session
from helpers.export.predictor import DETECTOR, DETECTOR_LICENCE, MODELS
from helpers.files import InputError, run_first, to_json, whole
from helpers.runs.run import Run
from helpers.tasks import TASKS

EXAMPLE = MODELS / "example.py"
"""What shows in the zip how the model is used; it runs beside the other files, without this project."""


def write_bundle(run: Run, detector: Path = DETECTOR) -> Path:
    """Write ``<run>.zip`` into the run's folder, and read it back; the same files make the same bytes.

    It holds the model, the detector with its licence, the classes (``labels.json``), the model card and
    ``metrics.json`` where the run was evaluated, ``try_it.html`` where it was made, the predictor and an example of
    its use.

    Raises:
        InputError: the run was not exported, the zip cannot be written, or it does not read back as it was written.
    """
    path, folder = run.folder / f"{run.folder.name}.zip", run.folder.name
    files = [run.folder / name for name in ("model.onnx", "metrics.json", "try_it.html")]
    files += [detector, DETECTOR_LICENCE, EXAMPLE, Path(predictor.__file__)]
    try:
        files.append(write_card(run))  # again, since it tells what the export measured too
    except InputError as error:
        run.log(f"{path.name} has no model card: {error}")
    contents = {file.name: file.read_bytes() for file in files if file.exists()}
    if files[0].name not in contents:
        raise run_first("06", f"{files[0]} does not exist")
    labels = {name: list(task.classes) or task.unit.strip() for name, task in TASKS.items()}
    contents["labels.json"] = to_json(labels, indent=1).encode()
    with whole(path) as partial, tempfile.TemporaryDirectory() as there:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(contents.items()):  # without times, so that equal files make equal bytes
                about = zipfile.ZipInfo(f"{folder}/{name}")
                about.external_attr = 0o644 << 16
                archive.writestr(about, content, zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(partial) as archive:
            if archive.testzip() or len(archive.namelist()) != len(contents):
                raise InputError(f"{path} did not read back as it was written; see to that disk and run this again.")
            archive.extractall(there)
        for name in {files[0].name, detector.name} & set(contents):
            open_session(Path(there, folder, name))
        os.replace(partial, path)
    return path
