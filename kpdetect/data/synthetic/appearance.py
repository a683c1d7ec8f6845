"""Owns what a drawn face looks like: colours, hair, light and camera, chosen here at random and painted elsewhere."""

from dataclasses import dataclass

import numpy as np

from kpdetect.data.synthetic.brush import Color

# Natural tones, light to dark; a face takes a mixture of two neighbours.
SKIN_TONES: tuple[Color, ...] = (
    (250, 221, 202),
    (240, 200, 175),
    (226, 180, 148),
    (205, 155, 120),
    (172, 122, 88),
    (130, 88, 62),
    (92, 60, 44),
)
HAIR_COLORS: tuple[Color, ...] = (
    (28, 24, 24),
    (48, 34, 27),
    (82, 55, 36),
    (122, 82, 48),
    (178, 136, 82),
    (214, 182, 124),
    (140, 62, 30),
    (128, 124, 122),
    (205, 202, 198),
)
HAIR_CHANCES = (0.24, 0.22, 0.16, 0.11, 0.08, 0.05, 0.04, 0.06, 0.04)
IRIS_COLORS: tuple[Color, ...] = (
    (62, 40, 26),
    (92, 60, 34),
    (112, 100, 52),
    (92, 122, 92),
    (88, 128, 166),
    (112, 128, 140),
)
IRIS_CHANCES = (0.4, 0.22, 0.1, 0.08, 0.14, 0.06)
HAIR_STYLES = ("short", "fringe", "long", "curly", "receding", "bald")
HAIR_STYLE_CHANCES = (0.34, 0.16, 0.26, 0.1, 0.08, 0.06)
BACKGROUNDS = ("plain", "blobs", "stripes", "shapes")


@dataclass(frozen=True)
class Look:
    """Everything about a picture but where its points are. Lengths are in eye distances, shares in [0, 1].

    Attributes:
        skin, hair, iris, lips, clothes: Colours.
        hair_style: One of `HAIR_STYLES`.
        hair_volume: How far the hair stands off the skull.
        hairline: How high the hair begins above the eyes.
        parting: Where the hair is parted, -1 to 1.
        brow_thickness: Of the eyebrows.
        brow_strength: How much of the hair's colour the eyebrows have.
        lash_strength: How dark the rim of the eyes is.
        gaze_xy: How far the iris stands off the middle of the eye, in eye widths.
        beard, moustache: How dense, 0 for none.
        glasses: 0 for none, 1 for a thin frame, 2 for a thick one, 3 for sunglasses.
        neck_width: Of the jaw's width at its corners.
        light_xy: Where the light comes from: right and down positive.
        ambient: The share of light without a direction.
        shine: How strong highlights on the skin are.
        light_color: The colour of the light, about 1 each.
        background: One of `BACKGROUNDS`, in `background_colors`.
        exposure, gamma, saturation: Of the camera.
        blur: Standard deviation in shares of the picture.
        noise: Standard deviation in grey levels.
        texture_seed: Seeds what is many numbers: strands, noise, the background's shapes.
    """

    skin: Color
    hair: Color
    iris: Color
    lips: Color
    clothes: Color
    hair_style: str
    hair_volume: float
    hairline: float
    parting: float
    brow_thickness: float
    brow_strength: float
    lash_strength: float
    gaze_xy: tuple[float, float]
    beard: float
    moustache: float
    glasses: int
    neck_width: float
    light_xy: tuple[float, float]
    ambient: float
    shine: float
    light_color: Color
    background: str
    background_colors: tuple[Color, Color]
    exposure: float
    gamma: float
    saturation: float
    blur: float
    noise: float
    texture_seed: int


def draw_look(seed: int, index: int) -> Look:
    """Draws the look of one face; its stream is not the one of its shape, so that points need no looks."""
    random = np.random.default_rng((seed, index, 1))
    skin = _skin(random)
    hair = _pick(random, HAIR_COLORS, HAIR_CHANCES, spread=8)
    style = HAIR_STYLES[random.choice(len(HAIR_STYLES), p=HAIR_STYLE_CHANCES)]
    bearded = style != "long" and random.random() < 0.3
    return Look(
        skin=skin,
        hair=hair,
        iris=_pick(random, IRIS_COLORS, IRIS_CHANCES, spread=10),
        lips=_lips(random, skin),
        clothes=_any_color(random),
        hair_style=style,
        hair_volume=_between(random, 0.06, 0.2) + (0.18 if style == "curly" else 0.0),
        hairline=_hairline(random, style),
        parting=_between(random, -1, 1),
        brow_thickness=_between(random, 0.045, 0.1),
        brow_strength=_between(random, 0.45, 0.95),
        lash_strength=_between(random, 0.45, 0.95),
        gaze_xy=(_between(random, -0.16, 0.16), _between(random, -0.05, 0.07)),
        beard=_between(random, 0.25, 0.9) if bearded else 0.0,
        moustache=_between(random, 0.3, 0.9) if bearded and random.random() < 0.75 else 0.0,
        glasses=int(random.choice(4, p=(0.84, 0.07, 0.06, 0.03))),
        neck_width=_between(random, 0.72, 0.95),
        light_xy=(_between(random, -0.9, 0.9), _between(random, -0.9, 0.15)),
        ambient=_between(random, 0.42, 0.75),
        shine=_between(random, 0.0, 0.16),
        light_color=_light_color(random),
        background=BACKGROUNDS[random.integers(len(BACKGROUNDS))],
        background_colors=(_any_color(random), _any_color(random)),
        exposure=_between(random, 0.72, 1.12),
        gamma=_between(random, 0.8, 1.25),
        saturation=_between(random, 0.55, 1.15),
        blur=0.01 * _between(random, 0, 1) ** 2,
        noise=_between(random, 0.5, 7.0),
        texture_seed=int(random.integers(2**31)),
    )


def _skin(random: np.random.Generator) -> Color:
    place = random.uniform(0, len(SKIN_TONES) - 1)
    low = int(place)
    return _mix(SKIN_TONES[low], SKIN_TONES[low + 1], place - low)


def _lips(random: np.random.Generator, skin: Color) -> Color:
    """The skin's colour, redder; now and then lipstick."""
    if random.random() < 0.15:
        return _mix((186, 24, 52), (150, 40, 90), random.random())
    return _mix((skin[0] * 0.84, skin[1] * 0.6, skin[2] * 0.6), (176, 82, 84), random.uniform(0, 0.6))


def _hairline(random: np.random.Generator, style: str) -> float:
    low, high = {"fringe": (0.3, 0.46), "receding": (0.95, 1.12)}.get(style, (0.58, 0.82))
    return _between(random, low, high)


def _light_color(random: np.random.Generator) -> Color:
    """Daylight to lamp light."""
    warmth, tint = random.normal(0, (0.06, 0.02))
    return (float(1 + warmth), float(1 + tint), float(1 - warmth))


def _any_color(random: np.random.Generator) -> Color:
    """Any colour; greyish ones are the commoner, as in rooms and streets."""
    grey = random.uniform(15, 240)
    red, green, blue = np.clip(grey + random.normal(0, 38, 3), 5, 250)
    return (float(red), float(green), float(blue))


def _pick(random: np.random.Generator, colors: tuple[Color, ...], chances: tuple[float, ...], spread: float) -> Color:
    chosen = colors[random.choice(len(colors), p=chances)]
    red, green, blue = np.clip(chosen + random.normal(0, spread, 3), 4, 245)
    return (float(red), float(green), float(blue))


def _mix(first: Color, second: Color, share: float) -> Color:
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return (float(red), float(green), float(blue))


def _between(random: np.random.Generator, low: float, high: float) -> float:
    return float(random.uniform(low, high))
