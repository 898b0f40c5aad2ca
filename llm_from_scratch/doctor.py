"""What this machine has for the course, and how to get what is missing.

Knows where to look, and measures what bfloat16 gives and how to train.
Knows nothing of the command line. Every look survives a missing or
broken library.
"""

import hashlib
import importlib
import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
import tempfile
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType

from . import __version__, machine
from .files import cache_dir, find_tinystories
from .terminal import plural, size_in_words

PACKAGE = "llm_from_scratch"
OLDEST = (3, 11)
CORE = ("torch", "numpy", "regex", "safetensors", "tqdm", "huggingface_hub")
ENCODINGS = {  # what tiktoken downloads for a name, below TIKTOKEN_URL
    "gpt2": (
        "gpt-2/encodings/main/vocab.bpe",
        "gpt-2/encodings/main/encoder.json",
    ),
    "r50k_base": ("encodings/r50k_base.tiktoken",),
    "p50k_base": ("encodings/p50k_base.tiktoken",),
    "cl100k_base": ("encodings/cl100k_base.tiktoken",),
    "o200k_base": ("encodings/o200k_base.tiktoken",),
}
TIKTOKEN_URL = "https://openaipublic.blob.core.windows.net/"
GET_COMPILER = {
    "win32": "winget install Microsoft.VisualStudio.2022.BuildTools, with "
    "its C++ workload",
    "darwin": "xcode-select --install",
}
GET_LINUX = {  # package manager: what it calls compiler and headers
    "apt-get": ("sudo apt-get install g++", "sudo apt-get install {}-dev"),
    "dnf": ("sudo dnf install gcc-c++", "sudo dnf install python3-devel"),
    "pacman": ("sudo pacman -S gcc", "sudo pacman -S python"),
    "zypper": ("sudo zypper install gcc-c++", "sudo zypper install {}-devel"),
    "apk": ("sudo apk add g++", "sudo apk add python3-dev"),
}


@dataclass(frozen=True)
class Check:
    "One line of the table."

    group: str  # its heading
    name: str  # what was looked for
    ok: bool  # is it here, and good?
    text: str  # what was found, in words
    remedy: str = ""  # the command that gets it, if there is one
    required: bool = False  # does the library need it?
    details: dict = field(default_factory=dict)  # for machines


def examine() -> list[Check]:
    "Look at everything, in the order of the table; about six seconds."
    torch, error = import_torch()
    checks = [check_python(), check_torch(torch, error), check_libraries()]
    checks += [check_cpu(torch), check_bf16(torch), check_memory()]
    checks += [check_gpu(torch), check_compiler(), check_plan(torch)]
    checks += [check_corpus(), check_cache(), check_tiktoken()]
    return [*checks, check_extra("course"), check_extra("book")]


def is_fit(checks: list[Check]) -> bool:
    "Whether nothing that the library needs is missing."
    return all(check.ok for check in checks if check.required)


def as_data(checks: list[Check]) -> dict:
    "The same for machines: what `llmfs doctor --json` prints."
    return {
        "version": __version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "ok": is_fit(checks),
        "checks": [asdict(check) for check in checks],
    }


# -- required


def python() -> str:
    "How to call this Python in a terminal: `python`, or its path."
    found = shutil.which("python")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "python"
    path = sys.executable or "python"
    return f'"{path}"' if os.name == "nt" else shlex.quote(path)


def pip_install(needs: list[str]) -> str:
    "The command that installs some requirements into this Python."
    quoted = (f'"{x}"' if re.search(r"[<>]", x) else x for x in needs)
    return f"{python()} -m pip install {' '.join(quoted)}"


def requirements(
    extra: str = "",  # "": what the library itself needs
) -> list[str]:  # such as "numpy>=1.26"
    "What the installed package says that it needs."
    try:
        told = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        told = []  # run from a folder, without an installation
    found = []
    for line in told:
        need, _, marker = line.partition(";")
        name = re.search(r"extra *== *['\"](.*?)['\"]", marker)
        if (name[1] if name else "") == extra:
            found.append(need.strip())
    return found or ([] if extra else list(CORE))


def numbers(version: str) -> tuple[int, ...]:
    "The numbers of a version, for comparing: 2.13.0+cpu → (2, 13, 0)."
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])))


def installed(need: str) -> tuple[str, bool]:
    "The version that is here of a requirement (or ''), and if it will do."
    name = re.match(r"[\w.-]+", need)[0]
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "", False
    least = re.search(r">=\s*([\d.]+)", need)
    return version, not least or numbers(version) >= numbers(least[1])


def look_up(needs: list[str]) -> tuple[list[str], list[str], dict]:
    "What of some requirements is here, what is not or too old, versions."
    here, lost, versions = [], [], {}
    for need in needs:
        name = re.match(r"[\w.-]+", need)[0]
        version, good = installed(need)
        versions[name] = version or None
        if good:
            here.append(f"{name} {version}")
        else:
            lost.append(f"{need} (here: {version})" if version else need)
    return here, lost, versions


def check_python() -> Check:
    "The interpreter."
    version = platform.python_version()
    ok = sys.version_info >= OLDEST
    wanted = ".".join(map(str, OLDEST))
    return Check(
        "Required",
        "Python",
        ok,
        f"{version}, {sys.executable}",
        "" if ok else f"install Python {wanted} or newer from python.org",
        required=True,
        details={"version": version, "executable": sys.executable},
    )


def import_torch() -> tuple[ModuleType | None, str]:
    "torch, or None and why it cannot be imported."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("torch"), ""
    except ModuleNotFoundError as error:
        missing = error.name in (None, "torch")
        return None, "not installed" if missing else f"broken: {error}"
    except Exception as error:  # a library that its system does not load
        return None, f"installed, but broken: {error}"


def check_torch(torch: ModuleType | None, error: str) -> Check:
    "PyTorch and its threads."
    need = next(x for x in requirements() if x.startswith("torch"))
    if torch is None:
        return Check(
            "Required", "torch", False, error, pip_install([need]), True
        )
    version, threads = str(torch.__version__), torch.get_num_threads()
    least = re.search(r">=([\d.]+)", need)
    ok = not least or numbers(version) >= numbers(least[1])
    text = f"{version}, {plural(threads, 'thread')}"
    return Check(
        "Required",
        "torch",
        ok,
        text if ok else f"{version} is too old: {need}",
        "" if ok else pip_install([need]),
        required=True,
        details={"version": version, "threads": threads},
    )


def check_libraries() -> Check:
    "The other libraries that the package needs."
    needs = [x for x in requirements() if not x.startswith("torch")]
    here, lost, versions = look_up(needs)
    return Check(
        "Required",
        "libraries",
        not lost,
        f"missing: {', '.join(lost)}" if lost else ", ".join(here),
        pip_install([x.partition(" ")[0] for x in lost]) if lost else "",
        required=True,
        details=versions,
    )


# -- the machine


def check_cpu(torch: ModuleType | None) -> Check:
    "The processor and the instructions that matter for networks."
    name, flags = machine.processor()
    capability = None
    if torch is not None:
        capability = str(torch.backends.cpu.get_cpu_capability())
    found = machine.features(flags, capability)
    cores = os.cpu_count() or 1
    text = f"{name}, {plural(cores, 'core')}"
    text += f": {', '.join(found)}" if found else ""
    details = {"model": name, "cores": cores, "features": found}
    details["torch_capability"] = capability
    return Check("Machine", "CPU", True, text, details=details)


def check_bf16(torch: ModuleType | None) -> Check:
    "Whether bfloat16 pays on this CPU, measured."
    if torch is None:
        return Check("Machine", "bfloat16", False, "not measured: no torch")
    try:
        seconds = machine.bf16_seconds(torch)
    except Exception as error:  # a torch that cannot do it
        return Check("Machine", "bfloat16", False, f"fails: {error}")
    ratio = seconds["float32"] / seconds["bfloat16"]
    native = ratio > 0.5  # emulation is many times slower; less is noise
    text = f"native: a matrix product at {ratio:.1f} × the speed of float32"
    if not native:
        text = (
            f"emulated: a matrix product takes {1 / ratio:.0f} × as long as "
            "in float32, so train in float32"
        )
    details = {"native": native, "seconds": seconds}
    return Check("Machine", "bfloat16", native, text, details=details)


def check_memory() -> Check:
    "Main memory."
    total, available = machine.memory()
    details = {"total": total, "available": available}
    text = "this system does not tell"
    if total is not None:
        free = size_in_words(available)
        text = f"{size_in_words(total)}, {free} available"
    return Check("Machine", "memory", bool(total), text, details=details)


def check_gpu(torch: ModuleType | None) -> Check:
    "Graphics processors; the course does without."
    found, text = [], "none, and none is needed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = machine.accelerators(torch) if torch else []
        if not found and shutil.which("nvidia-smi"):
            text = "there is an NVIDIA driver, but torch cannot use it"
    except Exception as error:  # a driver that does not fit
        text = f"torch cannot use it: {error}"
    remedy = "choose a build at pytorch.org" if "cannot" in text else ""
    if found:
        sizes = [x["memory"] and size_in_words(x["memory"]) for x in found]
        text = ", ".join(
            f"{gpu['name']} ({gpu['kind']}{f', {size}' if size else ''})"
            for gpu, size in zip(found, sizes, strict=True)
        )
    row = ("Machine", "GPU", bool(found), text, "" if found else remedy)
    return Check(*row, details={"devices": found})


def check_compiler() -> Check:
    "What torch.compile needs: a C++ compiler and Python's headers."
    found = machine.cpp_compiler()
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    details = {"path": found, "headers": headers.is_file()}
    if not found:
        text = "not found: torch.compile needs it, the course does not"
        remedy = GET_COMPILER.get(sys.platform) or get_on_linux(0)
    elif not headers.is_file():
        text = f"{found}, but torch.compile needs {headers}, too"
        remedy = get_on_linux(1)
    else:
        windows = sys.platform == "win32"  # whose cl knows no --version
        told = "" if windows else machine.output(found, "--version")
        details["version"] = told.partition("\n")[0]
        text, remedy = ", ".join(filter(None, (details["version"], found))), ""
    good = not remedy
    return Check("Machine", "C++", good, text, remedy, details=details)


def get_on_linux(which: int) -> str:
    "The command for the compiler (0) or for Python's headers (1)."
    version = "python{}.{}".format(*sys.version_info)
    for manager, commands in GET_LINUX.items():
        if shutil.which(manager):
            return commands[which].format(version)
    return ("install g++", f"install {version}'s headers")[which]


def check_plan(torch: ModuleType | None) -> Check:
    "How a model would be trained here, measured."
    if torch is None:
        return Check("Machine", "training", False, "not measured: no torch")
    try:
        plan = importlib.import_module(".devices", PACKAGE).device_plan()
    except Exception as error:  # a torch that cannot do it
        return Check("Machine", "training", False, f"fails: {error}")
    dtype = str(plan.dtype).removeprefix("torch.")
    details = {"device": plan.device, "dtype": dtype}
    for name in ("attention", "matmul_precision", "compile", "seconds"):
        details[name] = getattr(plan, name)
    text = f"on {plan.device} in {dtype}, {plan.attention} attention"
    if plan.matmul_precision != "highest":
        text += f", {plan.matmul_precision} precision of products"
    text += ", compiled if it is long" if plan.compile else ""
    if plan.seconds:
        exact = [s for name, s in plan.seconds.items() if "float32" in name]
        ratio = exact[0] / plan.seconds[plan.name]
        text += f": {ratio:.1f} × the speed of plain float32"
    return Check("Machine", "training", True, text, details=details)


# -- text


def check_corpus() -> Check:
    "Real TinyStories, both splits."
    paths = {x: find_tinystories(x) for x in ("train", "valid")}
    here = {split: path for split, path in paths.items() if path}
    words = [
        f"{split} {size_in_words(path.stat().st_size)}, {path}"
        for split, path in here.items()
    ]
    if len(here) < 2:
        lost = next((f"no {x}" for x in paths if here and x not in here), "")
        lost = lost or "not here"
        words.append(f"{lost}: the built-in stories take their place")
    told = os.environ.get("LLMFS_DATA")
    if told and not Path(told).is_dir():
        words.append(f"LLMFS_DATA={told} names no folder")
    return Check(
        "Text",
        "TinyStories",
        len(here) == 2,
        "; ".join(words),
        "" if len(here) == 2 else "llmfs data tinystories",
        details={
            split: path and {"path": str(path), "bytes": path.stat().st_size}
            for split, path in paths.items()
        },
    )


def check_cache() -> Check:
    "The folder for downloads, and the room on its disk."
    folder = cache_dir().absolute()
    there = next(x for x in (folder, *folder.parents) if x.exists())
    free = shutil.disk_usage(there).free
    ok = there.is_dir() and os.access(there, os.W_OK)
    text = f"{folder}, {size_in_words(free)} free"
    text += "" if folder.exists() else " (made when it is needed)"
    text += "" if ok else ", but it cannot be written"
    remedy = "" if ok else "set LLMFS_CACHE to a folder that is yours"
    details = {"path": str(folder), "exists": folder.exists(), "free": free}
    return Check("Text", "cache", ok, text, remedy, details=details)


def check_tiktoken() -> Check:
    "The published tokenizers that tiktoken has on this disk."
    told = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
    names = [os.environ[x] for x in told if x in os.environ]
    usual = Path(tempfile.gettempdir()) / "data-gym-cache"
    folder = Path(names[0]) if names else usual
    found = [
        name
        for name, urls in ENCODINGS.items()
        if all((folder / cache_key(url)).is_file() for url in urls)
    ]
    details = {"path": str(folder), "encodings": found}
    if found:
        text = f"{', '.join(found)} in {folder}"
        return Check("Text", "tiktoken", True, text, "", False, details)
    text = f"no published tokenizer in {folder}; the first use downloads it"
    remedy = "llmfs tokenizer show Hello --tokenizer gpt2"
    return Check("Text", "tiktoken", False, text, remedy, details=details)


def cache_key(url: str) -> str:
    "The name under which tiktoken keeps a download."
    return hashlib.sha1((TIKTOKEN_URL + url).encode()).hexdigest()


# -- extras


def check_extra(name: str) -> Check:
    "The libraries of an extra: for the notebooks, or for the book."
    needs = requirements(name)
    here, lost, versions = look_up(needs)
    if not needs:
        text = f"{PACKAGE} is not installed, so nobody says what it needs"
        return Check("Extras", name, False, text)
    return Check(
        "Extras",
        name,
        not lost,
        f"missing: {', '.join(lost)}" if lost else ", ".join(here),
        pip_install([x.partition(" ")[0] for x in lost]) if lost else "",
        details=versions,
    )
