"""The surest mistakes are shown with what the network looked at, and a card tells what the model is."""

import shutil

import numpy as np
import pytest

from helpers.config import recipe
from helpers.evaluation.card import starting_terms, write_card
from helpers.evaluation.failures import attention, captions, confused, judged, worst
from helpers.evaluation.figures import all_figures, face_figures, headline
from helpers.evaluation.measures import measure
from helpers.evaluation.predictions import write_predictions
from helpers.files import InputError, write_json
from helpers.runs.run import Run
from helpers.tasks import AGE, EMOTION, EMOTIONS
from helpers.training.model import create_model
from helpers.ui.failures import PAGE, FailureBrowser


@pytest.fixture(scope="module")
def evaluated(store, trained, tmp_path_factory):
    """A run with its predictions and its measures."""
    run = Run.open(shutil.copytree(trained.folder, tmp_path_factory.mktemp("evaluated") / "tiny"))
    table = write_predictions(run, store)
    run.write_metrics("evaluation", measure(table))
    return run, table


def test_the_surest_mistakes_come_first_with_truth_answer_and_confidence(evaluated):
    _, table = evaluated
    rows = judged(table, EMOTION)
    assert len(rows) == ((table["split"] == "test") & (table["emotion"] >= 0)).sum()
    first = worst(rows, EMOTION, 5)
    assert (first["truth"] != first["said"]).all() and first["sure"].is_monotonic_decreasing
    assert first["sure"].iloc[0] == rows.loc[rows["truth"] != rows["said"], "sure"].max()
    assert captions(first, EMOTION)[0] == f"{first['truth'].iloc[0]}\nsaid {first['said'].iloc[0]} " + (
        f"{first['sure'].iloc[0]:.0%}"
    )
    ages = worst(judged(table, AGE), AGE, 3)
    assert ages["wrong"].is_monotonic_decreasing and "years\nsaid" in captions(ages, AGE)[0]
    counts = sum(len(confused(rows, truth, said)) for truth in EMOTIONS for said in EMOTIONS)
    assert counts == len(rows) == len(confused(rows, None, None)), "the cells of the confusion matrix"


def test_what_counts_for_an_answer_is_found_where_it_is():
    model = create_model(recipe("demo", img_size=96).model)
    face = np.full((96, 96, 3), 127, np.uint8)
    seen = attention(model, face, "emotion")
    assert seen.shape == face.shape and seen.dtype == np.uint8
    face[:, 48:] = np.random.default_rng(0).integers(0, 256, (96, 48, 3))
    halves = attention(model, face, "emotion", 0), attention(model, face, "emotion", 3)
    assert (halves[0] != halves[1]).any(), "another answer looks elsewhere"
    with pytest.raises(InputError, match="no map of features"):
        attention(create_model(recipe("demo", backbone="test_vit", img_size=160).model), face, "emotion")


def test_the_card_of_drawn_faces_passes_nothing_and_names_data_weights_and_the_law(evaluated):
    run, _ = evaluated
    text = write_card(run).read_text()
    assert "Its faces are drawn" in text and run.weights in text and "Article 5(1)(f)" in text and "$" not in text
    assert "random weights" in text and "| Emotion accuracy | ≥ 78 % |" in text and "by | group" in text
    assert "| pass |" not in text
    pretrained = Run(run.folder, recipe("production"), run.manifest)
    assert "apache-2.0" in starting_terms(pretrained)
    text = write_card(Run(run.folder, run.config.replace(weights="/home/me/lite0.pth"), run.manifest)).read_text()
    assert "--weights lite0.pth" in text and "/home/me" not in text, "where the file lay is nobody's business"
    path, metrics = run.folder / "metrics.json", run.read_metrics()
    kept = path.read_text()
    metrics["evaluation"]["weights"] = "0" * 64
    write_json(path, metrics)
    with pytest.raises(InputError, match=r"^Run notebook 05 first, https.*no evaluation of its weights"):
        write_card(run)
    path.write_text(kept)


def test_the_first_card_and_every_figure_have_words_for_those_who_cannot_see_them(evaluated, store):
    run, table = evaluated
    metrics = run.read_metrics()["evaluation"]
    first = headline(run, metrics)._repr_png_()[1]["alt"]
    for words in ("emotion accuracy", "age error", "gender accuracy", "n = ", "drawn faces"):
        assert words in first
    figures = all_figures(run, metrics, table) | face_figures(run, store, table)
    assert {"scores", "groups_age", "confidence_emotion", "faces_emotion", "mistakes_emotion"} <= set(figures)
    for name, figure in figures.items():
        png, about = figure._repr_png_()
        assert png.startswith(b"\x89PNG") and len(about["alt"]) > 10, name


def test_the_browser_shows_the_faces_of_one_cell_page_by_page(evaluated, store):
    _, table = evaluated
    browser, rows = FailureBrowser(table, store), judged(table, EMOTION)
    assert browser.message.value.startswith(f"{rows['wrong'].sum()} faces that it read wrong")
    browser.said.value = said = rows["said"].mode()[0]
    mine = rows[rows["said"] == said]
    assert browser.message.value == f"{len(mine)} faces" and browser.page.max == -(-len(mine) // PAGE) > 1
    before = browser.picture.value
    browser.page.value = 2
    assert browser.picture.value != before
    browser.truth.value = said
    assert browser.page.value == 1, "another cell begins at its first page"
