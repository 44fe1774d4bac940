"""Copies of a face are its twins however they were saved; different faces are not."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn_faces.face import draw_face
from helpers.data import twins
from helpers.data.twins import CORRELATION, HASH_BITS, likeness, twin_groups


def groups(faces: list[np.ndarray], shas: list[str] | None = None) -> list[int]:
    hashes, thumbnails = zip(*map(likeness, faces), strict=True)
    shas = shas or [str(number) for number in range(len(faces))]
    return twin_groups(np.array(shas), np.array(hashes), np.stack(thumbnails)).tolist()


def face(seed: int, size: int = 100) -> np.ndarray:
    return draw_face(np.random.default_rng(seed), seed % 7, 10 + seed, seed % 2, size)


def saved(pixels: np.ndarray, **options) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return np.asarray(Image.open(buffer))


COPIES = {
    "saved again as JPEG": lambda pixels: saved(pixels, quality=70),
    "half the size": lambda pixels: np.asarray(Image.fromarray(pixels).resize((50, 50))),
    "twice the size": lambda pixels: np.asarray(Image.fromarray(pixels).resize((200, 200))),
    "grey": lambda pixels: np.asarray(Image.fromarray(pixels).convert("L").convert("RGB")),
    "a little brighter": lambda pixels: np.clip(pixels.astype(int) + 8, 0, 255).astype(np.uint8),
    "small and saved badly": lambda pixels: saved(np.asarray(Image.fromarray(pixels).resize((48, 48))), quality=60),
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_its_original_s_twin(way):
    for seed in range(12):
        first, second, other = groups([face(seed), COPIES[way](face(seed)), face(seed + 50)])
        assert first == second != other


def test_different_faces_are_no_twins_and_equal_pixels_always_are():
    found = groups([face(seed) for seed in range(150)])
    assert len(set(found)) == 150
    assert len(set(groups([face(1), face(2), face(1)], ["a", "b", "a"]))) == 2


def test_pictures_of_one_colour_are_twins_by_their_pixels_alone():
    plain = [np.full((20, 20, 3), grey, np.uint8) for grey in (0, 100, 100, 200)]
    assert len(set(groups(plain, ["a", "b", "b", "c"]))) == 3


def test_twins_of_twins_are_one_group():
    first, last = face(3).astype(float), face(4).astype(float)
    steps = [(first * (1 - share) + last * share).astype(np.uint8) for share in np.linspace(0, 1, 21)]
    assert len(set(groups(steps))) == 1
    assert len(set(groups([steps[0], steps[-1]]))) == 2, "which are no twins themselves"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=30), st.integers(0, 2**32), st.integers(1, 5))
def test_every_pair_of_hashes_within_the_distance_is_found_and_no_other(hashes, seed, chunk):
    rng = np.random.default_rng(seed)
    near = [
        value ^ sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 12), replace=False)) for value in hashes
    ]
    every = np.array(hashes + near, dtype=np.uint64)
    before, twins._CHUNK = twins._CHUNK, chunk
    try:
        found = {tuple(sorted(pair)) for close in twins._close_pairs(every) for pair in close.tolist()}
    finally:
        twins._CHUNK = before
    wanted = {(i, j) for i in range(len(every)) for j in range(i + 1, len(every))
              if (int(every[i]) ^ int(every[j])).bit_count() <= HASH_BITS}  # fmt: skip
    assert found == wanted


def test_alike_hashes_are_no_twins_when_the_pictures_do_not_correlate():
    ramp = np.tile(np.linspace(0, 255, 64), (64, 1))
    uneven = ramp * 0.1 + 200 * (np.arange(64)[None] >= 60)
    pair = [np.repeat(picture[..., None], 3, axis=2).astype(np.uint8) for picture in (ramp, uneven)]
    (one, left), (other, right) = map(likeness, pair)
    assert (int(one) ^ int(other)).bit_count() <= HASH_BITS
    assert np.corrcoef(left.ravel(), right.ravel())[0, 1] < CORRELATION
    assert len(set(groups(pair))) == 2
