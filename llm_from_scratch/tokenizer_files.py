"""Tokenizer files of other projects: Hugging Face's, GPT-2's, tiktoken's.

Knows how they write down vocabularies and merges. Knows nothing of
training or encoding. A token's bytes are written as printable symbols.
"""

import sys
from collections.abc import Iterable, Mapping

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False}
Merges = list[tuple[bytes, bytes]]
UNUSED = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)


def byte_symbols() -> dict[int, str]:  # byte → a character one can see
    """Name every byte by a printable character, as GPT-2's files do.

    Visible Latin-1 characters stand for themselves, the others for
    U+0100, U+0101 … in order; so a space is Ġ and a line break is Ċ.
    """
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [b for b in range(256) if b not in visible]
    names = {b: chr(b) for b in sorted(visible)}
    return names | {b: chr(256 + i) for i, b in enumerate(hidden)}


SYMBOLS = byte_symbols()
BYTES = {symbol: byte for byte, symbol in SYMBOLS.items()}


def to_symbols(
    token: bytes,  # any bytes
) -> str:  # one visible character a byte
    "Write a token as GPT-2's files do: b' red' becomes Ġred."
    return "".join(map(SYMBOLS.__getitem__, token))


def from_symbols(
    text: str,  # a token as GPT-2's files write it
) -> bytes:  # its bytes
    "Read such a token; `ValueError` for a character of no byte."
    try:
        return bytes(map(BYTES.__getitem__, text))
    except KeyError as error:
        raise ValueError(
            f"token {text!r} holds {error.args[0]!r}, which stands for no "
            "byte: the file is not byte-level BPE"
        ) from None


def to_json(
    vocab: Mapping[int, bytes],  # id → bytes, special tokens included
    merges: Merges,  # in the order learned
    special_tokens: Mapping[str, int],  # name → id
    pattern: str | None,  # what a word is; None: GPT-2's own
) -> dict:  # the content of a `tokenizer.json`
    "Describe a tokenizer in the schema of Hugging Face's `tokenizers`."
    hidden = set(special_tokens.values())
    names = {to_symbols(b): i for i, b in vocab.items() if i not in hidden}
    if both := names.keys() & special_tokens:
        raise ValueError(
            f"the special tokens {sorted(both)} are spelled like ordinary "
            "tokens, which a tokenizer.json cannot tell apart; rename them"
        )
    pairs = [[to_symbols(left), to_symbols(right)] for left, right in merges]
    model = {"type": "BPE", **dict.fromkeys(UNUSED[:4]), "fuse_unk": False}
    model |= {"byte_fallback": False, "ignore_merges": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(name, token) for name, token in special_tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(pattern),
        "post_processor": None,
        "decoder": {**BYTE_LEVEL, "trim_offsets": True, "use_regex": True},
        "model": model
        | {"vocab": names | dict(special_tokens)}
        | {"merges": pairs},
    }


def _added(name: str, token: int) -> dict:
    "One entry of `added_tokens`."
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    flags |= {"normalized": False, "special": True}
    return {"id": token, "content": name, **flags}


def _pre_tokenizer(pattern: str | None) -> dict:
    "How words are cut, in Hugging Face's terms."
    level = {**BYTE_LEVEL, "trim_offsets": True, "use_regex": not pattern}
    if not pattern:
        return level
    words = {"type": "Split", "pattern": {"Regex": pattern}}
    words |= {"behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [words, level]}


def from_json(
    data: object,  # the parsed content of a `tokenizer.json`
) -> tuple[dict[int, bytes], Merges, dict[str, int], str | None]:
    """Read vocabulary, merges, special tokens and pattern (None: GPT-2's).

    Raises `ValueError` that names the part that is missing, newer, or of
    another kind of tokenizer.
    """
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict) or "vocab" not in model:
        raise ValueError("it holds no model with a vocabulary")
    if data.get("version") != "1.0":
        raise ValueError(
            f"its version is {data.get('version')!r}, and this library reads "
            "'1.0'; a newer file needs a newer llm_from_scratch"
        )
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"its model is {model['type']!r}, and must be 'BPE'")
    if not isinstance(model["vocab"], dict) or "merges" not in model:
        raise ValueError("its model holds no merges or no vocabulary")
    pattern, known = _pattern(data.get("pre_tokenizer"))
    odd = [key for key in UNUSED if model.get(key)]
    odd += ["pre_tokenizer"] * (not known)
    odd += ["normalizer"] * bool(data.get("normalizer"))
    if odd:
        raise ValueError(
            f"it is not plain byte-level BPE: {', '.join(odd)} is set to "
            "what this library does not do"
        )
    added = data.get("added_tokens") or []
    special = {token["content"]: token["id"] for token in added}
    names = model["vocab"] | special
    vocab = {i: from_symbols(n) for n, i in _ids(names) if n not in special}
    return vocab, _pairs(model["merges"]), special, pattern


def _ids(names: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    "Names with their ids, which must be numbers from 0."
    for name, token in names.items():
        if type(token) is not int or not 0 <= token <= sys.maxunicode:
            raise ValueError(f"the token {name!r} has the id {token!r}")
    return names.items()


def _pairs(merges: list) -> Merges:
    "Merges as lists of two, or in the older form as one string."
    pairs = [m.split(" ") if isinstance(m, str) else m for m in merges]
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise ValueError(f"the merge {wrong[0]} is not a pair")
    return [tuple(map(from_symbols, pair)) for pair in pairs]


def _pattern(pre_tokenizer: dict | None) -> tuple[str | None, bool]:
    "The pattern by which words are cut, and whether we can follow it."
    steps = pre_tokenizer or {}
    steps = steps.get("pretokenizers", [steps])
    *first, last = steps or [{}]
    plain = last.get("type") == "ByteLevel"
    if not plain or last.get("add_prefix_space") or len(first) > 1:
        return None, False
    by_regex = last.get("use_regex", True)
    if not first:
        return None, by_regex
    cut = first[0]
    kept = cut.get("behavior") == "Isolated" or (
        cut.get("behavior") == "Removed" and cut.get("invert")
    )
    regex = (cut.get("pattern") or {}).get("Regex")
    return regex, bool(regex and kept and not by_regex)


def from_gpt2(
    names: Mapping[str, int],  # the content of `encoder.json`
    lines: str,  # the content of `vocab.bpe`
) -> tuple[dict[int, bytes], Merges, dict[str, int]]:
    "Vocabulary, merges and special tokens of the files GPT-2 came with."
    special = {n: i for n, i in names.items() if n == "<|endoftext|>"}
    vocab = {i: from_symbols(n) for n, i in _ids(names) if n not in special}
    rows = [line for line in lines.splitlines() if line.strip()]
    return vocab, _pairs([r for r in rows if r[:9] != "#version:"]), special


def merges_from_ranks(
    ranks: Mapping[bytes, int],  # token → rank, as tiktoken keeps them
) -> Merges:  # merges that give the same ids
    "Every way to make each token of two others, in the order of ranks."
    return [
        (token[:cut], token[cut:])
        for token in sorted(ranks, key=ranks.__getitem__)
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    ]


def from_tiktoken(
    encoding,  # a `tiktoken.Encoding`
) -> tuple[dict[int, bytes], Merges, dict[str, int], str]:
    "Vocabulary, merges, special tokens and pattern of an encoding."
    ranks = encoding._mergeable_ranks
    vocab = {token: data for data, token in ranks.items()}
    special = dict(encoding._special_tokens)
    return vocab, merges_from_ranks(ranks), special, encoding._pat_str


def to_tiktoken(
    name: str,  # what tiktoken shall call it
    vocab: Mapping[int, bytes],  # id → bytes, without special tokens
    merges: Merges,  # in the order learned
    special_tokens: Mapping[str, int],  # name → id
    pattern: str,  # what a word is
):  # a `tiktoken.Encoding` that gives the same ids
    """Hand a tokenizer to tiktoken (`pip install tiktoken`).

    Raises `ValueError` when the ids are not in the order of the merges,
    since tiktoken merges by id.
    """
    import tiktoken

    ranks = {data: token for token, data in vocab.items()}
    products = [ranks[left + right] for left, right in merges]
    if products != sorted(products):
        raise ValueError(
            "tiktoken merges in the order of ids, and these ids are not in "
            "the order of the merges; save() keeps both"
        )
    return tiktoken.Encoding(
        name,
        pat_str=pattern,
        mergeable_ranks=ranks,
        special_tokens=dict(special_tokens),
    )
