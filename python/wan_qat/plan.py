"""wanq's plan file, and the module of WanTransformer3DModel that each of its linears is."""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wan_export.errors import Exit, ExportError

SCHEMA = 1
# Targets whose graphs hold UINT8 activations; all others take symmetric INT8.
UINT8_TARGETS = ("ort-cpu", "directml")
INT8 = ("int8", "int8-dynamic", "int8-weights")
MAKE_ONE = "`wanq quantize --dry-run --save-plan plan.json` writes one"

# By role as wanq names it; the rest of WanTransformer3DModel has no linears.
ROLES = (
    (r"blocks\.(\d+)\.(attn[12])\.(q|k|v)", r"blocks.\1.\2.to_\3"),
    (r"blocks\.(\d+)\.(attn[12])\.out", r"blocks.\1.\2.to_out.0"),
    (r"blocks\.(\d+)\.attn2\.add_([kv])", r"blocks.\1.attn2.add_\2_proj"),
    (r"blocks\.(\d+)\.ffn\.up", r"blocks.\1.ffn.net.0.proj"),
    (r"blocks\.(\d+)\.ffn\.down", r"blocks.\1.ffn.net.2"),
    (r"(time|text)_embedder\.([12])", r"condition_embedder.\1_embedder.linear_\2"),
    (r"time_proj", "condition_embedder.time_proj"),
    (r"proj_out", "proj_out"),
)


def module_of(role: str) -> str | None:
    """The name diffusers gives the linear of a role."""
    for pattern, name in ROLES:
        if match := re.fullmatch(pattern, role):
            return match.expand(name)
    return None


@dataclass
class Entry:
    """What one linear becomes. `low` and `high` are the range of its input, after smoothing."""

    key: str
    precision: str
    input: str | None
    smooth: float | None
    low: float | None
    high: float | None


@dataclass
class Plan:
    file: Path
    json: dict[str, Any]
    unsigned: bool
    entries: list[Entry] = field(default_factory=list)

    def with_ranges(self, ranges: dict[str, tuple[float, float]]) -> dict[str, Any]:
        """The plan file with other ranges."""
        linears = {key: dict(entry) for key, entry in self.json["linears"].items()}
        for key, (low, high) in ranges.items():
            linears[key] |= {"low": low, "high": high}
        return self.json | {"linears": linears}


def read_plan(file: Path) -> Plan:
    """Raises ExportError for a file that is no complete plan of this schema."""

    def invalid(why: str) -> ExportError:
        return ExportError(Exit.USAGE, f"{file}: {why}", MAKE_ONE)

    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise invalid("it is not JSON") from None
    if not isinstance(plan, dict) or not isinstance(plan.get("linears"), dict) or not plan["linears"]:
        raise invalid("it is no plan")
    if plan.get("schema") != SCHEMA:
        raise invalid(f"it has plan schema {plan.get('schema')!r}; this script reads {SCHEMA}")
    found = Plan(file, plan, unsigned=plan.get("target") in UINT8_TARGETS)
    for key, entry in plan["linears"].items():
        if not isinstance(entry, dict) or entry.get("precision") not in INT8:
            continue
        if module_of(key) is None:
            raise ExportError(Exit.USAGE, f"{file}: {key!r} is no linear of WanTransformer3DModel")
        smooth = entry.get("smooth", "none")
        range_ = [entry.get("low"), entry.get("high")]
        wants = range_ if entry["precision"] == "int8" else []
        if smooth == "auto" or any(not isinstance(end, int | float) or not math.isfinite(end) for end in wants):
            raise invalid(f"{key} leaves open how it is quantized")
        if wants and "input" not in entry:
            raise invalid(f"{key} does not say which value it reads")
        smooth = None if smooth == "none" else float(smooth)
        found.entries.append(Entry(key, entry["precision"], entry.get("input"), smooth, *range_))
    if not found.entries:
        raise invalid("it quantizes nothing")
    return found
