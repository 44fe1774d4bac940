"""Reads emotion, age and gender from pictures by an exported model; needs numpy, pillow and onnxruntime alone.

It imports nothing else of this project, so that this one file can go with a model wherever the model goes:

    predictor = Predictor("model.onnx", detect="built-in")
    for answer in predictor.predict(["photo.jpg", "holiday"]):
        print(answer)
"""

from __future__ import annotations

import io
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont, ImageOps

UNSURE = "unsure"
"""Stands for a class whose probability is below the threshold."""

MODELS = Path(__file__).resolve().parent.parent.parent / "models"
"""Where the models lie that come with this project."""

SHIPPED_MODEL = MODELS / "faces.onnx"
"""Reads a face, where no run is named."""

DETECTOR = MODELS / "detector.onnx"
"""Finds faces: ``picture``, uint8 RGB (H, W, 3), in; ``boxes``, int64 (N, 4), and ``scores`` out, the surest first."""

DETECTOR_LICENCE = MODELS / "LICENSE-detector"
"""Goes wherever the detector goes."""

_OUTPUTS = ("emotion", "gender", "age", "age_range")
_SMALLEST = 8  # pixels a side of what is read as a face: less is answered as surely, and means nothing
_PIXELS = 2_000_000  # of faces that are held and answered together: the network takes some 40 times as many bytes
_TOGETHER = 64  # pictures that wait for one another
_READABLE = 640  # pixels that the longer side of a drawn picture has at least
# Dark enough for white letters, as WCAG asks (4.5 to 1); one for each class, in order, and grey for what is unsure.
_COLOURS = ("#9c1c1c", "#5b6b00", "#6a2c91", "#1a6b35", "#1b4f9c", "#0b6470", "#a0256e", "#7a4a00", "#3d3d8f")
_GREY = "#555555"


Box = tuple[int, int, int, int]
Detector = Callable[[np.ndarray], Any]


class PredictorError(ValueError):
    """Something that was given cannot be used. The message is one sentence."""

    def _render_traceback_(self) -> list[str]:
        """Let IPython show the sentence alone."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Face:
    """What the model says of one face.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the picture; None where the whole picture was taken for the face.
        emotion, gender: the likeliest class, or UNSURE.
        emotion_probabilities, gender_probabilities: of every class, calibrated where the run was evaluated.
        age: in years.
        age_range: the years within which 80 of 100 true ages lie; None where that was never fitted.
    """

    box: Box | None
    emotion: str
    emotion_probabilities: dict[str, float]
    gender: str
    gender_probabilities: dict[str, float]
    age: float
    age_range: tuple[float, float] | None

    def __str__(self) -> str:
        """What is said of it, in two lines."""
        years = f"{self.age:.0f} years"
        if self.age_range:
            years += f" ({self.age_range[0]:.0f} to {self.age_range[1]:.0f})"
        emotion = _told(self.emotion, self.emotion_probabilities)
        return f"{emotion}\n{_told(self.gender, self.gender_probabilities)}, {years}"


@dataclass(frozen=True)
class Answer:
    """What was found in one picture.

    Attributes:
        source: the picture's path, or which of those given it was.
        faces: what was read; none where no face was found.
        whole_picture: no detector was used, so the picture itself was taken for a face.
        error: one sentence on what could not be read.
    """

    source: str
    faces: tuple[Face, ...] = ()
    whole_picture: bool = False
    error: str | None = None

    def __str__(self) -> str:
        """A line for each face, or why there is none."""
        where = "the whole picture" if self.whole_picture else "a face at {}, {}"
        lines = [f"{self.source}: {where.format(*face.box or ())}: {str(face).replace(chr(10), ', ')}"
                 for face in self.faces]  # fmt: skip
        none = [] if self.faces or self.error else [f"{self.source}: no face was found."]
        return "\n".join(lines + none + ([self.error] if self.error else []))


class Predictor:
    """A model that answers for pictures as they come.

    Args:
        model: path of an exported ``model.onnx``, which brings its preprocessing and the names of its classes.
        detect: what finds the faces: a callable that takes a picture, uint8 RGB (H, W, 3), and returns boxes (N, 4) of
            x0, y0, x1, y1 in pixels; "built-in"; or the path of another ``detector.onnx``. Without one the whole
            picture is the face.
        threshold: the probability below which a class is UNSURE, 0 to 1; by default what evaluation has found for this
            model, and 0 where it was not evaluated.

    Attributes:
        about: the model's metadata, such as the terms of the data that it learned from.
        classes: the names of its classes, by output.
        thresholds: the probability below which each of those is UNSURE.

    Raises:
        PredictorError: a file is missing, damaged, or another kind of model.
    """

    def __init__(self, model: str | Path, detect: Detector | str | Path | None = None, threshold: float | None = None):
        if not (threshold is None or (isinstance(threshold, (int, float)) and 0 <= threshold <= 1)):
            raise PredictorError(f"The threshold is {threshold!r}; give a probability from 0 to 1, or None.")
        self._session = open_graph(Path(model), ("faces", *_OUTPUTS))
        self.about: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        try:
            self.classes = {name: tuple(self.about[name].split(",")) for name in _OUTPUTS[:2]}
            found, self._fitted = (dict(json.loads(self.about.get(key, "{}"))) for key in ("threshold", "calibration"))
            self.thresholds = {name: found.get(name, 0.0) if threshold is None else threshold for name in self.classes}
            answers = {output.name: output.shape[-1] for output in self._session.get_outputs()}
            if not all(
                len(self.classes[name]) == answers[name] and 0 <= self.thresholds[name] <= 1 for name in self.classes
            ):
                raise ValueError("its names or thresholds do not fit its answers")
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise PredictorError(f"{model} is not a model that this project exported ({error}).") from error
        if detect == "built-in":
            beside = Path(__file__).with_name(DETECTOR.name)
            detect = beside if beside.exists() else DETECTOR
        self._detect = open_detector(Path(detect)) if isinstance(detect, (str, Path)) else detect

    def predict(self, items: Any) -> list[Answer]:
        """An answer for every picture, in order.

        Args:
            items: a path, a Pillow image, an array (H, W), (H, W, 3) or (H, W, 4), the bytes of a file, a folder (all
                pictures in and below it that Pillow knows by their names), or any number of these.
        """
        return list(self.stream(items))

    def stream(self, items: Any) -> Iterator[Answer]:
        """As :meth:`predict`, some pictures at a time, so that no more than those are in memory."""
        answers, faces, pixels = list[Answer](), list[tuple[int, Box | None, np.ndarray]](), 0
        for source, item in _listed(items):
            answer, found = self._look(source, item)
            faces += [(len(answers), box, face) for box, face in found]
            answers.append(answer)
            pixels += sum(face[..., 0].size for _, face in found)
            if len(answers) >= _TOGETHER or pixels >= _PIXELS:
                yield from self._answered(answers, faces)
                answers, faces, pixels = [], [], 0
        yield from self._answered(answers, faces)

    def read_video(self, path: str | Path, to: str | Path | None = None) -> Iterator[Answer]:
        """An answer for each frame of a video, which may be written with the answers drawn into it.

        Args:
            path: of the video.
            to: where it is written, once the last answer was taken; browsers play what ends with ``.webm``, most
                players ``.mp4``.

        Raises:
            PredictorError: OpenCV is missing, cannot read the video, or cannot write such a file.
        """
        target, writer = Path(to or "none.webm"), None
        partial = target.with_name(f".{target.stem}.partial{target.suffix}")
        if to and target.resolve() == Path(path).resolve():
            raise PredictorError(f"{path} would be written over with what is drawn; give another place.")
        try:
            for number, (frame, rate) in enumerate(_frames(path)):
                (answer,) = self.predict(frame)
                if to:
                    picture = np.asarray(draw(frame, answer.faces))
                    writer = writer or _video_writer(partial, rate, picture.shape[1::-1])
                    writer.write(picture[..., ::-1])
                yield replace(answer, source=f"{path}, frame {number}")
            if writer:
                writer.release()
                os.replace(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink()

    def write_video(self, path: str | Path, to: str | Path) -> float:
        """Write a video as :meth:`read_video` does; returns how many frames a second were read, answered and drawn."""
        started = time.perf_counter()
        return len(list(self.read_video(path, to))) / (time.perf_counter() - started)

    def _look(self, source: str, item: Any) -> tuple[Answer, list[tuple[Box | None, np.ndarray]]]:
        """An answer without its faces yet, and those: the box and the pixels of each."""
        try:
            picture = read_picture(item, source)
            if self._detect is None:
                return Answer(source, whole_picture=True), [(None, picture)]
            boxes = _boxes(self._detect, picture, source)
        except PredictorError as error:
            return Answer(source, error=str(error)), []
        return Answer(source), [(box, picture[box[1] : box[3], box[0] : box[2]].copy()) for box in boxes]

    def _answered(self, answers: list[Answer], faces: list[tuple[int, Box | None, np.ndarray]]) -> Iterator[Answer]:
        """The answers with their faces, which go through the network together where they have one size."""
        said: dict[int, Face | str] = {}
        for shape in {pixels.shape for *_, pixels in faces}:
            places = [place for place, (*_, pixels) in enumerate(faces) if pixels.shape == shape]
            said |= zip(places, self._read([faces[place][1:] for place in places]), strict=True)
        for number, answer in enumerate(answers):
            found = [said[place] for place, (owner, *_) in enumerate(faces) if owner == number]
            error = next((f"{answer.source} {text}" for text in found if isinstance(text, str)), answer.error)
            yield replace(answer, faces=tuple(face for face in found if isinstance(face, Face)), error=error)

    def _read(self, faces: list[tuple[Box | None, np.ndarray]]) -> list[Face | str]:
        """A Face for each of some of one size, or why there is none, to stand behind the picture's name."""
        high, wide = faces[0][1].shape[:2]
        if min(high, wide) < _SMALLEST:
            wanted = f"{_SMALLEST} x {_SMALLEST} are the least that can be read; give a larger picture."
            return [f"has {wide} x {high} pixels for a face, but {wanted}"] * len(faces)
        try:
            outputs = self._session.run(_OUTPUTS, {"faces": np.stack([pixels for _, pixels in faces])})
        except Exception as error:  # ONNX Runtime's own errors have no common base, and memory may be short
            if len(faces) > 1:
                return [said for face in faces for said in self._read([face])]
            return [f"could not be read by the model ({_first_line(error)})."]
        return [self._face(box, *answer) for (box, _), *answer in zip(faces, *outputs, strict=True)]

    def _face(self, box, emotion, gender, age, age_range) -> Face | str:
        if not all(np.isfinite(values).all() for values in (emotion, gender, age, age_range)):
            return "was answered with what is no number; the model's weights are damaged."
        years = (float(age_range[0]), float(age_range[1])) if "age" in self._fitted else None
        return Face(box, *self._class("emotion", emotion), *self._class("gender", gender), float(age), years)

    def _class(self, name: str, values: np.ndarray) -> tuple[str, dict[str, float]]:
        """The likeliest class or UNSURE, and the probability of each."""
        chances = dict(zip(self.classes[name], map(float, values), strict=True))
        best = max(chances, key=lambda label: chances[label])
        return (best if chances[best] >= self.thresholds[name] else UNSURE), chances


def open_detector(path: Path) -> Detector:
    """What gives the boxes of the faces in a picture, by a ``detector.onnx``; raises a PredictorError as it opens."""
    session = open_graph(path, ("picture", "boxes"))
    return lambda picture: session.run(["boxes"], {"picture": picture})[0]


def read_picture(item: Any, name: str = "The picture") -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3), turned as its EXIF says, on white where it is transparent.

    Args:
        item: a path, a Pillow image, the bytes of a file, or an array, (H, W) or (H, W, 1, 3 or 4): integers are 0 to
            255 (uint16: 0 to 65535), floats and booleans 0 to 1.
        name: what an error's sentence begins with.

    Raises:
        PredictorError: it is none of these, or cannot be read.
    """
    if isinstance(item, np.ndarray):
        return _of_array(item, name)
    if not isinstance(item, (str, os.PathLike, bytes, bytearray, Image.Image)):
        raise PredictorError(f"{name} is a {type(item).__name__}; give a path, a Pillow image, an array or bytes.")
    if isinstance(item, (str, os.PathLike)) and not os.path.isfile(item):
        lacking = "is a folder without pictures that can be read" if os.path.isdir(item) else "is not a file"
        if os.path.isdir(item) and os.path.islink(item):
            lacking = "is a link to a folder, which is not followed"
        raise PredictorError(f"{name} {lacking}; give another one.")
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # telephones take 108 million pixels
            if not isinstance(item, Image.Image):
                file = io.BytesIO(item) if isinstance(item, (bytes, bytearray)) else item
                item = stack.enter_context(Image.open(file))
            image = ImageOps.exif_transpose(item)
        if image.mode[0] not in "IF":
            return _rgb(image)
    except Exception as error:  # each of Pillow's readers has errors of its own
        said = f"{name} cannot be read as a picture ({_first_line(error)}); save it again, smaller if need be"
        raise PredictorError(f"{said} (a video takes --video).") from error
    return _of_array(np.asarray(image), name, 65535 if image.mode[0] == "I" else None)  # 16 bits, or floats


def draw(picture: np.ndarray, faces: Iterable[Face]) -> Image.Image:
    """The picture, enlarged where it is too small to be written on, with each face's box and answer.

    Args:
        picture: uint8 RGB (H, W, 3).
        faces: what was found in it. A face that is the whole picture has its answer below.
    """
    faces, factor = list(faces), max(1, math.ceil(_READABLE / max(picture.shape[:2])))
    image = ImageOps.scale(Image.fromarray(picture), factor)
    width, height = image.size
    stroke = max(2, max(image.size) // 320)
    if any(face.box is None for face in faces):
        image = ImageOps.expand(image, (0, 0, 0, max(image.size) // 6), "white")
    pen = ImageDraw.Draw(image)
    # Boxes first, so that none runs through a text.
    for text in (False, True):
        for face in faces:
            code = list(face.emotion_probabilities).index(face.emotion) if face.emotion != UNSURE else None
            colour = _GREY if code is None else _COLOURS[code % len(_COLOURS)]
            x0, y0, x1, y1 = (factor * at for at in face.box) if face.box else (0, 0, width, height)
            if not text:
                pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline="white", width=2 * stroke)
                pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=stroke)
                continue
            # As wide as the box, as far as that can be read.
            wide = pen.multiline_textbbox((0, 0), str(face), ImageFont.load_default(20))[2]
            size = min(max(20 * (x1 - x0) / (wide + 16), 12, max(image.size) / 80), 0.05 * max(image.size))
            font, pad = ImageFont.load_default(size), size / 3
            _, _, wide, high = pen.multiline_textbbox((pad, pad), str(face), font)
            left, top = max(min(x0, image.width - wide - pad), 0), min(y1, image.height - high - pad)
            pen.rectangle((left, top, left + wide + pad, top + high + pad), fill=colour)
            pen.multiline_text((left + pad, top + pad), str(face), "white", font)
    return image


def _told(label: str, probabilities: dict[str, float]) -> str:
    """A class in words, with its probability; what it would be where it is unsure."""
    best = max(probabilities, key=lambda name: probabilities[name])
    return f"{label} {f'({best}?) ' if label == UNSURE else ''}{probabilities[best]:.0%}"


def _listed(items: Any) -> Iterator[tuple[str, Any]]:
    """Each picture that was given and what it is called, those of a folder one by one."""
    one = isinstance(items, (str, bytes, bytearray, np.ndarray, dict)) or not isinstance(items, Iterable)
    for number, item in enumerate([items] if one else items, 1):
        if not isinstance(item, (str, os.PathLike)):
            yield f"Picture {number}", item
        elif os.path.isdir(item):
            ends = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind != "MPEG"}
            # What a telephone writes and Pillow cannot read gets a sentence, and not silence.
            found = [p for p in _inside(Path(item)) if p.is_dir() or p.suffix.lower() in {*ends, ".heic", ".heif"}]
            yield from ((str(path), path) for path in found or [Path(item)])
        else:
            yield str(item), item


def _inside(folder: Path) -> list[Path]:
    """What is in and below a folder but hidden, in order; of folders only links and those that cannot be listed."""
    found, lost = list[Path](), list[OSError]()
    for place, folders, names in os.walk(folder, onerror=lost.append):
        folders[:] = [name for name in folders if name[0] != "."]
        found += [Path(place, name) for name in names if name[0] != "."]
        found += [path for name in folders if (path := Path(place, name)).is_symlink()]
    return sorted([*found, *(Path(error.filename) for error in lost)])


def _boxes(detect: Detector, picture: np.ndarray, name: str) -> list[Box]:
    """The boxes that a detector gives, as far as they lie within the picture."""
    try:
        found = detect(picture)
        boxes = np.zeros((0, 4)) if found is None or not len(found) else np.asarray(found, float)
    except Exception as error:  # whatever was given as a detector
        raise PredictorError(f"{name} could not be searched for faces ({_first_line(error)}).") from error
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise PredictorError(f"{name} got boxes {boxes.shape} from the detector; finite numbers (N, 4) are expected.")
    high, wide = picture.shape[:2]
    boxes = np.rint(boxes).clip(0, [wide, high, wide, high]).astype(int)
    if (boxes[:, :2] >= boxes[:, 2:]).any():
        raise PredictorError(f"{name} got a box from the detector that holds no pixel; x0, y0, x1, y1 are expected.")
    return [tuple(box) for box in boxes.tolist()]


def _of_array(array: np.ndarray, name: str, most: int | None = None) -> np.ndarray:
    """Uint8 RGB of an array whose numbers go up to ``most``, or to what its kind of number says."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or not array.size:
        raise PredictorError(f"{name} has the shape {array.shape}; (H, W), (H, W, 3) or (H, W, 4) is expected.")
    if array.dtype.kind not in "buif":
        raise PredictorError(f"{name} is an array of {array.dtype}; numbers are expected.")
    most = most or (1 if array.dtype.kind in "bf" else 65535 if array.dtype.str[1:] == "u2" else 255)
    low, high = array.min(), array.max()
    most = 255 if 1 < high <= 255 < most else most  # 8 bits that were saved as more; of 16 it would be all black
    if not (low >= 0 and high <= most):  # which what is no number is not
        raise PredictorError(f"{name} holds {low} to {high}; {array.dtype} is expected to be 0 to {most}.")
    if array.dtype != np.uint8:
        array = np.rint(array * (255.0 / most)).astype(np.uint8)
    array = array[..., 0] if array.shape[2:] == (1,) else array
    return _rgb(Image.fromarray(np.ascontiguousarray(array)))


def _rgb(image: Image.Image) -> np.ndarray:
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def open_graph(path: Path, parts: tuple[str, ...] = (), threads: int = 0) -> onnxruntime.InferenceSession:
    """The model in a file, on the CPU with so many threads, or with what suits the machine.

    Raises:
        PredictorError: it cannot be opened, or has not all of these inputs and outputs.
    """
    if not path.exists():
        raise PredictorError(f"{path} does not exist; notebook 06 writes a run's, git checkout models what ships.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warnings
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors have no common base
        why = _first_line(error)
        raise PredictorError(f"{path} is damaged ({why}); export it anew, or try git checkout models.") from error
    found = [part.name for part in (*session.get_inputs(), *session.get_outputs())]
    if not set(parts) <= set(found):  # there may be more, such as another head's
        told, wanted = ", ".join(found), ", ".join(parts)
        raise PredictorError(f"{path} is another kind of model: it has {told}, but {wanted} are expected.")
    return session


def _frames(path: str | Path) -> Iterator[tuple[np.ndarray, float]]:
    """The frames of a video, uint8 RGB (H, W, 3), each with how many of them make a second."""
    try:
        import cv2
    except ImportError:
        raise PredictorError("Reading a video needs OpenCV: pip install opencv-python-headless.") from None
    video = cv2.VideoCapture(str(path))
    try:
        more, frame = video.read()
        if not more:
            raise PredictorError(f"{path} is missing, or no video that OpenCV can read.")
        rate = video.get(cv2.CAP_PROP_FPS) or 25.0
        while more:
            yield np.ascontiguousarray(frame[..., ::-1]), rate
            more, frame = video.read()
    finally:
        video.release()


def _video_writer(path: Path, rate: float, size: tuple[int, int]):
    import cv2

    with suppress(OSError):  # it then cannot be opened either
        path.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter.fourcc(*("VP80" if path.suffix.lower() == ".webm" else "mp4v"))
    writer = cv2.VideoWriter(str(path), codec, rate, size)
    if not writer.isOpened():
        raise PredictorError(f"OpenCV cannot write {path}; .webm and .mp4 can be written where there is space.")
    return writer


def _first_line(error: Exception) -> str:
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
