"""One line on stderr for every stage, with its time and the most memory it held."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")
SAMPLE_SECONDS = 0.02


@dataclass
class Memory:
    """Bytes. `anonymous` is what the process itself holds; `resident` has mapped files too, which can be dropped."""

    resident: int = 0
    anonymous: int = 0

    def raise_to(self, other: "Memory") -> None:
        self.resident = max(self.resident, other.resident)
        self.anonymous = max(self.anonymous, other.anonymous)

    def __str__(self) -> str:
        if not self.anonymous:
            return f"peak {self.resident / 1e6:,.0f} MB" if self.resident else "peak unknown"
        return f"peak {self.anonymous / 1e6:,.0f} MB anonymous, {self.resident / 1e6:,.0f} MB resident"


def memory_now() -> Memory:
    """Linux tells both figures; elsewhere the highest resident one since the start is all there is."""
    if STATUS.exists():
        fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        kilobytes = {key: int(fields[key].split()[0]) for key in ("VmRSS", "RssAnon")}
        return Memory(kilobytes["VmRSS"] * 1024, kilobytes["RssAnon"] * 1024)
    try:
        import resource
    except ImportError:
        return Memory()
    unit = 1 if sys.platform == "darwin" else 1024
    return Memory(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


class MemoryPeak:
    """Samples memory in a thread: the kernel keeps no high-water mark for anonymous pages."""

    def __init__(self) -> None:
        self.peak = memory_now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak.raise_to(memory_now())

    def stop(self) -> Memory:
        self._stop.set()
        self._thread.join()
        self.peak.raise_to(memory_now())
        return self.peak


class Stage:
    """What a stage has to say of its result."""

    note = ""


class Progress:
    def __init__(self) -> None:
        self.peak = Memory()
        self.started = time.perf_counter()

    @contextmanager
    def stage(self, label: str) -> Iterator[Stage]:
        stage, start, memory = Stage(), time.perf_counter(), MemoryPeak()
        try:
            yield stage
        finally:
            self.peak.raise_to(memory.stop())
        self.line(
            f"{label:<24} {time.perf_counter() - start:7.1f} s   {memory.peak}{stage.note and '   ' + stage.note}"
        )

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started
