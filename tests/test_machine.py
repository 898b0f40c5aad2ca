"What each system tells about its hardware, read from samples of it."

import math
import sys
from types import SimpleNamespace

import pytest

from llm_from_scratch import machine

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Gold 6430
flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 avx512_vnni amx_tile amx_bf16

processor\t: 1
model name\t: Intel(R) Xeon(R) Gold 6430
"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd asimddp sve i8mm bf16
"""
OLD = "model name : AMD FX\nflags : fpu sse2 avx\n"
APPLE = """machdep.cpu.brand_string: Apple M2
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
hw.optional.AdvSIMD: 1
hw.optional.avx2_0: 0
"""
INTEL_MAC = """machdep.cpu.brand_string: Intel(R) Core(TM) i7
machdep.cpu.features: FPU SSE2 AVX1.0
machdep.cpu.leaf7_features: AVX2 SMEP
hw.optional.avx512f: 0
"""


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        (
            INTEL,
            "Intel(R) Xeon(R) Gold 6430",
            ["AVX2", "AVX-512", "VNNI", "AMX", "bf16"],
        ),
        (ARM, "", ["NEON", "dot product", "i8mm", "SVE", "bf16"]),
        (OLD, "AMD FX", []),
        ("", "", []),
    ],
)
def test_cpuinfo(text, name, found):
    told, flags = machine.parse_cpuinfo(text)
    assert (told, machine.features(flags)) == (name, found)


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        (APPLE, "Apple M2", ["NEON", "i8mm", "bf16"]),
        (INTEL_MAC, "Intel(R) Core(TM) i7", ["AVX2"]),
        ("", "", []),
    ],
)
def test_sysctl(text, name, found):
    told, flags = machine.parse_sysctl(text)
    assert (told, machine.features(flags)) == (name, found)


@pytest.mark.parametrize(
    ("capability", "found"),
    [("AVX512", ["AVX2", "AVX-512"]), ("AVX2", ["AVX2"]), ("DEFAULT", [])],
)
def test_torch_answers_where_the_system_does_not(capability, found):
    assert machine.features(set(), capability) == found


def test_every_system_has_a_processor(monkeypatch):
    assert machine.processor()[0]
    monkeypatch.setattr(machine, "output", lambda *_: APPLE)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.processor()[0] == "Apple M2"


def test_meminfo():
    text = "MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:   40 kB\n"
    assert machine.parse_meminfo(text) == (100 << 10, 40 << 10)
    with pytest.raises(ValueError, match="no MemTotal and MemAvailable in"):
        machine.parse_meminfo("MemTotal: 100 kB")


def test_vm_stat():
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                  3.\nPages active:        9.\n"
        "Pages inactive:              2.\nPages speculative:   1.\n"
    )
    assert machine.parse_vm_stat(text) == 6 * 16384
    with pytest.raises(ValueError, match="no size or number of free pages"):
        machine.parse_vm_stat("")


def test_a_container_has_its_own_limit(tmp_path, monkeypatch):
    assert machine.container_memory(tmp_path) == (None, 0)
    (tmp_path / "memory.current").write_text("300", encoding="utf-8")
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    assert machine.container_memory(tmp_path) == (None, 0)
    (tmp_path / "memory.max").write_text("1000\n", encoding="utf-8")
    assert machine.container_memory(tmp_path) == (1000, 300)
    if sys.platform == "linux":
        monkeypatch.setattr(machine, "container_memory", lambda: (1000, 300))
        assert machine.memory() == (1000, 700)


def test_memory_of_this_machine():
    total, available = machine.memory()
    assert total is None or 0 < available <= total


def test_a_system_that_does_not_tell_its_memory(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(machine, "output", lambda *_: "")
    assert machine.memory() == (None, None)


def test_output_of_programs():
    assert machine.output(sys.executable, "-c", "print('hello')") == "hello\n"
    assert machine.output(sys.executable, "-c", "print(1); exit(3)") == ""
    assert machine.output("no-such-program-here") == ""


def test_timing_always_calls_once_and_takes_the_best():
    calls = []
    assert 0 <= machine.best_seconds(lambda: calls.append(1), 0) < math.inf
    assert calls == [1]
    machine.best_seconds(lambda: calls.append(1), 0.01)
    assert len(calls) > 2


def test_bf16_is_measured():
    import torch

    seconds = machine.bf16_seconds(torch, 16)
    assert seconds.keys() == {"float32", "bfloat16"}
    assert all(0 < x < math.inf for x in seconds.values())


def fake_torch(cuda: int = 0, hip: str | None = None, mps: bool = False):
    "A torch with some graphics processors."
    gpu = SimpleNamespace(name="H100", total_memory=80_000_000_000)
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: cuda > 0,
            device_count=lambda: cuda,
            get_device_properties=lambda _: gpu,
        ),
        version=SimpleNamespace(hip=hip),
        backends=SimpleNamespace(
            mps=SimpleNamespace(is_available=lambda: mps)
        ),
    )


def test_accelerators():
    assert machine.accelerators(fake_torch()) == []
    one = {"kind": "cuda", "name": "H100", "memory": 80_000_000_000}
    assert machine.accelerators(fake_torch(2)) == [one, one]
    rocm = machine.accelerators(fake_torch(1, hip="6.2"))
    assert rocm[0]["kind"] == "rocm"
    assert machine.accelerators(fake_torch(mps=True)) == [
        {"kind": "mps", "name": "Apple GPU", "memory": None}
    ]


@pytest.mark.parametrize(
    ("system", "here", "told", "found"),
    [
        ("linux", {"g++": "/usr/bin/g++"}, "", "/usr/bin/g++"),
        ("linux", {"clang++": "/opt/clang++"}, "", "/opt/clang++"),
        ("linux", {"g++": "/usr/bin/g++", "icpx": "/icpx"}, "icpx", "/icpx"),
        ("linux", {}, "lost", None),
        ("win32", {"cl": "C:/cl.exe", "g++": "C:/g++"}, "", "C:/cl.exe"),
        ("darwin", {"clang++": "/usr/bin/clang++"}, "", None),
        ("darwin", {"clang++": "/brew/clang++"}, "", "/brew/clang++"),
    ],
)
def test_compilers(system, here, told, found, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(machine.shutil, "which", here.get)
    monkeypatch.setattr(machine, "output", lambda *_: "")
    monkeypatch.setenv("CXX", told)
    assert machine.cpp_compiler() == found


def test_the_compiler_of_a_mac_with_its_tools(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(machine.shutil, "which", lambda _: "/usr/bin/clang++")
    monkeypatch.setattr(machine, "output", lambda *_: "/Library/Developer")
    monkeypatch.delenv("CXX", raising=False)
    assert machine.cpp_compiler() == "/usr/bin/clang++"
