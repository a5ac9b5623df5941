from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import zoo
from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import make_bundle
from edgekit.reference import reference_predict
from edgekit.targets import parse_targets
from edgekit.zoo import latent_diffusion
from edgekit.zoo._prompts import LENGTH, as_prompted, pictures, prompts, tokens
from tests.serve.bundles import run, started

PIPELINE = """
inputs:
  - {name: tokens, datatype: INT64, shape: [-1, 4]}
  - {name: noise, datatype: FP32, shape: [-1, 4, 4, 4]}
steps:
  - {model: latent-diffusion-text, inputs: {tokens: tokens}, outputs: {text: text}}
  - model: latent-diffusion-sampler
    inputs: {noise: noise, text: text}
    outputs: {latent: latent}
  - {model: latent-diffusion-decoder, inputs: {latent: latent}, outputs: {image: image}}
outputs: [image]
"""


@pytest.mark.slow
def test_the_stages_in_an_ensemble_make_what_the_pipeline_makes(tmp_path: Path) -> None:
    targets = parse_targets(["onnxruntime"], None)
    for stage in ("text", "sampler", "decoder"):
        name = f"latent-diffusion-{stage}"
        make_bundle(
            zoo.load(name),
            tmp_path / f"{name}.edge",
            recipe=load_recipe("fp32"),
            targets=targets,
            timing=None,
        )
    (tmp_path / "digits-by-text.ensemble.yaml").write_text(PIPELINE)
    feeds = latent_diffusion.pipeline_feeds(6, seed=5)
    with reference_predict(zoo.load("latent-diffusion-mnist")) as predict:
        wanted = predict(feeds)["image"]

    async def test() -> None:
        async with started(tmp_path) as repository:
            answer = await repository.infer("digits-by-text", None, feeds)
            np.testing.assert_allclose(answer.outputs["image"], wanted, atol=1e-4)

    run(test())


def test_the_words_decide_and_not_the_noise() -> None:
    said = ["a small seven", "the big seven", "a tiny two", "huge two"]
    noise = latent_diffusion.pipeline_feeds(1, seed=3)["noise"].repeat(len(said), axis=0)
    feeds = {"tokens": np.array([tokens(one) for one in said]), "noise": noise}
    with reference_predict(zoo.load("latent-diffusion-mnist")) as predict:
        image = predict(feeds)["image"]
    shown = as_prompted(image, np.array([7, 7, 2, 2]), np.array([0, 1, 0, 1]))
    assert shown["as_prompted"] >= 0.75


def test_a_prompt_makes_many_images() -> None:
    workload = zoo.load("latent-diffusion-mnist")
    assert workload.evaluate is not None
    with reference_predict(workload) as predict:
        assert workload.evaluate(predict)["variety"] >= 0.5


def test_a_prompt_is_said_in_many_ways_of_the_same_words() -> None:
    said = prompts(np.full(200, 7), np.zeros(200, np.int64), seed=0)
    assert said.shape == (200, LENGTH)
    assert len(np.unique(said, axis=0)) == 12
    assert said.tolist().count(tokens("a small seven")) > 0


def test_the_judge_knows_real_pictures() -> None:
    images, digits, sizes = (x.numpy() for x in pictures(held_out=True))
    found = as_prompted(images[::5], digits[::5], sizes[::5])
    assert found["as_prompted"] >= 0.93
    assert as_prompted(images[::5], digits[::5], 1 - sizes[::5])["as_prompted"] <= 0.05
