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
    identical = fer["identical"]
    assert (identical["groups"], identical["conflicting"], identical["leaked"]) == (1273, 47, 280)
    # Copies too: the same photographs saved again, resized or cropped a little, some under other labels.
    assert fer["twins"] == {"groups": 1962, "conflicting": 167, "largest": 14, "leaked": 495}
    assert (fer["left_out_twin_in_test"], fer["left_out_without_label"]) == (762, 138)
    assert fer["splits"]["test"] == 3589, "the published test set stays whole"
    assert (utk["rows"], sum(utk["rejected"].values()), utk["identical"]["groups"]) == (7811, 2, 58)
    assert utk["twins"] == {"groups": 164, "conflicting": 118, "largest": 4, "leaked": 23}
    assert set(store.faces["part"].dropna()) == {"PublicTest"}, "the archive holds this half of the test folder"
    assert not store.drawn
