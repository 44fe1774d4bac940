"""Draws one cartoon face whose emotion, age and gender can be read off it, by a person and by a small network."""

from __future__ import annotations

import numpy as np

from drawn_faces.pen import Pen, band, curve, ellipse, photograph, trace
from drawn_faces.traits import Expression, Person, draw_expression, draw_person
from helpers.tasks import EMOTIONS

_U = np.linspace(-1.0, 1.0, 25)
"""Positions along an eye or a mouth, from one corner to the other."""


def draw_face(
    rng: np.random.Generator, emotion: int, age: float, gender: int, size: int = 200, grey: bool = False
) -> np.ndarray:
    """Draw a face with random looks, pose and light that shows the given labels.

    Args:
        rng: source of everything that is not a label; the same state gives the same face.
        emotion: index into ``EMOTIONS``.
        age: years, 0 to 95 (older faces look 95).
        gender: index into ``GENDERS``.
        size: pixels a side.
        grey: one channel instead of three.

    Returns:
        uint8 pixels 0-255, ``(size, size, 3)`` in RGB order or ``(size, size)`` when ``grey``.
    """
    person = draw_person(rng, float(np.clip(age, 0.0, 95.0)), gender == 1)
    look = draw_expression(rng, EMOTIONS[emotion])
    pen = Pen(rng, size)
    pen.backdrop(rng)
    _back_hair(pen, rng, person)
    _body(pen, person)
    _head(pen, person, look)
    _wrinkles(pen, rng, person, look)
    _nose(pen, person, look)
    _mouth(pen, person, look)
    _beard(pen, rng, person, look)
    _eyes(pen, rng, person, look)
    _brows(pen, person, look)
    _front_hair(pen, rng, person)
    _extras(pen, rng, person)
    return photograph(rng, pen.canvas, size, grey)


_CONTOUR = np.linspace(0, 2 * np.pi, 72, endpoint=False)


def _outline(person: Person, look: Expression, grow: float = 0.0) -> np.ndarray:
    """Contour of the face, clockwise from the right temple: round cheeks when young, jowls when old."""
    cos, sin = np.cos(_CONTOUR), np.sin(_CONTOUR)
    power = np.where(sin > 0, 2.0 / person.jaw, 1.0)
    drop = person.chin + 0.35 * max(0.0, look.mouth_down - 0.08)
    x = np.sign(cos) * np.abs(cos) ** power * (person.width + grow)
    y = np.where(sin > 0, sin * (drop + grow), sin * (grow - person.top))
    below = np.clip(y / drop, 0, 1)
    taper = (0.3 if person.female else 0.2) * (1 - 0.75 * person.child)
    x = x * (1 - taper * below**2)
    bump = np.exp(-(((below - 0.55) / 0.2) ** 2)) * 0.09 * person.child
    jowl = np.exp(-(((below - 0.74) / 0.13) ** 2)) * 0.085 * person.old
    return np.stack([x + np.sign(x) * (bump + jowl), y], axis=1)


def _body(pen: Pen, person: Person) -> None:
    neck = (0.42 if person.female else 0.58) - 0.14 * person.child
    pen.fill([(-neck, 0.5), (neck, 0.5), (neck + 0.05, 1.9), (-neck - 0.05, 1.9)], person.skin * 0.8, flat=True)
    wide = (1.35 if person.female else 1.7) - 0.4 * person.child
    low = person.chin + 0.32
    shoulders = curve((-wide - 0.5, 3.2), (-wide, low + 0.38), (-neck, low), (0, low + 0.22), (neck, low),
                       (wide, low + 0.38), (wide + 0.5, 3.2))  # fmt: skip
    pen.fill(shoulders, person.cloth, flat=True)


def _head(pen: Pen, person: Person, look: Expression) -> None:
    """Ears, face and the soft shadows and blush that make it round."""
    ear = person.eye_y + 0.16
    for side in (-1, 1):
        x = side * (person.width + 0.02) - 0.1 * pen.turn[0]
        pen.fill(ellipse(x, ear, 0.15, 0.25 + 0.04 * person.old), person.skin * 0.92, flat=True)
        pen.line(curve((x - 0.03, ear - 0.13), (x + side * 0.07, ear), (x, ear + 0.12)), person.line, 0.02, flat=True)
    outline = _outline(person, look)
    pen.shade([(np.add(outline, (0, 0.1)), (0.72, 0.7, 0.72))], 0.06, flat=True)
    pen.fill(outline, person.skin, flat=True)
    rim = np.concatenate([outline, _outline(person, look, -0.13)[::-1]])
    pen.shade([(rim, (0.86, 0.82, 0.8))], 0.09, flat=True)
    pen.shade(_relief(person, look), 0.07)


def _relief(person: Person, look: Expression) -> list:
    """Soft shade of the sockets, the cheeks' blush, the side of the nose, its tip and the dip below the lips."""
    eye, deep = person.eye_y, 0.22 + 0.3 * person.old
    blush = 0.1 + 0.16 * person.child + (0.07 if person.female else 0) + 0.12 * max(0.0, look.cheek)
    pink = 1 - blush * np.array([0.0, 0.42, 0.44])
    tip = _nose_tip(person, look)
    shapes: list[tuple] = []
    for side in (-1, 1):
        shapes.append((ellipse(side * person.eye_gap, eye - 0.03, 0.3, 0.2), 1 - deep * np.array([0.28, 0.4, 0.42])))
        shapes.append((ellipse(side * 0.58, eye + 0.42 - 0.08 * look.cheek, 0.2, 0.15), pink))
    shapes.append((ellipse(0.12, tip - 0.14, 0.08, 0.2), (0.86, 0.84, 0.84)))
    shapes.append((ellipse(-0.02, tip - 0.09, 0.06, 0.08), (1.2, 1.2, 1.2)))
    below = person.mouth_y + max(0.0, look.mouth_down) + 0.4 * look.mouth_corner + 0.2
    shapes.append((ellipse(0, below, 0.2, 0.04), (0.8, 0.78, 0.78)))
    return shapes


def _wrinkles(pen: Pen, rng: np.random.Generator, person: Person, look: Expression) -> None:
    """Lines of age, deepening without a step from twenty on, and the folds that an expression adds to them."""
    old, eye = person.old, person.eye_y

    def crease(depth: float, *knots, width: float = 0.028) -> None:
        if depth > 0.04:
            share = min(1.0, depth) * 0.8
            colour = person.skin * (1 - share) + person.line * share
            pen.line(curve(*knots, steps=6), colour, width * (0.6 + 0.6 * min(1.0, depth)))

    for row in range(4):
        y = eye - 0.52 - 0.13 * row + rng.normal(0, 0.012)
        half = 0.5 - 0.05 * row
        raised = max(0.0, look.brow_in + look.brow_out) * 0.8
        depth = 1.7 * (old - 0.12 * row - 0.05) + (raised if row < 2 and person.age > 8 else 0)
        crease(depth, (-half, y + 0.04), (-half / 2, y), (0, y + 0.025), (half / 2, y), (half, y + 0.04))
    for side in (-1, 1):
        x = side * (person.eye_gap + 0.27)
        for ray in (-1, 0, 1):
            start, end = (x, eye + 0.02 + 0.045 * ray), (x + side * 0.17, eye + 0.02 + 0.12 * ray)
            crease(1.7 * old - 0.25 + 0.3 * look.cheek * (person.age > 16), start, end, width=0.022)
        bag = person.eye_size * 0.95
        centre = side * person.eye_gap
        under = (centre - bag, eye + 0.16), (centre, eye + 0.25 + 0.05 * old), (centre + bag, eye + 0.15)
        crease(1.5 * old - 0.05 + 0.25 * look.cheek, *under, width=0.024)
        lift = 0.06 * look.sneer
        out = max(0.36, look.mouth_width) + 0.1
        bend = (side * (out - 0.06), person.mouth_y - 0.17 - lift)
        crease(1.5 * old + 0.7 * look.fold, (side * 0.21, eye + 0.4 - lift), bend, (side * out, person.mouth_y + 0.06))
        frown = (side * 0.07, eye - 0.3), (side * 0.055, eye - 0.12)
        crease(1.3 * old - 0.3 + 0.8 * look.frown, *frown, width=0.026)
        crease(1.8 * old - 0.6, (side * 0.44, person.mouth_y + 0.1), (side * 0.45, person.mouth_y + 0.25))
    for _ in range(int(rng.poisson(9 * max(0.0, old - 0.45)))):
        spot = ellipse(rng.uniform(-0.8, 0.8), rng.choice((rng.uniform(-1, -0.4), rng.uniform(0.3, 0.6))), 0.03, 0.024)
        pen.fill(spot, person.skin * (0.82, 0.74, 0.68))


def _nose_tip(person: Person, look: Expression) -> float:
    return person.eye_y + 0.44 - 0.13 * person.child + 0.05 * person.old - 0.05 * look.sneer


def _nose(pen: Pen, person: Person, look: Expression) -> None:
    tip = _nose_tip(person, look)
    half = (0.155 if person.female else 0.19) - 0.06 * person.child + 0.03 * person.old + 0.03 * look.sneer
    wings = curve((-half, tip - 0.06), (-half * 0.95, tip + 0.02), (-half * 0.4, tip + 0.02), (0, tip + 0.06),
                   (half * 0.4, tip + 0.02), (half * 0.95, tip + 0.02), (half, tip - 0.06))  # fmt: skip
    pen.line(wings, person.line, 0.03)
    for row in range(3):
        if look.sneer > 0.3:
            y = person.eye_y + 0.02 + 0.08 * row
            wide = 0.08 + 0.02 * row
            pen.line(curve((-wide, y + 0.03), (0, y - 0.02), (wide, y + 0.03)), person.line, 0.026)


def _mouth(pen: Pen, person: Person, look: Expression) -> None:
    """Lips around an opening whose profile goes from a lens to a box; teeth and tongue show through it."""
    width = look.mouth_width * (1 - 0.2 * person.child) * (1.04 if not person.female else 0.98)
    lens, box = 1 - _U**2, np.sqrt(1 - _U**4)
    profile = lens + np.clip(look.mouth_box, 0, 1) * (box - lens)
    middle = person.mouth_y - look.mouth_corner * (_U**2 - 0.4) - 0.09 * look.skew * _U - 0.03 * abs(look.sneer)
    upper = middle - look.mouth_up * profile * (1 + 0.8 * look.skew * _U)
    lower = np.maximum(upper, middle + look.mouth_down * profile)
    full = (0.085 if person.female else 0.055) * (1 - 0.45 * person.old) * (1 - 0.15 * person.child)
    bow = 1 - 0.3 * np.exp(-((_U / 0.16) ** 2))
    x = _U * width
    red = np.array([188, 62, 78]) if person.female and person.age > 13 else person.skin * (0.82, 0.6, 0.6)
    share = 0.62 if person.female and person.age > 13 else 0.8
    lips = person.skin * (1 - share) + red * share
    pen.fill(band(x, upper - full * lens * bow, lower + 1.15 * full * lens), lips)
    if look.mouth_up + look.mouth_down > 0.03:
        pen.fill(band(x, upper, lower), (72, 20, 26))
        gap = lower - upper
        if look.tongue > 0.3:
            pen.fill(ellipse(0, lower[12] + 0.02, width * 0.42, 0.12), (214, 104, 112))
            pen.line([(0, lower[12] - 0.04), (0, lower[12] + 0.08)], (176, 76, 86), 0.02)
        elif look.mouth_down > 0.12:
            pen.fill(band(x * 0.62, np.maximum(upper, lower - 0.3 * gap), lower)[2:-2], (190, 84, 92))
        if look.teeth > 0.1 and person.age >= 0.6:
            pen.fill(band(x * 0.94, upper, upper + np.clip(look.teeth, 0, 1) * gap * 0.97), (246, 242, 230))
        if look.teeth > 0.6 and look.mouth_box > 0.4:
            pen.line(trace(x, (upper + lower) / 2)[2:-2], (120, 96, 92), 0.018)
    else:
        pen.line(trace(x, (upper + lower) / 2), person.line * 0.8, 0.035)


def _beard(pen: Pen, rng: np.random.Generator, person: Person, look: Expression) -> None:
    """Stubble, moustache or full beard on two of three men, bent with the mouth so that a smile stays a smile."""
    draw = rng.random()
    if person.female or person.age < 17 or draw < 0.35:
        return
    rim = _outline(person, look, 0.02)
    below = rim[rim[:, 1] > person.eye_y + 0.1]
    below = below[np.argsort(below[:, 0])]
    mouth = person.mouth_y
    out = max(0.36, look.mouth_width) + 0.06
    drop = mouth + max(0.1, look.mouth_down + 0.08)
    edge, corner = person.width - 0.1, mouth - 0.04 - 0.7 * look.mouth_corner
    ring = curve((edge, person.eye_y + 0.15), (edge - 0.1, mouth - 0.22), (out + 0.02, corner), (out * 0.7, drop),
                 (0, drop + 0.05), (-out * 0.7, drop), (-out - 0.02, corner), (-edge + 0.1, mouth - 0.22),
                 (-edge, person.eye_y + 0.15)) + 0.8 * pen.turn  # fmt: skip
    lip = mouth + 0.4 * look.mouth_corner - look.mouth_up - 0.11
    tips = lip + 0.12 - 0.6 * look.mouth_corner
    moustache = curve((-out + 0.04, tips), (-0.2, lip - 0.035), (0, lip), (0.2, lip - 0.035), (out - 0.04, tips),
                      (0.15, lip + 0.055), (-0.15, lip + 0.055), closed=True)  # fmt: skip
    if draw < 0.65:
        shadow = 1 - rng.uniform(0.3, 0.5) * (1 - np.clip(person.hair * 0.6 / person.skin, 0, 1))
        pen.shade([(np.concatenate([below, ring]), shadow), (moustache, shadow)], 0.04, flat=True)
        return
    if draw > 0.74:
        pen.fill(np.concatenate([below, ring]), person.hair * 0.92, flat=True)
    pen.fill(moustache, person.hair * 0.84)


def _eyes(pen: Pen, rng: np.random.Generator, person: Person, look: Expression) -> None:
    gaze = np.clip(rng.normal(0, (0.13, 0.07)), -0.3, 0.3)
    half = person.eye_size
    tall = half * (0.52 + 0.12 * person.child - 0.08 * person.old)
    iris = half * (0.5 - 0.08 * max(0.0, look.lid_upper - 1.15))
    for side in (-1, 1):
        x = side * (person.eye_gap + _U * half)  # _U runs from the inner to the outer corner
        slant = -0.02 * _U * (1 if person.female else 0.3) + 0.05 * person.old * _U
        round_ = np.sqrt(1 - _U**2) * 0.6 + (1 - _U**2) * 0.4
        open_up = max(0.12, look.lid_upper) * (1 - look.lid_tilt * 0.5 * (0.35 - _U))
        upper = person.eye_y + slant - tall * np.maximum(0.05, open_up) * round_
        lower = person.eye_y + slant + tall * (1.2 * min(1.2, look.lid_lower) - 0.4) * round_
        lower = np.maximum(lower, upper + 0.04 * round_)
        pen.fill(band(x, upper, lower), (248, 246, 242))
        cx, cy = side * person.eye_gap + gaze[0] * half, person.eye_y + gaze[1] * half - 0.1 * tall
        ahead = slice(None, None, side)  # np.interp wants x to rise
        left, top, low = x[ahead], upper[ahead], lower[ahead]

        def clipped(shape, left=left, top=top, low=low):
            across = shape[:, 0]
            y = np.minimum(np.maximum(shape[:, 1], np.interp(across, left, top)), np.interp(across, left, low))
            return trace(across, y)

        pen.fill(clipped(ellipse(cx, cy, iris, iris)), person.iris * 0.62)
        pen.fill(clipped(ellipse(cx, cy + 0.01, iris * 0.8, iris * 0.8)), person.iris * 1.12 + 12)
        pen.fill(clipped(ellipse(cx, cy, iris * 0.46, iris * 0.46)), (18, 14, 16))
        pen.fill(clipped(ellipse(cx - iris * 0.35, cy - iris * 0.35, iris * 0.26, iris * 0.26)), (255, 255, 255))
        _lids(pen, person, side, x, upper, lower)
        if look.tear > 0.5 and side == (1 if gaze[0] > 0 else -1):
            drop_y = person.eye_y + 0.3 + 0.2 * look.tear
            drop = curve((x[12], drop_y - 0.16), (x[12] + 0.055, drop_y), (x[12], drop_y + 0.06),
                          (x[12] - 0.055, drop_y), closed=True)  # fmt: skip
            pen.fill(drop, np.minimum(255, person.skin * 0.4 + (130, 160, 180)))


def _lids(pen: Pen, person: Person, side: int, x: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> None:
    """The dark line along the upper lid, its fold, the lower rim, and lashes: long for women, hardly any for men."""
    dark = person.brow_colour * 0.45
    pen.line(trace(x, upper), dark, 0.055 if person.female else 0.036)
    pen.line(trace(x, lower)[3:], person.line, 0.02)
    crease = upper - 0.07 - 0.03 * person.old
    pen.line(trace(x, crease + 0.08 * person.old * np.maximum(0, _U))[4:-2], person.line, 0.02)
    if person.female:
        for place in (24, 21, 17):
            reach, root = 0.11 if person.age > 13 else 0.08, np.array([x[place], upper[place]])
            sweep = (side * (0.4 + 0.5 * _U[place]), 0.6 * _U[place] - 1.2)
            pen.line([root, np.add(root, np.multiply(sweep, reach))], dark, 0.03)


def _brows(pen: Pen, person: Person, look: Expression) -> None:
    thick = (0.055 if person.female else 0.1) * (1 - 0.5 * person.child) * (1 + 0.15 * person.old)
    y = person.eye_y - 0.31 - 0.04 * person.child + (0.0 if person.female else 0.03)
    colour = person.brow_colour * (1 - 0.45 * person.child) + person.skin * 0.45 * person.child
    for side in (-1, 1):
        inner = (side * (0.2 - look.brow_gather), y - look.brow_in)
        middle = (side * 0.45, y - 0.5 * (look.brow_in + look.brow_out) - look.brow_arch)
        outer = (side * 0.71, y + 0.04 - look.brow_out)
        along = curve(inner, middle, outer, steps=7)
        swell = thick * np.linspace(1.0, 0.25, len(along))
        pen.fill(band(along[:, 0], along[:, 1] - 0.6 * swell, along[:, 1] + 0.6 * swell), colour)


def _back_hair(pen: Pen, rng: np.random.Generator, person: Person) -> None:
    """What falls behind the face: its length and outline are the strongest sign of gender from afar."""
    colour, wave = person.hair * 0.78, rng.uniform(-0.08, 0.08)
    if person.style in ("long", "bob"):
        low = rng.uniform(1.5, 2.6) if person.style == "long" else rng.uniform(0.85, 1.15)
        wide = rng.uniform(1.16, 1.32)
        shape = curve((0, -1.56), (0.85, -1.3), (wide, -0.4), (wide + wave, 0.4), (wide + 0.04, low), (0.4, low + 0.05),
                       (-0.4, low + 0.05), (-wide - 0.04, low), (-wide - wave, 0.4), (-wide, -0.4), (-0.85, -1.3),
                       closed=True)  # fmt: skip
        pen.fill(shape, colour, flat=True)
    elif person.style == "bun":
        pen.fill(ellipse(rng.uniform(-0.15, 0.15), -1.55, 0.42, 0.36), colour, flat=True)
    elif person.style == "bald":
        for side in (-1, 1):
            pen.fill(ellipse(side * (person.width - 0.07), -0.2, 0.17, 0.42), person.hair, flat=True)


def _front_hair(pen: Pen, rng: np.random.Generator, person: Person) -> None:
    """Hair on the skull: a cap above the hairline, or fluff on babies."""
    line, wide, part = person.hairline, person.width, rng.uniform(-0.6, 0.6)
    lift = 0.17 if person.style in ("long", "bob", "bun") else rng.uniform(0.06, 0.2) * (1 - 0.5 * person.old)
    if person.style == "fluff":
        cap = ellipse(0, -1.05, 0.72, 0.34)
        thin = 1 - rng.uniform(0.35, 0.75) * (1 - np.clip(person.hair / person.skin, 0, 1))
        pen.shade([(cap, thin)], 0.1, flat=True)
        root = person.top + 0.04
        for sway in rng.normal(0, 0.1, 3):
            curl = curve((0.2 * sway, root), (sway, root - 0.12), (sway + 0.1, root - 0.14))
            pen.line(curl, person.hair, 0.035, flat=True)
        return
    if person.style == "bald":
        return
    top, edge = person.top - lift, person.eye_y - (0.05 if person.female else 0.2)
    temple = wide - 0.09 - 0.06 * person.old
    fringe = rng.random() < (0.35 if person.age < 45 else 0.1)
    front = max(line, -0.62) if fringe else line
    corner = max(top + 0.12, front - 0.12 - (0.0 if person.female else 0.12 * person.old))
    cap = curve((-wide - 0.08, edge), (-wide - 0.1, -0.6), (-0.7, top + 0.16), (0, top), (0.7, top + 0.16),
                 (wide + 0.1, -0.6), (wide + 0.08, edge), (temple, edge - 0.2), (0.62, corner + 0.1), (part, front),
                 (-0.62, corner + 0.1), (-temple, edge - 0.2), closed=True)  # fmt: skip
    pen.fill(cap, person.hair, flat=True)
    strands = 7 if line - top > 0.3 else 0
    for x in np.linspace(-0.75, 0.75, strands) + rng.normal(0, 0.05, strands):
        shade = person.hair * rng.uniform(0.7, 0.9) if rng.random() < 0.6 else np.minimum(255, person.hair * 1.15 + 14)
        start = (part * 0.6 + 0.3 * x, top + 0.08)
        pen.line(curve(start, (x * 1.05, (top + line) / 2), (x * 1.2, line - 0.02)), shade, 0.025, flat=True)
    if person.style == "long":
        _locks(pen, person, edge)


def _locks(pen: Pen, person: Person, edge: float) -> None:
    """Strands of long hair in front of the ears."""
    for side in (-1, 1):
        wide = person.width
        lock = curve((side * (wide - 0.12), edge - 0.4), (side * (wide + 0.16), edge - 0.3),
                     (side * (wide + 0.24), 0.9), (side * (wide + 0.05), 1.3), (side * (wide - 0.02), 0.5),
                     closed=True)  # fmt: skip
        pen.fill(lock, person.hair * 0.93, flat=True)


def _extras(pen: Pen, rng: np.random.Generator, person: Person) -> None:
    """Glasses (more often with age), earrings, and a bow for some little girls."""
    glasses, rings, bow = rng.random(3)
    if person.female and person.age > 5 and rings < 0.5:
        for side in (-1, 1):
            pen.fill(ellipse(side * (person.width + 0.06), person.eye_y + 0.47, 0.05, 0.06), (240, 205, 110), flat=True)
    if person.female and person.age < 9 and bow < 0.75:
        x, y, colour = 0.45 * np.sign(bow - 0.37), person.top + 0.12, rng.uniform((170, 40, 90), (250, 110, 190))
        for side in (-1, 1):
            pen.fill([(x, y), (x + side * 0.3, y - 0.17), (x + side * 0.3, y + 0.17)], colour, flat=True)
        pen.fill(ellipse(x, y, 0.09, 0.09), colour * 0.8, flat=True)
    if person.age > 6 and glasses < np.clip(0.05 + 0.006 * person.age, 0, 0.5):
        frame = rng.uniform(20, 110, 3)
        for side in (-1, 1):
            ring = ellipse(side * person.eye_gap, person.eye_y + 0.03, 0.31, 0.25)
            pen.line(np.concatenate([ring, ring[:1]]), frame, 0.035)
            pen.line([(side * 0.73, person.eye_y), (side * person.width, person.eye_y - 0.04)], frame, 0.035)
        pen.line(curve((-0.12, person.eye_y), (0, person.eye_y - 0.05), (0.12, person.eye_y)), frame, 0.035)
