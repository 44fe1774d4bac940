"""What a network starts from: weights pretrained on faces, those of an earlier run, or a file on this machine."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from helpers.config import ModelConfig
from helpers.files import InputError, first_line
from helpers.runs.run import Run


@dataclass(frozen=True)
class Pretrained:
    """A published file of weights.

    Attributes:
        url: where it is published.
        blob: its git blob id: SHA-1 of ``blob <size>``, a zero byte and the content.
        backbone: the timm model whose state dict it is, without a classifier.
        terms: what it may be used for.
    """

    url: str
    blob: str
    backbone: str
    terms: str


FACES = Pretrained(
    "https://github.com/sb-ai-lab/EmotiEffLib/raw/main/models/pretrained_faces/state_vggface2_enet2.pt",
    "be6ad8550fc0043d1ee90553eee654252167322a", "tf_efficientnet_b2",
    "pretrained on VGGFace2, whose images are for non-commercial research only",
)  # fmt: skip
"""EmotiEffLib's EfficientNet-B2, trained to tell the people of VGGFace2 apart."""


def fetch_faces(weights: Pretrained = FACES) -> dict[str, Tensor]:
    """Download a file of weights once, check it, and return its state dict without a classifier.

    Raises:
        OSError: it cannot be fetched.
        InputError: what arrived is not the published file; it is deleted.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        torch.hub.download_url_to_file(weights.url, str(path))
    if (found := git_blob(path)) != weights.blob:
        path.unlink()
        raise InputError(
            f"{weights.url} gave another file than the published one (git blob {found[:12]}, expected "
            f"{weights.blob[:12]}); run again, or set weights = 'imagenet'."
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value for name, value in state.items() if not name.startswith("classifier.")}


def git_blob(path: Path) -> str:
    """The id under which git keeps a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def weights_file(weights: str) -> Path:
    """The file that the knob ``weights`` names.

    Raises:
        InputError: there is no such file.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        raise InputError(f"The field 'weights' is {weights!r}, but there is no such file; correct the path.")
    return path


def earlier_weights(config: ModelConfig, folder: Path) -> dict[str, Tensor] | None:
    """The state dict of a whole network to start from: of an earlier run, or of a file that is a run's.

    Args:
        folder: of the run that starts; the earlier one lies beside it.

    Returns:
        None where the file is a backbone's.

    Raises:
        InputError: there is no such run or file, it is damaged, or another backbone's.
    """
    if run := Run.origin(config.weights, folder):
        theirs = run.config.model.backbone
        if theirs != config.backbone:
            raise InputError(
                f"The run {run.folder.name!r} was trained with the backbone {theirs!r}, not {config.backbone!r}; set "
                f"backbone = {theirs!r} or another start of the weights."
            )
        return run.best_weights()
    path = weights_file(config.weights)
    if path.suffix == ".safetensors":  # no checkpoint of a run
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file ends in whatever its reader stumbles over
        raise InputError(f"{path} cannot be read as weights ({first_line(error)}); name another file.") from error
    if isinstance(state, dict) and not ("model" in state and {"epoch", "step"} & state.keys()):
        return None
    weights = state.get("ema", state["model"]) if isinstance(state, dict) else None  # a run's last one holds both
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise InputError(f"{path} holds something else than weights; name another file.")
    return weights


def start_from(model: nn.Module, weights: dict[str, Tensor], start: str) -> list[str]:
    """Give a network the weights of an earlier one: its whole backbone, and each head that answers alike.

    Returns:
        The heads that start anew, since the earlier network has them not, or with other outputs.

    Raises:
        InputError: the backbone is another one.
    """
    mine = model.state_dict()
    fitting = {n: w for n, w in weights.items() if n in mine and w.shape == mine[n].shape}
    if any(name.startswith("backbone.") for name in mine.keys() - fitting.keys()):
        raise InputError(f"The weights {start!r} are of another backbone than the field 'backbone' names; set that.")
    anew = {name.split(".")[1] for name in mine.keys() - fitting.keys()}
    fitting = {n: w for n, w in fitting.items() if n.split(".")[1] not in anew}
    model.load_state_dict(mine | fitting)
    return sorted(anew)
