from __future__ import annotations

import pytest

from edgekit.bundle import Bundle
from edgekit.errors import GateError, RuntimeUnavailableError
from edgekit.serve.loading import choose_artifact, load
from edgekit.verify import Reference
from tests.serve.conftest import ONE


def test_an_artifact_that_computes_something_else_here_is_not_served(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Reference.load(bundle.path / "reference.npz")
    wrong = Reference(
        stored.feeds, [{"logits": -o["logits"]} for o in stored.outputs], stored.kinds
    )
    monkeypatch.setattr(Reference, "load", lambda _: wrong)
    with pytest.raises(GateError, match="does not compute on this machine"):
        load(bundle, ONE)


def test_the_fastest_runtime_that_works_here_is_chosen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (decision.runtime for decision in bundle.manifest.decisions)
    assert choose_artifact(bundle, None).runtime == first
    monkeypatch.setattr(
        "edgekit.serve.loading.unusable", lambda name, _: "broken" if name == first else ""
    )
    assert choose_artifact(bundle, None).runtime == second
    monkeypatch.setattr("edgekit.serve.loading.unusable", lambda *_: "broken")
    with pytest.raises(RuntimeUnavailableError, match="broken"):
        choose_artifact(bundle, None)
