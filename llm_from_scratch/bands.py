"""Is my run like those of others? Recorded bands of validation scores.

Knows what the presets reached from several seeds, by how much text was
read, since clocks differ. Knows nothing of how training works.
"""

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from .files import read_text
from .presets import PRESETS
from .run_folder import RunFolder, differences

BANDS = Path(__file__).with_name("bands.json")
PRESET = "coffee"  # whose runs were recorded
FREE = ("name", "minutes", "evaluations")  # what may differ from it
ENDED = 0.05  # share of the peak rate: below, the decay is over


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
    corpus: str | None = None,  # None: the folder's; of rows, TinyStories
    bands: dict | None = None,  # None: those of the package
) -> Verdict:
    """Compare validation scores with those recorded from several seeds.

    What counts is how many targets were read, not how long it took. Two
    kinds of scores are compared: those while the rate is at its peak,
    and the last one, if the decay has come to its end. Raises
    `ValueError` if the text or the preset was not recorded, or if there
    is nothing to compare, and `FileNotFoundError` if there is no run.
    """
    bands = recorded() if bands is None else bands
    if not isinstance(history, list):
        store = RunFolder(history)
        told = read_corpus(store)
        corpus, history = corpus or told, store.rows()
    corpus = corpus or "TinyStories"
    if corpus not in bands:
        raise ValueError(
            f"corpus={corpus!r} was not recorded: {', '.join(bands)} were"
        )
    scored = [row for row in history if "valid" in row]
    if not scored:
        raise ValueError(
            f"none of {len(history)} rows has a validation score: train "
            "longer, or with validate="
        )
    stable = [row for row in scored if row["lr"] == 1]
    checked = [compare(r, bands[corpus]["stable"]) for r in stable]
    if scored[-1]["lr"] < ENDED:
        checked.append(compare(scored[-1], bands[corpus]["end"], "at the end"))
    known = [told for told in checked if told[0] is not None]
    if not known:
        raise ValueError(
            f"{history[-1]['targets']:,} targets: no score at the peak rate "
            "or after the decay lies in what was recorded, "
            + ", ".join(span(band) for band in bands[corpus].values())
        )
    return Verdict(
        all(fits for fits, _ in known), tuple(line for _, line in checked)
    )


def read_corpus(
    store: RunFolder,  # of `pretrain`
) -> str:  # which text it learned from
    "Raise `ValueError` for a run with another preset than was recorded."
    facts = store.facts()
    wanted, found = asdict(PRESETS[PRESET]), facts.get("preset", {})
    both = [{k: x[k] for k in x if k not in FREE} for x in (wanted, found)]
    if faults := differences(*both):
        raise ValueError(
            f"{store.path} was not trained as preset={PRESET}, which alone "
            f"was recorded: {'; '.join(faults[:3])}"
        )
    return facts["text"]["corpus"]


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
            f"{BANDS} is missing, so there is nothing to compare with: this "
            "version brings no records. Take a newer one, or pass bands=; in "
            "the repository, python -m bench.bands makes them"
        )
    return json.loads(read_text(BANDS))["bands"]
