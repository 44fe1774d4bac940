"""Small drawn datasets, packed and trained once for all tests, and how the property tests draw their examples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
# The same arithmetic on every machine; CUDA_VISIBLE_DEVICES=0 runs the tests on a GPU, where some compare exact bits.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
ROOT = Path(__file__).resolve().parent.parent

# The same examples on every run, so that a test fails for what was changed; `make explore` draws fresh ones.
settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", derandomize=False, max_examples=500, deadline=None, print_blob=True)
settings.load_profile("fixed")

# Where several processes run the tests, each keeps to one core, and so does all that it starts: two networks that both
# train on all cores take longer than one after the other.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(scope="session")
def sample_folders(tmp_path_factory) -> dict[str, Path]:
    """400 drawn faces in the layouts of the four datasets."""
    from drawn_faces.datasets import write_sample_faces

    return write_sample_faces(tmp_path_factory.mktemp("samples"), faces=400)


@pytest.fixture(scope="session")
def store(sample_folders, tmp_path_factory):
    """The drawn datasets, packed."""
    from helpers.data.store import pack

    return pack(sample_folders, tmp_path_factory.mktemp("packed") / "faces")


@pytest.fixture(scope="session")
def tiny_config():
    """A config that trains in seconds."""
    from helpers.config import recipe

    return recipe("demo", img_size=32, epochs=2, t_0=2, batch_size=32, workers=0, mix_probability=0.5)


@pytest.fixture(scope="session")
def trained(store, tiny_config, tmp_path_factory):
    """A run of two epochs, to be read only."""
    from helpers.training.loop import fit

    return fit(tiny_config, store, tmp_path_factory.mktemp("runs") / "tiny")
