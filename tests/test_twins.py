"""Copies of ONE picture are twins however they were saved; another expression or another face is none."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn_faces.face import draw_face
from helpers.data import twins
from helpers.data.twins import SIDE, likeness, near_pairs, twin_groups


def groups(faces: list[np.ndarray], shas: list[str] | None = None) -> list[int]:
    outlines, thumbnails = (np.stack(part) for part in zip(*map(likeness, faces), strict=True))
    return twin_groups(np.array(shas or [f"{i:04}" for i in range(len(faces))]), outlines, thumbnails).tolist()


def face(seed: int, size: int = 100) -> np.ndarray:
    return draw_face(np.random.default_rng(seed), seed % 7, 10 + seed, seed % 2, size)


def saved(pixels: np.ndarray, **options) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return np.asarray(Image.open(buffer))


def resized(pixels: np.ndarray, width: int, height: int | None = None) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height or width)))


def noisy(pixels: np.ndarray, seed: int, spread: float = 4) -> np.ndarray:
    return np.clip(pixels + np.random.default_rng(seed).normal(0, spread, pixels.shape), 0, 255).astype(np.uint8)


def frame(person: int, expression: int, size: int = 60, spread: float = 3) -> np.ndarray:
    """A still of a webcam, 240x320: one person before one background, of whom only the mouth moves."""
    rng = np.random.default_rng(person)
    room = rng.integers(30, 220, (7, 9, 3), dtype=np.uint8)
    picture = cv2.resize(room, (320, 240), interpolation=cv2.INTER_CUBIC)
    cv2.ellipse(picture, (160, 120), (size * 3 // 4, size), 0, 0, 360, (200, 170, 150), -1)
    for eye in (-size // 4, size // 4):
        cv2.circle(picture, (160 + eye, 120 - size // 4), size // 12, (30, 30, 30), -1)
    lift, turn = ((20, 0), (40, 180), (30, 90))[expression]
    mouth = (160, 120 + lift * size // 60), (size // 3, size // 5)
    cv2.ellipse(picture, *mouth, turn, 0, 180, (120, 40, 40), max(2, size // 15))
    return saved(noisy(picture, 3 * person + expression, spread), quality=95)


COPIES = {
    "saved again as JPEG": lambda pixels: saved(pixels, quality=70),
    "half the size": lambda pixels: resized(pixels, 50),
    "twice the size": lambda pixels: resized(pixels, 200),
    "cropped on two sides": lambda pixels: pixels[3:, :-3],
    "cropped and at its old size": lambda pixels: resized(pixels[2:-1, 3:-2], 100),
    "grey": lambda pixels: np.asarray(Image.fromarray(pixels).convert("L").convert("RGB")),
    "a little brighter and paler": lambda pixels: (pixels * 0.9 + 20).astype(np.uint8),
    "with noise of its own": lambda pixels: noisy(pixels, 7),
    "small and saved badly": lambda pixels: saved(resized(pixels, 48), quality=60),
    "cropped, small and saved": lambda pixels: saved(resized(pixels[3:, 2:-3], 60), quality=75),
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_its_original_s_twin(way):
    originals = [face(seed) for seed in range(30)]
    found = groups([*originals, *(COPIES[way](picture) for picture in originals)])
    assert found[:30] == found[30:] and len(set(found)) == 30


def test_different_faces_are_no_twins_and_equal_pixels_always_are():
    found = groups([face(seed) for seed in range(150)])
    assert len(set(found)) == 150
    assert len(set(groups([face(1), face(2), face(1)], ["a", "b", "a"]))) == 2


@pytest.mark.parametrize("size", [100, 60, 40])
def test_expressions_of_one_person_before_a_still_background_are_different_pictures(size):
    stills = [frame(person, expression, size) for person in range(20) for expression in range(3)]
    found = groups(stills)
    assert len(set(found)) == 60
    again = groups(stills + [saved(resized(still, 200, 150), quality=80) for still in stills])
    assert again[:60] == again[60:] and len(set(again)) == 60, "but each is its own copy's twin"


def test_a_mouth_or_eyes_of_another_face_make_another_picture():
    for top, bottom in ((64, 90), (28, 51)):
        pictures = []
        for seed in range(40):
            own, other = face(seed).astype(float), face(seed + 100).astype(float)
            mask = cv2.GaussianBlur(np.zeros((100, 100)), (1, 1), 0)
            mask[top:bottom, 20:80] = 1
            mask = cv2.GaussianBlur(mask, (0, 0), 2)[..., None]
            pictures += [face(seed), (own * (1 - mask) + other * mask).astype(np.uint8)]
        assert len(set(groups(pictures))) == 80


@settings(max_examples=60)
@example(seed=5, size=48, share=0.5, quality=70, cut=[0.03, 0.03, 0.0, 0.0])
@given(
    seed=st.integers(0, 60),
    size=st.integers(48, 200),
    share=st.floats(0.5, 2),
    quality=st.integers(70, 95),
    cut=st.lists(st.floats(0, 0.03), min_size=4, max_size=4),
)
def test_a_picture_cropped_resized_and_saved_is_a_copy_until_something_is_painted_on_it(
    seed, size, share, quality, cut
):
    picture = face(seed, size)
    left, top, right, bottom = (int(part * size) for part in cut)
    copy = picture[top : size - bottom, left : size - right]
    copy = resized(copy, *(max(20, round(side * share)) for side in copy.shape[1::-1]))
    assert len(set(groups([picture, saved(copy, quality=quality)]))) == 1
    height, width = copy.shape[:2]
    rng, painted = np.random.default_rng(seed), copy.astype(float)
    y, x = (int(rng.uniform(0.2, 0.7) * side) for side in (height, width))
    spot = painted[y : y + height // 8 + 1, x : x + width // 8 + 1]
    spot += 60 if spot.mean() < 128 else -60
    painted = saved(np.clip(painted, 0, 255).astype(np.uint8), quality=quality)
    assert len(set(groups([picture, painted]))) == 2


def test_pictures_of_one_colour_are_twins_by_their_pixels_alone():
    plain = [np.full((20, 20, 3), grey, np.uint8) for grey in (0, 100, 100, 200)]
    assert len(set(groups(plain, ["a", "b", "b", "c"]))) == 3
    faint = [noisy(np.full((60, 60, 3), 128, np.uint8), seed, 2) for seed in range(6)]
    assert len(set(groups([*faint, *(saved(picture, quality=80) for picture in faint)]))) == 12


def test_a_chain_of_small_steps_joins_no_different_pictures():
    first, last = face(3).astype(float), face(4).astype(float)
    steps = [(first * (1 - share) + last * share).astype(np.uint8) for share in np.linspace(0, 1, 81)]
    found = groups(steps)
    thumbnails = [likeness(step)[1] for step in steps]
    assert 3 <= len(set(found)) < 81
    for group in set(found):
        members = [number for number, one in enumerate(found) if one == group]
        assert any(all(twins._is_copy(thumbnails[one], thumbnails[other]) for other in members) for one in members)


def test_frames_that_differ_by_noise_alone_are_one_group_and_cost_each_a_bounded_number_of_looks(monkeypatch):
    asked, whole = [], twins._is_copy
    monkeypatch.setattr(twins, "_is_copy", lambda one, other: asked.append(1) or whole(one, other))
    looks = []
    for count in (200, 800):
        asked.clear()
        assert len(set(groups([noisy(face(1, 60), seed) for seed in range(count)]))) == 1
        looks.append(len(asked) / count)
    assert looks[1] < 1.5 * looks[0] < 6, "all pairs would be 100 and 400 looks a face"


def test_every_face_meets_at_most_a_few_others():
    rng = np.random.default_rng(0)
    outlines = rng.normal(0, 1e-3, (500, 6, 6)).astype(np.float32) + np.eye(6, dtype=np.float32)
    pairs = np.array(list(twins._neighbours(outlines, np.arange(500), np.arange(500), 1.0)))
    assert len(pairs) < 500 * twins._NEIGHBOURS and len(np.unique(pairs)) == 500


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_the_faces(random):
    pictures = [COPIES[way](face(seed)) for seed in range(4) for way in COPIES]
    names = [f"{number:03}" for number in range(len(pictures))]
    order = random.sample(range(len(pictures)), len(pictures))
    before, after = groups(pictures, names), groups([pictures[i] for i in order], [names[i] for i in order])
    assert [before[i] for i in order] == after


def test_faces_that_are_alike_but_no_twins_are_told_as_pairs():
    pictures = [frame(1, 0), frame(1, 1), frame(2, 0), saved(frame(2, 0), quality=80)]
    outlines, thumbnails = (np.stack(part) for part in zip(*map(likeness, pictures), strict=True))
    found = twin_groups(np.arange(4), outlines, thumbnails)
    assert found[2] == found[3] and len(set(found)) == 3
    assert near_pairs(found, outlines).tolist() == [[0, 1]]
    assert near_pairs(np.zeros(4, int), outlines).shape == (0, 2)


@settings(max_examples=40)
@given(st.integers(16, 300), st.integers(16, 300), st.integers(0, 2**32 - 1))
def test_any_picture_has_an_outline_of_length_one_and_a_thumbnail(height, width, seed):
    outline, thumbnail = likeness(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert outline.shape == (6, 6) and outline.dtype == np.float32 and np.linalg.norm(outline) <= 1 + 1e-5
    assert thumbnail.shape == (SIDE, SIDE) and thumbnail.dtype == np.uint8
