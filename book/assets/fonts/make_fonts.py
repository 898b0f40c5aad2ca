"""Make the book's fonts: small subsets of open fonts for PDF and website.

Run once after changing the characters below; readers never need it:

    pip install fonttools brotli
    python book/assets/fonts/make_fonts.py FOLDER

FOLDER holds the unpacked npm packages named in PACKAGES, one folder each.
README.md beside this file tells how to get them, what is in every font,
and which fallback lists use them.
"""

import argparse
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

HERE = Path(__file__).parent
WEB = HERE.parent / "site" / "static"

PACKAGES = {
    "inter": "inter-ui-4.1.1",
    "mono": "jetbrains-mono-1.0.6",
    "math": "fontsource-stix-two-math-5.3.0",
    "cjk": "fontsource-noto-sans-sc-5.3.0",
    "symbols": "fontsource-noto-sans-symbols-2-5.3.0",
    "emoji": "fontsource-noto-emoji-5.3.2",
}

# Latin, Greek and Cyrillic text with the signs that prose and code need;
# a font simply lacks what it does not have.
TEXT = """
    20-7E A0-17F 192 1E4-1E7 1FA-1FF 218-21B 237 259 2BB-2BC 2C6-2DD
    300-304 306-308 30A-30C 323 326-328 370-3FF 400-45F 490-493 4B0-4B1
    1E80-1E85 1E9E 1EF2-1EF3 2000-206F 2070-209C 20A0-20BF 2100-215E
    2190-21FF 2200-22FF 2300-2311 2318 2324-2327 232B 2380-23CF
    2400-2426 2500-257F 2580-259F 25A0-25FF 2605-2606 2610-2612
    2660-2667 2713-2718 2756 2794-27AF 27E6-27EB 27F5-27FA FFFD
"""

# Symbols that Inter and JetBrains Mono lack.
SYMBOLS = """
    2300 2315 2318 2324 2325 232B 23CE 23E9-23EF 23F8-23FA 2400-2426
    25A0-25FF 2605-2606 2610-2612 261B-261F 2620-2623 263A-263C
    2660-266F 2690-2691 2699 26A0-26A1 2701-27BF 2B05-2B0D 2B1B-2B1C
    2B50
"""

# Maths: what TeX commands reach, with all mathematical alphabets.
MATH = """
    20-7E A0-FF 131 237 300-338 391-3F6 2010-2064 2070-208E 20D0-20EF
    2100-214F 2190-21FF 2200-22FF 2308-230B 231C-231F 2322-2323
    23B0-23E1 25A0-25FF 2605-2606 2660-2667 266D-266F 2713 27C0-27FF
    2900-297F 2980-29FF 2A00-2AFF 1D400-1D7FF
"""

KANA = "3000-3002 3005 3008-3011 3041-3096 3099-309C 30A0-30FF"
FULLWIDTH = "FF01-FF1F FF5E FFE5"

# Frequent characters of Chinese and Japanese, and those of the chapters.
HAN = """
    的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对
    生能子那得下自之年过发后作里用道行所然家种事成方多么去法学
    如都同现没面看定天分还好小部样理心她本前开但因只从想
    红球蓝绿黄黑白日月火水木金土山口目手语言模型词句字汉数文编码机器智
    网络深度习世界您早晚安谢再见请问什名叫爱喜欢吃喝玩跑找猫狗鸟鱼花草
    树果男女孩老师朋友长高新今明电脑书头气
    語漢東京私彼吾輩無習間話読書食学校社車風雨百千万二三四五六七八九十
"""

# Emoji with the parts that joined and coloured ones are made of.
EMOJI = """
    200D FE0F 2640 2642 2600 2601 2615 263A 2764 26A0 26A1 26BD 2705
    274C 2728 2B50 1F1E6-1F1FF 1F3FB-1F3FF 1F30D 1F308 1F31F 1F319
    1F333 1F339 1F34E 1F355 1F370 1F380 1F381 1F388 1F389 1F393 1F3A8
    1F3B5 1F3C6 1F3E0 1F40D 1F414 1F415 1F419 1F41F 1F426 1F431 1F436
    1F438 1F43B 1F43C 1F440 1F44B 1F44D 1F44E 1F44F 1F466-1F469 1F499
    1F49A 1F49B 1F49C 1F4A1 1F4A5 1F4AF 1F4BB 1F4C8 1F4C9 1F4D6 1F4DA
    1F4DD 1F504 1F50D 1F511 1F512 1F517 1F525 1F534 1F535 1F600-1F606
    1F609 1F60A 1F60D 1F60E 1F618 1F61B 1F622 1F62D 1F621 1F631 1F642
    1F644 1F64F 1F680 1F697 1F6A8 1F7E0-1F7E4 1F914 1F917 1F923 1F929
    1F937 1F92F 1F970 1F973 1F98A 1F999 1F99C 1F9D1 1F9E0 1F9E9
"""

# `calt` would draw -> and != as arrows and ligatures: text stays text.
FEATURES = [
    "kern", "ccmp", "locl", "mark", "mkmk", "tnum", "case",
    "ssty", "dtls", "flac", "rlig", "liga",
]  # fmt: skip
PLAIN = [f for f in FEATURES if f not in {"liga", "rlig"}]

# file stem, package, path in it, characters, features, family, weight
INTER, MONO = "Inter", "JetBrains Mono"
PDF_FONTS = [
    ("inter-400", "inter", "web/Inter-Regular", TEXT, PLAIN, INTER, 400),
    ("inter-600", "inter", "web/Inter-SemiBold", TEXT, PLAIN, INTER, 600),
    ("inter-700", "inter", "web/Inter-Bold", TEXT, PLAIN, INTER, 700),
    ("mono-400", "mono", "JetBrainsMono-Regular", TEXT, PLAIN, MONO, 400),
    ("mono-700", "mono", "JetBrainsMono-Bold", TEXT, PLAIN, MONO, 700),
    ("mono-400-italic", "mono", "JetBrainsMono-Italic", TEXT, PLAIN, MONO, 0),
]
SMALL_FONTS = [
    ("cjk", "cjk", "chinese-simplified", HAN, PLAIN, "Noto Sans SC", 400),
    ("symbols", "symbols", "symbols", SYMBOLS, PLAIN, "Noto Sans Symbols 2"),
    ("emoji", "emoji", "emoji", EMOJI, FEATURES, "Noto Emoji", 400),
]


def code_points(ranges: str) -> set[int]:
    """Read `20-7E A0` as a set of code points."""
    points = set()
    for part in ranges.split():
        first, _, last = part.partition("-")
        points.update(range(int(first, 16), int(last or first, 16) + 1))
    return points


def cut(source: Path, points: set[int], features: list[str]) -> TTFont:
    """Return the font `source` with only `points` and `features`."""
    options = subset.Options(
        layout_features=features,
        name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14, 16, 17],
        name_languages=[0x409],
        hinting=False,
        notdef_outline=True,
        glyph_names=False,
        legacy_kern=False,
        drop_tables=["DSIG", "FFTM", "meta"],
    )
    font = subset.load_font(str(source), options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=points)
    cutter.subset(font)
    return font


def rename(font: TTFont, family: str, style: str, weight: int) -> None:
    """Give a font one family name, a style name and a weight."""
    names = font["name"]
    post = f"{family}-{style}".replace(" ", "")
    texts = {1: family, 2: style, 3: post, 4: f"{family} {style}", 6: post}
    for name_id in (16, 17, 21, 22, 25):
        names.removeNames(nameID=name_id)
    for name_id, text in texts.items():
        names.setName(text, name_id, 3, 1, 0x409)
    font["OS/2"].usWeightClass = weight


def save(font: TTFont, path: Path, flavor: str | None) -> None:
    """Write `font`, as woff2 or plain TrueType, and tell its size."""
    font.flavor = flavor
    font["head"].modified = font["head"].created  # the same bytes each run
    font.recalcTimestamp = False
    font.save(path)
    print(f"{path.stat().st_size:8,d}  {path.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder

    def find(package: str, name: str) -> Path:
        found = sorted((folder / PACKAGES[package]).rglob(name))
        if len(found) != 1:
            raise SystemExit(f"{package}: {len(found)} files match {name}")
        return found[0]

    for stem, package, name, chars, features, family, weight in PDF_FONTS:
        source = find(package, name.split("/")[-1] + ".woff2")
        font = cut(source, code_points(chars), features)
        style = {0: "Italic", 400: "Regular", 600: "SemiBold", 700: "Bold"}
        rename(font, family, style[weight], weight or 400)
        save(font, HERE / f"{stem}.ttf", None)
        if package == "mono":
            save(font, WEB / f"{stem}.woff2", "woff2")

    han = {ord(c) for c in HAN if not c.isspace()}
    han |= code_points(f"{KANA} {FULLWIDTH}")
    for stem, package, name, chars, features, family, *_ in SMALL_FONTS:
        source = find(package, f"*-{name}-400-normal.woff2")
        points = han if chars is HAN else code_points(chars)
        font = cut(source, points, features)
        rename(font, family, "Regular", 400)
        save(font, HERE / f"{stem}.ttf", None)
        save(font, WEB / f"{stem}.woff2", "woff2")

    # Upright text keeps the optical size: headings get the display cut.
    axes = {"wght": (400, 400, 700)}
    for stem, name in (("inter", ""), ("inter-italic", "-Italic")):
        source = find("inter", f"InterVariable{name}.woff2")
        font = cut(source, code_points(TEXT), PLAIN)
        if name:
            axes["opsz"] = 14
        instancer.instantiateVariableFont(font, axes, inplace=True)
        save(font, WEB / f"{stem}.woff2", "woff2")

    source = find("math", "*-400-normal.woff2")
    font = cut(source, code_points(MATH), FEATURES)
    save(font, WEB / "math.woff2", "woff2")


if __name__ == "__main__":
    main()
