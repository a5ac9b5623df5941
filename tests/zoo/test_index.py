from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit import zoo
from edgekit.zoo import index, mlp_digits


def test_a_new_model_is_told_while_another_is_not_trained_yet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = mlp_digits.ENTRIES[0]
    told = [("mlp_digits", entry), ("new", replace(entry, name="untrained"))]
    monkeypatch.setattr(index, "entries", lambda: iter(told))
    monkeypatch.setattr(zoo, "INDEX", tmp_path / "index.json")
    monkeypatch.setattr(zoo, "listed", dict)
    index.main([entry.name])
    assert json.loads(zoo.INDEX.read_text()).keys() == {entry.name}
