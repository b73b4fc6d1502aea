"""A room may import only rooms below it, and a solver never another solver."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "physim"
LAYERS = {
    "__main__": 9,
    "cli": 8,
    "cli_video": 7,
    "fit": 6, "plan": 6, "envs": 6, "view": 6,
    "scene": 5, "speed": 5,
    "solvers": 4, "observe": 4,
    "sim": 3,
    "laws": 2, "shapes": 2,
    "tensor": 1,
    "numeric": 0, "bridge": 0, "launch": 0, "wide": 0, "crew": 0, "parallel": 0, "trees": 0, "errors": 0, "checks": 0,
    "terminal": 0,
}  # fmt: skip
# Files of one layer that may be imported by others of that layer: the words everything else is written in.
GROUND = {"errors", "checks", "numeric", "launch", "trees"}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[tuple[str, ...]]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{a.name}" for a in node.names]
        found |= {tuple(n.split(".")[1:]) for n in names if n.startswith("physim.") and n != "physim.__version__"}
    return found


def test_imports_point_down() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        mine = room(path)
        if mine == "__init__":
            continue
        for target in imports(path):
            other = target[0]
            assert other in LAYERS, f"{path}: unknown room {other}; give it a layer here and in the docs"
            if other == mine or (LAYERS[other] == LAYERS[mine] == 0 and other in GROUND):
                continue
            if LAYERS[other] >= LAYERS[mine]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {'.'.join(target)}")
    assert not wrong, "imports must point down:\n" + "\n".join(wrong)


def test_solvers_do_not_know_each_other() -> None:
    for path in (PACKAGE / "solvers").rglob("*.py"):
        mine = path.relative_to(PACKAGE / "solvers").parts[0]
        others = {t[1] for t in imports(path) if t[0] == "solvers" and len(t) > 1}
        assert others <= {mine}, f"{path} imports another solver: {others - {mine}}"


def test_every_file_keeps_to_one_purpose() -> None:
    long = {
        str(p.relative_to(PACKAGE)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long, f"files past 400 lines: {long}"
