"""Every knob of packing and training in sections, the recipes, and the criteria of a finished model.

Each fact stands here once. A knob's default, range, label, help, and where it is shown are its field; the command
line, the widgets, the guide's tables and saved files are made from the fields, by their flat names.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from helpers.files import InputError, read_json, to_json, write_file
from helpers.tasks import TASKS

SAMPLE_FACES = 6000
"""How many faces are drawn: enough for a small network to learn them in a few minutes, and drawn in one."""

TRAINING_FACES = 78_000
"""About how many faces of the four datasets are trained on, before AffectNet's contradictory ones leave."""


_HELP = {
    node.name: {
        ast.unparse(field_.target): " ".join(ast.literal_eval(text.value).split())
        for field_, text in pairwise(node.body)
        if isinstance(field_, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    for node in ast.parse(Path(__file__).read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
}
"""Section -> knob -> the text below it in this file, which is where a reader looks for it, and forms show it."""


def _knob(default, label: str, **about) -> Any:
    """A dataclass field with what a form needs besides its help, which is the text below it.

    Args:
        label: of a form's box.
        about: ``low`` and ``high``, or ``choices`` with what else is taken, ``or_form`` (a regular expression) and
            ``or_words``; ``panel`` names the group of notebook 04's panel that shows it, ``first`` one of those on
            top; ``resumable`` where it may change when a run goes on, since it decides how fast and how long a run
            learns, not what; ``fitted`` where it is fitted to the GPU.
    """
    return field(default=default, metadata={"label": label, **about})


def _with_help(section: type) -> type:
    """Give each knob of a section its help."""
    for name, text in _HELP[section.__name__].items():
        knob = section.__dict__[name]
        setattr(section, name, field(default=knob.default, metadata={**knob.metadata, "help": text}))
    return section


_KINDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "True or False"}


def _checked(knob: dataclasses.Field, value: Any) -> Any:
    """``value`` in the field's type, or an :class:`InputError` that names the field, the value and what is allowed."""
    kind: Any = type(knob.default)
    say = f"The field {knob.name!r} is {value!r}, but "
    taken = (int, float) if kind is float else kind
    if not isinstance(value, taken) or isinstance(value, bool) != (kind is bool):
        raise InputError(f"{say}it takes {_KINDS[kind]}.")
    bounds = dict[str, Any](knob.metadata)
    choices, form = bounds.get("choices"), bounds.get("or_form", "")
    if choices and value not in choices and not re.fullmatch(form, str(value)):
        raise InputError(f"{say}it takes one of: {', '.join((*choices, *bounds.get('or_words', ())))}.")
    if "low" in bounds and not bounds["low"] <= value <= bounds["high"]:
        raise InputError(f"{say}it takes a value from {bounds['low']:g} to {bounds['high']:g}.")
    return kind(value)


@dataclass(frozen=True)
class _Knobs:
    """Knobs, checked when they are made."""

    def __post_init__(self):
        for knob in fields(self):
            object.__setattr__(self, knob.name, _checked(knob, getattr(self, knob.name)))


def _with_task_weights(section: type) -> type:
    """Give a section a knob for the weight of each task, so that a new head brings its own."""
    for task in TASKS.values():
        name, about = f"{task.name}_weight", f"Factor of the {task.name} loss."
        setattr(section, name, _knob(task.weight, f"Weight of {task.name}", help=about, low=0.0, high=100.0))
        section.__annotations__[name] = "float"
    return section


@dataclass(frozen=True)
@_with_help
class PackConfig(_Knobs):
    """How the datasets are packed into a store.

    Raises:
        InputError: a value has the wrong type or is not among its choices.
    """

    affectnet_labels: str = _knob("agree", "AffectNet's labels", choices=("agree", "folder", "csv"))
    """agree: only images on which folder and labels.csv agree; folder or csv: believe one of them."""
    gender_codes: str = _knob("ask", "Numbers in the column gender of your own faces",
                              choices=("ask", "0=male 1=female", "0=female 1=male", "1=male 2=female"))  # fmt: skip
    """ask: such numbers are refused, since 0 is male in UTKFace and female in IMDB-WIKI; otherwise what they mean."""
    leave_out: str = _knob("", "Labels to leave out")
    """CSV file of labels that look wrong, as the step labels writes it; only training and validation labels go."""
    max_side: int = _knob(288, "Largest face", low=32, high=1024)
    """Pixels of a face's longer side in the store; larger ones are reduced once, when they are packed."""


@dataclass(frozen=True)
@_with_help
class ModelConfig(_Knobs):
    """The network."""

    backbone: str = _knob("efficientnet_b2", "Backbone", panel="what", first=True)
    """Name of a timm model; see timm.list_models()."""
    weights: str = _knob("imagenet", "Start from", choices=("imagenet", "faces", "none"), panel="what", first=True,
                         or_form=r"run:.+|.+[./].+", or_words=("run:<name>", "or a file of weights"))  # fmt: skip
    """imagenet: pretrained weights, fetched once; faces: pretrained on VGGFace2, for non-commercial use only and for
    tf_efficientnet_b2; none: random weights; run:<name>: the best epoch of an earlier run; or a file of weights: of the
    backbone as timm reads it, which serves where no hub can be reached, or of a run (best.pt)."""
    img_size: int = _knob(224, "Image size", low=32, high=512, panel="what")
    """Pixels a side that the network sees."""
    age_head: str = _knob("number", "Age head", choices=("number", "distribution"), panel="what")
    """number: one regressed number; distribution: a probability for each year, and their expectation."""
    dropout_in: float = _knob(0.5, "Dropout before the heads", low=0.0, high=0.95)
    """Share of features dropped."""
    dropout_hidden: float = _knob(0.4, "Dropout inside the heads", low=0.0, high=0.95)
    """Share of hidden units dropped."""
    flip_test: bool = _knob(False, "Mirror when answering", panel="what")
    """Answer with the mean over a face and its mirror image; takes twice the time."""


@dataclass(frozen=True)
@_with_help
class DataConfig(_Knobs):
    """How faces are loaded."""

    batch_size: int = _knob(64, "Batch size", low=2, high=4096, panel="how long", first=True, fitted=True)
    """Faces per step. Halve it when memory runs out."""
    workers: int = _knob(2, "Loader processes", low=0, high=64, resumable=True, panel="how long")
    """0 loads in the training process itself."""


@dataclass(frozen=True)
@_with_help
class ScheduleConfig(_Knobs):
    """How long it learns, and what changes meanwhile."""

    epochs: int = _knob(100, "Epochs", low=1, high=1000, panel="how long", first=True)
    """At most this many passes over the training rows."""
    first_size: float = _knob(1.0, "First image size", low=0.25, high=1.0, panel="how long")
    """Training begins with this share of the image size (64 pixels at least) and grows to all of it by two thirds of
    the epochs: early epochs are shorter. 1: the whole size throughout."""
    head_epochs: int = _knob(0, "Heads alone", low=0, high=100)
    """Epochs at the start in which a pretrained backbone stays as it is."""
    schedule: str = _knob("restarts", "Schedule", choices=("cosine", "restarts"), panel="learning")
    """cosine: the learning rate falls once, over all epochs; restarts: it starts again after each cycle."""
    warmup: float = _knob(0.0, "Warm-up", low=0.0, high=20.0, panel="learning")
    """Epochs in which the learning rate rises to its full value."""
    t_0: int = _knob(10, "First cycle", low=1, high=1000)
    """Epochs until the first warm restart."""
    t_mult: int = _knob(2, "Cycle growth", low=1, high=10)
    """Each cycle is this many times as long as the one before."""


@dataclass(frozen=True)
@_with_help
class OptimiserConfig(_Knobs):
    """AdamW, and the average of its weights."""

    lr: float = _knob(1e-4, "Learning rate", low=1e-6, high=0.1, panel="learning", first=True)
    """AdamW's peak step size."""
    backbone_lr: float = _knob(1.0, "Rate of the backbone", low=0.0, high=1.0, panel="learning")
    """Its learning rate as a share of the heads'; about a tenth suits pretrained weights."""
    layer_decay: float = _knob(1.0, "Layer decay", low=0.5, high=1.0)
    """Each layer of the backbone learns by this factor slower than the one above it; for pretrained weights."""
    weight_decay: float = _knob(1e-4, "Weight decay", low=0.0, high=1.0, panel="learning")
    """AdamW's decoupled weight decay, on all but biases and normalisation."""
    clip_norm: float = _knob(1.0, "Gradient clipping", low=0.01, high=100.0)
    """Largest norm of the whole gradient."""
    ema: float = _knob(0.0, "Averaged weights", low=0.0, high=0.99999, panel="learning")
    """Decay of a moving average of the weights, which is what is measured and kept; 0: the weights themselves."""


@dataclass(frozen=True)
@_with_task_weights
@_with_help
class LossConfig(_Knobs):
    """The loss; with a weight for each task, ``<task>_weight``."""

    focal_alpha: float = _knob(0.25, "Focal alpha", low=0.01, high=10.0)
    """Constant factor of the focal loss."""
    focal_gamma: float = _knob(2.0, "Focal gamma", low=0.0, high=10.0)
    """How strongly easy faces are played down."""
    label_smoothing: float = _knob(0.1, "Label smoothing", low=0.0, high=0.9, panel="learning")
    """Share of the target spread evenly."""
    class_weights: float = _knob(0.0, "Class weights", low=0.0, high=1.0, panel="learning")
    """0: every face counts the same in the emotion loss; 1: every emotion does, however rare; 0.5: between them."""

    def weight(self, task: str) -> float:
        """The factor of a task's loss."""
        return getattr(self, f"{task}_weight")


@dataclass(frozen=True)
@_with_help
class AugmentationConfig(_Knobs):
    """What is done to faces before the network sees them."""

    augment: float = _knob(1.0, "Augmentation", low=0.0, high=2.0, panel="augmentation", first=True)
    """Strength of all techniques; 0 switches them off."""
    augment_without: str = _knob("", "Without", panel="augmentation")
    """Techniques to leave out, separated by commas; notebook 03 shows and names them all."""
    mix_probability: float = _knob(0.5, "Mixup/CutMix", low=0.0, high=1.0, panel="augmentation")
    """Share of steps whose faces are mixed."""
    mix_ramp: int = _knob(0, "Rise of the mixing", low=0, high=1000)
    """Epochs until Mixup and CutMix are as frequent as asked for."""
    mix_fade: float = _knob(0.0, "Fade of the mixing", low=0.0, high=1.0)
    """Over this last share of training, Mixup and CutMix become rarer until none is left. 0: no fading."""


@dataclass(frozen=True)
@_with_help
class RunConfig(_Knobs):
    """When it stops, which epoch is kept, and how it computes."""

    max_minutes: float = _knob(0.0, "Minutes at most", low=0.0, high=1e5, panel="how long", resumable=True)
    """Stop cleanly after this many minutes; start again to go on. 0: no limit."""
    patience: int = _knob(15, "Patience", low=1, high=1000, panel="how long")
    """Epochs without improvement before training stops."""
    min_delta: float = _knob(0.001, "Least improvement", low=0.0, high=1.0)
    """A smaller gain does not count as one."""
    select_by: str = _knob(
        "emotion_accuracy", "Best by", choices=(*(task.key for task in TASKS.values()), "loss"), panel="more"
    )
    """Validation measure that chooses the best checkpoint; ties go to the lower loss."""
    precision: str = _knob("auto", "Precision", choices=("auto", "float32", "float16", "bfloat16"), panel="more")
    """auto: bfloat16 on GPUs that have it, float16 with loss scaling on others such as a T4, float32 on a CPU."""
    compile: str = _knob("auto", "Compile", choices=("auto", "on", "off"), panel="more")
    """torch.compile: takes minutes at first and makes each step shorter. auto: on GPUs from Ampere on."""
    seed: int = _knob(42, "Seed", low=0, high=2**31 - 1, panel="more")
    """Every random draw is a function of it and the step."""


@dataclass(frozen=True)
class TrainConfig:
    """All of a training run, in sections; the defaults are the ``seed`` recipe. Files and forms know it by flat names.

    Raises:
        InputError: a value has the wrong type or lies outside its range.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    loss: LossConfig = LossConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    run: RunConfig = RunConfig()

    @classmethod
    def knobs(cls, **about) -> dict[str, dataclasses.Field]:
        """Every knob by its flat name, in order; or those whose metadata hold what is given."""
        sections: list[Any] = [section.default for section in fields(cls)]
        found = {knob.name: knob for section in sections for knob in fields(section)}
        return {name: k for name, k in found.items() if all(k.metadata.get(a) == v for a, v in about.items())}

    def flat(self) -> dict[str, Any]:
        """Knob -> value."""
        return {name: value for part in asdict(self).values() for name, value in part.items()}

    def replace(self, /, **values) -> TrainConfig:
        """This config with some knobs set.

        Raises:
            InputError: there is no such knob or its value is not allowed.
        """
        known = self.knobs()
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "python -m helpers train --help lists those there are."
                raise InputError(f"The config has an unknown field {name!r}; {hint}")
        sections = {section.name: getattr(self, section.name) for section in fields(self)}
        for section, part in sections.items():
            mine = {knob.name: values[knob.name] for knob in fields(part) if knob.name in values}
            sections[section] = dataclasses.replace(part, **mine)
        return TrainConfig(**sections)

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: it cannot be read, or one of its fields is wrong; the sentence begins with the file.
        """
        mend = "set it right, for a run by what 'config' in its manifest.json holds"
        values = read_json(path, "a training config", mend=mend)
        try:
            return cls().replace(**values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def save(self, path: Path) -> None:
        """Write every knob as JSON."""
        write_file(path, to_json(self.flat(), indent=2))


# A tenth of 2e-3 for the backbone, falling by 0.9 a layer, with the heads alone for an epoch, was 14 points of emotion
# worse after three epochs on real faces (docs/MEASUREMENTS.md): faces of 64 pixels are far from ImageNet.
_EVEN = {"lr": 1e-3, "backbone_lr": 1.0, "layer_decay": 1.0, "head_epochs": 0}

STARTS: dict[str, dict[str, Any]] = {
    "imagenet": _EVEN,
    "faces": {"backbone": "tf_efficientnet_b2"} | _EVEN,
    "none": _EVEN | {"lr": 3e-3},
    "run": _EVEN | {"lr": 5e-4},
    "file": _EVEN,
}
"""What suits each start of the weights. A recipe takes these fields when its start is changed; ``seed`` does not."""

FROM_RUN = "run:"
"""What the start of the weights begins with where it names an earlier run."""


def start_of(weights: str) -> str:
    """The kind of a start of the weights, as STARTS names it."""
    return "run" if weights.startswith(FROM_RUN) else weights if weights in STARTS else "file"


_SEED = TrainConfig()

_PRODUCTION = _SEED.replace(
    **STARTS["imagenet"], first_size=0.57, epochs=30, weight_decay=0.05, schedule="cosine", warmup=0.5, ema=0.999,
    focal_alpha=1.0, focal_gamma=0.0, age_head="distribution", age_weight=0.1, gender_weight=0.5, dropout_in=0.4,
    dropout_hidden=0.1, mix_probability=0.8, mix_ramp=2, mix_fade=0.1, augment=1.0, flip_test=True,
)  # fmt: skip

# Ten epochs learn little by heart, and what guards thirty from it costs them points (docs/MEASUREMENTS.md).
_SHORT: dict[str, Any] = {"epochs": 10, "weight_decay": 0.02, "dropout_in": 0.2, "age_weight": 0.05,
                          "mix_probability": 0.4, "mix_ramp": 10, "mix_fade": 0.3, "augment": 0.5}  # fmt: skip

_TINY: dict[str, Any] = {"backbone": "test_resnet", "weights": "none", "img_size": 64, "workers": 1}

RECIPES = {
    "seed": _SEED,
    "production": _PRODUCTION,
    "quick": _PRODUCTION.replace(**_SHORT, img_size=128),
    "small": _PRODUCTION.replace(**_SHORT, **STARTS["none"], **_TINY),
    "demo": _SEED.replace(
        **_TINY, epochs=12, batch_size=32, schedule="cosine", lr=1e-3, focal_alpha=1.0, emotion_weight=2.0,
        dropout_in=0.2, dropout_hidden=0.1, mix_probability=0.1, augment=0.3),
}  # fmt: skip
"""Every recipe is a full config.

``seed``: what this project grew from, kept for comparison. ``production``: what a GPU is for, the default there.
``quick``: the same in about 15 minutes of a T4. ``small``: the same with timm's smallest ResNet from random weights,
for about half an hour on two CPU cores. ``demo``: that network for the few thousand drawn faces.
"""

_FOR_GPUS = ("seed", "production", "quick")
"""Recipes whose knobs are fitted to the GPU."""


def earlier_runs(changes: Mapping[str, Any]) -> list[str]:
    """The names of runs that changed weights start from.

    Raises:
        InputError: the changes are no dict of knobs.
    """
    if not isinstance(changes, Mapping) or not all(isinstance(name, str) for name in changes):
        raise InputError(f"CHANGES is {changes!r}, but it takes a dict of knobs, such as {{'epochs': 20}}.")
    weights = str(changes.get("weights", ""))
    return [weights.removeprefix(FROM_RUN)] if start_of(weights) == "run" else []


def recipe(name: str, **changes) -> TrainConfig:
    """A recipe by its name, with some knobs changed, on no machine in particular; see :func:`decide`."""
    return decide(name, changes)


def recipe_named(name: str, fitted: Mapping[str, Any] | None) -> str:
    """What ``auto`` stands for where ``fitted`` says what fits the GPU, or that there is none; or the name itself."""
    return ("production" if fitted else "small") if name == "auto" else name


def decide(
    name: str | None,
    changes: Mapping[str, Any],
    *,
    fitted: Mapping[str, Any] | None = None,
    existing: TrainConfig | None = None,
    origin: TrainConfig | None = None,
) -> TrainConfig:
    """The one place where a config is decided: from a recipe, the start of the weights, the machine and the run.

    A run that is there goes on with its own config and the changes. A recipe that is named is asked for as a whole, but
    for what is fitted to a GPU or may change, which stays the run's. Where that is not what the run was started with,
    training refuses it and shows the difference.

    Args:
        name: a recipe; ``auto``: ``production`` on a GPU, ``small`` without one; None: the run's own, or
            ``production``.
        changes: knobs that win over everything else. Another start of the weights brings what suits it, see STARTS.
        fitted: knobs that fit this machine's GPU, see :func:`helpers.session.runtime.fitted_to`; None without a GPU.
        existing: the config of the run that is there, or None.
        origin: the config of the earlier run that the weights start from, or None; the network is built as that one's.

    Raises:
        InputError: there is no such recipe, or a changed knob is unknown or out of range.
    """
    earlier_runs(changes)
    if existing and name in (None, "auto"):
        return existing.replace(**changes)
    name = "production" if name is None else recipe_named(name, fitted)
    if name not in RECIPES:
        raise InputError(f"There is no recipe {name!r}; choose one of: {', '.join(RECIPES)}.")
    base, suited = RECIPES[name], dict[str, Any]()
    start = start_of(str(changes.get("weights", base.model.weights)))
    if name != "seed" and start != start_of(base.model.weights):
        suited = STARTS[start]
    if origin:
        suited = suited | {knob: value for knob, value in asdict(origin.model).items() if knob != "weights"}
    if existing:
        kept = TrainConfig.knobs(fitted=True) | TrainConfig.knobs(resumable=True)
        fitted = {knob: value for knob, value in existing.flat().items() if knob in kept}
    elif name not in _FOR_GPUS:
        fitted = {}
    return base.replace(**{**suited, **(fitted or {}), **changes})


@dataclass(frozen=True)
class Criterion:
    """One line of the verdict: what is measured has to reach ``bound`` (in ``unit``).

    Attributes:
        where: section and name of the measure in ``metrics.json``; of a ``task`` with ``reference`` datasets it is the
            task's measure on their pooled published test rows instead.
        note: what it is measured on.
        advice: what to change next where it is not reached, by the fields' names; docs/MEASUREMENTS.md has the effects.
    """

    title: str
    bound: float
    unit: str
    at_least: bool
    task: str = ""
    reference: tuple[str, ...] = ()
    where: tuple[str, str] = ("evaluation", "test")
    note: str = ""
    advice: str = ""


CRITERIA = {
    "emotion": Criterion(
        "Emotion accuracy", 78.0, "%", True, "emotion", ("fer2013", "rafdb"),
        advice="train longer (epochs) while the validation curve rises; pretrained weights instead of none were the "
        "largest gain that was measured, and rafdb raises the pooled score"),
    "gender": Criterion(
        "Gender accuracy", 92.0, "%", True, "gender", ("utkface",),
        advice="a larger img_size, or weights = 'imagenet' where it started from none"),
    "age": Criterion(
        "Age error (MAE)", 4.0, "years", False, "age", ("utkface",),
        advice="age_weight four times as large took 1.6 years off in three epochs and cost 1.5 points of emotion; a "
        "distribution (age_head) is better than a number in long runs"),
    "gap": Criterion(
        "Train-validation gap", 10.0, "points", False, "emotion", (), ("evaluation", "gap"),
        "emotion accuracy, training minus validation",
        "raise augment or mix_probability, or train for fewer epochs: it learns faces by heart"),
    "onnx": Criterion(
        "ONNX equals PyTorch", 1e-3, "largest difference", False, where=("export", "difference"),
        note="checker and PyTorch on validation faces", advice="export again (notebook 06); the sentence tells more"),
    "latency": Criterion(
        "Time for one face (p95)", 50.0, "ms", False, where=("export", "milliseconds"),
        note="one CPU thread, the whole graph", advice="a smaller img_size or backbone, or flip_test = False"),
}  # fmt: skip
"""The six criteria of a finished model."""
