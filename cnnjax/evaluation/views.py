"""The windows of an image that the papers test: where each lies, as plain numbers.

Sides and scales are given for a network that takes 224 pixels, as in the papers, and in proportion for others
(`cnnjax.data.pictures` has the same rule for training).
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from cnnjax.errors import UserError

Crops = Literal[1, 5, 10, 144, 150, "dense"]
"""How many windows of each image are tested; "dense" takes the whole image."""
CROPS = get_args(Crops)
SCALE = 256
"""The shorter side to which photographs are resized (Krizhevsky et al. 2012, section 2)."""
GOOGLENET_SCALES = 256, 288, 320, 352
"""Szegedy et al. 2014, section 7."""
VGG_SCALES = 256, 384, 512
"""Simonyan and Zisserman 2014, section 3.2 and table 5."""
SCALES: Mapping[Crops, Sequence[int]] = {144: GOOGLENET_SCALES, 150: VGG_SCALES}
"""Shorter sides that belong to a number of crops."""


class View(NamedTuple):
    """A window of a resized image, itself resized to what the network takes; everything in pixels.

    Attributes:
        resized: height and width that the image is resized to first.
        top, left, height, width: the window there.
        output: height and width of what the network sees.
        mirrored: whether left and right are exchanged at the end.
    """

    resized: tuple[int, int]
    top: int
    left: int
    height: int
    width: int
    output: tuple[int, int]
    mirrored: bool = False


def views(
    crops: Crops, height: int, width: int, side: int, scales: Sequence[int] | None = None
) -> tuple[View, ...]:
    """The windows of an image of `height` x `width` pixels for a network that takes `side` x `side`.

    Args:
        crops: 1, the centre; 5, the corners and the centre of the central square; 10, these and their mirror
            images (Krizhevsky et al. 2012, section 4.1); 144, GoogLeNet's (Szegedy et al. 2014, section 7);
            150, VGG's (Simonyan and Zisserman 2014, section 3.2); "dense", the whole image and its mirror
            image.
        height, width: of the image.
        side: what the network takes.
        scales: shorter sides, for a network that takes 224 pixels, to resize the image to first. By default
            the papers' for 144 and 150, and else the image stays as it is.

    Raises:
        UserError: an image is smaller than the window, or `crops` is none of these.
    """
    if crops not in CROPS:
        raise UserError(f"crops={crops!r}: must be one of {', '.join(map(str, CROPS))}")
    scales = scales or SCALES.get(crops)
    if scales:
        sizes = [_resized(height, width, in_proportion(scale, side)) for scale in scales]
    else:
        sizes = [(height, width)]
    return tuple(view for size in sizes for view in _of_scale(crops, size, side))


def in_proportion(scale: int, side: int) -> int:
    """The paper's `scale`, for 224 pixels, of a network that takes `side`."""
    return round(scale * side / 224)


def _resized(height: int, width: int, shorter: int) -> tuple[int, int]:
    """As `cnnjax.images.centre_square` resizes: the longer side is rounded down."""
    least = min(height, width)
    return int(shorter * height / least), int(shorter * width / least)


def _of_scale(crops: Crops, size: tuple[int, int], side: int) -> list[View]:
    height, width = size
    if min(size) < side:
        raise UserError(
            f"crops={crops}: an image of {height}x{width} is smaller than the window, {side}x{side}; give "
            "larger scales, more padding or a smaller side"
        )
    if crops == "dense":
        whole = View(size, 0, 0, height, width, size)
        return [whole, whole._replace(mirrored=True)]
    if crops == 144:
        return _googlenet(size, side)
    if crops == 150:
        steps = range(5)
        places = [(_part(height - side, i, 4), _part(width - side, j, 4)) for i in steps for j in steps]
        return _mirrored([_square(size, place, side, side) for place in places])
    if crops == 1:
        return [_square(size, (_centre(height, side), _centre(width, side)), side, side)]
    short = min(size)
    corner = _centre(height, short), _centre(width, short)
    five = [_square(size, place, side, side) for place in _corners_and_centre(corner, short, side)]
    return five if crops == 5 else _mirrored(five)


def _googlenet(size: tuple[int, int], side: int) -> list[View]:
    """Three squares along the longer side; of each the corners, the centre and itself, and these mirrored."""
    height, width = size
    short = min(size)
    along = [0, _centre(max(size), short), max(size) - short]
    found = []
    for offset in along:
        corner = (offset, 0) if height > width else (0, offset)
        found += [_square(size, place, side, side) for place in _corners_and_centre(corner, short, side)]
        found.append(_square(size, corner, short, side))
    return _mirrored(found)


def _corners_and_centre(corner: tuple[int, int], square: int, side: int) -> list[tuple[int, int]]:
    """Top and left of five windows in the square that starts at `corner`."""
    top, left = corner
    far, middle = square - side, _centre(square, side)
    offsets = (0, 0), (0, far), (far, 0), (far, far), (middle, middle)
    return [(top + down, left + across) for down, across in offsets]


def _square(size: tuple[int, int], place: tuple[int, int], square: int, side: int) -> View:
    return View(size, *place, square, square, (side, side))


def _mirrored(views: list[View]) -> list[View]:
    return [*views, *(view._replace(mirrored=True) for view in views)]


def _centre(length: int, window: int) -> int:
    return round((length - window) / 2)


def _part(length: int, number: int, of: int) -> int:
    return round(length * number / of)
