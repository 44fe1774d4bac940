"""What the whole project agrees on: the labels, every knob of a training run, the recipes and the criteria.

Each fact stands here once. The command line, the widgets, the notebooks' tables and the verdict are made from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Class order of the emotion head: FER2013's folders, sorted. Other datasets are mapped to it by name."""

GENDERS = ("male", "female")
"""Class order of the gender head: UTKFace's own coding, 0 male and 1 female."""

RACES = ("White", "Black", "Asian", "Indian", "Other")
"""UTKFace's race coding. For the fairness table only; never an input."""

_EMOTION_WORDS = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happiness": "happy",
    "joy": "happy",
    "neutrality": "neutral",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Other spellings that datasets use -> the name in EMOTIONS."""

_GENDER_WORDS = {"m": "male", "man": "male", "0": "male", "f": "female", "woman": "female", "1": "female"}

TASKS = ("emotion", "age", "gender")
SPLITS = ("train", "validation", "test")

AGE_RANGE = (0.0, 116.0)
"""Years that UTKFace holds; predictions are clipped to it."""

AGE_BINS = int(AGE_RANGE[1]) + 1
"""Classes of an age head that answers with a distribution: one for each year from 0 on."""

AGE_CENTRE, AGE_SPREAD = 33.0, 20.0
"""About the mean and standard deviation of UTKFace's ages, in years: the age head works in these units."""

UNKNOWN = -1
"""An emotion, gender or race that is not known. An unknown age is NaN."""

SAMPLE_FACES = 6000
"""How many faces are drawn: enough for a small network to learn them in a few minutes, and drawn in one."""

TRAINING_FACES = 78_000
"""About how many faces of the four datasets are trained on, before AffectNet's contradictory ones leave."""

TRAIN_SAMPLE_ROWS = 5000
"""Fixed training rows, without augmentation, on which the train-validation gap of the verdict is measured."""


def emotion_code(word: str) -> int | None:
    """The class of an emotion by its name, in any of the usual spellings; None where there is no such emotion."""
    word = word.strip().lower()
    word = _EMOTION_WORDS.get(word, word)
    return EMOTIONS.index(word) if word in EMOTIONS else None


def gender_code(word: str) -> int | None:
    """The class of a gender by its name, initial or code; None where it is neither."""
    word = word.strip().lower()
    word = _GENDER_WORDS.get(word, word)
    return GENDERS.index(word) if word in GENDERS else None


class InputError(ValueError):
    """Something a user gave cannot be used. The message is one sentence that says what, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Let IPython show the sentence alone: the stack below it would be ours, the mistake is not."""
        return [f"{type(self).__name__}: {self}"]


def _knob(default, label: str, help: str, **bounds):
    """A dataclass field with what a form needs: ``label``, ``help`` and ``low``/``high``/``choices``/``log``."""
    return field(default=default, metadata={"label": label, "help": help, **bounds})


@dataclass(frozen=True)
class _Knobs:
    """A config of knobs, checked when it is made."""

    def __post_init__(self):
        for knob in fields(self):
            object.__setattr__(self, knob.name, _checked(knob, getattr(self, knob.name)))


@dataclass(frozen=True)
class DataConfig(_Knobs):
    """Every knob of packing the datasets.

    Raises:
        InputError: a value has the wrong type or is not among its choices.
    """

    affectnet_labels: str = _knob(
        "agree",
        "AffectNet's labels",
        "agree: only images on which folder and labels.csv agree; folder or csv: believe one of them.",
        choices=("agree", "folder", "csv"),
    )
    max_side: int = _knob(
        288,
        "Largest face",
        "Pixels of a face's longer side in the store; larger ones are reduced once, when they are packed.",
        low=32,
        high=1024,
    )


@dataclass(frozen=True)
class TrainConfig(_Knobs):
    """Every knob of a training run. The defaults are the ``seed`` recipe.

    Raises:
        InputError: a value has the wrong type or lies outside its range.
    """

    backbone: str = _knob("efficientnet_b2", "Backbone", "Name of a timm model; see timm.list_models().")
    weights: str = _knob(
        "imagenet",
        "Start from",
        "imagenet: pretrained weights, fetched once; faces: pretrained on VGGFace2, for non-commercial use only and "
        "for tf_efficientnet_b2; none: random weights, which want a learning rate of 1e-3 or more.",
        choices=("imagenet", "faces", "none"),
    )
    img_size: int = _knob(224, "Image size", "Pixels a side that the network sees.", low=32, high=512)
    first_size: float = _knob(
        1.0,
        "First image size",
        "Training begins with this share of the image size (64 pixels at least) and grows to all of it by two thirds "
        "of the epochs: early epochs are shorter. 1: the whole size throughout.",
        low=0.25,
        high=1.0,
    )
    epochs: int = _knob(100, "Epochs", "At most this many passes over the training rows.", low=1, high=1000)
    max_minutes: float = _knob(
        0.0,
        "Minutes at most",
        "Stop cleanly after this many minutes; start again to go on. 0: no limit.",
        low=0.0,
        high=1e5,
    )
    batch_size: int = _knob(64, "Batch size", "Faces per step. Halve it when memory runs out.", low=2, high=4096)
    lr: float = _knob(1e-4, "Learning rate", "AdamW's peak step size.", low=1e-6, high=0.1, log=True)
    backbone_lr: float = _knob(
        1.0,
        "Rate of the backbone",
        "Its learning rate as a share of the heads'; about a tenth suits pretrained weights.",
        low=0.0,
        high=1.0,
    )
    layer_decay: float = _knob(
        1.0,
        "Layer decay",
        "Each layer of the backbone learns by this factor slower than the one above it; for pretrained weights.",
        low=0.5,
        high=1.0,
    )
    head_epochs: int = _knob(
        0, "Heads alone", "Epochs at the start in which a pretrained backbone's weights stay.", low=0, high=100
    )
    weight_decay: float = _knob(
        1e-4, "Weight decay", "AdamW's decoupled weight decay, on all but biases and normalisation.", low=0.0, high=1.0
    )
    schedule: str = _knob(
        "restarts",
        "Schedule",
        "cosine: the learning rate falls once, over all epochs; restarts: it starts again after each cycle.",
        choices=("cosine", "restarts"),
    )
    warmup: float = _knob(
        0.0, "Warm-up", "Epochs in which the learning rate rises to its full value.", low=0.0, high=20.0
    )
    t_0: int = _knob(10, "First cycle", "Epochs until the first warm restart.", low=1, high=1000)
    t_mult: int = _knob(2, "Cycle growth", "Each cycle is this many times as long as the one before.", low=1, high=10)
    clip_norm: float = _knob(1.0, "Gradient clipping", "Largest norm of the whole gradient.", low=0.01, high=100.0)
    ema: float = _knob(
        0.0,
        "Averaged weights",
        "Decay of a moving average of the weights, which is what is measured and kept; 0: the weights themselves.",
        low=0.0,
        high=0.99999,
    )
    patience: int = _knob(15, "Patience", "Epochs without improvement before training stops.", low=1, high=1000)
    min_delta: float = _knob(0.001, "Least improvement", "A smaller gain does not count as one.", low=0.0, high=1.0)
    select_by: str = _knob(
        "emotion_accuracy",
        "Best by",
        "Validation measure that chooses the best checkpoint; ties go to the lower loss.",
        choices=("emotion_accuracy", "gender_accuracy", "age_mae", "loss"),
    )
    focal_alpha: float = _knob(0.25, "Focal alpha", "Constant factor of the focal loss.", low=0.01, high=10.0)
    focal_gamma: float = _knob(2.0, "Focal gamma", "How strongly easy faces are played down.", low=0.0, high=10.0)
    label_smoothing: float = _knob(0.1, "Label smoothing", "Share of the target spread evenly.", low=0.0, high=0.9)
    class_weights: float = _knob(
        0.0,
        "Class weights",
        "0: every face counts the same in the emotion loss; 1: every emotion does, however rare; 0.5: between them.",
        low=0.0,
        high=1.0,
    )
    age_head: str = _knob(
        "number",
        "Age head",
        "number: one regressed number; distribution: a probability for each year, and their expectation.",
        choices=("number", "distribution"),
    )
    emotion_weight: float = _knob(1.0, "Weight of emotion", "Factor of the emotion loss.", low=0.0, high=100.0)
    age_weight: float = _knob(1.0, "Weight of age", "Factor of the age loss.", low=0.0, high=100.0)
    gender_weight: float = _knob(1.0, "Weight of gender", "Factor of the gender loss.", low=0.0, high=100.0)
    head_width: int = _knob(256, "Head width", "Units in each head's hidden layer.", low=8, high=4096)
    dropout_in: float = _knob(0.5, "Dropout before the heads", "Share of features dropped.", low=0.0, high=0.95)
    dropout_hidden: float = _knob(0.4, "Dropout inside the heads", "Share of hidden units dropped.", low=0.0, high=0.95)
    mix_probability: float = _knob(0.5, "Mixup/CutMix", "Share of steps whose faces are mixed.", low=0.0, high=1.0)
    mixup_alpha: float = _knob(0.2, "Mixup alpha", "Beta distribution of Mixup's shares.", low=0.01, high=10.0)
    cutmix_alpha: float = _knob(1.0, "CutMix alpha", "Beta distribution of CutMix's areas.", low=0.01, high=10.0)
    mix_ramp: int = _knob(
        0, "Rise of the mixing", "Epochs until Mixup and CutMix are as frequent as asked for.", low=0, high=1000
    )
    mix_fade: float = _knob(
        0.0,
        "Fade of the mixing",
        "Over this last share of training, Mixup and CutMix become rarer until none is left. 0: no fading.",
        low=0.0,
        high=1.0,
    )
    augment: float = _knob(1.0, "Augmentation", "Strength of all techniques; 0 switches them off.", low=0.0, high=2.0)
    augment_without: str = _knob(
        "", "Without", "Techniques to leave out, separated by commas; notebook 03 shows and names them all."
    )
    quotas: str = _knob(
        "",
        "Quotas",
        "Parts of each batch by dataset, such as fer2013=2, utkface=1. Empty: as many as there are.",
    )
    balance: float = _knob(
        0.0, "Balance", "0: emotions as often as they come; 1: rare ones as often as frequent ones.", low=0.0, high=1.0
    )
    flip_test: bool = _knob(
        False, "Mirror when answering", "Answer with the mean over a face and its mirror image; takes twice the time."
    )
    precision: str = _knob(
        "auto",
        "Precision",
        "auto: bfloat16 on GPUs that have it, float16 with loss scaling on others such as a T4, float32 on a CPU.",
        choices=("auto", "float32", "float16", "bfloat16"),
    )
    compile: str = _knob(
        "auto",
        "Compile",
        "torch.compile: takes minutes at first and makes each step shorter. auto: on GPUs from Ampere on.",
        choices=("auto", "on", "off"),
    )
    workers: int = _knob(2, "Loader processes", "0 loads in the training process itself.", low=0, high=64)
    seed: int = _knob(42, "Seed", "Every random draw is a function of it and the step.", low=0, high=2**31 - 1)

    @classmethod
    def from_dict(cls, values: dict, base: TrainConfig | None = None) -> TrainConfig:
        """The config ``base`` (default: the seed recipe) with ``values`` set.

        Raises:
            InputError: a field is unknown or its value is not allowed.
        """
        known = [knob.name for knob in fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known fields are {', '.join(known)}."
                raise InputError(f"The config has an unknown field {name!r}; {hint}")
        return dataclasses.replace(base or cls(), **values)

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read what :meth:`save` wrote."""
        return cls.from_dict(read_json(path, "a training config"))

    def save(self, path: Path) -> None:
        """Write every field as JSON."""
        write_file(path, json.dumps(dataclasses.asdict(self), indent=2) + "\n")


_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "True or False"}


def _checked(knob: dataclasses.Field, value):
    """``value`` in the field's type, or an :class:`InputError` that names the field, the value and what is allowed."""
    kind = type(knob.default)
    say = f"The field {knob.name!r} is {value!r}, but "
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise InputError(f"{say}it takes {_KINDS[kind]}.")
    bounds = knob.metadata
    if "choices" in bounds and value not in bounds["choices"]:
        raise InputError(f"{say}it takes one of: {', '.join(bounds['choices'])}.")
    if "low" in bounds and not (math.isfinite(value) and bounds["low"] <= value <= bounds["high"]):
        raise InputError(f"{say}it takes a value from {bounds['low']:g} to {bounds['high']:g}.")
    return value


STARTS = {
    "imagenet": {"lr": 2e-3, "backbone_lr": 0.1, "layer_decay": 0.9, "head_epochs": 1},
    "faces": {"backbone": "tf_efficientnet_b2", "lr": 2e-3, "backbone_lr": 0.1, "layer_decay": 0.9, "head_epochs": 1},
    "none": {"lr": 3e-3, "backbone_lr": 1.0, "layer_decay": 1.0, "head_epochs": 0},
}
"""What suits each start of the weights. A recipe takes these fields when its start is changed; ``seed`` does not."""

_PRODUCTION = TrainConfig(
    first_size=0.57,
    epochs=30,
    **STARTS["imagenet"],
    weight_decay=0.02,
    schedule="cosine",
    warmup=0.5,
    ema=0.999,
    focal_alpha=1.0,
    focal_gamma=0.0,
    age_head="distribution",
    age_weight=0.05,
    gender_weight=0.5,
    dropout_in=0.2,
    dropout_hidden=0.1,
    mix_probability=0.4,
    mix_ramp=10,
    mix_fade=0.3,
    augment=0.5,
    flip_test=True,
)

_SMALL = TrainConfig(
    backbone="test_resnet",
    weights="none",
    img_size=64,
    epochs=7,
    t_0=7,
    lr=2e-3,
    focal_alpha=1.0,
    emotion_weight=2.0,
    dropout_in=0.2,
    dropout_hidden=0.1,
    mix_probability=0.0,
    augment=0.5,
    workers=1,
)

RECIPES = {
    "seed": TrainConfig(),
    "production": _PRODUCTION,
    "quick": dataclasses.replace(_PRODUCTION, img_size=128, epochs=10),
    "small": _SMALL,
    "demo": dataclasses.replace(_SMALL, batch_size=32, epochs=12, t_0=12, lr=1e-3, augment=0.3, mix_probability=0.1),
}
"""Every recipe is a full config.

``seed``: what this project grew from, kept for comparison. ``production``: what a GPU is for, the default there.
``quick``: the same in about 15 minutes of a T4. ``small``: timm's smallest ResNet from random weights, for about half
an hour on two CPU cores. ``demo``: the same for the few thousand drawn faces.
"""


def recipe(name: str, **changes) -> TrainConfig:
    """A recipe by its name, with some fields changed, and those of STARTS that its start of the weights asks for.

    Raises:
        InputError: there is no such recipe, or a changed field is unknown or out of range.
    """
    if name not in RECIPES:
        raise InputError(f"There is no recipe {name!r}; choose one of: {', '.join(RECIPES)}.")
    base, start = RECIPES[name], changes.get("weights")
    suited = STARTS.get(start, {}) if name != "seed" and start != base.weights else {}
    return TrainConfig.from_dict(suited | changes, base)


@dataclass(frozen=True)
class Criterion:
    """One line of the verdict: ``measure`` has to lie on the right side of ``bound`` (in ``unit``)."""

    title: str
    bound: float
    unit: str
    at_least: bool


CRITERIA = {
    "emotion": Criterion("Emotion accuracy", 78.0, "%", at_least=True),
    "gender": Criterion("Gender accuracy", 92.0, "%", at_least=True),
    "age": Criterion("Age error (MAE)", 4.0, "years", at_least=False),
    "gap": Criterion("Train-validation gap", 10.0, "points", at_least=False),
    "onnx": Criterion("ONNX equals PyTorch", 1e-3, "largest difference", at_least=False),
    "latency": Criterion("Time for one face (p95)", 50.0, "ms", at_least=False),
}
"""The six criteria of a finished model."""


def read_json(path: Path, what: str) -> dict:
    """The JSON object in ``path``.

    Raises:
        InputError: the file is missing, is not JSON, or is not an object.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {what} was expected there.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as JSON ({error}); {what} was expected there: correct or delete that file."
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a JSON {type(values).__name__}, but {what} is an object with named fields.")
    return values


def write_file(path: Path, text: str) -> None:
    """Write a small text file so that a kill leaves the old one or the new one, never half of it.

    Raises:
        InputError: the disk is full or the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror}); free some space and run this again; what was there "
            "before is untouched."
        ) from error
