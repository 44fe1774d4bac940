"""Weights pretrained on faces: where they lie, what they may be used for, and the check of what arrived."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from helpers.files import InputError


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


def fetch_faces(weights: Pretrained = FACES) -> dict[str, torch.Tensor]:
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
