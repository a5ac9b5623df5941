from __future__ import annotations

import torch

from edgekit import zoo
from edgekit.zoo._mnist import mnist
from edgekit.zoo.mobilenet import _ChannelWeights


def test_the_trained_channel_weights_depend_on_the_image() -> None:
    model = zoo.load("mobilenetv3-mnist").model
    assert isinstance(model, torch.nn.Module)
    factors: list[torch.Tensor] = []
    for layer in model.modules():
        if isinstance(layer, _ChannelWeights):
            layer.factor.register_forward_hook(lambda _, __, factor: factors.append(factor))
    with torch.no_grad():
        model(torch.from_numpy(mnist().test_inputs[:50]))
    assert len(factors) == 7
    for factor in factors:
        assert factor.shape[2:] == (1, 1)
        assert ((factor >= 0) & (factor <= 1)).all()
    assert max(float(factor.std(dim=0).max()) for factor in factors) > 0.05
