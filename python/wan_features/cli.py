"""What the command lines have in common."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from wan_export.errors import Exit, ExportError

REQUIREMENTS = Path(__file__).parents[1] / "requirements-features.txt"


def require(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        hint = f"pip install -r {REQUIREMENTS}, or run it with `uv run`"
        raise ExportError(Exit.RUNTIME, f"these modules are missing: {', '.join(missing)}", hint)


def require_free(output: Path) -> None:
    if output.exists():
        raise ExportError(Exit.USAGE, f"{output} exists", "name another, or remove it")
    if not output.parent.is_dir():
        raise ExportError(Exit.FILES, f"{output.parent} does not exist")


@contextmanager
def beside(output: Path) -> Iterator[Path]:
    """A folder to make `output` in, which is gone in the end."""
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
