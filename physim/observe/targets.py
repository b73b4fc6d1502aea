"""Things of known size that a camera is calibrated by: ChArUco boards and single ArUco markers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from physim.errors import InputError, nearest

Image = np.ndarray[Any, np.dtype[np.uint8]]
Array = np.ndarray[Any, np.dtype[np.float64]]

# Fewer corners than this on a board say little about its pose, and often they are misread.
FEWEST = 6


@dataclass(frozen=True)
class Board:
    """A chessboard with a marker in each white square.

    Its axes: the origin in the lower left corner of the board, x to the right, y up along the board, z out of it.

    Attributes:
        columns: squares across.
        rows: squares down.
        square: side of a square [m].
        marker: side of a marker [m].
        dictionary: which markers, such as `4x4_50`.
        legacy: the pattern that OpenCV drew before 4.6: with an even number of rows it starts with a marker.

    Raises:
        InputError: no such board.
    """

    columns: int
    rows: int
    square: float
    marker: float
    dictionary: str = "4x4_50"
    legacy: bool = False

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 3:
            raise InputError(f"a board of {self.columns} x {self.rows} squares has too few corners; take 5x7 or more.")
        if not 0.0 < self.marker < self.square:
            told = f"markers of {1e3 * self.marker:g} mm in squares of {1e3 * self.square:g} mm"
            raise InputError(f"{told}: a marker is smaller than its square. Measure the printed board.")
        count, most = self.columns * self.rows // 2, len(_dictionary(self.dictionary).bytesList)
        if count > most:
            raise InputError(f"the board has {count} markers, and the dictionary {self.dictionary} only {most}.")

    def __str__(self) -> str:
        squares = f"{self.columns} x {self.rows} squares of {1e3 * self.square:g} mm"
        return f"ChArUco board of {squares}, markers of {1e3 * self.marker:g} mm from {self.dictionary}"

    @property
    def pattern(self) -> Any:
        """The board as OpenCV knows it."""
        import cv2

        size = (self.columns, self.rows)
        pattern = cv2.aruco.CharucoBoard(size, self.square, self.marker, _dictionary(self.dictionary))
        pattern.setLegacyPattern(self.legacy)
        return pattern

    def points(self) -> Array:
        """The inner corners by number along the board's axes [m], ((columns - 1) (rows - 1), 3)."""
        found = np.array(self.pattern.getChessboardCorners(), dtype=np.float64).reshape(-1, 3)
        return np.stack([found[:, 0], self.rows * self.square - found[:, 1], 0.0 * found[:, 2]], axis=1)


@dataclass(frozen=True)
class Marker:
    """A single marker. Its axes: the origin in its middle, x to the right, y up along it, z out of it.

    Attributes:
        side: of the black square [m].
        dictionary: which markers, such as `4x4_50`.
        number: which of them; any, where one is seen, unless given.
    """

    side: float
    dictionary: str = "4x4_50"
    number: int | None = None

    def __post_init__(self) -> None:
        if not self.side > 0.0:
            raise InputError(f"a marker must be larger than 0 m, got {self.side:g} m.")
        _dictionary(self.dictionary)

    def __str__(self) -> str:
        return f"ArUco marker of {1e3 * self.side:g} mm from {self.dictionary}"

    def points(self) -> Array:
        """The corners in the order of detection, clockwise from the upper left [m], (4, 3)."""
        half = 0.5 * self.side
        return np.array([[-half, half, 0.0], [half, half, 0.0], [half, -half, 0.0], [-half, -half, 0.0]])


@dataclass(frozen=True, eq=False)
class Sighting:
    """What of a target is seen in one picture.

    Attributes:
        name: of the picture.
        pixels: where the corners are, (m, 2).
        points: where they are along the target's axes [m], (m, 3).
        size: width and height of the picture [px].
        span: length of the axes to draw [m].
    """

    name: str
    pixels: Array
    points: Array
    size: tuple[int, int]
    span: float


def find_board(board: Board, picture: Image, name: str) -> Sighting | None:
    """The board in a picture, (h, w) or (h, w, 3) uint8; None where too little of it is seen."""
    import cv2

    corners, numbers, _, _ = cv2.aruco.CharucoDetector(board.pattern).detectBoard(grey(picture))
    if corners is None or numbers is None or len(numbers) < FEWEST:
        return None
    points = board.points()[np.asarray(numbers, dtype=np.int64).reshape(-1)]
    spread = np.linalg.svd(points[:, :2] - points[:, :2].mean(axis=0), compute_uv=False)
    if spread[1] < 0.5 * board.square:
        return None
    pixels = np.asarray(corners, dtype=np.float64).reshape(-1, 2)
    return Sighting(name, pixels, points, (picture.shape[1], picture.shape[0]), 2.0 * board.square)


def find_marker(marker: Marker, picture: Image, name: str) -> Sighting | None:
    """The marker in a picture, (h, w) or (h, w, 3) uint8, or None.

    Raises:
        InputError: several are seen, and none was chosen by number.
    """
    found = markers_in(picture, marker.dictionary)
    if marker.number is None and len(found) > 1:
        told = ", ".join(str(n) for n in sorted(found))
        raise InputError(f"{name}: the markers {told} are seen; choose one with --id.")
    number = marker.number if marker.number is not None else next(iter(found), None)
    if number not in found:
        return None
    return Sighting(name, found[number], marker.points(), (picture.shape[1], picture.shape[0]), marker.side)


def markers_in(picture: Image, dictionary: str) -> dict[int, Array]:
    """The corners, (4, 2) [px], of every marker in a picture, by number."""
    import cv2

    settings = cv2.aruco.DetectorParameters()
    settings.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    corners, numbers, _ = cv2.aruco.ArucoDetector(_dictionary(dictionary), settings).detectMarkers(grey(picture))
    if numbers is None:
        return {}
    listed = [int(n) for n in np.asarray(numbers).reshape(-1)]
    return {n: np.asarray(c, dtype=np.float64).reshape(4, 2) for n, c in zip(listed, corners, strict=True)}


def other_dictionaries(picture: Image, than: str) -> dict[str, int]:
    """How many markers of every other kind are seen in a picture, the most first; one dictionary of each kind."""
    kinds = [n for n in dictionaries() if n.endswith("_1000") or not n[0].isdigit()]
    kinds = [n for n in kinds if n.split("_")[0] != than.split("_")[0] or not n[0].isdigit()]
    counts = {name: len(markers_in(picture, name)) for name in kinds if name != than}
    return dict(sorted(((n, c) for n, c in counts.items() if c), key=lambda entry: -entry[1]))


def draw_board(board: Board, dots_per_metre: float) -> Image:
    """The board to print with a white margin of half a square, (h, w) uint8; a square is a whole number of dots."""
    side = round(board.square * dots_per_metre)
    if side < 24:
        raise InputError(f"a square of {side} dots is too coarse for its marker; take larger squares.")
    size = ((board.columns + 1) * side, (board.rows + 1) * side)
    return np.asarray(board.pattern.generateImage(size, marginSize=side // 2 + side % 2, borderBits=1), dtype=np.uint8)


def dictionaries() -> dict[str, int]:
    """OpenCV's numbers of the predefined dictionaries, by names such as `4x4_50`."""
    import cv2

    names = [n for n in dir(cv2.aruco) if n.startswith("DICT_") and n.upper() == n]
    return {n.removeprefix("DICT_").lower(): getattr(cv2.aruco, n) for n in names}


def read_board(text: str) -> tuple[int, int]:
    """Columns and rows of a board written as `5x7`.

    Raises:
        InputError: another form.
    """
    match = re.fullmatch(r"\s*(\d{1,3})\s*[xX]\s*(\d{1,3})\s*", text)
    if match is None:
        raise InputError(f"a board is told by its squares, across and down, such as 5x7; got '{text}'.")
    return int(match.group(1)), int(match.group(2))


def grey(picture: Image) -> Image:
    """A picture, (h, w), (h, w, 3) or (h, w, 4) uint8, in grey, (h, w)."""
    if picture.ndim == 2:
        return picture
    import cv2

    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture[:, :, :3]), cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _dictionary(name: str) -> Any:
    import cv2

    known = dictionaries()
    if name.lower() not in known:
        raise InputError(f"no dictionary of markers '{name}'.{nearest(name.lower(), known)}")
    return cv2.aruco.getPredefinedDictionary(known[name.lower()])
