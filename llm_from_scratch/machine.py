"""This machine: processor, memory, accelerators, compiler.

Knows how each system is asked. Knows nothing of the course; what is
torch's to answer is asked of the torch that the caller hands in.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

FEATURES = {  # a usual name: what systems call it
    "AVX2": {"avx2", "avx2_0"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni", "avx512vnni"},
    "AMX": {"amx_tile"},
    "NEON": {"asimd", "neon", "advsimd"},
    "dot product": {"asimddp", "feat_dotprod"},
    "i8mm": {"i8mm", "feat_i8mm"},
    "SVE": {"sve"},
    "bf16": {"avx512_bf16", "amx_bf16", "bf16", "feat_bf16"},
}
COMPILERS = {"win32": ("cl",), "darwin": ("clang++",)}  # as torch looks


def output(
    *command: str,  # a program and its arguments
) -> str:  # what it prints
    "Run a program for some seconds at most; nothing if it fails."
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=5,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def processor() -> tuple[str, set[str]]:
    "The processor's name, and the flags that its system tells."
    name, flags = "", set()
    if sys.platform == "darwin":
        told = output("sysctl", "machdep.cpu", "hw.optional")
        name, flags = parse_sysctl(told)
    elif sys.platform == "linux":
        with suppress(OSError):
            told = Path("/proc/cpuinfo").read_bytes().decode(errors="replace")
            name, flags = parse_cpuinfo(told)
    return name or platform.processor() or platform.machine(), flags


def parse_cpuinfo(
    text: str,  # the content of Linux's /proc/cpuinfo
) -> tuple[str, set[str]]:  # name or "", flags
    "Intel and AMD write `flags`, Arm writes `Features` and no name."
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.M)
    return (
        name[1].strip() if name else "",
        set(flags[1].split()) if flags else set(),
    )


def parse_sysctl(
    text: str,  # what macOS prints for `sysctl machdep.cpu hw.optional`
) -> tuple[str, set[str]]:  # name or "", flags
    "Intel's features are words, Apple's are switches that are 1."
    name, flags = "", set()
    for line in text.splitlines():
        key, _, value = line.partition(": ")
        if key == "machdep.cpu.brand_string":
            name = value.strip()
        elif key.endswith("features"):
            flags |= set(value.lower().split())
        elif key.startswith("hw.optional.") and value.strip() == "1":
            flags.add(key.rpartition(".")[2].lower())
    return name, flags


def features(
    flags: set[str],  # from `processor`; empty where the system tells none
    capability: str | None = None,  # what torch says that it uses
) -> list[str]:  # some of FEATURES
    "The instructions that matter for networks, by their usual names."
    if not flags and capability in ("AVX2", "AVX512"):
        return ["AVX2", "AVX-512"][: 1 + (capability == "AVX512")]
    return [name for name, told in FEATURES.items() if told & flags]


def best_seconds(
    function: Callable[[], object],  # what is timed
    budget: float,  # seconds to go on; one call is always made
) -> float:  # the shortest call, in seconds
    "Time a function as often as a budget allows."
    end, times = time.perf_counter() + budget, []
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def bf16_seconds(
    torch: ModuleType,  # the library
    size: int = 512,  # rows and columns of both factors
) -> dict[str, float]:  # seconds of a product, by data type
    "Time a matrix product in float32 and bfloat16, half a second in all."
    wide = torch.ones(size, size, dtype=torch.float32)
    narrow = wide.to(torch.bfloat16)
    return {
        "float32": best_seconds(lambda: wide @ wide, 0.25),
        "bfloat16": best_seconds(lambda: narrow @ narrow, 0.25),
    }


def memory() -> tuple[int | None, int | None]:
    "Bytes of memory in all, and available; None where nobody tells."
    try:
        if sys.platform == "win32":
            return windows_memory()
        if sys.platform == "darwin":
            total = int(output("sysctl", "-n", "hw.memsize"))
            return total, parse_vm_stat(output("vm_stat"))
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        total, available = parse_meminfo(text)
        limit, used = container_memory()
        if limit and limit < total:
            return limit, min(available, limit - used)
        return total, available
    except (OSError, ValueError):
        return None, None


def parse_meminfo(
    text: str,  # the content of Linux's /proc/meminfo
) -> tuple[int, int]:  # total, available, in bytes
    "Raises `ValueError` when it does not tell."
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.M))
    if not {"MemTotal", "MemAvailable"} <= sizes.keys():
        raise ValueError(f"no MemTotal and MemAvailable in {text!r:.60}")
    return int(sizes["MemTotal"]) << 10, int(sizes["MemAvailable"]) << 10


def parse_vm_stat(
    text: str,  # what macOS's `vm_stat` prints
) -> int:  # bytes that could be given at once
    "Raises `ValueError` when it does not tell."
    size = re.search(r"page size of (\d+) bytes", text)
    pages = dict(re.findall(r"^Pages (\w+):\s+(\d+)", text, re.M))
    if not size or "free" not in pages:
        raise ValueError(f"no size or number of free pages in {text!r:.60}")
    kinds = ("free", "inactive", "speculative", "purgeable")
    return int(size[1]) * sum(int(pages.get(kind, 0)) for kind in kinds)


def container_memory(
    folder: Path = Path("/sys/fs/cgroup"),  # where Linux keeps its limits
) -> tuple[int | None, int]:  # bytes allowed (None: any), bytes used
    "The memory of a container, which may be less than the machine's."
    try:
        limit = (folder / "memory.max").read_text(encoding="utf-8")
        used = (folder / "memory.current").read_text(encoding="utf-8")
        return int(limit), int(used)
    except (OSError, ValueError):  # no limits here, or the word "max"
        return None, 0


def windows_memory() -> tuple[int, int]:
    "Total and available bytes; `OSError` if Windows does not tell."
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("available", ctypes.c_uint64),
            ("others", ctypes.c_uint64 * 5),
        )

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx failed")
    return status.total, status.available


def accelerators(
    torch: ModuleType,  # the library
) -> list[dict]:  # each with kind, name and memory in bytes (None: shared)
    "The graphics processors that this torch can use."
    found = []
    for kind in ("cuda", "xpu"):
        module = getattr(torch, kind, None)
        if module is None or not module.is_available():
            continue
        shown = "rocm" if kind == "cuda" and torch.version.hip else kind
        for i in range(module.device_count()):
            gpu = module.get_device_properties(i)
            size = gpu.total_memory
            found.append({"kind": shown, "name": gpu.name, "memory": size})
    if torch.backends.mps.is_available():
        found.append({"kind": "mps", "name": "Apple GPU", "memory": None})
    return found


def cpp_compiler() -> str | None:
    "The C++ compiler that torch.compile would call; None: there is none."
    names = [os.environ.get("CXX", "")]
    names += COMPILERS.get(sys.platform, ("g++", "clang++"))
    found = [path for name in names if name and (path := shutil.which(name))]
    if found[:1] == ["/usr/bin/clang++"] and sys.platform == "darwin":
        # without its tools this is a stub that opens a window
        return found[0] if output("xcode-select", "-p") else None
    return found[0] if found else None
