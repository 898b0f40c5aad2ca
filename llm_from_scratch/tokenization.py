#| export
import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import chain
from operator import add
from pathlib import Path

import numpy as np
import regex
from tqdm.auto import tqdm

from llm_from_scratch import tokenizer_files as formats
from llm_from_scratch.files import read_text, write_atomic
from llm_from_scratch.streams import (
    find_special,
    map_batches,
    read_documents,
    safe_blocks,
)


#| export
GPT2 = (  # how GPT-2 cuts text into words
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+"
    r"| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
GPT4 = (  # GPT-4's: any case of 's, at most three digits, line ends
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


#| export
class PreTokenizer:
    "Cuts text into words: the pieces inside which bytes may be merged."

    def __init__(
        self,
        pattern: str = GPT2,  # what a word is, in the syntax of `regex`
    ):
        """Compile `pattern`, and for GPT2 and GPT4 a twin for ASCII text.

        Raises `ValueError` when `pattern` is not a regular expression.
        """
        self.pattern = pattern
        try:
            self._any = self._ascii = regex.compile(pattern)
        except regex.error as error:
            raise ValueError(
                f"pattern={pattern!r} is no regular expression: {error}"
            ) from error
        # the two patterns treat the sides of a lone space separately
        self.cuts_at_spaces = pattern in (GPT2, GPT4)
        if self.cuts_at_spaces:
            twin = pattern.replace(r"\p{L}\p{N}", "a-zA-Z0-9")
            twin = twin.replace(r"\p{L}", "[a-zA-Z]")
            twin = twin.replace(r"\p{N}", "[0-9]")
            self._ascii = re.compile(twin, re.ASCII)

    def __call__(
        self,
        text: str,  # any text
    ) -> list[str]:  # its words
        "Find the words of `text`, with the faster twin if it is ASCII."
        return (self._ascii if text.isascii() else self._any).findall(text)


#| export
def count_words(
    texts: Iterable[str],  # documents
    pattern: str = GPT2,  # what a word is
) -> dict[str, int]:  # word → how often it occurs
    "Count words, running the pattern once per distinct space-chunk."
    texts, split = list(texts), PreTokenizer(pattern)
    edges, chunks, counts = Counter(), Counter(), defaultdict(int)
    for text in texts:
        first, _, rest = text.partition(" ")
        middle, spaces, last = rest.rpartition(" ")
        if not spaces or "  " in text or not split.cuts_at_spaces:
            edges[text] += 1  # nothing to gain, or not exact
            continue
        edges[first] += 1
        edges[" " + last] += 1
        chunks.update(middle.split(" "))
    if any(c[0].isspace() or c[-1].isspace() for c in chunks):
        edges, chunks = Counter(texts), Counter()  # a space at a line break
    edges.update({" " + chunk: n for chunk, n in chunks.items()})
    for edge, n in edges.items():
        for word in split(edge):
            counts[word] += n
    return counts


#| export
class WordPairs:
    "The words as strings of tokens, and where each pair of tokens stands."

    def __init__(
        self,
        counts: Mapping[str, int],  # word → how often it occurs
    ):
        "Write each word as one character a byte, and index its pairs."
        self.words = [w.encode().decode("latin-1") for w in counts]
        self.freqs = list(counts.values())
        self.count = defaultdict(int)  # pair → occurrences in the corpus
        self.where = defaultdict(list)  # pair → numbers of words with it
        for i, word in enumerate(self.words):
            for pair in map(add, word, word[1:]):
                self.count[pair] += self.freqs[i]
                self.where[pair].append(i)

    def merge(
        self,
        pair: str,  # two tokens
        new: str,  # the token to put in their place
    ) -> Iterable[str]:  # the pairs with `new`, whose count went up
        "Replace `pair` by `new` in every word and correct the counts."
        (a, b), count, words = pair, self.count, self.words
        made = defaultdict(list)  # pair with `new` → numbers of words
        for i in self.where.pop(pair):
            left, found, right = words[i].partition(pair)
            if not found:
                continue  # an earlier merge took a token of this pair
            if pair in right:
                self._merge_all(i, pair, new, made)
                continue
            words[i] = left + new + right
            if left:
                count[left[-1] + a] -= self.freqs[i]
                made[left[-1] + new].append(i)
            if right:
                count[b + right[0]] -= self.freqs[i]
                made[new + right[0]].append(i)
        for beside, found in made.items():
            count[beside] += sum(map(self.freqs.__getitem__, found))
            self.where[beside] += found
        count[pair] = 0
        return made

    def _merge_all(self, i: int, pair: str, new: str, made: dict) -> None:
        "A word that has the pair more than once is counted anew."
        before, n = self.words[i], self.freqs[i]
        after = self.words[i] = before.replace(pair, new)
        for old in map(add, before, before[1:]):
            self.count[old] -= n
        for fresh in map(add, after, after[1:]):
            if new in fresh:
                made[fresh].append(i)
            else:
                self.count[fresh] += n


#| export
def tie_key(
    tie: str,  # "first" or "greater"
    token: int,  # an id of the trainer: bytes, then merges in order
    data: bytes,  # the bytes of that token
) -> int | tuple[int, ...]:  # of equal pairs, the smallest keys win
    """Order tokens for pairs that are equally frequent.

    "first" prefers the token made first, bytes in the order of their
    symbols, as Hugging Face does; "greater" prefers greater bytes.
    """
    if tie == "greater":
        return (*(255 - b for b in data), 256)
    return ord(formats.SYMBOLS[token]) if token < 256 else 256 + token


#| export
def learn_merges(
    counts: Mapping[str, int],  # word → how often it occurs
    n_tokens: int,  # how many tokens to make besides the 256 bytes
    tie: str = "first",  # see `tie_key`
    progress: bool | None = None,  # a bar; None: only in a terminal
) -> list[tuple[bytes, bytes]]:  # the merges, in the order learned
    "Merge the most frequent pair, again and again (Sennrich et al. 2016)."
    pairs, merges = WordPairs(counts), []
    data = {chr(i): bytes([i]) for i in range(256)}
    tokens = {d: c for c, d in data.items()}
    key = {c: tie_key(tie, ord(c), d) for c, d in data.items()}
    heap = [(-n, key[p[0]], key[p[1]], p) for p, n in pairs.count.items()]
    heapify(heap)
    bar = tqdm(
        total=n_tokens,
        desc="merges",
        leave=False,
        disable=(None if progress is None else not progress),
    )
    while heap and len(tokens) < 256 + n_tokens:
        n, *keys, pair = heappop(heap)
        if -n != pairs.count[pair]:  # an old entry: put the count right
            if pairs.count[pair] > 0:
                heappush(heap, (-pairs.count[pair], *keys, pair))
            continue
        left, right = data[pair[0]], data[pair[1]]
        merges.append((left, right))
        new = tokens.setdefault(left + right, chr(len(tokens)))
        data[new] = left + right
        key.setdefault(new, tie_key(tie, ord(new), data[new]))
        for p in pairs.merge(pair, new):
            heappush(heap, (-pairs.count[p], key[p[0]], key[p[1]], p))
        bar.update(1)
    bar.close()
    return merges


#| export
def train_bpe(
    texts: str | Path | Iterable[str],  # a text, a file, or documents
    vocab_size: int,  # tokens wanted, the bytes and specials included
    *,
    special_tokens: Iterable[str] = (),  # never split, never merged
    pattern: str = GPT2,  # what a word is
    tie: str = "first",  # of equal pairs; or "greater", see `tie_key`
    workers: int | None = None,  # processes; None: by the corpus's size
    progress: bool | None = None,  # a bar; None: only in a terminal
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:  # vocab, merges
    """Learn byte-level BPE: ids 0–255 are the bytes, then come the merges.

    Special tokens get the last ids. A corpus with too few words gives
    fewer tokens than asked for. Raises `ValueError` for an empty corpus,
    for `vocab_size` below 256 + specials, for empty or repeated specials
    and for an unknown `tie`. Source: Sennrich et al. 2016; Radford et al.
    2019 for the bytes.
    """
    special_tokens = check_specials(special_tokens)
    least = 256 + len(special_tokens)
    if vocab_size < least:
        raise ValueError(
            f"vocab_size={vocab_size} must be at least {least}: 256 bytes "
            f"and {len(special_tokens)} special tokens"
        )
    if tie not in ("first", "greater"):
        raise ValueError(f"tie={tie!r} must be 'first' or 'greater'")
    batches = read_documents(
        texts, special_tokens, at_spaces=pattern in (GPT2, GPT4)
    )
    counts: dict[str, int] = defaultdict(int)
    count = partial(count_words, pattern=pattern)
    for batch_counts in map_batches(count, batches, workers):
        for word, n in batch_counts.items():
            counts[word] += n
    if not counts:
        raise ValueError(
            "the corpus is empty: there is no text to learn from; check "
            "the path or the iterable (a used-up generator is empty too)"
        )
    merges = learn_merges(counts, vocab_size - least, tie, progress)
    tokens = dict.fromkeys(bytes([b]) for b in range(256))
    tokens |= dict.fromkeys(left + right for left, right in merges)
    tokens = [*tokens, *(token.encode() for token in special_tokens)]
    return dict(enumerate(tokens)), merges


def check_specials(
    special_tokens: Iterable[str],  # strings, in the order of their ids
) -> list[str]:  # the same
    "Raise `ValueError` for special tokens that are empty or repeated."
    if isinstance(special_tokens, str):
        raise ValueError(
            f"special_tokens={special_tokens!r} is one string; give a list"
        )
    tokens = list(special_tokens)
    if "" in tokens:
        raise ValueError(f"special_tokens={tokens} holds an empty string")
    if twice := [t for t, n in Counter(tokens).items() if n > 1]:
        raise ValueError(f"special_tokens={tokens} repeats {twice[0]!r}")
    return tokens


#| export
class WordIds(dict):
    "Word → its ids, merged by rank when the word is first met."

    def __init__(
        self,
        vocab: Mapping[int, bytes],  # id → bytes
        merges: Iterable[tuple[bytes, bytes]],  # in the order learned
    ):
        """Note each pair's rank and product.

        Raises `ValueError` when a byte or a merge's product has no id.
        """
        tokens = {data: chr(token) for token, data in vocab.items()}
        lost = [b for b in range(256) if bytes([b]) not in tokens]
        if lost:
            raise ValueError(f"vocab has no token for the byte {lost[0]}")
        self.first = {b: tokens[bytes([b])] for b in range(256)}
        self.rank: dict[str, int] = {}  # pair → when to merge it
        self.product: dict[str, str] = {}  # pair → token
        rank, last = -1, None
        for i, (left, right) in enumerate(merges):
            if not {left, right, left + right} <= tokens.keys():
                raise ValueError(
                    f"merge {i}, {left!r} + {right!r}, names bytes that "
                    "are no token of vocab"
                )
            new, pair = tokens[left + right], tokens[left] + tokens[right]
            rank, last = rank + (new != last), new
            self.rank.setdefault(pair, rank)
            self.product[pair] = new

    def __missing__(self, word: str) -> list[int]:
        "Merge a new word; the cache starts again at a million words."
        tokens = word.encode().decode("latin-1").translate(self.first)
        while len(tokens) > 1:
            pairs = set(map(add, tokens, tokens[1:]))
            best = min(pairs, key=lambda pair: self.rank.get(pair, 1e9))
            if best not in self.rank:
                break
            tokens = tokens.replace(best, self.product[best])
        if len(self) >= 1_000_000:
            self.clear()
        ids = self[word] = list(map(ord, tokens))
        return ids


#| export
class ChunkIds(dict):
    "Space-chunk → its ids packed into bytes: the fast path of encoding."

    def __init__(
        self,
        words: WordIds,  # gives the ids of a word
        split: PreTokenizer,  # gives the words of a text
    ):
        "Start with an empty cache."
        self.words, self.split = words, split

    def __missing__(self, chunk: str) -> bytes:
        "Pack a new chunk; `ValueError` if a space is not on its own."
        if not chunk or chunk[0].isspace() or chunk[-1].isspace():
            raise ValueError(chunk)
        if len(self) >= 1_000_000:
            self.clear()
        packed = self[chunk] = self.pack(" " + chunk)
        return packed

    def pack(self, text: str) -> bytes:
        "The ids of a text as four bytes each."
        ids = chain.from_iterable(
            map(self.words.__getitem__, self.split(text))
        )
        return array("I", ids).tobytes()

    def encode(self, text: str) -> list[int]:
        "The ids of a text that `split` may cut at spaces."
        first, *middle = text.split(" ")
        try:
            last = self.pack(" " + middle.pop()) if middle else b""
            inner = b"".join(map(self.__getitem__, middle))
            if not first[-1:].isspace():
                packed = self.pack(first) + inner + last
                return np.frombuffer(packed, np.uint32).tolist()
        except ValueError:
            pass
        return np.frombuffer(self.pack(text), np.uint32).tolist()


#| export
class Vocabulary:
    "The tokens: ids → bytes, and what special tokens are called."

    def __init__(
        self,
        vocab: Mapping[int, bytes],  # id → bytes
        special_tokens: Mapping[str, int] | Iterable[str] = (),  # or names
    ):
        """Give special tokens without an id theirs, and lay out a table.

        A name takes the last id in `vocab` that has its bytes, else the
        next free one. Raises `ValueError` for empty or repeated names.
        """
        names = check_specials(special_tokens)
        self.vocab = dict(sorted(vocab.items()))
        last = {data: token for token, data in self.vocab.items()}
        self.special_tokens: dict[str, int] = {}
        for name in names:
            token = last.get(name.encode(), max(self.vocab, default=-1) + 1)
            if isinstance(special_tokens, Mapping):
                token = special_tokens[name]
            self.special_tokens[name] = token
            self.vocab[token] = name.encode()
        self.vocab_size = max(self.vocab, default=-1) + 1
        tokens = [self.vocab.get(i, b"\0") for i in range(self.vocab_size)]
        # numpy gathers tokens up to 16 bytes, padded with \0 to 16
        self._short = np.array([len(t) < 17 and 0 not in t for t in tokens])
        self._table = np.array(tokens, "S16")

    def __len__(self) -> int:
        "One more than the greatest id: how many rows an embedding needs."
        return self.vocab_size

    def decode_bytes(
        self,
        ids: Iterable[int],  # token ids
    ) -> bytes:  # what they stand for
        "Join the tokens' bytes; `ValueError` for an id without a token."
        ids = list(ids) if isinstance(ids, Iterator) else ids
        try:
            rows = np.array(array("I", ids))
            if self._short[rows].all():
                return self._table.take(rows).tobytes().translate(None, b"\0")
            return b"".join([self.vocab[token] for token in ids])
        except (OverflowError, IndexError, KeyError):
            at, bad = next(
                (i, t) for i, t in enumerate(ids) if t not in self.vocab
            )
            raise ValueError(
                f"ids[{at}]={bad} is no token: ids go from 0 to "
                f"{self.vocab_size - 1}"
            ) from None

    def decode(
        self,
        ids: Iterable[int],  # token ids
        errors: str = "replace",  # or "strict": what is no UTF-8 raises
    ) -> str:  # the text
        "Turn ids back into text; half a character becomes �."
        return self.decode_bytes(ids).decode("utf-8", errors)


#| export
class Encoder(Vocabulary):
    "A vocabulary and the merges that turn text into its ids."

    def __init__(
        self,
        vocab: Mapping[int, bytes],  # id → bytes
        merges: Iterable[tuple[bytes, bytes]],  # in the order learned
        special_tokens: Mapping[str, int] | Iterable[str] = (),  # or names
        pattern: str = GPT2,  # what a word is
    ):
        "Raise `ValueError` when the parts do not fit together."
        super().__init__(vocab, special_tokens)
        self.merges, self.pattern = list(merges), pattern
        special = set(self.special_tokens.values())
        plain = {i: b for i, b in self.vocab.items() if i not in special}
        self._split = PreTokenizer(pattern)
        self._words = WordIds(plain, self.merges)
        self._chunks = ChunkIds(self._words, self._split)

    def _encode_plain(self, text: str) -> list[int]:
        "Encode text in which no special token counts."
        try:
            if self._split.cuts_at_spaces:
                return self._chunks.encode(text)
            return [i for w in self._split(text) for i in self._words[w]]
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text holds {error.object[error.start]!r}, half of a "
                "surrogate pair, which UTF-8 cannot write; clean it with "
                "text.encode('utf-8', 'replace').decode()"
            ) from None

    def _allowed(self, specials: str | Iterable[str]) -> set[str]:
        "The special tokens that are asked for."
        if isinstance(specials, str):
            if specials not in ("none", "all"):
                raise ValueError(
                    f"specials={specials!r} must be 'none', 'all' or a set"
                )
            return set(self.special_tokens if specials == "all" else ())
        if lost := set(specials) - set(self.special_tokens):
            raise ValueError(
                f"specials names {sorted(lost)}, but the tokenizer has "
                f"{list(self.special_tokens)}"
            )
        return set(specials)

    def encode(
        self,
        text: str,  # any text
        specials: str | Iterable[str] = "none",  # "all", or some of them
    ) -> list[int]:  # token ids
        """Turn text into ids.

        A special token in `text` is ordinary text unless `specials` asks
        for it. Raises `ValueError` for unknown ones and lone surrogates.
        """
        allowed = self._allowed(specials)
        if not allowed:
            return self._encode_plain(text)
        ids, at = [], 0
        for found in find_special(allowed).finditer(text):
            ids += self._encode_plain(text[at : found.start()])
            ids.append(self.special_tokens[found[0]])
            at = found.end()
        return ids + self._encode_plain(text[at:])

    def encode_batch(
        self,
        texts: Iterable[str],  # documents
        specials: str | Iterable[str] = "none",  # as in `encode`
    ) -> list[list[int]]:  # the ids of each
        "Encode documents one by one."
        return [self.encode(text, specials) for text in texts]

    def encode_iterable(
        self,
        texts: Iterable[str],  # consecutive pieces of one text
        specials: str | Iterable[str] = "none",  # as in `encode`
    ) -> Iterator[int]:  # the ids of the whole text
        "Encode a stream in constant memory; see `safe_blocks`."
        allowed = self._allowed(specials)
        spaces = self._split.cuts_at_spaces
        for block in safe_blocks(texts, allowed, at_spaces=spaces):
            yield from self.encode(block, allowed)


#| export
class BPETokenizer(Encoder):
    "Byte-level BPE with its file formats: text → ids and back, exactly."

    @classmethod
    def train(
        cls,
        texts: str | Path | Iterable[str],  # see `train_bpe`
        vocab_size: int,  # see `train_bpe`
        *,
        special_tokens: Iterable[str] = (),  # see `train_bpe`
        pattern: str = GPT2,  # what a word is
        **options,  # `tie`, `workers` and `progress` of `train_bpe`
    ) -> "BPETokenizer":  # a new tokenizer
        "Learn a tokenizer from a corpus; raises what `train_bpe` raises."
        names = check_specials(special_tokens)
        options |= {"special_tokens": names, "pattern": pattern}
        return cls(*train_bpe(texts, vocab_size, **options), names, pattern)

    def save(
        self,
        path: str | Path,  # a folder, or a file that ends in .json
        *,
        overwrite: bool = False,  # False: an existing file is an error
    ) -> Path:  # the file written
        "Write Hugging Face's `tokenizer.json`, all of it or nothing."
        pattern = None if self.pattern == GPT2 else self.pattern
        parts = self.vocab, self.merges, self.special_tokens, pattern
        text = json.dumps(
            formats.to_json(*parts), ensure_ascii=False, indent=1
        )
        return write_atomic(_file(path), text + "\n", overwrite=overwrite)

    @classmethod
    def load(
        cls,
        path: str | Path,  # a folder with a tokenizer.json, or the file
    ) -> "BPETokenizer":  # the tokenizer it describes
        """Read a `tokenizer.json` of byte-level BPE, ours or another's.

        Raises `FileNotFoundError`, or `ValueError` that says what is
        wrong with the file.
        """
        path = _file(path)
        try:
            *parts, pattern = formats.from_json(json.loads(read_text(path)))
            return cls(*parts, pattern or GPT2)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"cannot use {path} as a tokenizer: {error}"
            ) from error

    @classmethod
    def from_gpt2_files(
        cls,
        encoder_json: str | Path,  # token → id, in byte symbols
        vocab_bpe: str | Path,  # a merge a line, below a #version line
    ) -> "BPETokenizer":  # the same tokenizer
        "Read the two files that GPT-2 was published with."
        names = json.loads(read_text(encoder_json))
        return cls(*formats.from_gpt2(names, read_text(vocab_bpe)))

    @classmethod
    def from_tiktoken(
        cls,
        encoding,  # a `tiktoken.Encoding`
    ) -> "BPETokenizer":  # a tokenizer that gives the same ids
        "Take over the ranks, the pattern and the special tokens."
        ranks = encoding._mergeable_ranks
        vocab = {token: data for data, token in ranks.items()}
        known = dict.fromkeys(("gpt2", "r50k_base", "p50k_base"), GPT2)
        known["cl100k_base"] = GPT4
        pattern = known.get(encoding.name, encoding._pat_str)
        merges = formats.merges_from_ranks(ranks)
        return cls(vocab, merges, encoding._special_tokens, pattern)

    def to_tiktoken(
        self,
        name: str = "llm-from-scratch",  # what tiktoken shall call it
    ):  # a `tiktoken.Encoding` that gives the same ids
        """Hand the tokens to tiktoken (`pip install tiktoken`).

        Raises `ValueError` when the ids are not in the order of the
        merges, since tiktoken merges by id.
        """
        import tiktoken

        special = set(self.special_tokens.values())
        ranks = {b: i for i, b in self.vocab.items() if i not in special}
        products = [ranks[left + right] for left, right in self.merges]
        if products != sorted(products):
            raise ValueError(
                "tiktoken merges in the order of ids, and these ids are "
                "not in the order of the merges; save() keeps both"
            )
        return tiktoken.Encoding(
            name,
            pat_str=self.pattern,
            mergeable_ranks=ranks,
            special_tokens=self.special_tokens,
        )


def _file(path: str | Path) -> Path:
    "The tokenizer's file: a path that ends in .json, or one in a folder."
    path = Path(path)
    return path if path.suffix == ".json" else path / "tokenizer.json"
