"""Draw the figures of the tokenization chapter: python tokenization.py

The result and the tree come from a tokenizer trained here on TinyStories,
so they need that text (`LLMFS_DATA`).
"""

from draw import (
    COLORS,
    PASTEL,
    WIDTH,
    box,
    canvas,
    draw_map,
    save,
    story_tokenizer,
)

from llm_from_scratch import BPETokenizer

SENTENCE = "Lily lost her red ball, so she asked Ben."


def draw_result(tokenizer: BPETokenizer) -> None:
    "The sentence in pieces, each above its id."
    ids = tokenizer.encode(SENTENCE)
    pieces = [tokenizer.decode([i]).replace(" ", "␣") for i in ids]
    widths = [0.16 + 0.085 * max(len(piece), 3) for piece in pieces]
    scale = (WIDTH - 0.1 - 0.06 * len(ids)) / sum(widths)
    fig, ax = canvas(WIDTH, 1.15)
    x = 0.05
    for i, (token, piece) in enumerate(zip(ids, pieces, strict=True)):
        width = widths[i] * scale
        fill = PASTEL[i % len(PASTEL)]
        box(ax, x, 0.6, width, 0.38, piece, fill=fill, family="monospace")
        ax.text(
            x + width / 2, 0.3, str(token), ha="center", fontsize=9.5,
            weight="bold", color=COLORS["blue"],
        )  # fmt: skip
        x += width + 0.06
    ax.text(0.06, 0.06, "ids for the model", fontsize=7.5, color="#3d4a59")
    save(fig, "tokenization_result")


def draw_utf8(character: str) -> None:
    "How the bits of a code point are spread over four bytes."
    bits = f"{ord(character):021b}"
    groups = [bits[:3], bits[3:9], bits[9:15], bits[15:]]
    heads = ["11110", "10", "10", "10"]
    fig, ax = canvas(WIDTH, 1.75)
    title = f"code point {ord(character):X} in 21 bits"
    ax.text(0.05, 1.36, title, fontsize=8.5, color="#3d4a59")
    ax.text(0.05, 0.62, "prefix + bits", fontsize=8.5, color="#3d4a59")
    ax.text(0.05, 0.2, "byte", fontsize=8.5, color="#3d4a59")
    step = 0.115
    for i, (head, group) in enumerate(zip(heads, groups, strict=True)):
        x = 1.95 + i * 1.1
        start = x + len(head) * step
        for j, bit in enumerate(head + group):
            own, at = j >= len(head), x + j * step
            fill = PASTEL[i] if own else "#e3e8ee"
            small = {"line": 0.5, "fontsize": 7.5, "family": "monospace"}
            box(ax, at, 0.56, step, 0.24, bit, fill=fill, **small)
            if own:
                box(ax, at, 1.3, step, 0.24, bit, fill=fill, **small)
        for edge in (start, x + 8 * step):
            ax.plot(
                [edge, edge], [0.82, 1.28], ":", marker="", color="#9aa5b1"
            )
        byte = int(head + group, 2)
        ax.text(
            x + 4 * step, 0.18, f"{byte:02x}", ha="center", fontsize=11,
            weight="bold", color=COLORS["blue"], family="monospace",
        )  # fmt: skip
    save(fig, "tokenization_utf8")


def draw_node(ax, tokenizer: BPETokenizer, token: bytes, x: float):
    "Draw how `token` was made of two; return where its node stands."
    products = [left + right for left, right in tokenizer.merges]
    label, rank = token.decode().replace(" ", "␣"), None
    if token in products:
        rank = products.index(token)
        left, right = tokenizer.merges[rank]
        nodes = [draw_node(ax, tokenizer, left, x)]
        nodes.append(draw_node(ax, tokenizer, right, x + 0.62 * len(left)))
        y = max(top for _, top in nodes) + 0.2
        middle = sum(at for at, _ in nodes) / 2
        for at, top in nodes:
            path = ([at, at, middle, middle], [top, y, y, y + 0.08])
            ax.plot(*path, "-", marker="", color=COLORS["grey"], lw=1)
        y, label = y + 0.08, f"{label}  #{rank}"
    else:
        middle, y = x, 0.06
    width = 0.22 + 0.088 * len(label)
    fill = "#ffffff" if rank is None else PASTEL[0]
    box(ax, middle - width / 2, y, width, 0.26, label, fill=fill,
        family="monospace", fontsize=8.5)  # fmt: skip
    return middle, y + 0.26


def main() -> None:
    "Draw them all."
    tokenizer = story_tokenizer()
    draw_map("Tokenization", "map_tokenization")
    draw_result(tokenizer)
    draw_utf8("😊")
    fig, ax = canvas(4.1, 2.05)
    draw_node(ax, tokenizer, b" asked", 0.4)
    save(fig, "tokenization_tree")


if __name__ == "__main__":
    main()
