"""Check at run time the shapes that docments promise.

`guard(function)` wraps a function whose parameters' comments name
shapes such as `(B, T, C)`: within one call a letter must always mean
the same size. Numbers and products in a shape are not looked at.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from types import ModuleType

from fastcore.docments import docments

SIZE = r"(?:\d*[A-Z]|\d+)(?:\s*[*·×/+-]\s*(?:\d*[A-Z]|\d+))*|…|\.\.\."
SHAPE = re.compile(rf"\(\s*((?:{SIZE})(?:\s*,\s*(?:{SIZE}))*),?\s*\)")


class ShapeError(AssertionError):
    "An array does not have the shape that its docment promises."


def shape_of(comment: str | None) -> list[str] | None:
    "The one shape that a comment names, or nothing."
    found = SHAPE.findall(comment or "")
    if len(found) != 1 or "broadcast" in (comment or ""):
        return None
    parts = [x.strip() for x in found[0].split(",")]
    return None if any("…" in x or "..." in x for x in parts) else parts


def promised(function: Callable) -> dict[str, list[str]]:
    "The shapes of a function's parameters and of its result."
    try:
        found = docments(function)
    except (OSError, TypeError, SyntaxError):
        return {}
    shapes = {name: shape_of(text) for name, text in found.items()}
    return {name: shape for name, shape in shapes.items() if shape}


def compare(
    name: str, shape: list[str], value: object, sizes: dict[str, int]
) -> None:
    "Bind the letters of one shape, or complain."
    actual = getattr(value, "shape", None)
    if not isinstance(actual, tuple):  # torch.Size is one
        return
    text = f"{name} is promised as ({', '.join(shape)}), got {tuple(actual)}"
    if len(actual) != len(shape):
        raise ShapeError(text)
    for letter, size in zip(shape, actual, strict=True):
        if not re.fullmatch("[A-Z]", letter):
            continue
        if sizes.setdefault(letter, size) != size:
            raise ShapeError(f"{text}, but {letter} = {sizes[letter]}")


def guard(function: Callable) -> Callable:
    "`function` with its shapes checked; itself if it promises none."
    shapes = promised(function)
    if not shapes:
        return function
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        sizes: dict[str, int] = {}
        given = signature.bind(*args, **kwargs).arguments
        for name, value in given.items():
            if name in shapes:
                compare(name, shapes[name], value, sizes)
        result = function(*args, **kwargs)
        if "return" in shapes:
            compare("the result", shapes["return"], result, sizes)
        return result

    return checked


def guard_module(module: ModuleType) -> int:
    "Guard a module's own functions and methods; how many there are."
    count = 0
    for owner in (module, *own(module, inspect.isclass)):
        for function in own(owner, inspect.isfunction, module.__name__):
            wrapped = guard(function)
            if wrapped is not function:
                setattr(owner, function.__name__, wrapped)
                count += 1
    return count


def own(
    owner: object, kind: Callable, module: str | None = None
) -> list[Callable]:
    "The members of one kind that are defined in the module itself."
    home = module or getattr(owner, "__name__", "")
    members = vars(owner).values()
    return [x for x in members if kind(x) and x.__module__ == home]
