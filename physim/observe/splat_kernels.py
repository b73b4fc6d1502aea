"""Kernels that spread particles over pictures and gather pictures at particles; one source for CPU and GPU.

A particle at pixel u spreads the bell

    w(p) = (1 - |p - u|^2 / R^2)^3 for |p - u| < R, else 0,

which is close to a Gaussian of standard deviation R / sqrt(10) per axis, turns with the picture, needs no exponential,
and goes to zero with two derivatives at its rim. So the window of a particle (a square of 2 R pixels that holds the
bell) cuts nothing off: a Gaussian cut at 3 sigma jumps by 1 % when a pixel comes in, and its gradient is wrong by as
much.

Pictures lie in memory as (pictures, channels, height, stride); the columns from the width to the stride are room for
whole vector registers, and hold nothing of meaning. On a CPU a thread adds its particles one by one, in their order, to
the rows that it owns, so that the sums of a pixel have one order for any number of threads. On a GPU additions are
atomic, and the last bits may differ from run to run.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import warp as wp

from physim.numeric import Precision, kernel, real, rebind

LANES = 16
"""Pixels of a row that are worked on at once."""
CHANNELS, SLOPES = 1, 1
pixel: Any = None  # bound when a kernel is built, as is what `gather_bell` returns
sums: Any = None
add_bell: Any = None
gather_bell: Any = None
amplitudes: Any = None

_ROW = """
typedef {REAL} number;
#if defined(__CUDA_ARCH__)
typedef number row;
const int LANES = 1;
const row LANE = 0;
#define ADD(at, v) atomicAdd(at, v)
#define LOAD(at) *(at)
#define FOLD(v) (v)
#else
typedef number row __attribute__((vector_size({LANES} * sizeof(number)), aligned(sizeof(number))));
const int LANES = {LANES};
const row LANE = {{{NUMBERS}}};
#define ADD(at, v) *(row*)(at) += v
#define LOAD(at) *(const row*)(at)
#define EIGHT(v, i) __builtin_shufflevector(v, v, i, i + 1, i + 2, i + 3, i + 4, i + 5, i + 6, i + 7)
#define FOUR(v, i) __builtin_shufflevector(v, v, i, i + 1, i + 2, i + 3)
typedef number eight __attribute__((vector_size(8 * sizeof(number))));
typedef number four __attribute__((vector_size(4 * sizeof(number))));
auto fold = [](const row& v) -> number {{
    const eight e = EIGHT(v, 0) + EIGHT(v, 8);
    const four f = FOUR(e, 0) + FOUR(e, 4);
    return (f[0] + f[2]) + (f[1] + f[3]);
}};
#define FOLD(v) fold(v)
#endif
"""

# The pixels of the window that are in the picture and in the rows from low to high; written so that a position which
# is not a number has none.
_WINDOW = """
const number ux = ((const number*)&u)[0], uy = ((const number*)&u)[1];
if (!(ux + reach >= 0 && ux - reach <= width - 1 && uy + reach >= low && uy - reach <= high - 1)) return {NOTHING};
auto above = [](number a, int least) -> int {{
    if (a <= (number)least) return least;
    const int whole = (int)a;
    return whole + ((number)whole < a);
}};
auto below = [](number a, int most) -> int {{ return a >= (number)most ? most : (int)a; }};
const int left = above(ux - reach, 0), right = below(ux + reach, width - 1);
const int top = above(uy - reach, low), bottom = below(uy + reach, high - 1);
const number per = 1 / (reach * reach);
const long long plane = (long long)height * stride;
"""

_ADD = """
number* page = pictures.data + plane * {CHANNELS} * picture;
for (int x = left; x <= right; x += LANES) {{
    const row dx = LANE + ((number)x - ux);
    const row hx = 1 - dx * dx * per;
    for (int y = top; y <= bottom; ++y) {{
        const number dy = (number)y - uy;
        const row h = hx - dy * dy * per;
        const row in = h > 0 ? h : h * 0;
        const row w = in * in * in;
        number* at = page + (long long)y * stride + x;
        for (int c = 0; c < {CHANNELS}; ++c) ADD(at + c * plane, w * ((const number*)&a)[c]);
    }}
}}
"""

# With k = h^2 sum_c a_c P_c, the gradient of sum_c a_c sum_p w P_c is 6 / R^2 sum k d by the position, d = p - u, and
# 6 / R^3 sum k d^2 by R.
_GATHER = """
const number* page = pictures.data + plane * {CHANNELS} * picture;
row total[{CHANNELS}] = {{}};
#if {SLOPES}
row kx = {{}}, ky = {{}}, kd = {{}};
#endif
for (int x = left; x <= right; x += LANES) {{
    const row dx = LANE + ((number)x - ux);
    const row xx = dx * dx;
    const row hx = 1 - xx * per;
    for (int y = top; y <= bottom; ++y) {{
        const number dy = (number)y - uy;
        const row h = hx - dy * dy * per;
        const row in = h > 0 ? h : h * 0;
        const row w = in * in;
        const number* at = page + (long long)y * stride + x;
        row mixed = {{}};
        for (int c = 0; c < {CHANNELS}; ++c) {{
            const row v = w * LOAD(at + c * plane);
            total[c] += in * v;
            mixed += v * ((const number*)&a)[c];
        }}
#if {SLOPES}
        kx += mixed * dx;
        ky += mixed * dy;
        kd += mixed * (xx + dy * dy);
#endif
    }}
}}
wp::vec_t<{SIZE}, number> out;
for (int c = 0; c < {CHANNELS}; ++c) out.c[c] = FOLD(total[c]);
#if {SLOPES}
out.c[{CHANNELS}] = 6 * per * FOLD(kx);
out.c[{CHANNELS} + 1] = 6 * per * FOLD(ky);
out.c[{CHANNELS} + 2] = 6 * per / reach * FOLD(kd);
#endif
"""

_END = """
#undef ADD
#undef LOAD
#undef FOLD
#undef EIGHT
#undef FOUR
"""


def _add(
    u: pixel,
    reach: real,
    a: amplitudes,
    picture: int,
    low: int,
    high: int,
    width: int,
    height: int,
    stride: int,
    pictures: wp.array(dtype=real),
):
    """Add the bell of one particle, times an amplitude per channel, to the rows from `low` to `high` of a picture."""


def _sum(
    u: pixel,
    reach: real,
    a: amplitudes,
    picture: int,
    low: int,
    high: int,
    width: int,
    height: int,
    stride: int,
    pictures: wp.array(dtype=real),
):
    """Sums of the bell times each channel; with SLOPES also the gradient of their sum, weighted by `a`, by u and R."""
    return sums()


def scatter(
    u: wp.array(dtype=pixel),
    reach: wp.array(dtype=real),
    amplitude: wp.array(dtype=amplitudes),
    first: int,
    each: int,
    low: int,
    high: int,
    width: int,
    height: int,
    stride: int,
    pictures: wp.array(dtype=real),
):
    """Add particles to the rows from `low` to `high` of their pictures; each picture has `each` particles."""
    p = first + wp.tid()
    add_bell(u[p], reach[p], amplitude[p], p / each, low, high, width, height, stride, pictures)


def gather(
    u: wp.array(dtype=pixel),
    reach: wp.array(dtype=real),
    amplitude: wp.array(dtype=amplitudes),
    first: int,
    each: int,
    width: int,
    height: int,
    stride: int,
    pictures: wp.array(dtype=real),
    found: wp.array(dtype=sums),
):
    """Sums over pictures under the bells of particles, and with SLOPES the gradient of their sum by u and R."""
    p = first + wp.tid()
    found[p] = gather_bell(u[p], reach[p], amplitude[p], p / each, 0, height, width, height, stride, pictures)


@cache
def splat_kernels(precision: Precision, channels: int) -> dict[str, wp.Kernel]:
    """`scatter`, `gather` and `pull` (which gives slopes too) for pictures of some channels."""
    types = {"pixel": precision.vector(2), "amplitudes": precision.vector(channels)}
    words = {"REAL": "float" if precision.name == "f32" else "double", "CHANNELS": channels, "LANES": LANES}
    words["NUMBERS"] = ", ".join(map(str, range(LANES)))
    module = f"physim_splat_{channels}"
    text = (_ROW + _WINDOW + _ADD + _END).format(**words, NOTHING="")
    stub = rebind(_add, precision.names() | types, f"_{precision.name}_{channels}")
    made = {"scatter": wp.func_native(text)(stub)}
    built = {
        "scatter": kernel(scatter, precision, module=module, differentiable=False, add_bell=made["scatter"], **types)
    }
    for name, slopes in (("gather", 0), ("pull", 1)):
        size = channels + 3 * slopes
        bound = types | {"sums": precision.vector(size)}
        text = (_ROW + _WINDOW + _GATHER + _END + "return out;").format(**words, SLOPES=slopes, SIZE=size, NOTHING="{}")
        found = wp.func_native(text)(rebind(_sum, precision.names() | bound, f"_{name}_{precision.name}_{channels}"))
        source = rebind(gather, {}, "")
        source.__name__ = source.__qualname__ = name
        built[name] = kernel(source, precision, module=module, differentiable=False, gather_bell=found, **bound)
    return built
