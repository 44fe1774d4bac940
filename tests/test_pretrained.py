"""Weights pretrained on faces are checked against the published file before they are used."""

import dataclasses
import subprocess

import pytest
import timm
import torch

from helpers.config import recipe
from helpers.files import InputError
from helpers.training import model as model_module
from helpers.training.model import create_model
from helpers.training.pretrained import FACES, Pretrained, fetch_faces, git_blob


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file in the layout of the published one, at an address of this machine."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    network = timm.create_model("test_efficientnet", num_classes=5)
    path = tmp_path / "faces.pt"
    torch.save(network.state_dict(), path)
    return Pretrained(path.as_uri(), git_blob(path), "test_efficientnet", ""), network


def test_the_blob_id_is_git_s(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"some\0bytes" * 1000)
    said = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout.strip()
    assert git_blob(path) == said


def test_a_network_starts_from_the_published_weights_without_their_classifier(published, monkeypatch):
    faces, network = published
    monkeypatch.setattr(model_module, "FACES", faces)
    monkeypatch.setattr(model_module, "fetch_faces", lambda: fetch_faces(faces))
    config = recipe("demo", weights="faces", backbone="test_efficientnet")
    model = create_model(config.model)
    theirs = network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in model.backbone.state_dict().items())


def test_another_file_than_the_published_one_is_deleted_and_refused(published, tmp_path):
    faces, _ = published
    with pytest.raises(InputError, match=r"gave another file than the published one \(git blob .* expected 000000"):
        fetch_faces(dataclasses.replace(faces, blob="0" * 40))
    assert not list((tmp_path / "hub" / "checkpoints").iterdir()), "so that the next try fetches it anew"


def test_what_cannot_be_fetched_is_told_in_one_sentence(published, tmp_path, monkeypatch):
    gone = dataclasses.replace(published[0], url=(tmp_path / "none.pt").as_uri())
    monkeypatch.setattr(model_module, "FACES", gone)
    monkeypatch.setattr(model_module, "fetch_faces", lambda: fetch_faces(gone))
    config = recipe("demo", weights="faces", backbone="test_efficientnet")
    with pytest.raises(InputError, match=r"The 'faces' weights of 'test_efficientnet' cannot be fetched"):
        create_model(config.model)


def test_they_fit_one_backbone_only_and_its_normalisation():
    with pytest.raises(InputError, match=r"are for the backbone 'tf_efficientnet_b2', not 'resnet18'"):
        create_model(recipe("production", weights="faces", backbone="resnet18").model, fetch_weights=False)
    model = create_model(recipe("production", weights="faces").model, fetch_weights=False)
    assert model.backbone.pretrained_cfg["mean"] == (0.485, 0.456, 0.406), "as the published network was trained"
    assert "non-commercial" in FACES.terms
