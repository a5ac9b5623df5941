"""A file of the zoo can be copied, and its model changed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from edgekit.compress.modules import count_parameters
from edgekit.errors import WorkloadError
from edgekit.modelref import resolve
from edgekit.reference import reference_predict
from edgekit.zoo import mlp_digits


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """With half the units, and quickly trained."""
    source = Path(mlp_digits.__file__).read_text()
    copy = tmp_path / "mine.py"
    copy.write_text(source.replace("128", "64").replace("bar=", "epochs=4, bar="))
    return copy


def test_a_copy_with_another_model_is_trained_and_kept(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workload = resolve(f"{copied}:workload")
    assert "is trained first" in caplog.text
    assert count_parameters(workload.model) == 64 * 65 + 64 * 65 + 10 * 65
    with reference_predict(workload) as predict:
        assert workload.score(predict) > 0.9
    caplog.clear()
    again = resolve(f"{copied}:workload")
    assert not caplog.text
    first, second = (w.model.state_dict()["0.weight"] for w in (workload, again))
    assert (first == second).all()


def test_a_checkpoint_is_beside_the_file_of_what_a_partial_builds() -> None:
    entry = mlp_digits.ENTRIES[0]
    bound = replace(entry, build=partial(entry.build))
    assert bound.checkpoint == entry.checkpoint


def test_a_checkpoint_of_another_model_is_one_line(copied: Path) -> None:
    resolve(f"{copied}:workload")
    copied.write_text(copied.read_text().replace("64, 64", "64, 32").replace("(64, 10", "(32, 10"))
    with pytest.raises(WorkloadError, match="does not fit the model") as caught:
        resolve(f"{copied}:workload")
    assert "\n" not in str(caught.value)
    assert str(copied.parent / "checkpoints" / "mlp-digits.safetensors") in str(caught.value)
