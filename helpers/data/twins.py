"""Twins: copies of ONE picture, which are the same pixels, or saved again, resized or cropped a little.

Likeness is not identity. Another expression, or the next frame of a video, before a still background is another picture
with a label of its own. What tells them apart is where they differ: a copy differs evenly, another expression differs
in one place. So every face is first compared with its nearest few by a coarse outline; each pair that is alike is then
laid upon each other, and no place may stand out from what saving and resizing leave in real faces.
`python -m benchmarks.twins` measures both on real faces.
"""

import cv2
import numpy as np
from scipy.spatial import KDTree

SIDE = 48
"""Pixels a side of the thumbnails: as many as the smallest faces of the datasets have."""

_WINDOW = cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F)

_WHOLE = np.full((SIDE, SIDE), 255, np.uint8)

_COARSE = 4
"""Waves a side by which neighbours are looked for; the outline's 6 a side would cost seven times as long."""

_REACH, _ALIKE = 0.175, 0.3
"""Distances of outlines, coarse and whole, that a copy cropped by 3 % keeps within, in 997 of 1,000 faces."""

NEAR = 0.15
"""Distance of outlines below which faces that are no copies count as near: one person before one background."""

_NEIGHBOURS = 8
"""How many a face meets at most, itself included; so 4,000 frames of one video do not meet all of one another."""

_MARGIN = 3
"""Pixels of a thumbnail's edge that are not compared: 3 % may be cropped there, and blurring spreads what is new."""

_AGREE, _HOPE, _SHIFT = 0.95, 0.8, 0.045
"""Least correlation of pictures laid upon each other, and of a crop's upon the whole; a corner's share of a side."""

_AS_THEY_LIE, _BEFORE = 0.9, 0.75
"""Correlations below which two are not compared as they lie, or not at all, to save time; of 2,000 real pairs of copies
the lowest had 0.948 and 0.815."""

_BLUR = 1.0
"""Pixels; takes out what JPEG and resizing do to the finest detail, and leaves a mouth of 5 x 3 pixels."""

_FLAT = 4.0
"""Standard deviation in grey levels below which a picture shows nothing to compare; equal pixels are still copies."""

_EDGE = 0.01
"""Squared error that is allowed in a place, per squared slope (grey levels a pixel): resizing leaves more at edges."""

_EVEN, _USUAL, _MOST = 1.1, 4.0, 7.0
"""The worst place may be 1.1 grey levels above four times the upper quartile of all places, and 7 at the most."""


def likeness(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What copies are told by: outline, float32 (6, 6) of length 1, and grey thumbnail, uint8 (48, 48).

    The outline is the lowest waves of a thumbnail that fades out to its edges, where a crop changes most.

    Args:
        pixels: of a face, uint8 RGB (H, W, 3).
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    smaller = min(grey.shape) < SIDE
    thumbnail = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR if smaller else cv2.INTER_AREA)
    faded = (thumbnail - (thumbnail * _WINDOW).sum() / _WINDOW.sum()) * _WINDOW
    waves = cv2.dct(cv2.resize(faded, (8, 8), interpolation=cv2.INTER_AREA))
    return waves[:6, :6] / max(np.linalg.norm(waves), 1.0), thumbnail


def twin_groups(shas: np.ndarray, outlines: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """The group of each face, int (N,): copies of one picture share one.

    A chain of small steps could lead from one picture to another. So every face of a group is a copy of the group's
    first one, and groups are joined only where all of the smaller are copies of the larger's first.

    Args:
        shas: hash of the pixels, (N,); equal ones are copies in any case.
        outlines: float32 (N, 6, 6), see :func:`likeness`.
        thumbnails: uint8 (N, 48, 48).
    """
    _, first, identical = np.unique(shas, return_index=True, return_inverse=True)
    outlines, thumbnails = outlines[first], thumbnails[first]
    leader, apart = np.arange(len(first)), set()
    members = [[face] for face in leader.tolist()]
    asked = leader
    while len(asked):  # again for groups that have grown: their copies may not have been among anyone's nearest
        grown = set()
        for pair in _neighbours(outlines, np.unique(leader), asked, _ALIKE):
            large, small = sorted(leader[pair].tolist(), key=lambda face: (-len(members[face]), face))
            if large == small or (large, small) in apart:
                continue
            if all(_is_copy(thumbnails[large], thumbnails[face]) for face in members[small]):
                leader[members[small]] = large
                members[large] += members[small]
                grown.add(large)
            else:
                apart.add((large, small))
        asked = np.array([face for face in sorted(grown) if leader[face] == face], int)
    return leader[identical]


def near_pairs(groups: np.ndarray, outlines: np.ndarray) -> np.ndarray:
    """Pairs of faces that are much alike without being copies, int (P, 2): each face's nearest few at most.

    Args:
        groups: of :func:`twin_groups`; faces of one group are no such pair.
        outlines: float32 (N, 6, 6).
    """
    heads = np.unique(groups, return_index=True)[1]
    return _neighbours(outlines, heads, heads, NEAR)


def _neighbours(outlines: np.ndarray, among: np.ndarray, asked: np.ndarray, within: float) -> np.ndarray:
    """Pairs of a face of ``asked`` and one of its nearest ``among`` all, whose outlines differ less than ``within``."""
    coarse = outlines[:, :_COARSE, :_COARSE].reshape(len(outlines), -1)
    # With eps, the tree may miss a neighbour in fifty that is not among the nearest, and takes an eighth of the time.
    tree, reach = KDTree(coarse[among]), min(_REACH, within)
    found = tree.query(coarse[asked], _NEIGHBOURS, 1.0, distance_upper_bound=reach, workers=-1)[1]
    pairs = np.stack([np.repeat(asked, _NEIGHBOURS), np.append(among, -1)[found.ravel()]], axis=1)
    pairs = np.unique(np.sort(pairs[(pairs[:, 1] >= 0) & (pairs[:, 0] != pairs[:, 1])], axis=1), axis=0)
    return pairs[np.linalg.norm(outlines[pairs[:, 0]] - outlines[pairs[:, 1]], axis=(1, 2)) < within]


def _is_copy(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two thumbnails show one picture: as they lie, or once the other is laid upon the one."""
    coarse, upon = (cv2.GaussianBlur(picture, (5, 5), 0) for picture in (one, other))
    agree = cv2.matchTemplate(coarse, upon, cv2.TM_CCOEFF_NORMED).item()
    if agree > _AS_THEY_LIE and _differ_evenly(one, other):
        return True
    laid = _laid_together(one, other) if agree > _BEFORE else None
    return laid is not None and _differ_evenly(*laid)


def _laid_together(one: np.ndarray, other: np.ndarray, turned: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
    """The two with the larger cut of the picture warped to the smaller's; None where they do not fit."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 1e-4)
    try:
        still = np.eye(2, 3, dtype=np.float32)
        agree, warp = cv2.findTransformECC(other, one, still, cv2.MOTION_AFFINE, stop, _WHOLE, 5)
    except cv2.error:  # does not converge
        return None
    if not turned and agree > _HOPE and np.linalg.det(np.array(warp, float)[:, :2]) > 1:
        return _laid_together(other, one, turned=True)  # a crop has nothing to lay upon the other's edge
    corners = np.array([(x, y, 1) for x in (0, SIDE - 1) for y in (0, SIDE - 1)], np.float32).T
    if agree < _AGREE or np.abs(warp @ corners - corners[:2]).max() > _SHIFT * SIDE:
        return None
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(one, warp, (SIDE, SIDE), flags=how, borderMode=cv2.BORDER_REPLICATE), other


def _differ_evenly(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether no place differs more than the rest, once contrast, brightness and sharpness are made the same."""
    one, other = (cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _BLUR) for picture in (one, other))
    # What one has lost, sharpness or what was clipped, cannot be put back: so the other way round as well.
    return _comes_from(one, other) or _comes_from(other, one)


def _comes_from(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the other is the one but for contrast, brightness, sharpness and what differs evenly."""
    inner = (slice(_MARGIN, -_MARGIN),) * 2
    seen, wanted = one[inner], other[inner]
    if min(cv2.meanStdDev(part)[1].item() for part in (seen, wanted)) < _FLAT:
        return False
    basis = np.stack([seen, cv2.Laplacian(one, cv2.CV_32F)[inner], np.ones_like(seen)]).reshape(3, -1)
    squares = (basis @ basis.T).astype(float) + 0.01 * np.eye(3)  # the last term for a picture without any curve
    weights = np.linalg.solve(squares, (basis @ wanted.ravel()).astype(float)).astype(np.float32)
    if not 0.5 < weights[0] < 2:
        return False
    rest = wanted - np.clip(weights @ basis, 0, 255).reshape(wanted.shape)
    slope = [cv2.Sobel(other, cv2.CV_32F, *way, scale=1 / 8)[inner] for way in ((1, 0), (0, 1))]
    error, edges = (cv2.blur(squared, (4, 4)) for squared in (rest**2, slope[0] ** 2 + slope[1] ** 2))
    places = np.sqrt(np.abs(error) / (1 + _EDGE * edges)).ravel()
    usual = np.partition(places, len(places) * 3 // 4)[len(places) * 3 // 4]
    return bool(places.max() < min(_EVEN + _USUAL * usual, _MOST))
