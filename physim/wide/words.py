"""The mathematics of vectors in C++: what compilers have for one number, and not for sixteen.

Sums are Taylor's, with as many terms as the precision asks for, after a reduction to where they are short: e^r for
|r| <= ln(2)/2, log m = 2 atanh((m - 1)/(m + 1)) for m within sqrt(1/2)..sqrt(2), sin and cos for |r| <= pi/4. Results
are within about two units in the last place. NaN, infinities, zeros and negative numbers give what C's functions give.
"""

from __future__ import annotations

import math
from fractions import Fraction

from physim.numeric import Precision

LANES = {"f32": 16, "f64": 8}
"""Particles in a vector: 64 bytes, one register where registers are that wide."""

START = """
typedef {REAL} number;
constexpr int LANES = {LANES};
typedef number vec __attribute__((vector_size({LANES} * sizeof(number))));
typedef decltype(vec{{}} < vec{{}}) lanes;
auto splat = [](number a) -> vec {{ return vec{{}} + a; }};
auto any = [](lanes m) -> bool {{ return __builtin_reduce_or(m) != 0; }};
auto first_lanes = [](int count) -> lanes {{
    lanes found;
    for (int l = 0; l < LANES; ++l) found[l] = l < count ? -1 : 0;
    return found;
}};
auto total = [](vec a) -> number {{
    number sum = 0;
    for (int l = 0; l < LANES; ++l) sum += a[l];
    return sum;
}};
auto load = [](const number* p, long long stride, int left) -> vec {{
    vec a;
    for (int l = 0; l < LANES; ++l) a[l] = p[stride * (l < left ? l : left - 1)];
    return a;
}};
auto store = [](number* p, long long stride, int left, vec a) {{
    for (int l = 0; l < LANES && l < left; ++l) p[stride * l] = a[l];
}};
auto add = [](number* p, long long stride, int left, vec a) {{
    for (int l = 0; l < LANES && l < left; ++l) p[stride * l] += a[l];
}};
"""

_SIMPLE = {
    "sqrt": "auto sqrt_ = [](vec a) -> vec { return __builtin_elementwise_sqrt(a); };",
    "abs": "auto abs_ = [](vec a) -> vec { return __builtin_elementwise_abs(a); };",
    # As in C, what is not NaN wins.
    "picked_max": "auto picked_max_ = [](vec a, vec b) -> lanes { return (a > b) | ((b != b) & (a == a)); };",
    "picked_min": "auto picked_min_ = [](vec a, vec b) -> lanes { return (a < b) | ((b != b) & (a == a)); };",
    "max": "auto max_ = [](vec a, vec b) -> vec { return ((a > b) | (b != b)) ? a : b; };",
    "min": "auto min_ = [](vec a, vec b) -> vec { return ((a < b) | (b != b)) ? a : b; };",
}

# 2^n in two factors, of which each is a normal number where the product is a subnormal one, or infinite.
_EXP = """
auto exp_{T} = [&]({VEC} x) -> {VEC} {{
    x = x > {HIGH} ? {VEC}{{}} + {HIGH} : x;
    x = x < {LOW} ? {VEC}{{}} + {LOW} : x;
    const {VEC} n = __builtin_elementwise_rint(x * {PER_LN2});
    const {VEC} r = (x - n * {LN2_HIGH}) - n * {LN2_LOW};
    const {VEC} q = {EXP};
    const {INT} whole = __builtin_convertvector(n == n ? n : {VEC}{{}}, {INT}), half = whole >> 1;
    return q * ({VEC})((half + {BIAS}) << {SHIFT}) * ({VEC})((whole - half + {BIAS}) << {SHIFT});
}};
"""

# x = 2^n m; f = m - 1 is exact, and so is the first term of f - s (f - 2 rest) = 2 s + 2 s rest.
_SPLIT = """
    const {INT} low = x < {NORMAL};
    const {INT} bits = ({INT})(low ? x * {LIFT} : x) - {ROOT};
    const {VEC} n = __builtin_convertvector(bits >> {SHIFT}, {VEC}) - (low ? {VEC}{{}} + {LIFTED} : {VEC}{{}});
    const {VEC} m = ({VEC})((bits & {FRACTION}) + {ROOT});
    const {VEC} f = m - {ONE}, t = m + {ONE}, s = f / t, z = s * s;
"""
_LOG = (
    """
auto log_{T} = [&]({VEC} x) -> {VEC} {{"""
    + _SPLIT
    + """
    const {VEC} rest = z * ({LOG});
    const {VEC} found = n * {LN2_HIGH} + (f - (s * (f - 2 * rest) - n * {LN2_LOW}));
    const {VEC} none = {VEC}{{}} + ({N})__builtin_nan(""), most = {VEC}{{}} + ({N})__builtin_inf();
    const {VEC} positive = x < most ? found : x;
    return x > {VEC}{{}} ? positive : x == {VEC}{{}} ? -most : x < {VEC}{{}} ? none : x;
}};
"""
)

_POWER = """
auto pow_{T} = [&]({VEC} base, {VEC} y) -> {VEC} {{
    const {VEC} x = __builtin_elementwise_abs(base), one = {VEC}{{}} + {ONE}, most = {VEC}{{}} + ({N})__builtin_inf();
    const {INT} regular = (x > {VEC}{{}}) & (x < most);"""
_SIGNS = """
    const {VEC} half = y * ({N})0.5;
    const {INT} odd = (__builtin_elementwise_rint(half) != half) & (__builtin_elementwise_rint(y) == y);
    // A negative zero counts as negative.
    const {INT} negative = ({INT})base < {INT}{{}};
    const {INT} senseless = regular & (base < {VEC}{{}}) & (__builtin_elementwise_rint(y) != y);
    const {VEC} found = senseless ? {VEC}{{}} + ({N})__builtin_nan("") : negative & odd ? -size : size;
    return (y == {VEC}{{}}) | (base == one) | ((base == -one) & (__builtin_elementwise_abs(y) == most)) ? one : found;
}};
"""
_POW_ROUNDED = (
    _POWER
    + """
    const {VEC} size = exp_{T}(y * log_{T}(x));"""
    + _SIGNS
)
# log x as a sum of two numbers, because pow multiplies its error by y log x.
_POW = (
    _POWER
    + """
    auto fma = []({VEC} a, {VEC} b, {VEC} c) -> {VEC} {{ return __builtin_elementwise_fma(a, b, c); }};"""
    + _SPLIT
    + """
    const {VEC} s_low = (fma(-s, t, f) - s * (m - (t - {ONE}))) / t;
    const {VEC} z_low = fma(s, s, -z) + 2 * s * s_low;
    const {VEC} u = z * {THIRD};
    const {VEC} u_low = fma(z, {VEC}{{}} + {THIRD}, -u) + z * {THIRD_LOW} + z_low * {THIRD} + z * z * ({FIFTH});
    const {VEC} w = one + u, w_low = u - (w - one) + u_low;
    const {VEC} p = s * w, p_low = fma(s, w, -p) + s * w_low + s_low * w;
    const {VEC} a = n * {LN2_HIGH}, b = 2 * p, sum = a + b, back = sum - a;
    const {VEC} left = (a - (sum - back)) + (b - back) + 2 * p_low + n * {LN2_LOW};
    const {VEC} high = sum + left, rest = left - (high - sum);
    const {VEC} log = regular ? high : x == {VEC}{{}} ? -most : x;
    const {VEC} e = y * log;
    const {INT} finite = regular & (__builtin_elementwise_abs(e) < {VEC}{{}} + 1000);
    const {VEC} e_low = finite ? fma(y, log, -e) + y * rest : {VEC}{{}};
    const {VEC} size = exp_{T}(e) * (one + e_low);"""
    + _SIGNS
)

# pi/2 in three parts, of which multiples up to a million are exact; beyond them, number by number.
_TURNS = """
auto turned_{T} = [&]({VEC} x, int quarter) -> {VEC} {{
    const {VEC} n = __builtin_elementwise_rint(x * {PER_TURN});
    const {VEC} r = ((x - n * {TURN_1}) - n * {TURN_2}) - n * {TURN_3}, z = r * r;
    const {VEC} sine = r + r * z * {SIN}, cosine = {COS};
    const {INT} near = __builtin_elementwise_abs(x) < {VEC}{{}} + 1000000;
    const {INT} k = __builtin_convertvector(near ? n : {VEC}{{}}, {INT}) + quarter;
    const {VEC} size = (k & 1) != 0 ? cosine : sine;
    {VEC} found = (k & 2) != 0 ? -size : size;
    if (__builtin_reduce_and(near) == 0)
        for (int l = 0; l < LANES; ++l)
            if (!near[l]) found[l] = quarter ? ::cos(x[l]) : ::sin(x[l]);
    return found;
}};
"""
_SIN = "auto sin_{T} = [&]({VEC} x) -> {VEC} {{ return turned_{T}(x, 0); }};\n"
_COS = "auto cos_{T} = [&]({VEC} x) -> {VEC} {{ return turned_{T}(x, 1); }};\n"

# tanh x = x - x q near zero, with q = 1 - sinh(x)/(x cosh(x)), and 1 - q elsewhere, with q = 2/(e^2x + 1).
_TANH = """
auto tanh_{T} = [&]({VEC} x) -> {VEC} {{
    const {VEC} a = __builtin_elementwise_abs(x), z = x * x, e = exp_{T}(2 * a);
    const {INT} near = a < {VEC}{{}} + {NEAR};
    const {VEC} q = (near ? z * {LESS} : {VEC}{{}} + 2) / (near ? {COSH} : e + {ONE});
    const {VEC} size = near ? a - a * q : {ONE} - q;
    return x < {VEC}{{}} ? -size : size;
}};
"""
_NEAR = 0.6

_NEEDS = {"pow": ("exp",), "rounded_pow": ("exp", "log"), "tanh": ("exp",), "sin": ("turned",), "cos": ("turned",)}
_TEXTS = {
    "exp": _EXP,
    "log": _LOG,
    "pow": _POW,
    "rounded_pow": _POW_ROUNDED,
    "turned": _TURNS,
    "sin": _SIN,
    "cos": _COS,
    "tanh": _TANH,
}
_DOUBLE = ("pow", "sin", "cos")
"""In single precision these are computed on double numbers, where rounding does not matter."""
_ROUNDED = 34
"""Digits that they then need: ten more than they keep."""

_LN2 = Fraction("0.693147180559945309417232121458176568075500134360255254120680009")
_HALF_PI = Fraction("1.570796326794896619231321691639751442098584699687552910487472296")


def maths(precision: Precision, ops: set[str]) -> str:
    """Definitions of those operations that compilers do not have for vectors."""
    text: list[str] = []
    single = precision.name == "f32"
    text += [_SIMPLE[op] for op in sorted(ops & _SIMPLE.keys())]
    doubles = {op for op in ops & _TEXTS.keys() if single and op in _DOUBLE}
    if doubles:
        text.append("typedef double vec_double __attribute__((vector_size(LANES * sizeof(double))));")
        defined = {"rounded_pow" if op == "pow" else op for op in doubles}
        text += _defined(defined, _words(False, "double", "vec_double", _ROUNDED))
        for op in sorted(doubles):
            names = ("a", "b")[: 2 if op == "pow" else 1]
            given = ", ".join(f"vec {n}" for n in names)
            passed = ", ".join(f"__builtin_convertvector({n}, vec_double)" for n in names)
            body = f"return __builtin_convertvector({op}_double({passed}), vec);"
            text.append(f"auto {op}_ = [&]({given}) -> vec {{ {body} }};")
    text += _defined(ops & _TEXTS.keys() - doubles, _words(single, "", "vec"))
    return "\n".join(text)


def _defined(ops: set[str], words: dict[str, str]) -> list[str]:
    wanted = set(ops)
    for op in ops:
        wanted |= set(_NEEDS.get(op, ()))
    head = f"typedef decltype({words['VEC']}{{}} < {words['VEC']}{{}}) {words['INT']};"
    return [head, *(text.format(**words) for op, text in _TEXTS.items() if op in wanted)] if wanted else []


def _words(single: bool, suffix: str, vec: str, good: int | None = None) -> dict[str, str]:
    """What the texts above leave open, for one precision, with sums to `good` digits (all unless given)."""
    digits, bias, least = (23, 127, -126) if single else (52, 1023, -1022)
    good = digits if good is None else good
    kind = "float" if single else "double"

    def number(value: Fraction | float) -> str:
        return f"({kind}){float(value)!r}"

    def parts(value: Fraction, bits: int, count: int) -> list[Fraction]:
        # All but the last have that many bits after the point, so that small multiples are exact.
        found = []
        for i in range(1, count):
            found.append(Fraction(math.floor(value * 2 ** (bits * i)), 2 ** (bits * i)))
            value -= found[-1]
        return [*found, value]

    def series(x: str, terms: list[Fraction]) -> str:
        text = number(terms[-1])
        for term in reversed(terms[:-1]):
            text = f"({number(term)} + {x} * {text})"
        return text

    def powers(largest: float, first: int, step: int, sign: int = 1) -> list[Fraction]:
        # 1/k! as far as the terms count.
        terms, k = [], first
        while largest**k / math.factorial(k) > 2.0 ** -(good + 5) * largest**first:
            terms.append(Fraction(sign ** len(terms), math.factorial(k)))
            k += step
        return terms

    def odd(first: int) -> list[Fraction]:
        square = (math.sqrt(2.0) - 1.0) ** 4  # ((m - 1)/(m + 1))^2 at m = sqrt(2)
        count = next(k for k in range(1, 30) if square ** (k + 1) / (2 * k + 3) < 2.0 ** -(good + 4))
        return [Fraction(1, 2 * k + 1) for k in range(first, count + 1)]

    ln2, turn = parts(_LN2, 15 if single else 32, 2), parts(_HALF_PI, 30, 3)
    sinh, cosh = powers(_NEAR, 1, 2), powers(_NEAR, 0, 2)
    third = Fraction(float(Fraction(1, 3)))
    root = 0x3F3504F3 if single else 0x3FE6A09E667F3BCD
    return {
        "T": suffix,
        "VEC": vec,
        "INT": f"lanes_{suffix}" if suffix else "lanes",
        "N": kind,
        "ONE": number(1),
        "HIGH": number(89 if single else 710),
        "LOW": number(-104 if single else -746),
        "PER_LN2": number(1 / _LN2),
        "LN2_HIGH": number(ln2[0]),
        "LN2_LOW": number(ln2[1]),
        "EXP": series("r", powers(0.5 * math.log(2.0), 0, 1)),
        "LOG": series("z", odd(1)),
        "FIFTH": series("z", odd(2)),
        "THIRD": number(third),
        "THIRD_LOW": number(Fraction(1, 3) - third),
        "BIAS": str(bias),
        "SHIFT": str(digits),
        "NORMAL": number(2.0**least),
        "LIFT": number(2.0 ** (digits + 2)),
        "LIFTED": number(digits + 2),
        "ROOT": hex(root) + ("" if single else "ll"),
        "FRACTION": hex(2**digits - 1) + ("" if single else "ll"),
        "PER_TURN": number(1 / _HALF_PI),
        **{f"TURN_{i}": number(part) for i, part in enumerate(turn, start=1)},
        "SIN": series("z", powers(math.pi / 4, 1, 2, -1)[1:]),
        "COS": series("z", powers(math.pi / 4, 0, 2, -1)),
        "NEAR": number(_NEAR),
        "LESS": series("z", [c - s for c, s in zip(cosh[1:], sinh[1:], strict=False)]),
        "COSH": series("z", cosh),
    }
