"""Pictures of the shipped scenes for the README: `python tools/gallery.py [SCENE ...]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
# Which moments of which scene tell its story, as shares of its duration, and what colours it.
GALLERY = {
    "jelly_drop": ((0.0, 0.35, 0.6), "speed"),
    "water_drop": ((0.0, 0.4, 1.0), "speed"),
    "sand_column": ((0.0, 0.4, 1.0), "speed"),
    "plasticine_press": ((0.0, 0.5, 1.0), "speed"),
    "multi_material": ((0.0, 0.5, 1.0), "body"),
    "dam_break": ((0.0, 0.5, 1.0), "speed"),
}


def draw(name: str, shares: tuple[float, ...], color: str) -> Path:
    """Run one scene and tile its moments into one picture."""
    import numpy as np
    from PIL import Image

    from physim.scene.loader import load_scene
    from physim.scene.run import run_scene
    from physim.view.render import stream_frames
    from physim.view.run_folder import read_run, stage_of

    with tempfile.TemporaryDirectory() as folder:
        result = run_scene(load_scene(name), folder)
        scene, recording = read_run(result.folder)
        last = len(result.times) - 1
        chosen = [round(s * last) for s in shares]
        images = stream_frames(
            recording, stage_of(scene, recording), color=color, frames=chosen, size=(640, 420), show_progress=False
        )
        wide = np.concatenate(list(images), axis=1)
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.jpg"
    Image.fromarray(wide[..., :3]).save(path, quality=80, optimize=True)
    return path


def main() -> None:
    """Draw the pictures named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", help="which scenes; all unless given")
    for name in parser.parse_args().scenes or list(GALLERY):
        sys.stdout.write(f"{draw(name, *GALLERY[name])}\n")


if __name__ == "__main__":
    main()
