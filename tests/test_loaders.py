"""A batch is a function of the seed and the step, whatever the number of workers."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.data.augment import TECHNIQUES, Augmenter, preview_techniques
from helpers.data.loaders import EpochSampler, plain_loader, train_loader


def same(first, second) -> bool:
    """Whether two batches are equal in everything."""
    pairs = [(first.rows, second.rows), *zip(first.faces, second.faces, strict=True)]
    pairs += [(getattr(first.targets, t), getattr(second.targets, t)) for t in ("emotion", "age", "gender")]
    return first.step == second.step and all(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) for a, b in pairs)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(store, tiny_config, workers):
    rows = store.rows("train")
    alone = list(train_loader(store, rows, dataclasses.replace(tiny_config, workers=0)))
    shared = list(train_loader(store, rows, dataclasses.replace(tiny_config, workers=workers)))
    assert len(alone) == len(shared) > 2
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_an_epoch_can_be_entered_at_any_step(store, tiny_config):
    rows = store.rows("train")
    whole = list(train_loader(store, rows, tiny_config))
    rest = list(train_loader(store, rows, tiny_config, first_step=2))
    assert [batch.step for batch in rest] == [batch.step for batch in whole[2:]]
    assert all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_each_epoch_shows_every_row_once_in_a_new_order():
    rows = np.arange(100, 164)
    orders = []
    for epoch in range(3):
        sampler = EpochSampler(rows, 16, seed=1, first_step=4 * epoch)
        steps, batches = zip(*sampler, strict=True)
        assert steps == tuple(range(4 * epoch, 4 * epoch + 4)) and len(sampler) == 4
        orders.append(np.concatenate(batches))
        assert sorted(orders[-1]) == rows.tolist()
    assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[1], orders[2])


def test_a_batch_larger_than_the_data_takes_all_of_it():
    assert EpochSampler(np.arange(5), 64, seed=0).steps_per_epoch == 1


def test_labels_stay_with_their_faces_when_a_batch_is_grouped_by_size(store):
    for batch in plain_loader(store, np.arange(len(store)), 50, workers=0):
        images = [image for group in batch.faces for image in group.numpy()]
        for row, image, emotion in zip(batch.rows.tolist(), images, batch.targets.emotion.tolist(), strict=True):
            assert np.array_equal(image, store.image(row)) and emotion == store.faces["emotion"][row]


def test_training_reduces_large_faces_and_leaves_small_ones(store, tiny_config):
    sizes = {tuple(g.shape[1:3]) for b in train_loader(store, store.rows("train"), tiny_config) for g in b.faces}
    assert sizes == {(32, 32)}
    larger = dataclasses.replace(tiny_config, img_size=64)
    sizes = {tuple(g.shape[1:3]) for b in train_loader(store, store.rows("train"), larger) for g in b.faces}
    assert sizes == {(48, 48), (64, 64)}


@pytest.mark.parametrize("size", [20, 48, 200])
def test_each_technique_changes_a_face_and_keeps_its_shape(size, recwarn):
    face = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    images, titles = preview_techniques([face])
    assert titles == ["original", *TECHNIQUES]
    for image, title in zip(images[1:], titles[1:], strict=True):
        assert image.shape == face.shape and image.dtype == np.uint8
        assert not np.array_equal(image, face), f"{title} did nothing"
    assert not [w for w in recwarn if "albumentations" in str(w.filename)], "an argument was ignored"


def test_strength_zero_leaves_faces_alone_and_more_strength_changes_more():
    face = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    assert np.array_equal(Augmenter(0.0)(face), face)
    change = {}
    for strength in (0.3, 1.5):
        images, _ = preview_techniques([face] * 5, strength)
        change[strength] = np.mean([np.abs(i.astype(int) - face).mean() for i in images])
    assert change[1.5] > change[0.3]


def test_all_five_groups_are_there():
    assert {technique.group for technique in TECHNIQUES.values()} == {"geometric", "colour", "noise", "blur", "cutout"}
