"""The one error that users see, with wanq's exit codes."""

from enum import IntEnum


class Exit(IntEnum):
    """wanq's exit codes."""

    USAGE = 2
    MODEL = 3
    RUNTIME = 4
    FILES = 5
    INTERRUPTED = 130


class ExportError(Exception):
    """Says in one line what is wrong, and in `hint` what to do."""

    def __init__(self, code: Exit, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
