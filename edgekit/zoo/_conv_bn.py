"""The building block of the convolutional families: convolution, batch norm, activation."""

from __future__ import annotations

from torch import nn

__all__ = ["conv_bn"]


def conv_bn(
    channels_in: int,
    channels: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution without bias whose padding keeps the size, batch norm, and an activation.

    Args:
        channels_in: channels of its input (n, channels_in, height, width).
        channels: channels of its output; the output has 1/``stride`` of the height and width.
        kernel: an odd size.
        stride: of the convolution.
        groups: of channels that do not see each other.
        dilation: pixels from one tap of the kernel to the next.
        activation: None for a linear block.
    """
    layers = [
        nn.Conv2d(
            channels_in,
            channels,
            kernel,
            stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(channels),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))
