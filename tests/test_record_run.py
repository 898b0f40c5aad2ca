"A training run's folder becomes a record, and its log gets thinner."

import json

from bench import _common
from tools import record_run


def test_a_run_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(_common, "ROOT", tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    facts = {"text": {"corpus": "toys"}, "preset": {"minutes": 7}, "plan": {}}
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "result.json").write_text('{"steps": 12}', encoding="utf-8")
    rows = [{"step": i, "loss": 1 / 3} for i in range(1, 13)]
    rows[-1]["valid"] = 0.5
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "log.jsonl").write_text(lines, encoding="utf-8")
    assert record_run.main([str(folder), "toy"]) == 0
    path = tmp_path / "runs" / "toy.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["corpus"] == {"name": "toys"}
    assert told["result"] == {"steps": 12}
    assert told["preset"] == {"minutes": 7}
    steps = [row["step"] for row in told["history"]]
    assert steps == [5, 10, 12]
    assert told["history"][-1] == {"step": 12, "loss": 0.3333, "valid": 0.5}
