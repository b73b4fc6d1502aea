"""Matrices of many particles, one after the other in memory, into nine vectors and back: `load9`, `store9`, `add9`.

Nine registers hold the matrices of a vector's particles. At place p register q has column (L q + p) mod 9, L being the
number of lanes; in another order of the registers that is column (k + p) mod 9, so that turning the registers by p,
place by place, brings each column into a register of its own. A turn by p is four blends (by 1, 2, 4 and 8), and
what is left is one permutation of each register. That is 45 instructions for 9 L numbers; gathering takes five times
as long.
"""

from __future__ import annotations

from functools import cache

_COLUMNS = 9


@cache
def nine(lanes: int) -> str:
    """Definitions for vectors of so many lanes."""
    inverse = pow(lanes, -1, _COLUMNS)
    registers = [inverse * k % _COLUMNS for k in range(_COLUMNS)]
    names = [f"a{c}" for c in range(_COLUMNS)]
    load, blended = _turned([f"at[{q}]" for q in registers], lanes, -1)
    for c, name in enumerate(names):
        places = [(_COLUMNS * lane + c) % lanes for lane in range(lanes)]
        load.append(f"{name} = __builtin_shufflevector({blended[c]}, {blended[c]}, {_list(places)});")
    back = pow(_COLUMNS, -1, lanes)
    store = []
    for c, name in enumerate(names):
        places = [back * (p - c) % lanes for p in range(lanes)]
        store.append(f"const vec b{c} = __builtin_shufflevector({name}, {name}, {_list(places)});")
    turns, blended = _turned([f"b{c}" for c in range(_COLUMNS)], lanes, 1)
    store += turns
    outs = sorted(zip(registers, blended, strict=True))
    given = ", ".join(f"vec {n}" for n in names)
    return _TEXT.format(
        refs=", ".join(f"vec& {n}" for n in names),
        load="\n    ".join(load),
        given=given,
        store="\n    ".join(store),
        put="\n    ".join(f"at[{q}] = {text};" for q, text in outs),
        more="\n    ".join(f"at[{q}] += {text};" for q, text in outs),
    )


def _turned(names: list[str], lanes: int, way: int) -> tuple[list[str], list[str]]:
    """Lines that move what is at place p by p registers, up or down, and where it is then."""
    lines = []
    bit = 1
    while bit < min(lanes, _COLUMNS):
        # Numbers of the second operand follow those of the first.
        places = [p + lanes if (p % _COLUMNS) & bit else p for p in range(lanes)]
        for k in range(_COLUMNS):
            other = names[(k + way * bit) % _COLUMNS]
            lines.append(f"const vec t{bit}_{k} = __builtin_shufflevector({names[k]}, {other}, {_list(places)});")
        names = [f"t{bit}_{k}" for k in range(_COLUMNS)]
        bit *= 2
    return lines, names


def _list(places: list[int]) -> str:
    return ", ".join(map(str, places))


_TEXT = """
typedef vec loose __attribute__((aligned(sizeof(number))));
auto load9 = [](const number* p, int left, {refs}) {{
    vec padded[9];
    if (left < LANES) {{
        number* q = (number*)padded;
        for (int i = 0; i < 9 * LANES; ++i) q[i] = p[i < 9 * left ? i : 9 * (left - 1) + i % 9];
        p = q;
    }}
    const loose* at = (const loose*)p;
    {load}
}};
auto store9 = [](number* p, int left, {given}) {{
    {store}
    vec padded[9];
    loose* at = left < LANES ? (loose*)padded : (loose*)p;
    {put}
    if (left < LANES)
        for (int i = 0; i < 9 * left; ++i) p[i] = ((number*)padded)[i];
}};
auto add9 = [](number* p, int left, {given}) {{
    {store}
    vec padded[9] = {{}};
    loose* at = left < LANES ? (loose*)padded : (loose*)p;
    {more}
    if (left < LANES)
        for (int i = 0; i < 9 * left; ++i) p[i] += ((number*)padded)[i];
}};
"""
