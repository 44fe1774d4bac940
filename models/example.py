"""Reads faces in pictures: python example.py photo.jpg folder (needs numpy, pillow and onnxruntime)."""

import sys
from pathlib import Path

from predictor import Predictor, draw, read_picture

here = Path(__file__).parent
detector = here / "detector.onnx"
predictor = Predictor(here / "model.onnx", detect=detector if detector.exists() else None)
for number, answer in enumerate(predictor.predict(sys.argv[1:] or sys.exit(__doc__)), start=1):
    print(answer)
    if answer.faces:
        draw(read_picture(answer.source), answer.faces).save(f"answer_{number}.png")
