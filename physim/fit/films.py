"""The fitted simulation beside the videos of a scene, and how well outlines overlap in frames fitted and held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from physim.errors import InputError, SimulationError
from physim.fit.problem import Problem
from physim.fit.scene_problem import SceneProblem
from physim.fit.stage import Stage
from physim.scene.film import Film, make_films


@dataclass(frozen=True)
class FilmScore:
    """Agreement of outlines in a video.

    Attributes:
        name: of the video.
        times: of its frames with a mask [s].
        held: which of them were not fitted.
        iou: intersection over union of simulation and mask in each [-].
        offset: distance of their outlines in each, on average [px of the masks].
    """

    name: str
    times: tuple[float, ...]
    held: tuple[bool, ...]
    iou: tuple[float, ...]
    offset: tuple[float, ...]

    def lines(self) -> list[str]:
        """A sentence for the fitted frames, and one for the others."""
        found = []
        for role, held in (("fitted frames", False), ("held-out frames", True)):
            rows = [i for i, out in enumerate(self.held) if out == held]
            if not rows:
                continue
            iou = [self.iou[i] for i in rows]
            worst = rows[int(np.argmin(iou))]
            span = f"{self.times[rows[0]]:.4g} to {self.times[rows[-1]]:.4g} s"
            offset = float(np.mean([self.offset[i] for i in rows]))
            found.append(
                f"{self.name}, {role} ({span}): intersection over union {np.mean(iou):.3f}, at worst "
                f"{self.iou[worst]:.3f} ({self.times[worst]:.4g} s); outline off by {offset:.1f} px"
            )
        return found


def film_score(film: Film) -> FilmScore | None:
    """The score of a film; None where no outline is compared."""
    rows = np.flatnonzero(np.isfinite(film.iou))
    if not len(rows):
        return None
    columns = (film.times, film.held, film.iou, film.offset)
    return FilmScore(film.name, *(tuple(c[rows].tolist()) for c in columns))  # type: ignore[arg-type]


def fitted_films(
    problem: Problem, stages: Sequence[Stage], raw: Tensor
) -> tuple[list[Film], tuple[FilmScore, ...], tuple[str, ...]]:
    """Every video of every recording beside its simulation at raw parameters, (p,).

    Args:
        problem: of the last stage.
        stages: they say which frames were fitted.
        raw: fitted raw parameters.

    Returns:
        the films, the scores of those with outlines, and a sentence for each recording that cannot be seen so.
    """
    if not isinstance(problem, SceneProblem) or not problem.scene.spec.videos:
        return [], (), ()
    films: list[Film] = []
    scores: list[FilmScore] = []
    notes: list[str] = []
    for recording in (*problem.recordings, *problem.held_recordings):
        windows = [
            (-math.inf if s.begin is None else s.begin, math.inf if s.end is None else s.end)
            for s in stages
            if recording in problem.recordings and (not s.recordings or recording in s.recordings)
        ]
        try:
            built, played = problem.rig(recording).watch(raw)
            found = make_films(built, played, windows, recording)
            scores += [s for s in map(film_score, found) if s is not None]
            films += found
        except (SimulationError, InputError) as error:
            # The fit is done; a prediction that leaves the picture must not lose it.
            notes.append(f"The videos{f' of {recording}' if recording else ''} are not compared with the fit: {error}")
    return films, tuple(scores), tuple(notes)
