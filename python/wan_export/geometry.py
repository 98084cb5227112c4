"""Sizes of a video in pixels and in latents."""

from dataclasses import dataclass

from .errors import Exit, ExportError


@dataclass(frozen=True)
class VideoSize:
    """Frames, height and width, in pixels or in latents."""

    frames: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        return self.frames * self.height * self.width

    def __str__(self) -> str:
        return f"{self.frames} x {self.height} x {self.width}"


@dataclass(frozen=True)
class Scale:
    """What one latent, and one token of the transformer, stands for."""

    temporal: int
    spatial: int
    patch: tuple[int, int, int]

    def latents(self, video: VideoSize) -> VideoSize:
        """Raises ExportError where the VAE or the transformer cannot divide the video."""
        for side, value in vars(video).items():
            if value < 1:
                raise ExportError(Exit.USAGE, f"a {side} of {value} cannot be encoded", "give at least 1")
        if (video.frames - 1) % self.temporal:
            raise ExportError(
                Exit.USAGE, f"{video.frames} frames cannot be encoded", f"use a multiple of {self.temporal} plus 1"
            )
        for side, value, patch in (
            ("height", video.height, self.patch[1]),
            ("width", video.width, self.patch[2]),
        ):
            if value % (self.spatial * patch):
                hint = f"use a multiple of {self.spatial * patch}"
                raise ExportError(Exit.USAGE, f"a {side} of {value} cannot be encoded", hint)
        return VideoSize(
            (video.frames - 1) // self.temporal + 1, video.height // self.spatial, video.width // self.spatial
        )

    def pixels(self, latents: VideoSize) -> VideoSize:
        return VideoSize(
            (latents.frames - 1) * self.temporal + 1, latents.height * self.spatial, latents.width * self.spatial
        )
