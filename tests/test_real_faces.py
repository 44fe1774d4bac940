"""The audit of real FER2013 and UTKFace images gives the counts that are known of them. Runs where they are at hand."""

import os
import tarfile
from pathlib import Path

import pytest

from helpers.data.store import pack

FACES = os.environ.get("REAL_FACES")


@pytest.mark.skipif(not FACES, reason="REAL_FACES names no folder with fer2013.tar.gz and utkface-new.tar.gz")
def test_the_audit_of_real_faces_finds_what_is_known_of_them(tmp_path):
    for name in ("fer2013", "utkface-new"):
        with tarfile.open(Path(FACES) / f"{name}.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
    store = pack({"fer2013": tmp_path / "fer2013", "utkface": tmp_path / "utkface-new"}, tmp_path / "faces")
    fer, utk = store.manifest["audit"]["fer2013"], store.manifest["audit"]["utkface"]
    assert (fer["rows"], fer["rejected"]) == (28709 + 3589, {})
    assert (fer["test_rows_with_twin_in_training"], fer["left_out_twin_in_test"]) == (280, 351)
    assert (fer["twin_groups"], fer["conflicting_groups"]) == (1273, 47)
    assert fer["splits"]["test"] == 3589, "the published test set stays whole"
    assert (utk["rows"], sum(utk["rejected"].values()), utk["twin_groups"]) == (7811, 2, 58)
    assert not store.drawn
