"""The tasks: what the network reads from a face, and all that is particular to each, in one place.

A task knows its name, its classes or its unit, the columns of the table of faces that hold its label and when that
label is known, how many outputs its head has and what they mean, its loss, its measures and its weight. No other module
asks which task it has before it: a head of one of the kinds below is one line in TASKS.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.files import InputError

if TYPE_CHECKING:
    from torch import Tensor

# torch and scipy take seconds to load, and the command line's help needs neither: the methods below import them.

UNKNOWN = -1
"""The code of a class that is not known. An age that is not known is NaN."""

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Class order of the emotion head: FER2013's folders, sorted. Other datasets are mapped to it by name."""

GENDERS = ("male", "female")
"""Class order of the gender head: UTKFace's own coding, 0 male and 1 female."""

RACES = ("White", "Black", "Asian", "Indian", "Other")
"""UTKFace's race coding. For the fairness table only; never an input."""

AGE_RANGE = (0.0, 116.0)
"""Years that UTKFace holds; answers are clipped to it."""

AGE_BINS = int(AGE_RANGE[1]) + 1
"""Classes of an age head that answers with a distribution: one for each year from 0 on."""

AGE_CENTRE, AGE_SPREAD = 33.0, 20.0
"""About the mean and standard deviation of UTKFace's ages, in years: an age head of one number works in these units."""

AGE_AGREEMENT = 5.0
"""Years within which the ages of copies of one face count as one age."""

_NOT_KNOWN = ("-1", "?", "-", "--", ".", "nan", "<na>", "na", "n/a", "n.a.", "#n/a", "#na", "none", "null", "nil",
              "nat", "unknown", "unk", "undefined", "missing", "not_known", "not_given", "not_available")  # fmt: skip
_N = r"([+-]?\d+(?:\.\d*)?|-?inf)"
_AT_MOST = "<=?|≤|under|below|less than|younger than|up to|at most"
_AT_LEAST = ">=?|≥|over|above|more than|older than|at least"
_AGES: tuple[tuple[str, Callable[..., tuple[float, float]]], ...] = (
    (_N, lambda age: (age, age)),
    (rf"{_N} ?(?:-|to|and|,|;|\.\.) ?{_N}", lambda low, high: (low, high)),
    (rf"(?:{_AT_MOST}) ?{_N}|{_N} (?:and|or) (?:under|below|younger|less)", lambda age: (-math.inf, age)),
    (rf"(?:{_AT_LEAST}) ?{_N}|{_N} ?(?:\+|plus|(?:and|or) (?:over|above|older|more|up))", lambda age: (age, math.inf)),
    (r"(\d?\d0) ?'?s", lambda decade: (decade, decade + 9)),
)
"""How people write ages in years, and the lowest and highest age that is meant."""


def not_known(cell: str) -> bool:
    """Whether a cell of a table says that its value is not known, as programs and people write it."""
    return cell.strip().lower().replace(" ", "_").removesuffix(".0") in _NOT_KNOWN


class _Task:
    """What both kinds of tasks share.

    Attributes:
        name: in tables, files and knobs.
        weight: default factor of its loss.
        key: its first measure in histories and knobs, such as ``age_mae``.
        title, brief: the same in words, such as ``age error``; in fewer words an accuracy goes without saying.
        columns: of the table of faces, which hold its label.
        groups: in which faces are counted.
        exports: names of what the exported graph gives of its answer.
    """

    measure: str
    word: str

    def __init__(self, name: str, weight: float, columns: tuple[str, ...], groups: tuple[str, ...]):
        self.name, self.weight, self.columns, self.groups = name, weight, columns, groups
        self.key, self.title = f"{name}_{self.measure}", f"{name} {self.word}"
        self.exports: tuple[str, ...] = (name,)
        self.brief = self.title.removesuffix(" accuracy")

    def interpreted(self, output: Tensor) -> Any:
        """What :meth:`loss` takes of the head's output; once for all labels of a mixed batch."""
        return output


class Classes(_Task):
    """A task whose answer is one of some classes, which are its groups.

    A label is a code, int (N,): the place in ``classes``, or UNKNOWN. An output is a row of logits; an answer is
    log-probabilities, float32 (N, C); a decision is the most probable class.

    Attributes:
        classes: in the order of their codes.
        words: other spellings, in small letters -> the name in ``classes``.
        focal: whether the focal term and the class weights apply to its loss.
    """

    storage = "int8"
    unknown = UNKNOWN
    measure, word, larger_is_better = "accuracy", "accuracy", True
    unit, scale = " %", 100.0
    parity_unit = 1.0
    uncalibrated = 1.0

    def __init__(self, name: str, classes: tuple[str, ...], words=None, focal: bool = False, weight: float = 1.0):
        super().__init__(name, weight, columns=(name,), groups=classes)
        self.classes, self.words, self.focal = classes, words or {}, focal

    def code(self, word: str) -> int | None:
        """The class by its name, in any of the usual spellings; None where there is no such class."""
        word, names = word.strip().lower(), [name.lower() for name in self.classes]
        word = self.words.get(word, word)
        return names.index(word) if word in names else None

    def parse(self, text: str) -> int:
        """The class that a cell of a table names by its word.

        Raises:
            ValueError: it names none; the message is the reason.
        """
        code = self.code(text.removesuffix(".0"))  # some programs write whole numbers as decimal ones
        if code is None:
            near = difflib.get_close_matches(text.lower(), self.classes, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f", which is not one of {', '.join(self.classes)}"
            raise ValueError(f"{self.name} is {text[:40]!r}{hint}")
        return code

    def known(self, labels):
        """Which labels are known, bool (N,); of an array or a tensor."""
        return labels != UNKNOWN

    def read(self, columns) -> np.ndarray:
        """Labels, int8 (N,), from a table's columns."""
        return np.asarray(columns[self.name], self.storage)

    def cells(self, label) -> tuple:
        """What a label puts into the columns of a row."""
        return (label,)

    def group_of(self, labels: np.ndarray) -> np.ndarray:
        """The number of each label's group, -1 unknown, int (N,)."""
        return labels.astype(int)

    def settled(self, labels: np.ndarray) -> int:
        """One label for copies of one face: the most frequent of their known labels; a tie is unknown."""
        codes, counts = np.unique(labels, return_counts=True)
        most = codes[counts == counts.max()]
        return int(most[0]) if len(most) == 1 else UNKNOWN

    def describe(self, label) -> str:
        """A known label in a word."""
        return self.classes[int(label)]

    def outputs(self, age_head: str) -> int:
        """Outputs of its head."""
        return len(self.classes)

    def answer(self, output: Tensor) -> Tensor:
        """Log-probabilities, float32 (B, C), of the head's output."""
        return output.float().log_softmax(dim=1)

    def mean(self, first: Tensor, second: Tensor) -> Tensor:
        """The answer whose probabilities are the mean of two answers'."""
        import torch

        return torch.logaddexp(first, second) - math.log(2)

    def exported(self, answer: Tensor, temperature: float) -> tuple[Tensor, ...]:
        """What the exported graph gives: probabilities, (B, C), softened by the temperature (arXiv 1706.04599)."""
        return ((answer / temperature).softmax(dim=1),)

    def loss(self, interpreted: Tensor, labels: Tensor, knobs: Any, class_weights: Tensor | None = None) -> Tensor:
        """Smoothed cross-entropy of each row, (B,); focal, and weighted by class, where the task is.

        Args:
            interpreted: logits (B, C).
            labels: int64 (B,), all known.
            knobs: hold ``focal_alpha``, ``focal_gamma`` and ``label_smoothing``, see :func:`helpers.losses.focal_loss`.
            class_weights: (C,), or None.
        """
        from helpers.losses import focal_loss

        alpha, gamma = (knobs.focal_alpha, knobs.focal_gamma) if self.focal else (1.0, 0.0)
        loss = focal_loss(interpreted, labels, alpha=alpha, gamma=gamma, smoothing=knobs.label_smoothing)
        return loss if class_weights is None else loss * class_weights.to(loss.device)[labels]

    def decisions(self, answers: np.ndarray) -> np.ndarray:
        """The most probable classes, int (N,)."""
        return answers.argmax(axis=1)

    def scores(self, labels: np.ndarray, decisions: np.ndarray) -> np.ndarray:
        """What ``measure`` is the mean of: whether each decision is right, (N,)."""
        return decisions == labels

    def measures(self, labels: np.ndarray, decisions: np.ndarray, training: np.ndarray) -> dict:
        """All measures of known labels with their intervals, see :func:`helpers.metrics.classification`."""
        from helpers.metrics import classification

        return classification(labels, decisions, self.classes)

    def columns_of(self, answers: np.ndarray) -> dict[str, np.ndarray]:
        """Answers as columns of the table of predictions: the decision, and a probability for each class."""
        columns = {f"{self.name}_answer": self.decisions(answers).astype(np.int8)}
        return columns | {f"p_{name}": np.exp(answers[:, code]) for code, name in enumerate(self.classes)}


class Years(_Task):
    """A task whose answer is an age, counted in decades.

    A label is an interval of years, float (N, 2): the lowest and the highest age that it may be. A known year has both
    equal; an unknown age is NaN. Wherever a label meets an answer it stands for the age in it that is nearest to the
    answer: what lies in the interval is right. An output is one number or a row of logits, one for each year from 0 on;
    an answer, float32 (N, 2), is years within AGE_RANGE, and how unsure they are: the standard deviation of the
    distribution, or 1 where there is none. A decision is the years alone, (N,).
    """

    focal = False
    classes: tuple[str, ...] = ()
    storage = "float32"
    unknown = (math.nan, math.nan)
    measure, word, larger_is_better = "mae", "error", False
    unit, scale = " years", 1.0
    parity_unit = 100.0
    uncalibrated = 1e6  # until it is fitted nothing is claimed: the range is all of AGE_RANGE

    def __init__(self, name: str, weight: float = 1.0):
        decades = tuple(f"{start}s" for start in range(0, AGE_BINS, 10))
        super().__init__(name, weight, columns=(f"{name}_low", f"{name}_high"), groups=decades)
        self.exports = (name, f"{name}_range")

    def parse(self, text: str) -> tuple[float, float]:
        """The interval that a cell of a table names: a year, a range, or one bound, the other being AGE_RANGE's.

        Raises:
            ValueError: it names none; the message is the reason.
        """
        plain = re.sub("[‐-―−~～〜_]", "-", text.lower().strip("()[]{} "))
        plain = " ".join(re.sub(r"\b(years?|yrs?|old|aged?|ages|between|from)\b", " ", plain).split())
        for spelling, bounds in _AGES:
            if match := re.fullmatch(spelling, plain, re.ASCII):
                low, high = bounds(*(float(years) for years in match.groups() if years))
                break
        else:
            raise ValueError(f"{self.name} is {text[:40]!r}, which is not a number or a range")
        if low > high:
            raise ValueError(f"{self.name} is {text[:40]!r}, whose bounds are the wrong way round")
        low, high = AGE_RANGE[0] if low == -math.inf else low, AGE_RANGE[1] if high == math.inf else high
        if not AGE_RANGE[0] <= low <= high <= AGE_RANGE[1]:
            raise ValueError(f"{self.name} is not {AGE_RANGE[0]:g} to {AGE_RANGE[1]:g}")
        return low, high

    def known(self, labels):
        """Which labels are known, bool (N,); of an array or a tensor."""
        return labels[:, 0] == labels[:, 0]

    def read(self, columns) -> np.ndarray:
        """Labels, float32 (N, 2), from a table's columns."""
        return np.stack([np.asarray(columns[name], self.storage) for name in self.columns], axis=1)

    def cells(self, label) -> tuple:
        """What a label puts into the columns of a row."""
        return float(label[0]), float(label[1])

    def group_of(self, labels: np.ndarray) -> np.ndarray:
        """The decade of each label's middle, -1 unknown, int (N,)."""
        return np.nan_to_num(labels.mean(axis=1) // 10, nan=UNKNOWN).astype(int)

    def settled(self, labels: np.ndarray) -> np.ndarray:
        """One label for copies of one face: what their known labels share, else their median within AGE_AGREEMENT.

        Labels further apart than that are unknown.
        """
        lowest, highest = labels[:, 0].max(), labels[:, 1].min()
        if lowest <= highest:
            return np.array([lowest, highest])
        return np.median(labels, axis=0) if lowest - highest <= AGE_AGREEMENT else np.full(2, np.nan, labels.dtype)

    def describe(self, label) -> str:
        """A known label in a word."""
        low, high = label
        return f"{low:.0f}" if low == high else f"{low:.0f}-{high:.0f}"

    def outputs(self, age_head: str) -> int:
        """Outputs of its head: ``number`` has one, ``distribution`` one for each year."""
        return 1 if age_head == "number" else AGE_BINS

    def _years(self, output: Tensor) -> Tensor:
        """Years of a head's output, float32 (B,), also where the rest is half as precise.

        Of a distribution, its expectation (DEX, IJCV 2018, equation 3).
        """
        import torch

        if output.shape[1] == 1:
            return AGE_CENTRE + AGE_SPREAD * output[:, 0].float()
        years = torch.arange(AGE_BINS, dtype=torch.float32, device=output.device)
        return (output.float().softmax(dim=1) * years).sum(dim=1)

    def answer(self, output: Tensor) -> Tensor:
        """Years within AGE_RANGE and their spread in years, float32 (B, 2), of the head's output."""
        import torch

        years, spread = self._years(output), torch.ones_like(output[:, 0].float())
        if output.shape[1] > 1:
            away = torch.arange(AGE_BINS, dtype=torch.float32, device=output.device) - years[:, None]
            spread = (output.float().softmax(dim=1) * away**2).sum(dim=1).sqrt()
        return torch.stack([years.clamp(*AGE_RANGE), spread], dim=1)

    def exported(self, answer: Tensor, factor: float) -> tuple[Tensor, ...]:
        """What the exported graph gives: years, (B,), and the range that holds 80 of 100 true ages, (B, 2)."""
        import torch

        years, reach = answer[:, 0], factor * answer[:, 1]
        return years, torch.stack([years - reach, years + reach], dim=1).clamp(*AGE_RANGE)

    def mean(self, first: Tensor, second: Tensor) -> Tensor:
        """The mean of two answers."""
        return (first + second) / 2

    def interpreted(self, output: Tensor) -> Any:
        """What :meth:`loss` takes of the head's output, that and its years; once for all labels of a mixed batch."""
        return output, self._years(output)

    def loss(self, interpreted: tuple[Tensor, Tensor], labels: Tensor, *_) -> Tensor:
        """Smooth L1 of one number, in units of AGE_SPREAD, or DLDL-v2's loss of a distribution; of each row, (B,).

        Args:
            interpreted: an output, (B, 1) or (B, AGE_BINS), and its years, (B,).
            labels: float32 (B, 2), all known.
        """
        from helpers.losses import distribution_loss, smooth_l1_loss

        output, years = interpreted
        if output.shape[1] == 1:
            return smooth_l1_loss(years, labels, AGE_SPREAD)
        return distribution_loss(output, years, labels)

    def decisions(self, answers: np.ndarray) -> np.ndarray:
        """The ages themselves, float (N,)."""
        return answers[:, 0]

    def scores(self, labels: np.ndarray, decisions: np.ndarray) -> np.ndarray:
        """What ``measure`` is the mean of: each answer's distance from its label in years, (N,)."""
        return np.abs(self._errors(labels, decisions))

    def measures(self, labels: np.ndarray, decisions: np.ndarray, training: np.ndarray) -> dict:
        """Mean error ``mae``, ``median`` error, ``bias``, the share within five years ``cs5`` (the field's cumulative
        score), and ``median_mae``, the error of always saying training's median; each with its interval.
        """
        from helpers.metrics import mean, percentile, share

        usual = float(np.median(training.mean(axis=1))) if len(training) else math.nan
        scores = self.scores(labels, decisions)
        return {
            "mae": mean(scores),
            "median": percentile(scores, 0.5),
            "cs5": share(scores <= 5.0),
            "bias": mean(self._errors(labels, decisions)),
            "median_mae": mean(self.scores(labels, np.full(len(labels), usual))),
        }

    def columns_of(self, answers: np.ndarray) -> dict[str, np.ndarray]:
        """Answers as columns of the table of predictions: years, and how unsure they are."""
        return {f"{self.name}_answer": answers[:, 0], f"{self.name}_spread": answers[:, 1]}

    @staticmethod
    def _errors(labels: np.ndarray, decisions: np.ndarray) -> np.ndarray:
        return decisions - np.clip(decisions, labels[:, 0], labels[:, 1])


Task = Classes | Years

EMOTION = Classes(
    "emotion", EMOTIONS, focal=True,
    words={"anger": "angry", "disgusted": "disgust", "afraid": "fear", "fearful": "fear", "happiness": "happy",
           "joy": "happy", "neutrality": "neutral", "sadness": "sad", "surprised": "surprise"},
)  # fmt: skip
AGE = Years("age")
GENDER = Classes("gender", GENDERS, {"m": "male", "man": "male", "f": "female", "woman": "female"})
_FAIRFACE = {"east asian": "asian", "southeast asian": "asian", "latino_hispanic": "other", "middle eastern": "other"}
RACE = Classes("race", RACES, _FAIRFACE)

LABELS: dict[str, Task] = {task.name: task for task in (EMOTION, AGE, GENDER, RACE)}
"""Everything that a face may be labelled with."""

TASKS: dict[str, Task] = {task.name: task for task in (EMOTION, AGE, GENDER)}
"""What the network reads: each has a head, a loss and a weight."""


def label_classes() -> dict[str, list[str]]:
    """The classes of every label that has some, in the order of their codes: what stored codes mean."""
    return {name: list(label.classes) for name, label in LABELS.items() if label.classes}


def check_classes(found: dict[str, list[str]], what: str) -> None:
    """Raise an InputError unless codes stored with the classes ``found`` mean what they mean here.

    Args:
        found: as :func:`label_classes` gave it when they were stored.
        what: holds the codes; the sentence begins with it.
    """
    for name, classes in label_classes().items():
        if found.get(name) != classes:
            raise InputError(
                f"{what} was made for other classes of {name} ({', '.join(found.get(name, ())) or 'none'}) than there "
                f"are now ({', '.join(classes)}): pack the datasets again under another name and start a new run."
            )
