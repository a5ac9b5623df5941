"""The stages of ``zoo:latent-diffusion-mnist``, which an ensemble of the server runs one by one.

``latent-diffusion-text`` makes states of tokens, ``latent-diffusion-sampler`` latents of noise and
these states, ``latent-diffusion-decoder`` images of latents.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache, partial

import numpy as np
import torch

from edgekit.spec import Array, Feeds
from edgekit.workload import Workload
from edgekit.zoo import latent_diffusion
from edgekit.zoo._entry import Loaded
from edgekit.zoo._latent import Pipeline
from edgekit.zoo.latent_diffusion import pipeline_feeds, stage_workload

__all__ = ["ENTRIES"]

(_WHOLE,) = latent_diffusion.ENTRIES


def _stage(name: str) -> Workload:
    """One stage; the others are PyTorch's where it is judged."""
    pipeline = _pipeline()

    @torch.no_grad()
    def feeds(count: int, seed: int) -> Feeds:
        every = pipeline_feeds(count, seed)
        text = pipeline.text(torch.from_numpy(every["tokens"]))
        if name == "text":
            return {"tokens": every["tokens"]}
        if name == "sampler":
            return {"noise": every["noise"], "text": text.numpy()}
        return {"latent": pipeline.sampler(torch.from_numpy(every["noise"]), text).numpy()}

    @torch.no_grad()
    def finish(made: Array, every: Feeds) -> Array:
        found = torch.from_numpy(np.array(made))
        if name == "text":
            found = pipeline.sampler(torch.from_numpy(every["noise"]), found)
        if name in {"text", "sampler"}:
            found = pipeline.decoder(found)
        image: Array = found.numpy()
        return image

    entry = next(one for one in ENTRIES if one.name.endswith(name))
    output = {"text": "text", "sampler": "latent", "decoder": "image"}[name]
    # A copy: what prunes the stage in place must not change what judges it.
    return stage_workload(entry, deepcopy(pipeline.get_submodule(name)), feeds, output, finish)


@cache
def _pipeline() -> Pipeline:
    model = _WHOLE.workload().model
    assert isinstance(model, Pipeline)
    return model


def _stage_entry(name: str, description: str) -> Loaded:
    return Loaded(
        name=f"latent-diffusion-{name}",
        family="generative",
        description=description,
        bar=_WHOLE.bar,
        source=_WHOLE.source,
        make=partial(_stage, name),
    )


ENTRIES = (
    _stage_entry("text", "The text encoder of latent-diffusion-mnist."),
    _stage_entry("sampler", "DDIM in 4 steps in the latents of latent-diffusion-mnist."),
    _stage_entry("decoder", "The decoder of latent-diffusion-mnist."),
)
