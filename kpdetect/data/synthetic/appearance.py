"""Random appearance of synthetic faces: colours, hair, light and camera."""

from dataclasses import dataclass

import numpy as np

from kpdetect.data.synthetic.brush import Color

# Natural tones from light to dark; a face has a mixture of two neighbouring tones.
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
HAIR_COLOR_PROBABILITIES = (0.24, 0.22, 0.16, 0.11, 0.08, 0.05, 0.04, 0.06, 0.04)
IRIS_COLORS: tuple[Color, ...] = (
    (62, 40, 26),
    (92, 60, 34),
    (112, 100, 52),
    (92, 122, 92),
    (88, 128, 166),
    (112, 128, 140),
)
IRIS_COLOR_PROBABILITIES = (0.4, 0.22, 0.1, 0.08, 0.14, 0.06)
HAIR_STYLES = ("short", "fringe", "long", "curly", "receding", "bald")
HAIR_STYLE_PROBABILITIES = (0.34, 0.16, 0.26, 0.1, 0.08, 0.06)
BACKGROUNDS = ("plain", "blobs", "stripes", "shapes")


@dataclass(frozen=True)
class Appearance:
    """The appearance of a synthetic face, without its keypoints. Lengths are in eye distances, shares in [0, 1].

    Attributes:
        skin, hair, iris, lips, clothes: Colours (red, green, blue), 0 to 255.
        hair_style: One of `HAIR_STYLES`.
        hair_volume: Thickness of the hair outside the skull.
        hairline: Height of the hairline above the eyes.
        parting: Position of the parting, -1 to 1.
        brow_thickness: Thickness of the eyebrows.
        brow_strength: Opacity of the eyebrows.
        lash_strength: Darkness of the upper lid line.
        gaze_xy: Offset of the iris from the centre of the eye, in eye widths.
        beard, moustache: Density; 0 for none.
        glasses: 0 for none, 1 for a thin frame, 2 for a thick frame, 3 for sunglasses.
        neck_width: Relative to the width of the jaw at its corners.
        light_xy: Direction of the light source, positive to the right and down, relative to a distance of 1 towards the
            camera.
        ambient: Share of ambient light.
        shine: Strength of specular highlights on the skin.
        light_color: Red, green and blue factors of the light, each about 1.
        background: One of `BACKGROUNDS`.
        background_colors: The two main colours of the background.
        exposure, gamma, saturation: Factors and exponent of the camera; 1 changes nothing.
        blur: Standard deviation, relative to the side of the picture.
        noise: Standard deviation in grey levels of 255.
        texture_seed: Seed of the fine structure: strands, noise, shapes in the background.
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


def sample_appearance(seed: int, index: int) -> Appearance:
    """Samples the appearance of one face. The result depends on the arguments alone.

    The random stream is independent of that of the shape, so keypoints can be computed without an appearance.

    Args:
        seed: Random seed of the set, at least 0.
        index: Index of the face in the set, from 0.

    Example:
        >>> sample_appearance(seed=0, index=41) == sample_appearance(seed=0, index=41)
        True
    """
    random = np.random.default_rng((seed, index, 1))
    skin = _skin(random)
    hair = _sample_color(random, HAIR_COLORS, HAIR_COLOR_PROBABILITIES, spread=8)
    style = HAIR_STYLES[random.choice(len(HAIR_STYLES), p=HAIR_STYLE_PROBABILITIES)]
    bearded = style != "long" and random.random() < 0.3
    return Appearance(
        skin=skin,
        hair=hair,
        iris=_sample_color(random, IRIS_COLORS, IRIS_COLOR_PROBABILITIES, spread=10),
        lips=_lips(random, skin),
        clothes=_random_color(random),
        hair_style=style,
        hair_volume=_uniform(random, 0.06, 0.2) + (0.18 if style == "curly" else 0.0),
        hairline=_hairline(random, style),
        parting=_uniform(random, -1, 1),
        brow_thickness=_uniform(random, 0.045, 0.1),
        brow_strength=_uniform(random, 0.45, 0.95),
        lash_strength=_uniform(random, 0.45, 0.95),
        gaze_xy=(_uniform(random, -0.16, 0.16), _uniform(random, -0.05, 0.07)),
        beard=_uniform(random, 0.25, 0.9) if bearded else 0.0,
        moustache=_uniform(random, 0.3, 0.9) if bearded and random.random() < 0.75 else 0.0,
        glasses=int(random.choice(4, p=(0.84, 0.07, 0.06, 0.03))),
        neck_width=_uniform(random, 0.72, 0.95),
        light_xy=(_uniform(random, -0.9, 0.9), _uniform(random, -0.9, 0.15)),
        ambient=_uniform(random, 0.42, 0.75),
        shine=_uniform(random, 0.0, 0.16),
        light_color=_light_color(random),
        background=BACKGROUNDS[random.integers(len(BACKGROUNDS))],
        background_colors=(_random_color(random), _random_color(random)),
        exposure=_uniform(random, 0.72, 1.12),
        gamma=_uniform(random, 0.8, 1.25),
        saturation=_uniform(random, 0.55, 1.15),
        blur=0.01 * _uniform(random, 0, 1) ** 2,
        noise=_uniform(random, 0.5, 7.0),
        texture_seed=int(random.integers(2**31)),
    )


def _skin(random: np.random.Generator) -> Color:
    place = random.uniform(0, len(SKIN_TONES) - 1)
    low = int(place)
    return _mix(SKIN_TONES[low], SKIN_TONES[low + 1], place - low)


def _lips(random: np.random.Generator, skin: Color) -> Color:
    """A redder skin colour, or with a probability of 15 % a lipstick colour."""
    if random.random() < 0.15:
        return _mix((186, 24, 52), (150, 40, 90), random.random())
    return _mix((skin[0] * 0.84, skin[1] * 0.6, skin[2] * 0.6), (176, 82, 84), random.uniform(0, 0.6))


def _hairline(random: np.random.Generator, style: str) -> float:
    low, high = {"fringe": (0.3, 0.46), "receding": (0.95, 1.12)}.get(style, (0.58, 0.82))
    return _uniform(random, low, high)


def _light_color(random: np.random.Generator) -> Color:
    """A random white balance around neutral light."""
    warmth, tint = random.normal(0, (0.06, 0.02))
    return (float(1 + warmth), float(1 + tint), float(1 - warmth))


def _random_color(random: np.random.Generator) -> Color:
    """A random colour. Colours near grey are more frequent."""
    grey = random.uniform(15, 240)
    red, green, blue = np.clip(grey + random.normal(0, 38, 3), 5, 250)
    return (float(red), float(green), float(blue))


def _sample_color(
    random: np.random.Generator, colors: tuple[Color, ...], probabilities: tuple[float, ...], spread: float
) -> Color:
    chosen = colors[random.choice(len(colors), p=probabilities)]
    red, green, blue = np.clip(chosen + random.normal(0, spread, 3), 4, 245)
    return (float(red), float(green), float(blue))


def _mix(first: Color, second: Color, share: float) -> Color:
    """The mean of two colours, with weight `share` for the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return (float(red), float(green), float(blue))


def _uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(random.uniform(low, high))
