"""Faces are resized and warped as the formulas say, a whole batch at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from helpers.data.geometry import draw_warps, resize, warp


def faces(count=2, height=24, width=24, seed=0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def surely(name: str, amount: float, seed: int = 0, count: int = 1) -> torch.Tensor:
    return torch.from_numpy(draw_warps(np.random.default_rng(seed), count, **{name: (1.0, amount)}))


def test_nothing_drawn_is_a_plain_resize():
    batch = faces(height=20, width=30)
    still = torch.from_numpy(draw_warps(np.random.default_rng(0), 2))
    assert torch.equal(still, torch.eye(2, 3).expand(2, 2, 3))
    for size in (30, 64):
        wanted = F.interpolate(batch.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear")
        assert torch.allclose(warp(batch, still, size), wanted, atol=1e-2)
        assert torch.allclose(resize(batch, size), wanted, atol=1e-2), "antialiasing changes nothing when enlarging"


def test_a_flip_mirrors_left_and_right():
    batch = faces()
    assert torch.allclose(warp(batch, surely("flip", 0, count=2), 24), resize(batch, 24).flip(3), atol=1e-3)


def test_a_quarter_turn_is_a_quarter_turn():
    batch = faces(count=1)
    angle = np.deg2rad(90)
    turned = torch.tensor([[[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]]]).float()
    assert torch.allclose(warp(batch, turned, 24), torch.rot90(resize(batch, 24), 1, (2, 3)), atol=1e-2)
    drawn = surely("rotate", 90, seed=3)
    assert torch.allclose(drawn[0, :, :2] @ drawn[0, :, :2].T, torch.eye(2), atol=1e-6), "a rotation, and no more"


def test_a_shift_moves_the_face_by_its_share_in_some_direction_and_mirrors_what_comes_in():
    drawn = surely("shift", 0.25, seed=1)
    moved = 0.5 * np.hypot(*drawn[0, :, 2].tolist())
    assert 0 < moved <= 0.25
    by_half = torch.tensor([[[1.0, 0, 1.0], [0, 1.0, 0]]])  # half a face to the right
    batch = faces(count=1)
    found, whole = warp(batch, by_half, 24), resize(batch, 24)
    assert torch.allclose(found[..., :12], whole[..., 12:], atol=1e-3)
    assert torch.allclose(found[..., 12:], whole[..., 12:].flip(3), atol=1e-3)


def test_a_scale_enlarges_about_the_middle():
    batch = faces(count=1)
    twice = torch.tensor([[[0.5, 0, 0], [0, 0.5, 0]]])
    wanted = F.interpolate(resize(batch, 24)[..., 5:19, 5:19], (28, 28), mode="bilinear")[..., 2:26, 2:26]
    assert torch.allclose(warp(batch, twice, 24), wanted, atol=1e-2)


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.floats(0, 30), st.floats(0, 0.3), st.floats(0, 0.3))
def test_every_draw_lies_within_its_amounts(seed, angle, scale, shift):
    options = {"flip": (0.5, 0), "rotate": (0.5, angle), "scale": (0.5, scale), "shift": (0.5, shift)}
    drawn = draw_warps(np.random.default_rng(seed), 40, **options).astype(np.float64)
    size = np.sqrt(np.abs(np.linalg.det(drawn[:, :, :2])))
    assert ((size >= 1 / (1 + scale) - 1e-5) & (size <= 1 / (1 - scale) + 1e-5)).all()
    assert (np.abs(np.arctan2(drawn[:, 0, 1], drawn[:, 1, 1])) <= np.deg2rad(angle) + 1e-5).all()
    assert (np.hypot(drawn[:, 0, 2], drawn[:, 1, 2]) <= 2 * shift + 1e-5).all()
    again = draw_warps(np.random.default_rng(seed), 40, **options)
    assert np.array_equal(again, drawn.astype(np.float32))


def test_each_warp_comes_by_its_own_probability():
    drawn = draw_warps(
        np.random.default_rng(0), 20_000, flip=(0.5, 0), rotate=(0.3, 15), scale=(0.2, 0.1), shift=(0.1, 0.1)
    )
    assert (np.linalg.det(drawn[:, :, :2]) < 0).mean() == pytest.approx(0.5, abs=0.02)
    assert (drawn[:, 0, 1] != 0).mean() == pytest.approx(0.3, abs=0.02)
    sizes = np.abs(np.linalg.det(drawn[:, :, :2].astype(np.float64)))
    assert (np.abs(sizes - 1) > 1e-5).mean() == pytest.approx(0.2, abs=0.02)
    assert (drawn[:, 0, 2] != 0).mean() == pytest.approx(0.1, abs=0.02)
