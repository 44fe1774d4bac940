"""The estimate adds up, and leaves no trace in what is trained."""

import dataclasses

import pytest
import torch

from helpers.config import recipe
from helpers.files import InputError
from helpers.runs.checkpoints import load_checkpoint
from helpers.runs.run import Run
from helpers.training import estimate as estimate_module
from helpers.training.estimate import Estimate, estimate, probe
from helpers.training.loop import fit
from helpers.training.schedule import size_at

CONFIG = recipe("production", weights="none", img_size=64, epochs=6)


def test_the_hours_are_those_of_each_epoch_at_its_size():
    sizes = sorted({size_at(epoch, 64, CONFIG.schedule) for epoch in range(6)})
    estimate = Estimate(CONFIG, 100, {size: size / 1000 for size in sizes}, 2.0)
    each = [100 * size_at(epoch, 64, CONFIG.schedule) / 1000 + 2.0 for epoch in range(6)]
    assert estimate.seconds() == pytest.approx(sum(each)) and estimate.seconds(4) == pytest.approx(sum(each[4:]))
    assert estimate.seconds(epochs=9) > estimate.seconds(epochs=8) > estimate.seconds()


def test_on_a_gpu_that_costs_units_the_cost_is_told(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    estimate = Estimate(CONFIG.replace(first_size=1.0), 1000, {64: 1.2}, 0.0, gpu="Tesla T4")
    assert estimate.describe().startswith("6 epochs will take about 2.0 hours at most")
    assert "about 2.1 compute units;" in estimate.describe()
    assert "3 epochs will take about 60 minutes" in estimate.describe(first_epoch=3)
    monkeypatch.delenv("COLAB_RELEASE_TAG")
    assert "compute units" not in estimate.describe(), "Kaggle lends the same GPU for nothing"
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert "compute units" not in dataclasses.replace(estimate, gpu="NVIDIA GeForce RTX 3090").describe()


def test_a_slow_machine_is_not_kept_waiting(store, tiny_config, monkeypatch):
    monkeypatch.setattr(estimate_module, "ENOUGH", 0.0)
    seen = []
    assert probe(tiny_config, store, lambda done, total: seen.append(done)).seconds() > 0
    assert seen == [1, 2, 3, 26], "three steps, and the bar is full"


def test_a_run_after_an_estimate_is_the_run_without_one(store, tiny_config, trained, tmp_path):
    seen = []
    threads = torch.get_num_threads()
    found = probe(tiny_config, store, lambda done, total: seen.append((done, total)))
    assert torch.get_num_threads() == threads and seen[-1] == (26, 26)
    assert set(found.seconds_per_step) == {32} and found.seconds() > 0
    run = fit(tiny_config, store, tmp_path / "run")
    first, second = (load_checkpoint(one.last_path)["model"] for one in (run, trained))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_has_ended_by_its_patience_is_complete_and_one_that_has_not_is_told_what_is_left(
    store, tiny_config, tmp_path
):
    config = tiny_config.replace(epochs=6, patience=1, min_delta=1.0)
    run = fit(config, store, tmp_path / "run")
    assert len(run.history) == 2 and run.read_results()["finished"], "no epoch gains a whole point"
    assert estimate(config, store, run.folder) == "The run is complete."
    config = tiny_config.replace(epochs=6, max_minutes=0.0001)
    folder = fit(config, store, tmp_path / "other").folder
    assert not Run.open(folder).read_results()["finished"]
    assert estimate(config, store, folder).startswith("5 epochs will take about")


def test_the_estimate_refuses_what_training_then_refuses_in_the_same_words(store, trained, tmp_path):
    # Incident: more epochs for a finished run were estimated, and then refused.
    more = trained.config.replace(epochs=9)
    said = []
    for ask in (estimate, fit):
        with pytest.raises(InputError, match=r"started with another config \(epochs 2 -> 9\)") as error:
            ask(more, store, trained.folder)
        said.append(str(error.value))
    assert said[0] == said[1]
    assert estimate(trained.config.replace(workers=1), store, trained.folder) == "The run is complete."
