"""The Python that README and front matter show runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["README.md", "index.qmd"])
def test_python_on_the_front_pages_runs(name, tmp_path, monkeypatch):
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks, f"{name} shows no Python"
    monkeypatch.chdir(tmp_path)
    for code in blocks:
        exec(compile(code, name, "exec"), {})
    assert (tmp_path / "my-model" / "tokenizer.json").is_file()
