"""Each task reads, settles, measures and names its labels by its own rules, and stored codes keep their meaning."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.config import LossConfig
from helpers.files import InputError
from helpers.tasks import (
    AGE,
    AGE_AGREEMENT,
    AGE_CENTRE,
    AGE_SPREAD,
    EMOTION,
    EMOTIONS,
    GENDER,
    LABELS,
    RACE,
    TASKS,
    UNKNOWN,
    Classes,
    check_classes,
    label_classes,
    not_known,
)

ROOT = Path(__file__).resolve().parent.parent
NOTHING = (math.nan, math.nan)
INTERVALS = st.tuples(st.integers(0, 116), st.integers(0, 116)).map(lambda ends: tuple(map(float, sorted(ends))))


def years(*labels) -> np.ndarray:
    """Ages as a store gives them: a number is a known year, a pair is an interval."""
    pairs = [label if isinstance(label, tuple) else (label, label) for label in labels]
    return np.array(pairs, np.float32).reshape(-1, 2)


def test_copies_of_a_face_take_the_class_of_most_of_them_and_none_where_two_are_as_frequent():
    assert EMOTION.settled(np.array([3, 3, 5], np.int8)) == 3
    assert EMOTION.settled(np.array([5, 3, 5, 0], np.int8)) == 5
    assert EMOTION.settled(np.array([4], np.int8)) == 4
    assert EMOTION.settled(np.array([3, 5], np.int8)) == UNKNOWN
    assert GENDER.settled(np.array([0, 1, 0, 1], np.int8)) == UNKNOWN


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([30], (30, 30)),
        ([(20, 29), 25], (25, 25)),
        ([(20, 29), (25, 39)], (25, 29)),
        ([(20, 29), (29, 39)], (29, 29)),
        ([30, 34, 31], (31, 31)),
        ([30, 35], (32.5, 32.5)),
        ([30, 36], NOTHING),
        ([(20, 29), (34, 40)], (27, 34.5)),
        ([(20, 29), (35, 40)], NOTHING),
        ([30, 30, 30, 60], NOTHING),
    ],
)
def test_copies_of_a_face_take_the_ages_they_share_or_the_median_of_near_ones_or_none(labels, wanted):
    assert np.array_equal(AGE.settled(years(*labels)), wanted, equal_nan=True)


@given(st.lists(INTERVALS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_what_ages_are_settled_to_lies_among_them_and_does_not_depend_on_their_order(labels, random):
    found = AGE.settled(years(*labels))
    assert np.array_equal(found, AGE.settled(years(*random.sample(labels, len(labels)))), equal_nan=True)
    lows, highs = (np.array(ends) for ends in zip(*labels, strict=True))
    if np.isnan(found).any():
        assert np.isnan(found).all() and lows.max() - highs.min() > AGE_AGREEMENT
    else:
        low, high = found
        assert lows.min() <= low <= high <= highs.max()
        assert lows.max() > highs.min() or (low >= lows.max() and high <= highs.min()), "what all of them allow"


def test_labels_are_known_in_arrays_and_in_tensors_alike():
    ages, emotions = years(30, (20, 29), NOTHING), np.array([3, UNKNOWN, 0], np.int8)
    for change in (np.asarray, torch.from_numpy):
        assert AGE.known(change(ages)).tolist() == [True, True, False]
        assert EMOTION.known(change(emotions)).tolist() == [True, False, True]


@given(INTERVALS | st.just(NOTHING), st.integers(-1, 6), st.integers(-1, 1), st.integers(-1, 4))
def test_labels_survive_the_columns_of_a_table(age, emotion, gender, race):
    given_labels = {"age": age, "emotion": emotion, "gender": gender, "race": race}
    cells = [cell for name, task in LABELS.items() for cell in task.cells(given_labels[name])]
    columns = [column for task in LABELS.values() for column in task.columns]
    assert len(set(columns)) == len(columns) == len(cells), "no two labels share a column"
    table = pd.DataFrame([cells, cells], columns=columns)
    for name, task in LABELS.items():
        label = np.asarray(given_labels[name], task.storage)
        assert np.array_equal(task.read(table), np.stack([label, label]), equal_nan=name == "age")
    unknown = pd.DataFrame([[cell for task in LABELS.values() for cell in task.cells(task.unknown)]], columns=columns)
    assert not any(task.known(task.read(unknown)).any() for task in LABELS.values())


def test_a_label_is_described_in_a_word_and_counted_in_its_group():
    assert [AGE.describe(label) for label in years(30, (20, 29), (0, 2))] == ["30", "20-29", "0-2"]
    assert EMOTION.describe(3) == "happy" and GENDER.describe(np.int8(1)) == "female"
    groups = AGE.group_of(years(0, 9, 10, (20, 29), (28, 33), 116, NOTHING)).tolist()
    assert groups == [0, 0, 1, 2, 3, 11, -1], "an interval counts in the decade of its middle"
    assert [AGE.groups[group] for group in groups[:-1]] == ["0s", "0s", "10s", "20s", "30s", "110s"]
    assert EMOTION.group_of(np.array([3, UNKNOWN], np.int8)).tolist() == [3, -1] and EMOTION.groups == EMOTIONS


@pytest.mark.parametrize(
    ("task", "text", "label"),
    [
        (EMOTION, "Happiness", 3),
        (EMOTION, "ANGER", 0),
        (GENDER, "female", 1),
        (AGE, "31", (31.0, 31.0)),
        (AGE, "4.5", (4.5, 4.5)),
        (AGE, "116", (116.0, 116.0)),
        (RACE, "white", 0),
    ],
)
def test_a_cell_of_a_table_names_a_label(task, text, label):
    assert task.parse(text) == label


@pytest.mark.parametrize(
    ("task", "text", "reason"),
    [
        (EMOTION, "hapy", "emotion is 'hapy'; did you mean 'happy'?"),
        (EMOTION, "bored", f"emotion is 'bored', which is not one of {', '.join(EMOTIONS)}"),
        (GENDER, "2", "gender is '2', which is not one of male, female"),
        (GENDER, "0", "gender is '0', which is not one of male, female"),
        (AGE, "old", "age is 'old', which is not a number or a range"),
        (AGE, "117", "age is not 0 to 116"),
        (AGE, "-5", "age is not 0 to 116"),
        (AGE, "100-130", "age is not 0 to 116"),
        (AGE, "over 200", "age is not 0 to 116"),
        (AGE, "9" * 5000, "age is not 0 to 116"),
        (AGE, "30-20", "age is '30-20', whose bounds are the wrong way round"),
    ],
)
def test_a_cell_that_names_no_label_is_told_with_what_is_allowed(task, text, reason):
    with pytest.raises(ValueError) as caught:
        task.parse(text)
    assert str(caught.value) == reason


AT_LEAST = (
    "more than {}",
    "{}+",
    ">{}",
    ">= {}",
    "≥{}",
    "over {}",
    "{} and over",
    "{} or older",
    "({}, inf]",
    "{} plus",
)
AT_MOST = ("less than {}", "<{}", "<= {}", "≤{}", "under {}", "{} and under", "up to {} years", "(-inf, {}]")
BETWEEN = ("{}-{}", "{}–{}", "{} - {}", "({}, {})", "[{}, {}]", "({}.0, {}.0]", "{} to {}", "{} TO {}", "{}~{}",
           "{}_{}", "between {} and {}", "from {} to {} years", "aged {}-{}", "{}..{}", "{}−{} years old")  # fmt: skip


@given(st.integers(0, 116), st.integers(0, 116), st.sampled_from(AT_LEAST), st.sampled_from(AT_MOST),
       st.sampled_from(BETWEEN))  # fmt: skip
@example(25, 32, AT_LEAST[0], AT_MOST[0], BETWEEN[3])
def test_an_age_in_any_of_the_usual_spellings_is_the_interval_that_is_meant(one, other, at_least, at_most, between):
    assert AGE.parse(at_least.format(one)) == (one, 116) and AGE.parse(at_most.format(one)) == (0, one)
    low, high = sorted((one, other))
    assert AGE.parse(between.format(low, high)) == (low, high)
    if low < high:
        with pytest.raises(ValueError, match=r"^age is .*, whose bounds are the wrong way round$"):
            AGE.parse(between.format(high, low))


def test_a_decade_is_its_ten_years():
    assert [AGE.parse(text) for text in ("20s", "30's", "0-2", "0")] == [(20, 29), (30, 39), (0, 2), (0, 0)]


@given(st.text(max_size=20) | st.from_regex(r"[<>≥]?[0-9]{1,3}( ?[-–~,+] ?| to )?[0-9]{0,3}[+s]?", fullmatch=True))
@example("inf")
@example("-inf-inf")
@example("0x10")
@example("٣٠")
def test_any_cell_is_a_label_or_a_reason_that_names_the_column(text):
    for name, task in LABELS.items():
        try:
            label = task.parse(text)
        except ValueError as error:
            assert str(error).startswith(f"{name} is ") and len(str(error)) < 160
        else:
            assert 0 <= label[0] <= label[1] <= 116 if task is AGE else label in range(len(task.classes))


@pytest.mark.parametrize("cell", ["NaN", "None", "N/A", "unknown", "Not known", "-1", "-1.0", "?", "<NA>", "null"])
def test_a_cell_may_say_that_its_value_is_not_known(cell):
    assert not_known(cell) and not not_known("") and not not_known("0") and not not_known("neutral")


def test_an_answer_within_its_interval_has_no_error_and_one_outside_its_distance_to_the_nearest_end():
    labels, answers = years((20, 29), (20, 29), (20, 29), (20, 29), 30), np.array([25.0, 29.0, 31.5, 15.0, 33.0])
    assert AGE.scores(labels, answers).tolist() == [0, 0, 2.5, 5, 3]
    found = AGE.measures(labels, answers, years(10, (20, 40), 90))
    assert found["mae"]["value"] == pytest.approx(10.5 / 5) and found["mae"]["n"] == 5
    assert found["bias"]["value"] == pytest.approx(0.5 / 5), "too young by 5, too old by 2.5 and 3"
    assert found["median_mae"]["value"] == pytest.approx(4 / 5), "30 is one year off four times"
    assert found["median"]["value"] == 2.5 and found["cs5"]["value"] == 1, "five years off is within five years"
    assert AGE.measures(labels, answers - 0.5, years())["cs5"]["value"] == 4 / 5
    assert np.isnan(AGE.measures(labels, answers, years())["median_mae"]["value"]), "no training label, no median"


@given(st.lists(st.tuples(INTERVALS, st.floats(0, 116)), min_size=1, max_size=10))
def test_an_error_of_an_interval_is_the_least_of_all_the_ages_in_it(rows):
    labels, answers = years(*(label for label, _ in rows)), np.array([answer for _, answer in rows])
    for (low, high), answer, error in zip(labels, answers, AGE.scores(labels, answers), strict=True):
        assert error == pytest.approx(np.abs(np.linspace(low, high, 2321) - answer).min(), abs=0.026)
        assert (error == 0) == (low <= answer <= high)


def test_a_head_of_years_answers_with_one_number_or_the_mean_of_a_distribution_within_its_range():
    assert (AGE.outputs("number"), AGE.outputs("distribution"), EMOTION.outputs("number")) == (1, 117, 7)
    number = torch.tensor([[0.0], [1.0], [99.0], [-99.0]])
    assert AGE.answer(number)[:, 0].tolist() == [AGE_CENTRE, AGE_CENTRE + AGE_SPREAD, 116, 0]
    assert AGE.answer(number)[:, 1].tolist() == [1, 1, 1, 1], "one number does not say how sure it is"
    logits = torch.full((1, 117), -30.0)
    logits[0, [20, 40]] = torch.tensor([math.log(3.0), 0.0])
    years, spread = AGE.answer(logits)[0].tolist()
    assert years == pytest.approx(0.75 * 20 + 0.25 * 40) and spread == pytest.approx(math.sqrt(0.75 * 25 + 0.25 * 225))
    mean = AGE.mean(torch.tensor([[20.0, 2.0]]), torch.tensor([[30.0, 4.0]]))
    age, within = AGE.exported(mean, 1.5)
    assert age.tolist() == [25] and within.tolist() == [[25 - 4.5, 25 + 4.5]]
    assert AGE.exported(mean, AGE.uncalibrated)[1].tolist() == [[0, 116]], "no range is claimed that was not fitted"
    assert AGE.exported(torch.tensor([[2.0, 9.0]]), 1.0)[1].tolist() == [[0, 11]], "no one is younger than born"


def test_two_answers_in_classes_have_the_mean_of_their_probabilities():
    first, second = (EMOTION.answer(torch.randn(4, 7, generator=torch.Generator().manual_seed(n))) for n in (1, 2))
    (mean,) = EMOTION.exported(EMOTION.mean(first, second), 1.0)
    assert torch.allclose(mean, (first.exp() + second.exp()) / 2) and torch.allclose(mean.sum(1), torch.ones(4))
    columns = EMOTION.columns_of(first.numpy())
    assert list(columns) == ["emotion_answer", *(f"p_{name}" for name in EMOTIONS)]
    assert np.array_equal(columns["emotion_answer"], first.argmax(1)) and columns["p_sad"][0] == first[0, 5].exp()
    (softer,) = EMOTION.exported(first, 2.0)
    assert torch.allclose(softer, (first / 2).softmax(dim=1)) and softer.max() < first.exp().max()
    assert list(AGE.columns_of(np.array([[3.0, 1.0]]))) == ["age_answer", "age_spread"]


def test_the_better_measure_is_known_of_each_task():
    assert {task.key: task.larger_is_better for task in TASKS.values()} == {
        "emotion_accuracy": True, "age_mae": False, "gender_accuracy": True}  # fmt: skip


def test_codes_that_were_stored_with_the_same_classes_are_taken():
    check_classes(json.loads(json.dumps(label_classes())), "The store x")
    assert set(label_classes()) == {"emotion", "gender", "race"}, "years have no classes"


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [
        ("emotion", [*EMOTIONS, "contempt"], "sad, surprise, contempt) than there are now (angry,"),
        ("gender", ["female", "male"], "other classes of gender (female, male) than there are now (male, female)"),
        ("race", None, "other classes of race (none) than there are now (White, Black,"),
    ],
)
def test_codes_that_were_stored_with_other_classes_are_refused_in_one_sentence_that_names_both(name, classes, words):
    found = {key: value for key, value in (label_classes() | {name: classes}).items() if value}
    with pytest.raises(InputError) as caught:
        check_classes(found, "The run /some/where")
    sentence = str(caught.value)
    assert sentence.startswith("The run /some/where ") and words in sentence and "\n" not in sentence


def test_a_task_of_a_known_kind_is_one_line():
    glasses = Classes("glasses", ("no", "yes"), {"0": "no", "1": "yes"}, weight=0.3)
    assert (glasses.key, glasses.title, glasses.columns) == ("glasses_accuracy", "glasses accuracy", ("glasses",))
    assert glasses.parse("1.0") == 1 and glasses.outputs("number") == 2
    loss = glasses.loss(torch.zeros(3, 2), torch.tensor([0, 1, 1]), LossConfig(focal_alpha=9.0, label_smoothing=0.0))
    assert torch.allclose(loss, torch.full((3,), math.log(2))), "the focal knobs are for tasks that are focal"


def test_the_tasks_can_be_named_without_waiting_for_torch():
    code = "import sys, helpers.__main__; print({'torch', 'scipy', 'sklearn'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
