"""Where scenes, materials and data files may lie.

A path inside a file starts at that file's folder and stays in it. A path typed on the command line may lie anywhere;
it starts at the working directory or, where nothing is there, at the scene's folder.
"""

from __future__ import annotations

from pathlib import Path

from physim.errors import InputError, nearest
from physim.scene.document import Where

SCENES = "scenes"
MATERIALS = "materials"


def shipped_folder(kind: str) -> Path:
    """The folder of shipped scenes or materials: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "shipped" / kind, package.parent / kind):
        if folder.is_dir():
            return folder
    raise InputError(f"the shipped {kind} are missing from this installation; reinstall physim.")


def shipped_names(kind: str) -> list[str]:
    """Names of the shipped scenes or materials, without `.yaml`; `neural/jelly` for one in a folder of its own."""
    return sorted(shipped_files(kind))


def shipped_files(kind: str) -> dict[str, Path]:
    """The shipped scenes or materials by name."""
    folder = shipped_folder(kind)
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in folder.rglob("*.yaml")}


def find_scene(name: str | Path) -> Path:
    """The scene file that a user means: a path, or the name of a shipped scene.

    Raises:
        InputError: there is none; the message lists what is close.
    """
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{path}: expected a scene file, got a folder.")
    if path.exists():
        return path
    names = shipped_names(SCENES)
    if path.name == str(name) or path.parts[:1] == (SCENES,):
        if path.stem in names:
            return shipped_folder(SCENES) / f"{path.stem}.yaml"
        raise InputError(f"{name}: no such file or shipped scene.{nearest(path.stem, names)}")
    raise InputError(f"{name}: no such file. Shipped scenes: {', '.join(names)}.")


def resolve(text: str, where: Where, *, folder: bool = False) -> Path:
    """An existing file, or folder, named by `text`, which was written at `where`.

    Raises:
        InputError: absolute or leading out of the folder where that is not allowed, or missing.
    """
    if where.typed or where.folder is None:
        given = Path(text).expanduser()
        path = given.resolve()
        if not path.exists() and not given.is_absolute() and where.folder is not None:
            beside = (where.folder / given).resolve()
            path = beside if beside.exists() else path
    else:
        path = _inside(text, where.folder)
    if path.is_dir() and not folder:
        raise InputError(f"expected a file, but '{text}' is a folder")
    if path.is_file() and folder:
        raise InputError(f"expected a folder, but '{text}' is a file")
    if not path.exists():
        parent = path.parent
        beside = [p.name for p in parent.iterdir() if p.is_dir() == folder] if parent.is_dir() else []
        hint = nearest(path.name, beside)
        kind = "folder" if folder else "file"
        raise InputError(f"no such {kind}: '{text}' (looked in {parent}){hint if 'Did you' in hint else ''}")
    return path


def _inside(text: str, folder: Path) -> Path:
    """The file named by `text` in a file that lies in `folder`."""
    given = Path(text)
    if given.is_absolute() or ".." in given.parts or text.startswith("~"):
        raise InputError(
            f"the path '{text}' leads out of the scene's folder; keep files beside the scene, or name it on the "
            "command line, where any path is allowed"
        )
    path = (folder / given).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"the path '{text}' is a link that leads out of the scene's folder")
    return path


def find_material(name: str, where: Where) -> Path:
    """The material file that `include: name` means: `*.yaml` is a path, anything else a shipped material.

    Raises:
        InputError: there is none.
    """
    if name.endswith((".yaml", ".yml")):
        return resolve(name, where)
    files = shipped_files(MATERIALS)
    if name in files:
        return files[name]
    raise InputError(
        f"no shipped material '{name}'.{nearest(name, sorted(files))} A file beside the scene is written with .yaml"
    )
