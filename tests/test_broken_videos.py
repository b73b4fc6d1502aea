"""Broken inputs of scenes with videos: one message each, with file, line, key, and the cure."""

from __future__ import annotations

import pytest

from tools.broken_inputs import told
from tools.broken_videos import CASES

EXPECTED = {
    "not a video": ("9: videos.clip.file: clip.mp4: cannot be read as a video", "expected an mp4"),
    # How much of the header is left decides which of two messages comes.
    "a video that was cut short": ("9: videos.clip.file: clip.mp4: ", " video", "may have been cut short"),
    "a video without frames": ("9: videos.clip.file: clip.mp4: no video", "a file that plays"),
    "a missing video": ("9: videos.clip.file: no such file: 'clib.mp4'", "Did you mean 'clip.mp4'?"),
    "a path out of the scene's folder": ("9: videos.clip.file: the path '../clip.mp4' leads out", "keep files beside"),
    "a folder of pictures without fps": ("9: videos.clip: pictures in a folder", "add `fps`, such as fps: 30"),
    "pictures of different sizes": ("9: videos.clip.", "frames/03.png is 50 x 50 pixels, and 00.png is 64 x 64"),
    "two frames at one time": ("9: videos.clip.file: clip.mkv: frames 2 and 3 are both at 0.04 s", "add `fps`"),
    "begin after the end of the video": ("9: videos.clip.file: clip.mp4: no frame from begin 9 s", "from 0 to 0.14 s"),
    "an empty window": ("9: videos.clip: the window from 0.1 s to 0.05 s is empty",),
    "misspelt camera": ("9: videos.clip.camera: no camera 'sied'", "Did you mean 'side'?"),
    "misspelt video": ("16: observe.seen.video: no video 'clib'", "Did you mean 'clip'?"),
    "misspelt body": ("16: observe.seen.body: no body 'blok'", "Did you mean 'block'?"),
    "misspelt kind": ("16: observe.seen: got 'siluette'", "Did you mean 'silhouette'?"),
    "camera that looks away": ("7: cameras.side: 512 of 512 points are behind the camera", "world to camera"),
    "mask empty in one frame": ("9: videos.clip.mask: 1 of 8 frames show no body and are left out, at 0.06 s", "draw"),
    "mask empty in all frames": ("9: videos.clip.mask: masks: the masks of all 8 frames are empty", "Draw them anew"),
    "mask of another size": ("9: videos.clip.mask: masks.npz: masks of 64 x 40 pixels", "may be smaller"),
    "masks of another video": ("9: videos.clip.mask: masks.npz: 5 frames, and the video has 8", "one for every frame"),
    "masks with equal times": ("9: videos.clip.mask: masks.npz", "frames 1 and 2 are both at 0.02 s; leave"),
    "a body that does not move, without a background": ("9: videos.clip.mask: clip.mp4: no frame", "give a picture"),
    "mesh in millimetres read as metres": ("13: bodies.block.shape", "80 x 80 x 80 m", "Try scale 0.001"),
    "mesh in metres read as millimetres": ("13: bodies.block.shape.mesh.scale: the body is smaller", "such as 1 mm"),
    "tracks outside the picture": ("16: observe.seen.file: tracks.npz: 40 of 40", "lie outside the picture of 64 x 64"),
    "tracks beside the body": ("16: observe.seen: 0 of 5 tracked points lie on the body", "check the camera"),
    "tracks of another video": ("16: observe.seen.file: tracks.npz: 20 frames, and the video has 8", "for every frame"),
    "tracks of another video, with times": ("16: observe.seen.file: tracks.npz: 20 frames from 0", "physim track"),
    "tracks that are NaN everywhere": ("16: observe.seen.file: tracks.npz: no point is seen in any frame",),
    "tracks with pickled objects": ("16: observe.seen.file: tracks.npz: holds what is no plain array", "numpy.savez"),
    "misspelt file of tracks": ("16: observe.seen.file: no such file: 'track.npz'", "Did you mean 'tracks.npz'?"),
    "depth in millimetres": ("16: observe.seen.file: depth.npz: the median depth is 1000 m", "Write `unit: mm`"),
    "depth in centimetres": ("16: observe.seen.unit: the body is 0.395 m away", "36 m", "such as `unit: mm`"),
    "depth with a unit of no length": ("16: observe.seen.file: depth.npz: unit 'kg' is no length", "write mm, m"),
    "a cloud in millimetres": ("16: observe.seen.file: cloud.npz: half of the points", "divide the points by 1000"),
    "a cloud without times": ("16: observe.seen.file: cloud.npz: no array `times` in it, only points",),
    "an unknown delay": ("19: fit.parameters.videos.clib.delay", "Did you mean 'videos.clip.delay'?"),
}


def test_every_case_is_expected() -> None:
    assert set(CASES) == set(EXPECTED)


@pytest.mark.parametrize("case", CASES)
def test_the_message_says_where_and_what_to_do(case: str) -> None:
    spoken, text = told(CASES[case])
    assert spoken and text.startswith("clip.yaml:") and "\n" not in text
    for words in EXPECTED[case]:
        assert words in text, text
