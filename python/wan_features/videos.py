"""Clips of one size out of a folder of videos or of NumPy arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.nn import functional

from wan_export.errors import Exit, ExportError

Frame = TypeVar("Frame")
VIDEOS = {".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".gif"}


@dataclass(frozen=True)
class ClipSize:
    frames: int
    height: int
    width: int
    # None takes frames as they come.
    fps: float | None


def find_files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in VIDEOS | {".npy"})
    if not files:
        raise ExportError(Exit.FILES, f"{folder} has no videos", f"there are to be {', '.join(sorted(VIDEOS))} or .npy")
    return files


def clips_of(file: Path, size: ClipSize, most: int) -> Iterator[np.ndarray]:
    """Up to `most` clips of each video, one after the other, uint8 [frames, height, width, 3]; short ones have none."""
    for frames in _videos(file, size.fps):
        yield from islice(_chunks((_fit(frame, size) for frame in frames), size.frames), most)


def _videos(file: Path, fps: float | None) -> Iterator[Iterator[np.ndarray]]:
    if file.suffix.lower() != ".npy":
        yield _decoded(file, fps)
        return
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ExportError(Exit.FILES, f"{file} is no NumPy array: {error}") from error
    if values.dtype != np.uint8 or values.ndim not in (4, 5) or values.shape[-1] != 3:
        message = f"{file} is {values.dtype} {list(values.shape)}"
        raise ExportError(Exit.FILES, message, "it has to be uint8 [frames, height, width, 3], or several of them")
    yield from (iter(video) for video in (values if values.ndim == 5 else [values]))


def _decoded(file: Path, fps: float | None) -> Iterator[np.ndarray]:
    import av

    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = ((float(frame.time or 0), frame) for frame in container.decode(stream))
            for frame in (frame for _, frame in frames) if fps is None else _at_rate(frames, fps):
                yield frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, IndexError) as error:
        raise ExportError(Exit.FILES, f"{file} cannot be decoded: {error}") from error


def _at_rate(frames: Iterator[tuple[float, Frame]], fps: float) -> Iterator[Frame]:
    """The frame that is shown at every 1 / fps of a second after the first."""
    first = next(frames, None)
    if first is None:
        return
    start, shown = first
    tick = 0
    latest = start
    for latest, frame in frames:
        while start + tick / fps < latest - 1e-6:
            yield shown
            tick += 1
        shown = frame
    while start + tick / fps <= latest + 1e-6:
        yield shown
        tick += 1


def _chunks(frames: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    while len(clip := list(islice(frames, length))) == length:
        yield np.stack(clip)


def _fit(frame: np.ndarray, size: ClipSize) -> np.ndarray:
    """The middle of the frame in the wanted aspect ratio, scaled with antialiasing."""
    height, width, _ = frame.shape
    if (height, width) == (size.height, size.width):
        return frame
    scale = min(height / size.height, width / size.width)
    cut_height, cut_width = (max(1, round(side * scale)) for side in (size.height, size.width))
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    cut = torch.from_numpy(np.ascontiguousarray(frame[top : top + cut_height, left : left + cut_width]))
    pixels = cut.permute(2, 0, 1)[None].float()
    scaled = functional.interpolate(pixels, (size.height, size.width), mode="bilinear", antialias=True)
    return scaled[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
