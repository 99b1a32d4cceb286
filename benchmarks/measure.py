"""What all benchmarks share: interleaved timing, kernel counts, tables and JSON.

Absolute times mean nothing on shared machines. Contenders of one case are compiled
first and then run round-robin, so that what disturbs one disturbs all; what counts is
the ratio of medians.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mazejax import setup

setup.configure(cache=False)  # a cached program would hide what compiling costs

import jax  # noqa: E402  # after the XLA flags

RESULTS = Path(__file__).parent / "results"

_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota",
}  # fmt: skip


@dataclasses.dataclass
class Measured:
    """One contender of one case."""

    case: str
    contender: str
    steps_per_second: float
    ratio: float
    """To the case's first contender."""
    compile_seconds: float
    kern: int
    """Working instructions in the compiled program's largest loop body; 0 of a host loop."""
    state_bytes: int
    """Bytes of state that one env carries from step to step; 0 where it is not known."""
    rounds: list[float]
    """Seconds of each round."""


@dataclasses.dataclass
class Contender:
    """A function of a key, jitted here, that makes `steps` steps in one call."""

    name: str
    function: Callable[[jax.Array], Any]
    steps: int
    state_bytes: int = 0
    on_host: bool = False
    """Whether the function is a loop on the host, which is not jitted."""

    def compile(self) -> Callable[[jax.Array], Any]:
        """The function as it is timed."""
        if self.on_host:
            return self.function
        return jax.jit(self.function).lower(jax.random.key(0)).compile()


def race(case: str, contenders: list[Contender], rounds: int = 7) -> list[Measured]:
    """Compile every contender, run all once, then `rounds` times in turn."""
    programs, compile_seconds = [], []
    for contender in contenders:
        begin = time.perf_counter()
        programs.append(contender.compile())
        compile_seconds.append(time.perf_counter() - begin)
    seconds = time_in_turn(programs, [(jax.random.key(i),) for i in range(rounds)])
    speeds = [c.steps / statistics.median(s) for c, s in zip(contenders, seconds, strict=True)]
    return [
        Measured(
            case, c.name, speed, speed / speeds[0], compiled, kern(program), c.state_bytes, times
        )
        for c, speed, compiled, program, times in zip(
            contenders, speeds, compile_seconds, programs, seconds, strict=True
        )
    ]


def run_cases(
    cases: dict[str, Callable[[], list[Contender]]], words: list[str], rounds: int
) -> list[Measured]:
    """Race the cases whose names contain any of the words; all without words."""
    results: list[Measured] = []
    for name, build in cases.items():
        if not words or any(word in name for word in words):
            print(f"{name} ...", flush=True)
            results += race(name, build(), rounds)
    return results


def time_in_turn(calls: list[Callable], arguments: list[tuple]) -> list[list[float]]:
    """Seconds of each call in each round, all warmed up first; a round for each arguments."""
    for call in calls:
        jax.block_until_ready(call(*arguments[0]))
    seconds: list[list[float]] = [[] for _ in calls]
    for given in arguments:
        for call, times in zip(calls, seconds, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(call(*given))
            times.append(time.perf_counter() - begin)
    return seconds


def kern(compiled: Any) -> int:
    """Working instructions of the largest loop body: what a GPU would launch per step."""
    if not hasattr(compiled, "as_text"):
        return 0
    text = compiled.as_text()
    bodies = set(re.findall(r"body=%?([\w.\-]+)", text))
    counts = [0]
    for name, block in re.findall(r"^%?([\w.\-]+) \([^\n]*\{\n(.*?)^\}", text, re.M | re.S):
        if name in bodies:
            operations = re.findall(r"= \S+ ([\w\-]+)\(|= \([^=]*?\) ([\w\-]+)\(", block)
            names = [first or second for first, second in operations]
            counts.append(sum(operation not in _FREE for operation in names))
    return max(counts)


def report(
    name: str, results: list[Measured], directory: Path = RESULTS, unit: str = "M steps/s"
) -> Path:
    """Print the table and write it as JSON with versions and machine; returns the path.

    The unit is `M steps/s` or what a contender's `steps` are, per second.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "contender", unit, "ratio", "bytes", "kern", "compile s", box=None)
    per_unit = 1e6 if unit.startswith("M ") else 1.0
    for i, row in enumerate(results):
        first = i == 0 or results[i - 1].case != row.case
        table.add_row(
            row.case if first else "",
            row.contender,
            f"{row.steps_per_second / per_unit:.3g}",
            f"{row.ratio:.2f}x",
            str(row.state_bytes or ""),
            str(row.kern or ""),
            f"{row.compile_seconds:.1f}",
        )
    Console(soft_wrap=True).print(table)
    return write(name, results, directory)


def write(name: str, results: list[Any], directory: Path = RESULTS) -> Path:
    """Write dataclasses as JSON with versions and machine; returns the path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    content = {"machine": machine(), "results": [dataclasses.asdict(r) for r in results]}
    path.write_text(json.dumps(content, indent=1))
    print(f"\n{machine()}\nwritten to {path}")
    return path


def machine() -> dict[str, Any]:
    """Where and with what it was measured."""
    packages = ("mazejax", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy")
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _processor() -> str:
    try:
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    return names[0] if names else platform.processor()
