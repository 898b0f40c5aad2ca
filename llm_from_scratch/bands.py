"""Is my run like those of others? Recorded bands of validation scores.

Knows what the presets reached from several seeds, by how much text was
read, since clocks differ. Knows nothing of how training works.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .files import read_text
from .presets import PRESETS
from .run_folder import RunFolder

BANDS = Path(__file__).with_name("bands.json")


@dataclass(frozen=True)
class Verdict:
    "How a run compares with recorded ones."

    fits: bool  # whether every score lies in its band
    lines: tuple[str, ...]  # one for each score that was compared

    def __str__(self) -> str:
        return "\n".join(self.lines)


def check_my_run(
    history: list[dict] | str | Path,  # rows of `train`, or a run's folder
    *,
    corpus: str = "TinyStories",  # or "the built-in story world"
    bands: dict | None = None,  # None: those of the package
) -> Verdict:
    """Compare validation scores with those recorded from several seeds.

    What counts is how many targets were read, not how long it took. Two
    kinds of scores are compared: those while the rate is at its peak,
    and the last one, after the decay. Raises `ValueError` if the text
    was not recorded, or if there is nothing to compare.
    """
    bands = recorded() if bands is None else bands
    if corpus not in bands:
        raise ValueError(
            f"corpus={corpus!r} was not recorded: {', '.join(bands)} were"
        )
    if not isinstance(history, list):
        history = RunFolder(history).rows()
    decay = PRESETS["coffee"].decay
    scored = [row for row in history if "valid" in row]
    if not scored:
        raise ValueError(
            f"none of {len(history)} rows has a validation score: train "
            "with validate="
        )
    total = history[-1]["targets"]
    stable = [r for r in scored if r["targets"] <= (1 - decay) * total]
    checked = [compare(r, bands[corpus]["stable"]) for r in stable]
    if scored[-1]["targets"] == total:
        checked.append(compare(scored[-1], bands[corpus]["end"], "at the end"))
    known = [told for told in checked if told[0] is not None]
    if not known:
        raise ValueError(
            f"{total:,} targets lie outside of what was recorded: "
            + ", ".join(span(band) for band in bands[corpus].values())
        )
    return Verdict(
        all(fits for fits, _ in known), tuple(line for _, line in checked)
    )


def compare(
    row: dict,  # with "targets" and "valid"
    band: dict[str, list],  # "targets", "low" and "high"
    when: str = "",  # said before the numbers
) -> tuple[bool | None, str]:  # None: the band does not reach so far
    "Whether a score lies in its band, and a line that says so."
    n, valid = row["targets"], row["valid"]
    start = f"{when or 'on the way'}, {n:,} targets: {valid:.3f}"
    low = interpolate(band["targets"], band["low"], n)
    high = interpolate(band["targets"], band["high"], n)
    if low is None or high is None:
        return None, f"{start}, not recorded"
    limits = f"{low:.3f} to {high:.3f}"
    if valid > high:
        return False, f"{start} is worse than {limits}"
    if valid < low:
        hint = "; is there a leak, or a better recipe?"
        return False, f"{start} is better than {limits}{hint}"
    return True, f"{start} lies in {limits}"


def interpolate(
    places: list[float],  # rising
    values: list[float],  # at these
    x: float,  # where
) -> float | None:  # None: outside
    "A line between two neighbours, over the logarithm of the place."
    if not places or not places[0] <= x <= places[-1]:
        return None
    i = max(k for k, place in enumerate(places) if place <= x)
    if places[i] == x:
        return values[i]
    left, right = math.log(places[i]), math.log(places[i + 1])
    share = (math.log(x) - left) / (right - left)
    return values[i] + share * (values[i + 1] - values[i])


def span(
    band: dict[str, list],  # with "targets"
) -> str:
    "Where a band begins and ends."
    places = band["targets"]
    return f"{places[0]:,} to {places[-1]:,}" if places else "nothing"


@cache
def recorded() -> dict:
    "The bands that the package brings. Raises `FileNotFoundError`."
    if not BANDS.is_file():
        raise FileNotFoundError(
            f"{BANDS} is missing, so there is nothing to compare with; "
            "record it with python -m bench.bands, or pass bands="
        )
    return json.loads(read_text(BANDS))["bands"]
