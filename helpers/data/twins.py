"""Twins: faces with the same pixels, or pictures so alike that one is a copy of the other.

A copy that was saved again, or at another size, has other pixels. Two faces count as twins where their 64-bit
difference hashes differ in at most 8 bits and their 32x32 grey thumbnails correlate with at least 0.97. The hash alone
would chain thousands of small blurred faces into one group.
"""

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_BITS, CORRELATION = 8, 0.97
_BANDS = HASH_BITS + 1
"""Two hashes that differ in 8 bits agree in at least one of 9 bands, so only faces that share a band are compared."""

_CHUNK = 1024


def likeness(pixels: np.ndarray) -> tuple[np.uint64, np.ndarray]:
    """Difference hash and grey thumbnail, uint8 (32, 32), of a face, uint8 RGB (H, W, 3).

    Each bit of the hash tells whether one of 8x8 cells is brighter than its left neighbour.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(cells[:, 1:] > cells[:, :-1])
    return bits.view(np.uint64)[0], cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)


def twin_groups(shas: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """The group of each face, int (N,): twins, and twins of twins, share one.

    Args:
        shas: hash of the pixels, (N,); equal ones are twins in any case.
        hashes: difference hashes, uint64 (N,).
        thumbnails: uint8 (N, 32, 32).
    """
    _, first, identical = np.unique(shas, return_index=True, return_inverse=True)
    unlike = thumbnails[first].reshape(len(first), -1).astype(np.float32)
    unlike -= unlike.mean(axis=1, keepdims=True)
    # A face of one colour has no correlation; it is nobody's twin but by its pixels.
    unlike /= np.maximum(np.linalg.norm(unlike, axis=1, keepdims=True), 1e-6)
    pairs = [np.empty((0, 2), np.int64)]
    for close in _close_pairs(hashes[first]):
        for left, right in (close[start : start + _CHUNK].T for start in range(0, len(close), _CHUNK)):
            alike = np.einsum("ij,ij->i", unlike[left], unlike[right]) >= CORRELATION
            pairs.append(np.stack([left[alike], right[alike]], axis=1))
    left, right = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(first), len(first)))
    return connected_components(graph, directed=False)[1][identical]


def _close_pairs(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of numbers, (P, 2), whose hashes differ in at most HASH_BITS bits; a pair may come more than once."""
    edges = np.linspace(0, 64, _BANDS + 1).astype(int)
    for start, end in pairwise(edges):
        band = (hashes >> np.uint64(start)) & np.uint64((1 << int(end - start)) - 1)
        order = np.argsort(band, kind="stable")
        borders = np.flatnonzero(np.diff(band[order])) + 1
        for members in np.split(order, borders):
            for place in range(0, len(members) - 1, _CHUNK):
                part = members[place : place + _CHUNK]
                near = np.bitwise_count(hashes[part][:, None] ^ hashes[members[place:]][None, :]) <= HASH_BITS
                left, right = np.nonzero(np.triu(near, k=1))
                yield np.stack([part[left], members[place:][right]], axis=1)
