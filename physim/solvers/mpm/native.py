"""The loops over a particle's stencil in plain C++: `scatter`, `gather`, and the adjoint of both, `pull` and `rise`.

A node is four numbers, a vector and a scalar, and a stencil row is three neighbouring nodes along the row axis: one
vector register of 16 numbers, of which the last four have no weight. Written on whole rows, a transfer is 9 rows of a
few multiply-adds, two to three times as fast as the same loop over 27 nodes. On a GPU a row is a small array.

Axes are called a, b and r: rows run along r, and columns of nodes are numbered by (a, b). In two dimensions these
are x, z and y, and b has one layer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import warp as wp

from physim.numeric import Precision, mat33, real, rebind, vec3, vec4

SUMS: Any = None  # bound when a function is built: what it returns
PULLED: Any = None
AXES = {3: (0, 1, 2), 2: (0, 2, 1)}
"""Coordinates that a, b and r stand for."""

_ROW = """
typedef {REAL} number;
#if defined(__CUDA_ARCH__)
struct row {{
    number e[16];
    CUDA_CALLABLE row operator+(const row& o) const {{
        row s;
        for (int l = 0; l < 12; ++l) s.e[l] = e[l] + o.e[l];
        return s;
    }}
    CUDA_CALLABLE row operator*(const row& o) const {{
        row s;
        for (int l = 0; l < 12; ++l) s.e[l] = e[l] * o.e[l];
        return s;
    }}
    CUDA_CALLABLE row operator*(number f) const {{
        row s;
        for (int l = 0; l < 12; ++l) s.e[l] = e[l] * f;
        return s;
    }}
    CUDA_CALLABLE number operator[](int l) const {{ return e[l]; }}
}};
#define ADD(at, v) for (int l = 0; l < 12; ++l) atomicAdd((at) + l, (v).e[l])
struct row4 {{
    number e[4];
    CUDA_CALLABLE row4(const row& v) {{ for (int c = 0; c < 4; ++c) e[c] = v.e[c] + v.e[4 + c] + v.e[8 + c]; }}
    CUDA_CALLABLE number operator[](int c) const {{ return e[c]; }}
}};
#define FOLD(v) row4(v)
#define LOAD(at) loaded(at)
auto loaded = [](const number* at) {{
    row s;
    for (int l = 0; l < 12; ++l) s.e[l] = at[l];
    return s;
}};
#else
typedef number row __attribute__((vector_size(16 * sizeof(number)), aligned(sizeof(number))));
typedef number row4 __attribute__((vector_size(4 * sizeof(number))));
#define PART(v, i) __builtin_shufflevector(v, v, i, i + 1, i + 2, i + 3)
#define FOLD(v) (PART(v, 0) + PART(v, 4) + PART(v, 8))
#define ADD(at, v) *(row*)(at) += v
#define LOAD(at) *(const row*)(at)
#endif
"""

# Position in cells, first node, weights w, distances d [m] and slopes s [1/m] of the three nodes on each axis.
_STENCIL = """
const int A = {A}, B = {B}, R = {R}, NB = {NB};
const number dx = number(1) / per_dx;
number f[3];
int first[3];
number w[3][3], d[3][3], s[3][3];
for (int axis = 0; axis < 3; ++axis) {{
    const number at = (((const number*)&x)[axis] - ((const number*)&origin)[axis]) * per_dx;
    const number low = at - number(0.5);
    first[axis] = (int)low - (low < (number)(int)low);
    const number u = at - first[axis];
    w[axis][0] = number(0.5) * (number(1.5) - u) * (number(1.5) - u);
    w[axis][1] = number(0.75) - (u - 1) * (u - 1);
    w[axis][2] = number(0.5) * (u - number(0.5)) * (u - number(0.5));
    for (int i = 0; i < 3; ++i) d[axis][i] = (i - u) * dx;
    s[axis][0] = (u - number(1.5)) * per_dx;
    s[axis][1] = (2 - 2 * u) * per_dx;
    s[axis][2] = (u - number(0.5)) * per_dx;
}}
if (NB == 1) {{
    first[B] = 0;
    w[B][0] = 1;
    d[B][0] = s[B][0] = 0;
}}
auto along = [](const number* e) -> row {{
    return row{{e[0], e[0], e[0], e[0], e[1], e[1], e[1], e[1], e[2], e[2], e[2], e[2], 0, 0, 0, 0}};
}};
auto across = [](number e0, number e1, number e2, number e3) -> row {{
    return row{{e0, e1, e2, e3, e0, e1, e2, e3, e0, e1, e2, e3, 0, 0, 0, 0}};
}};
const row w_r = along(w[R]), d_r = along(d[R]);
const int* column = columns.data + (long long)first[A] * width + first[B] + place;
number* nodes = (number*)grid.data + 4 * (long long)first[R];
"""

_AFFINE = """
const number* M = (const number*)&K;
const row k_a = across(M[A], M[3 + A], M[6 + A], 0);
const row k_b = across(M[B], M[3 + B], M[6 + B], 0);
const row k_0 = across(q[0], q[1], q[2], m) + d_r * across(M[R], M[3 + R], M[6 + R], 0);
"""

_SCATTER = """
const row q_a = w_r * k_a, q_b = w_r * k_b, q_0 = w_r * k_0;
for (int i = 0; i < 3; ++i) {{
    const row q_i = q_0 + q_a * d[A][i];
    for (int j = 0; j < NB; ++j) {{
        number* at = nodes + 4 * (long long)column[i * width + j];
        const row part = (q_i + q_b * d[B][j]) * (w[A][i] * w[B][j]);
        ADD(at, part);
    }}
}}
"""

# Sums over r come last: the rows are weighted along r once, and their three nodes added up.
_ROWS = """
{BEGIN}
for (int i = 0; i < 3; ++i) {{
    row t = {{}}, u = {{}};{START}
    for (int j = 0; j < NB; ++j) {{
        const row v = LOAD(nodes + 4 * (long long)column[i * width + j]);
        t = t + v * w[B][j];
        u = u + v * (w[B][j] * d[B][j]);{INNER}
    }}{OUTER}
}}
"""
_SUMS = {
    "BEGIN": "row m_0 = {}, m_a = {}, m_b = {};",
    "OUTER": """
    m_0 = m_0 + t * w[A][i];
    m_a = m_a + t * (w[A][i] * d[A][i]);
    m_b = m_b + u * w[A][i];""",
}
_MOMENTS = """
m_0 = m_0 * w_r;
m_a = m_a * w_r;
m_b = m_b * w_r;
const row m_r = m_0 * d_r;
wp::mat_t<{ROWS}, 3, number> out;
const row4 f_0 = FOLD(m_0), f_a = FOLD(m_a), f_b = FOLD(m_b), f_r = FOLD(m_r);
for (int c = 0; c < 3; ++c) {{
    out.data[0][c] = f_0[c];
    out.data[1 + A][c] = f_a[c];
    out.data[1 + B][c] = f_b[c];
    out.data[1 + R][c] = f_r[c];
}}
"""

# The gradient of the weights needs, beside the sums t over w and u over w d along b, those over the slopes.
_RISE = {
    "BEGIN": "row h_a = {}, h_b = {}, h_r = {};",
    "START": " row e = {}, f = {};",
    "INNER": """
        e = e + v * s[B][j];
        f = f + v * (s[B][j] * d[B][j]);""",
    "OUTER": """
    const row k_i = k_0 + k_a * d[A][i];
    const row along_a = t * k_i + u * k_b;
    h_a = h_a + along_a * s[A][i];
    h_r = h_r + along_a * w[A][i];
    h_b = h_b + (e * k_i + f * k_b) * w[A][i];""",
}

_SLOPE = """
const row4 r_a = FOLD(h_a * w_r), r_b = FOLD(h_b * w_r), r_r = FOLD(h_r * along(s[R]));
number slope[3];
slope[A] = r_a[0] + r_a[1] + r_a[2] + r_a[3];
slope[B] = r_b[0] + r_b[1] + r_b[2] + r_b[3];
slope[R] = r_r[0] + r_r[1] + r_r[2] + r_r[3];
"""

_END = """
#undef PART
#undef FOLD
#undef ADD
#undef LOAD
"""


def scatter(
    x: vec3,
    q: vec3,
    K: mat33,
    m: real,
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    grid: wp.array(dtype=vec4),
):
    """Add w (q + K d, m) to each node of the stencil, d being the node's distance from the particle at `x` [m].

    `place` is that of node (0, 0, 0) in the table of columns.
    """


def gather(
    x: vec3,
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    grid: wp.array(dtype=vec4),
):
    """Sums over the nodes' vectors g: row 0 is sum w g, row 1 + e is sum w g d_e."""
    return SUMS()


def pull(
    x: vec3,
    q: vec3,
    K: mat33,
    m: real,
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    grid: wp.array(dtype=vec4),
):
    """As `gather`, and in row 4 the gradient by x of sum w (g . (q + K d) + g_3 m) at fixed d."""
    return PULLED()


def rise(
    x: vec3,
    q: vec3,
    K: mat33,
    m: real,
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    grid: wp.array(dtype=vec4),
):
    """Row 4 of `pull` alone."""
    return vec3()


@cache
def stencil_functions(precision: Precision, dim: int) -> dict[str, Any]:
    """`scatter`, `gather`, `pull` and `rise` as Warp functions."""
    a, b, r = AXES[dim]
    words = {"REAL": "float" if precision.name == "f32" else "double", "A": a, "B": b, "R": r}
    words |= {"NB": 3 if dim == 3 else 1}
    names = precision.names() | {"SUMS": precision.matrix(4, 3), "PULLED": precision.matrix(5, 3)}
    start = _ROW + _STENCIL
    none = {"BEGIN": "", "START": "", "INNER": "", "OUTER": ""}
    both = {key: _SUMS.get(key, "") + text for key, text in _RISE.items()}
    pulled = _SLOPE + "for (int c = 0; c < 3; ++c) out.data[4][c] = slope[c];"
    texts = {
        scatter: (start + _AFFINE + _SCATTER + _END, {}),
        gather: (start + _ROWS + _MOMENTS + _END + "return out;", none | _SUMS | {"ROWS": 4}),
        pull: (start + _AFFINE + _ROWS + _MOMENTS + pulled + _END + "return out;", both | {"ROWS": 5}),
        rise: (start + _AFFINE + _ROWS + _SLOPE + _END + "return {{slope[0], slope[1], slope[2]}};", _RISE),
    }
    made = {}
    for stub, (text, extra) in texts.items():
        named = rebind(stub, names, f"_{precision.name}_{dim}d")
        made[stub.__name__] = wp.func_native(text.format(**words, **extra))(named)
    return made
