"""Data tables of a scene: typed in or read from CSV, in SI, with every number checked."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physim.errors import InputError, nearest
from physim.scene.problems import Findings
from physim.scene.spec_measure import DataPart
from physim.scene.units import Dimension, UnitError, column_unit


@dataclass(frozen=True, eq=False)
class Table:
    """Measured columns.

    Attributes:
        name: name in the scene.
        columns: column names.
        dimensions: what each column measures.
        values: numbers in SI, NaN where a cell was left empty, (m, k) float64.
        source: where the numbers come from.
    """

    name: str
    columns: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    values: np.ndarray[Any, np.dtype[np.float64]]
    source: str | None = None

    def column(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """One column in SI, (m,).

        Raises:
            InputError: no such column.
        """
        return self.values[:, self.index(name)]

    def index(self, name: str) -> int:
        """Position of a column.

        Raises:
            InputError: no such column.
        """
        if name not in self.columns:
            raise InputError(f"the table '{self.name}' has no column '{name}'.{nearest(name, self.columns)}")
        return self.columns.index(name)


def read_table(name: str, part: DataPart, findings: Findings) -> Table | None:
    """The table of one `data` entry, or None with the problems noted."""
    scales, dimensions = [], []
    for column, unit in part.columns.items():
        try:
            scale, dimension = column_unit(unit)
            scales.append(scale)
            dimensions.append(dimension)
        except UnitError as error:
            findings.add(("data", name, "columns", column), f"{error}")
    if len(scales) < len(part.columns):
        return None
    columns = tuple(part.columns)
    if part.file is not None:
        try:
            raw = read_csv(Path(part.file), columns, part)
        except InputError as error:
            findings.add(("data", name, "file"), str(error))
            return None
    else:
        raw = _typed(name, part, findings)
        if raw is None:
            return None
    if len(raw) == 0:
        findings.add(("data", name), "the table is empty; it needs at least one row")
        return None
    return Table(name, columns, tuple(dimensions), raw * np.array(scales), part.source)


def _typed(name: str, part: DataPart, findings: Findings) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Rows typed into the scene, (m, k); None with the problems noted."""
    rows, width, sound = part.rows or (), len(part.columns), True
    for i, row in enumerate(rows):
        path = ("data", name, "rows", i)
        if len(row) != width:
            findings.add(path, f"expected {width} values ({', '.join(part.columns)}), got {len(row)}")
            sound = False
            continue
        for j, value in enumerate(row):
            if value is not None and not math.isfinite(value):
                findings.add((*path, j), f"{value} is not a finite number; leave a missing value empty (null)")
                sound = False
    if not sound:
        return None
    array = np.array([[math.nan if v is None else v for v in row] for row in rows], dtype=np.float64)
    return array.reshape(-1, width)


def read_csv(path: Path, columns: tuple[str, ...], part: DataPart) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The named columns of a CSV file with a header line, (m, k); empty cells become NaN.

    Raises:
        InputError: a column is missing, or a cell is not a finite number; says which line.
    """
    header: list[str] | None = None
    places: list[int] = []
    rows = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} cannot be read as text: {error}") from None
    lines = text.splitlines()[part.skip :]
    for number, line in enumerate(lines, start=1 + part.skip):
        if not line.strip() or (part.comment and line.startswith(part.comment)):
            continue
        cells = [c.strip() for c in next(csv.reader([line], delimiter=part.delimiter))]
        if header is None:
            header = cells
            places = [_find(c, header, path) for c in columns]
            continue
        rows.append([_cell(cells, i, f"{path.name}:{number}", c) for i, c in zip(places, columns, strict=True)])
    if header is None:
        raise InputError(f"{path.name} is empty: no header line")
    return np.array(rows, dtype=np.float64).reshape(-1, len(columns))


def _find(column: str, header: list[str], path: Path) -> int:
    if column not in header:
        raise InputError(f"{path.name} has no column '{column}'.{nearest(column, header)}")
    return header.index(column)


def _cell(cells: list[str], index: int, where: str, column: str) -> float:
    text = cells[index] if index < len(cells) else ""
    if text == "":
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: column '{column}': expected a number, got '{text}'") from None
    if not math.isfinite(value):
        raise InputError(f"{where}: column '{column}': '{text}' is not a finite number; leave missing cells empty")
    return value
