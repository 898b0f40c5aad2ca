"""Dialogs: who may speak when, and files of them, read and checked.

Knows messages and the two formats that files of them have. Knows nothing
of tokens, templates or models.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from .files import read_text

ROLES = ("system", "user", "assistant")
Messages = list[dict[str, str]]  # of "role" and "content", in turns


def check_messages(
    messages: Messages,  # perhaps with a system message first, then turns
    *,
    last: str = "assistant",  # who must have spoken last
    where: str = "messages",  # what they are called in errors
) -> Messages:  # the same, without white space round each content
    "Raise `TypeError` or `ValueError` that says which message is wrong."
    if not isinstance(messages, list) or not messages:
        raise TypeError(
            f"{where} must be a list of messages, got {messages!r:.60}"
        )
    found = []
    for i, message in enumerate(messages):
        fields = isinstance(message, Mapping) and message.keys()
        if not fields or not {"role", "content"} <= fields:
            raise TypeError(
                f"{where}: message {i} must be an object with role and "
                f"content, got {message!r:.60}"
            )
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise ValueError(
                f"{where}: message {i} has role={role!r}; roles are "
                f"{', '.join(ROLES)}"
            )
        if not isinstance(content, str) or not content.strip():
            raise ValueError(
                f"{where}: message {i} of the {role} is {content!r:.60}; it "
                "must be a text that is not empty"
            )
        found.append({"role": role, "content": content.strip()})
    _check_order([message["role"] for message in found], last, where)
    return found


def _check_order(roles: list[str], last: str, where: str) -> None:
    "Perhaps the system; then user and assistant in turns, up to `last`."
    first = int(roles[0] == "system")
    for i, role in enumerate(roles[first:], first):
        wanted = ROLES[1 + (i - first) % 2]
        if role != wanted:
            raise ValueError(
                f"{where}: message {i} is of the {role}, but the {wanted} "
                "comes next: after a system message, if there is one, user "
                "and assistant take turns"
            )
    if roles[-1] != last:
        raise ValueError(
            f"{where} must end with the {last}, not with the {roles[-1]}"
        )


def read_dialogs(
    path: str | Path,  # JSON: a list; JSONL: one object a line
) -> list[Messages]:  # one or more
    """Read dialogs as Alpaca's triples or as ChatML's messages.

    An object has `instruction`, perhaps `input`, and `output`; or it has
    `messages`, each with `role` and `content`. Raises `ValueError` that
    names file and line for anything else.
    """
    text = read_text(path)
    found = []
    for line, item in _items(text, path):
        where = f"{path}, line {line}"
        try:
            messages = _as_messages(item, where)
            found.append(check_messages(messages, where=where))
        except TypeError as error:
            raise ValueError(str(error)) from None
    if not found:
        raise ValueError(f"{path} holds no dialog")
    return found


def _items(text: str, path: str | Path) -> Iterator[tuple[int, object]]:
    "The objects of a JSON list or of JSON lines, each with its line."
    listed = text.lstrip()[:1] == "["
    decode, at, line = json.JSONDecoder().raw_decode, 0, 1
    if listed:
        at = text.index("[") + 1
    while True:
        step = re.compile(r"[\s,]*" if listed else r"\s*").match(text, at)
        line = text.count("\n", 0, step.end()) + 1
        at = step.end()
        if at == len(text) or (listed and text[at] == "]"):
            if listed and text[at:].strip() != "]":
                raise ValueError(f"{path}, line {line}: the list has no end ]")
            return
        try:
            item, at = decode(text, at)
        except json.JSONDecodeError as error:
            line = error.lineno
            raise ValueError(
                f"{path}, line {line}: no JSON: {error.msg}"
            ) from None
        yield line, item


def _as_messages(item: object, where: str) -> object:
    "Alpaca's fields as two messages; what has messages, those."
    if not isinstance(item, dict):
        raise TypeError(f"{where}: must be an object, got {item!r:.60}")
    if "messages" in item:
        return item["messages"]
    if not {"instruction", "output"} <= item.keys():
        raise TypeError(
            f"{where}: needs messages, or instruction and output; it has "
            f"{', '.join(map(str, item)) or 'nothing'}"
        )
    parts = [item["instruction"], item.get("input") or ""]
    asked = "\n\n".join(str(part).strip() for part in parts if part)
    pairs = ("user", asked), ("assistant", item["output"])
    return [{"role": role, "content": text} for role, text in pairs]
