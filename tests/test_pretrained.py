"""What a network starts from: published weights, which are checked, a file on this machine, or an earlier run."""

import dataclasses
import subprocess

import pytest
import timm
import torch
from safetensors.torch import save_file

from helpers.config import recipe
from helpers.files import InputError
from helpers.training import model as model_module
from helpers.training.loop import fit
from helpers.training.model import create_model
from helpers.training.pretrained import FACES, Pretrained, fetch_faces, git_blob
from helpers.training.state import build


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


@pytest.fixture
def timm_file(tmp_path):
    """A file of a backbone's weights as timm publishes them, classifier included, and the network it is of."""
    torch.manual_seed(1)
    network = timm.create_model("test_efficientnet", num_classes=1000)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    return path, network


def from_file(path, backbone="test_efficientnet"):
    return recipe("production", weights=str(path), backbone=backbone, img_size=64)


def test_a_file_of_a_backbone_is_read_by_timm_itself_and_keeps_its_normalisation(timm_file):
    path, network = timm_file
    model = create_model(from_file(path).model)
    theirs = network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in model.backbone.state_dict().items())
    assert model.mean.flatten().tolist() == pytest.approx([255 * value for value in network.pretrained_cfg["mean"]])
    assert not model.heads_anew, "only an earlier run has heads"


def test_a_file_of_a_backbone_may_be_safetensors(timm_file, tmp_path):
    _, network = timm_file
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    model = create_model(from_file(tmp_path / "weights.safetensors").model)
    assert torch.equal(model.backbone.conv_stem.weight, network.conv_stem.weight)


def test_a_file_that_is_missing_damaged_of_another_backbone_or_a_program_is_one_sentence(timm_file, tmp_path):
    path, _ = timm_file
    with pytest.raises(InputError, match=r"'weights' is '.*none.pth', but there is no such file"):
        create_model(from_file(tmp_path / "none.pth").model)
    with pytest.raises(
        InputError, match=r"does not hold weights of the backbone 'test_resnet' \(.*\); set the backbone"
    ):
        create_model(from_file(path, "test_resnet").model)
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"cut.pth cannot be read as weights"):
        create_model(from_file(tmp_path / "cut.pth").model)

    theirs = torch.load(path, weights_only=True)
    theirs = theirs.get("state_dict", theirs)
    half = dict(list(theirs.items())[: len(theirs) // 2])
    foreign = {f"encoder.{name}": value for name, value in theirs.items()}
    # Incident: training began from random weights, and the card named a start and a licence that were not true.
    for content in ({}, {"a": torch.zeros(2)}, half, foreign, {"net": theirs}, {"model_state_dict": theirs}):
        torch.save(content, tmp_path / "lacking.pth")
        with pytest.raises(InputError, match=r"lacking.pth does not hold weights of the backbone 'test_efficientnet'"):
            create_model(from_file(tmp_path / "lacking.pth").model)
    for content in ([1, 2], torch.zeros(3), 7):
        torch.save(content, tmp_path / "strange.pth")
        with pytest.raises(InputError, match=r"strange.pth holds something else than weights"):
            create_model(from_file(tmp_path / "strange.pth").model)
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"bad.safetensors does not hold weights"):
        create_model(from_file(tmp_path / "bad.safetensors").model)
    torch.save({f"module.{name}": value for name, value in theirs.items()}, tmp_path / "parallel.pth")
    create_model(from_file(tmp_path / "parallel.pth").model)

    class Trap:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    torch.save({"model": Trap(), "epoch": 1}, tmp_path / "trap.pth")
    with pytest.raises(InputError, match=r"trap.pth cannot be read as weights"):
        create_model(from_file(tmp_path / "trap.pth").model)
    assert not (tmp_path / "ran").exists()


def test_the_file_is_read_once_and_a_run_that_goes_on_needs_it_no_more(timm_file, store, tiny_config, tmp_path):
    path, network = timm_file
    config = tiny_config.replace(weights=str(path), backbone="test_efficientnet", epochs=2)
    started = build(config, store).model.backbone.state_dict()
    assert torch.equal(started["conv_stem.weight"], network.conv_stem.weight)
    fit(config.replace(max_minutes=1e-9), store, tmp_path / "run")
    path.unlink()
    assert len(fit(config.replace(max_minutes=0.0), store, tmp_path / "run").history) == 2


def test_a_run_starts_from_the_best_epoch_of_an_earlier_one_heads_included(trained, store, tiny_config, tmp_path):
    config = tiny_config.replace(weights=f"run:{trained.folder.name}", seed=7)
    started = build(config, store, trained.folder.parent / "next").model
    assert all(torch.equal(value, trained.best_weights()[n]) for n, value in started.state_dict().items())
    copy = tmp_path / "elsewhere.pt"
    copy.write_bytes(trained.best_path.read_bytes())
    from_copy = build(tiny_config.replace(weights=str(copy), seed=7), store, tmp_path / "next").model
    assert all(torch.equal(value, started.state_dict()[n]) for n, value in from_copy.state_dict().items())


def test_a_head_that_answers_otherwise_starts_anew_and_the_log_says_so(trained, store, tiny_config):
    config = tiny_config.replace(weights=f"run:{trained.folder.name}", age_head="distribution", epochs=1)
    run = fit(config, store, trained.folder.parent / "years")
    assert "the earlier network had no such head for age, which starts anew" in (run.folder / "train.log").read_text()


def test_an_earlier_run_that_is_not_there_or_has_another_backbone_is_one_sentence(trained, store, tiny_config):
    beside = trained.folder.parent / "next"
    with pytest.raises(InputError, match=rf"'run:gone', but there is no run .*; runs there: .*{trained.folder.name}"):
        build(tiny_config.replace(weights="run:gone"), store, beside)
    with pytest.raises(InputError, match=r"was trained with the backbone 'test_resnet', not 'test_vit'; set backbone"):
        build(tiny_config.replace(weights=f"run:{trained.folder.name}", backbone="test_vit"), store, beside)
