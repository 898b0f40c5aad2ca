"""`check_my_run`: which runs fit recorded bands, and what is told."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from llm_from_scratch import bands as module
from llm_from_scratch.bands import Verdict, check_my_run, interpolate
from llm_from_scratch.presets import PRESETS

BANDS = {
    "toys": {
        "stable": {
            "targets": [100, 1000],
            "low": [2.0, 1.5],
            "high": [2.4, 1.7],
        },
        "end": {"targets": [1000, 9000], "low": [1.2, 0.9], "high": [1.4, 1]},
    }
}


def rows(*scores: tuple[int, float], end: float = 0.01) -> list[dict]:
    "A log; the peak rate falls behind 60 % of the targets, and to `end`."
    last = scores[-1][0]
    found = []
    for step, (n, valid) in enumerate(scores, 1):
        rate = end if n == last else 1.0 if n <= 0.6 * last else 0.5
        row = {"step": step, "lr": rate, "targets": n, "valid": valid}
        found.append(row)
    return found


def write_run(folder: Path, log: list[dict], **facts) -> Path:
    "The folder of a run of coffee on the text of BANDS, or of what is told."
    folder.mkdir(exist_ok=True)
    preset = replace(PRESETS["coffee"], minutes=3.0)
    usual = {"preset": asdict(preset), "text": {"corpus": "toys"}}
    (folder / "run.json").write_text(json.dumps(usual | facts), "utf-8")
    lines = "".join(json.dumps(row) + "\n" for row in log)
    (folder / "log.jsonl").write_text(lines, encoding="utf-8")
    return folder


def judged(*scores: tuple[int, float]) -> Verdict:
    return check_my_run(rows(*scores), corpus="toys", bands=BANDS)


def test_a_run_that_fits():
    verdict = judged((100, 2.1), (1000, 1.6), (3000, 1.15))
    assert verdict.fits
    assert str(verdict).splitlines() == [
        "on the way, 100 targets: 2.100 lies in 2.000 to 2.400",
        "on the way, 1,000 targets: 1.600 lies in 1.500 to 1.700",
        "at the end, 3,000 targets: 1.150 lies in 1.050 to 1.200",
    ]


@pytest.mark.parametrize(
    ("score", "told"),
    [
        ((1000, 1.8), "1.800 is worse than 1.500 to 1.700"),
        ((1000, 0.3), "0.300 is better than 1.500 to 1.700; is there a leak"),
    ],
)
def test_a_run_that_does_not_fit(score, told):
    verdict = judged(score, (3000, 1.15))
    assert not verdict.fits
    assert told in verdict.lines[0]
    assert "lies in" in verdict.lines[1]


def test_the_decay_is_not_compared_with_the_steady_part():
    verdict = judged((1000, 1.6), (2500, 1.0), (3000, 1.15))
    assert len(verdict.lines) == 2
    assert verdict.fits


@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_an_interrupted_run_has_no_end(rate):
    "Its last score is that of a checkpoint on the way."
    log = rows((100, 2.1), (1000, 1.6), end=rate)
    verdict = check_my_run(log, corpus="toys", bands=BANDS)
    assert verdict.fits
    assert not any("at the end" in line for line in verdict.lines)
    assert len(verdict.lines) == 1 + (rate == 1)


def test_what_was_not_recorded_is_told():
    verdict = judged((50, 9.0), (3000, 1.15))
    assert verdict.fits
    assert verdict.lines[0].endswith("50 targets: 9.000, not recorded")


def test_a_run_outside_of_all_records():
    with pytest.raises(ValueError, match="90,000 targets") as error:
        judged((90_000, 0.8))
    assert "100 to 1,000, 1,000 to 9,000" in str(error.value)


def test_a_run_without_scores():
    with pytest.raises(ValueError, match="none of 2 rows"):
        check_my_run([{"targets": 3}] * 2, corpus="toys", bands=BANDS)


def test_a_text_that_was_not_recorded():
    with pytest.raises(ValueError, match=r"corpus='news'.*toys were"):
        check_my_run([], corpus="news", bands=BANDS)


def test_the_folder_of_a_run(tmp_path):
    "It says itself which text and preset it had."
    with pytest.raises(ValueError, match="none of 0 rows"):
        check_my_run(write_run(tmp_path, []), bands=BANDS)
    log = rows((100, 2.1), (3000, 1.15))
    assert check_my_run(write_run(tmp_path, log), bands=BANDS).fits
    news = write_run(tmp_path, log, text={"corpus": "news"})
    with pytest.raises(ValueError, match=r"corpus='news'.*toys were"):
        check_my_run(news, bands=BANDS)
    assert check_my_run(news, corpus="toys", bands=BANDS).fits


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no training run") as e:
        check_my_run(tmp_path / "typo", bands=BANDS)
    assert str(tmp_path / "typo") in str(e.value)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"preset": asdict(PRESETS["gpu"])}, "n_layer was 6, is 12"),
        (
            {"preset": asdict(replace(PRESETS["coffee"], decay=0.2))},
            "decay was 0.4, is 0.2",
        ),
        ({"preset": {}}, "vocab_size was 4096, is None"),
    ],
)
@pytest.mark.parametrize("corpus", [None, "toys"])
def test_a_preset_that_was_not_recorded(facts, words, corpus, tmp_path):
    folder = write_run(tmp_path, rows((100, 2.1), (3000, 1.15)), **facts)
    with pytest.raises(ValueError, match=r"preset=coffee.*: ") as caught:
        check_my_run(folder, corpus=corpus, bands=BANDS)
    faults = str(caught.value).partition("recorded: ")[2]
    assert words in faults, faults


def test_bands_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BANDS", tmp_path / "bands.json")
    module.recorded.cache_clear()
    with pytest.raises(FileNotFoundError, match="this version brings no"):
        check_my_run(rows((100, 2.1)))


@pytest.mark.parametrize(
    ("x", "value"), [(1, 5.0), (10, 6.0), (100, 7.0), (0.5, None), (101, None)]
)
def test_lines_over_the_logarithm(x, value):
    found = interpolate([1, 100], [5.0, 7.0], x)
    assert found == (value if value is None else pytest.approx(value))
    assert interpolate([], [], x) is None


def test_the_bands_of_the_package():
    module.recorded.cache_clear()
    bands = module.recorded()
    assert [*bands] == ["TinyStories", "the built-in story world"]
    for kinds in bands.values():
        for band in kinds.values():
            assert band["targets"] == sorted(band["targets"])
            pairs = [*zip(band["low"], band["high"], strict=True)]
            assert len(pairs) == len(band["targets"]) >= 2
            assert all(0.3 < low < high < 3 for low, high in pairs)


def test_recorded_runs_fit():
    "Of other lengths and evaluations than those that made the bands."
    root = Path(__file__).parents[1] / "runs"
    coffee = json.loads((root / "pretrain_coffee.json").read_text("utf-8"))
    minutes = json.loads((root / "quality_per_minute.json").read_text("utf-8"))
    told = [
        check_my_run(coffee["history"]),
        check_my_run(minutes["arms"]["five"]["history"]),
        check_my_run(
            minutes["arms"]["world"]["history"],
            corpus="the built-in story world",
        ),
    ]
    assert all(verdict.fits for verdict in told), told
    plain = minutes["arms"]["plain"]["history"]
    at_peak = [row | {"lr": 1} for row in plain]  # so that all are compared
    assert not check_my_run(at_peak).fits
