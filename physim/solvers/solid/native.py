"""The two inner loops of the solid in plain C++, laid out so that the compiler turns them into vector code.

Both work on one element. `gather_block` sums field_i (x) grad N_i over the stencil for eight particles at a time, one
per lane. `spread_block`, its transpose, keeps the stencil's rows in lanes and adds up the particles in registers.
They are four to eight times as fast as the same loops written particle by particle.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import warp as wp

from physim.numeric import Precision, mat33, real, rebind, vec3
from physim.solvers.solid.stencil import Stencil

# Particles per lane block, and values kept for each: three weights and three slopes per stencil axis.
LANES = 8
_VALUES = 18
# Rows are padded to a full vector: nine in 3D, three in 2D.
_ROWS = {3: (9, 16), 1: (3, 4)}
# Column of the deformation gradient that the middle and the last stencil axis make; in 2D the middle one is idle z.
_COLUMNS = {3: (1, 2), 1: (2, 1)}

_GATHER = """
typedef {REAL} number;
const number* f = (const number*)field.data;
const int* row = rows.data + (long long)e * {ROWS};
const number* W = lanes.data + (long long)block * {VALUES} * {LANES};
number sum[9][{LANES}] = {{}};
for (int a = 0; a < 3; ++a)
    for (int b = 0; b < {LAYERS}; ++b) {{
        const number* u = f + 3 * row[a * {LAYERS} + b];
        for (int c = 0; c < 3; ++c) {{
            const number u0 = u[c], u1 = u[3 + c], u2 = u[6 + c];
            for (int l = 0; l < {LANES}; ++l) {{
                const number* w = W + l;
                const number value = u0 * w[12 * {LANES}] + u1 * w[13 * {LANES}] + u2 * w[14 * {LANES}];
                const number slope = u0 * w[15 * {LANES}] + u1 * w[16 * {LANES}] + u2 * w[17 * {LANES}];
                const number na = w[a * {LANES}], da = w[(3 + a) * {LANES}];
                const number nb = w[(6 + b) * {LANES}], db = w[(9 + b) * {LANES}];
                sum[3 * c][l] += value * (da * nb);
                sum[3 * c + {MIDDLE}][l] += value * (na * db);
                sum[3 * c + {LAST}][l] += slope * (na * nb);
            }}
        }}
    }}
number* o = (number*)out.data + 9 * (long long)start;
for (int l = 0; l < count; ++l)
    for (int i = 0; i < 9; ++i) o[9 * l + i] = sum[i][l] + (i % 4 == 0 ? unit : number(0));
"""

_SPREAD = """
typedef {REAL} number;
number sum[9][{PADDED}] = {{}};
for (int l = 0; l < count; ++l) {{
    const number* P = (const number*)stress.data + 9 * (long long)(start + l);
    const number* w = row_weights.data + (long long)(start + l) * {STRIDE};
    const number* z = w + 3 * {PADDED};
    for (int c = 0; c < 3; ++c)
        for (int r = 0; r < {PADDED}; ++r) {{
            const number value = P[3 * c] * w[r] + P[3 * c + {MIDDLE}] * w[{PADDED} + r];
            const number slope = P[3 * c + {LAST}] * w[2 * {PADDED} + r];
            for (int k = 0; k < 3; ++k) sum[3 * k + c][r] += value * z[k] + slope * z[3 + k];
        }}
}}
number* o = (number*)out.data + (long long)e * {ROWS} * 9;
for (int r = 0; r < {ROWS}; ++r)
    for (int i = 0; i < 9; ++i) o[9 * r + i] = sum[i][r];
"""


def _gather(
    field: wp.array(dtype=vec3),
    rows: wp.array2d(dtype=wp.int32),
    lanes: wp.array(dtype=real),
    e: int,
    block: int,
    start: int,
    count: int,
    unit: real,
    out: wp.array(dtype=mat33),
): ...


def _spread(
    stress: wp.array(dtype=mat33),
    row_weights: wp.array(dtype=real),
    e: int,
    start: int,
    count: int,
    out: wp.array2d(dtype=vec3),
): ...


@cache
def native_functions(precision: Precision, layers: int) -> dict[str, Any]:
    """`gather_block` and `spread_block` as Warp functions."""
    rows, padded = _ROWS[layers]
    middle, last = _COLUMNS[layers]
    words = {
        "REAL": "float" if precision.name == "f32" else "double",
        "LAYERS": layers,
        "ROWS": rows,
        "PADDED": padded,
    }
    words |= {"MIDDLE": middle, "LAST": last, "LANES": LANES, "VALUES": _VALUES, "STRIDE": 3 * padded + 6}
    suffix = f"_{precision.name}_{layers}"

    def build(code: str, stub: Any) -> Any:
        return wp.func_native(code.format(**words))(rebind(stub, precision.names(), suffix))

    return {"gather_block": build(_GATHER, _gather), "spread_block": build(_SPREAD, _spread)}


def lane_weights(stencil: Stencil) -> tuple[np.ndarray, np.ndarray]:
    """Weights of each block of eight particles, one per lane, and the first block of each element.

    Returns:
        weights (blocks * 18 * 8,), zero in unused lanes; offsets (e + 1,).
    """
    counts = np.diff(stencil.first)
    blocks = np.concatenate([[0], np.cumsum(-(-counts // LANES))])
    place = np.arange(len(stencil.order)) - stencil.first[stencil.element]
    packed = np.zeros((blocks[-1], _VALUES, LANES))
    packed[blocks[stencil.element] + place // LANES, :, place % LANES] = stencil.weights
    return packed.reshape(-1), blocks.astype(np.int32)


def row_weights(stencil: Stencil) -> np.ndarray:
    """Per particle, for each padded row the weights of the three columns, then weights and slopes along the row."""
    rows, padded = _ROWS[stencil.layers]
    w = stencil.weights
    na, da, nb, db = w[:, 0:3], w[:, 3:6], w[:, 6 : 6 + stencil.layers], w[:, 9 : 9 + stencil.layers]
    out = np.zeros((len(w), 3 * padded + 6))
    for place, (a, b) in enumerate(((da, nb), (na, db), (na, nb))):
        out[:, place * padded : place * padded + rows] = (a[:, :, None] * b[:, None, :]).reshape(len(w), rows)
    out[:, 3 * padded :] = w[:, 12:18]
    return out.reshape(-1)
