"""Small networks of one or two kinds of coupling each, registered among the architectures."""

from __future__ import annotations

import torch
from torch import nn

from tests.compress.prune.architectures import reg


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.g = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.d = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.gn = nn.GroupNorm(4, 8)
        self.l = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x):
        y = torch.relu(self.bn(self.a(x)))
        y = self.gn(self.d(torch.relu(self.g(y)) + y))
        return self.l(y.flatten(1))


@reg
def cnn():
    return Net(), {"x": torch.rand(2, 3, 4, 4)}


def conv(i, o, **k):
    return nn.Sequential(
        nn.Conv2d(i, o, 3, padding=1, bias=False, **k), nn.BatchNorm2d(o), nn.ReLU()
    )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = conv(3, 8)
        self.b = conv(8, 16)
        self.c = conv(16, 32)
        self.u2 = nn.ConvTranspose2d(32, 16, 2, 2)
        self.d2 = conv(32, 16)
        self.u1 = nn.ConvTranspose2d(16, 8, 2, 2)
        self.d1 = conv(16, 8)
        self.o = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(nn.functional.max_pool2d(a, 2))
        c = self.c(nn.functional.max_pool2d(b, 2))
        y = self.d2(torch.cat([self.u2(c), b], 1))
        return self.o(self.d1(torch.cat([self.u1(y), a], 1)))


@reg
def unet():
    return UNet(), {"x": torch.rand(2, 3, 16, 16)}


class RNN(nn.Module):
    def __init__(self, k, bi=True):
        super().__init__()
        self.r = k(6, 16, 2, batch_first=True, bidirectional=bi)
        self.o = nn.Linear(32 if bi else 16, 4)

    def forward(self, x):
        y, _ = self.r(x)
        return self.o(y[:, -1])


@reg
def lstm():
    return RNN(nn.LSTM), {"x": torch.rand(2, 5, 6)}


@reg
def gru():
    return RNN(nn.GRU, False), {"x": torch.rand(2, 5, 6)}


class CatSplit(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(3, 4, 1)
        self.c = nn.Conv2d(12, 12, 1)
        self.d = nn.Conv2d(6, 5, 1)
        self.e = nn.Conv2d(6, 5, 1)
        self.f = nn.Linear(5, 3)

    def forward(self, x):
        left, right = self.c(torch.cat([self.a(x), self.b(x)], 1).relu()).relu().chunk(2, 1)
        return self.f((self.d(left) + self.e(right)).relu().mean((2, 3)))


@reg
def catsplit():
    return CatSplit(), {"x": torch.rand(2, 3, 4, 4)}


class ResNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.i = conv(3, 16)
        self.a = conv(16, 16)
        self.g = conv(16, 16, groups=4)
        self.c = conv(16, 16)
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        x = self.i(x)
        x = x + self.c(self.g(self.a(x)))
        return self.o(x.mean((2, 3)))


@reg
def resnext():
    return ResNeXt(), {"x": torch.rand(2, 3, 8, 8)}


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.i = conv(3, 8)
        self.a = conv(8, 6)
        self.b = conv(14, 6)
        self.c = conv(20, 6)
        self.o = nn.Linear(26 * 4, 3)

    def forward(self, x):
        x = self.i(x)
        for layer in (self.a, self.b, self.c):
            x = torch.cat([x, layer(x)], 1)
        return self.o(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


@reg
def densenet():
    return Dense(), {"x": torch.rand(2, 3, 8, 8)}


class GLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.i = nn.Linear(6, 16)
        self.g = nn.Linear(16, 40)
        self.h = nn.Linear(20, 16)
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        x = self.i(x)
        a, b = self.g(x).chunk(2, -1)
        return self.o(
            x + self.h(nn.functional.silu(a) * b) + self.h(nn.functional.glu(self.g(x), -1))
        )


@reg
def glu():
    return GLU(), {"x": torch.rand(2, 6)}


class TEL(nn.Module):
    def __init__(self):
        super().__init__()
        self.i = nn.Linear(6, 16)
        self.t = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        return self.o(self.t(self.i(x)).mean(1))


@reg
def encoderlayer():
    return TEL(), {"x": torch.rand(2, 5, 6)}


class DETR(nn.Module):
    def __init__(self):
        super().__init__()
        self.b = nn.Sequential(conv(3, 8), nn.MaxPool2d(2), conv(8, 16), nn.MaxPool2d(2))
        self.p = nn.Conv2d(16, 16, 1)
        self.t = nn.Transformer(16, 4, 1, 1, 32, batch_first=True)
        self.q = nn.Parameter(torch.rand(6, 16))
        self.e = nn.Parameter(torch.rand(16, 16))
        self.c = nn.Linear(16, 5)
        self.x = nn.Linear(16, 4)

    def forward(self, x):
        h = self.p(self.b(x)).flatten(2).permute(0, 2, 1) + self.e
        q = self.q.unsqueeze(0).repeat(x.shape[0], 1, 1)
        d = self.t(h, q)
        return self.c(d), self.x(d).sigmoid()


@reg
def detrlike():
    return DETR(), {"x": torch.rand(2, 3, 16, 16)}


class GN(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.n = nn.GroupNorm(4, 16)
        self.b = nn.Conv2d(16, 8, 3, padding=1)
        self.m = nn.GroupNorm(1, 8)
        self.o = nn.Linear(8, 3)

    def forward(self, x):
        return self.o(self.m(self.b(self.n(self.a(x)).relu())).relu().mean((2, 3)))


@reg
def groupnorm():
    return GN(), {"x": torch.rand(2, 3, 8, 8)}


class SE(nn.Module):
    def __init__(self):
        super().__init__()
        self.i = conv(3, 16)
        self.d = nn.Linear(16, 4)
        self.u = nn.Linear(4, 16)
        self.c = conv(16, 8)
        self.o = nn.Linear(8, 3)

    def forward(self, x):
        x = self.i(x)
        w = self.u(self.d(x.mean((2, 3))).relu()).sigmoid()
        return self.o(self.c(x * w[:, :, None, None]).mean((2, 3)))


@reg
def se():
    return SE(), {"x": torch.rand(2, 3, 8, 8)}


class QKV(nn.Module):
    """timm-like attention"""

    def __init__(self):
        super().__init__()
        self.i = nn.Linear(6, 16)
        self.num_heads = 4
        self.head_dim = 4
        self.qkv = nn.Linear(16, 48)
        self.p = nn.Linear(16, 16)
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        x = self.i(x)
        b, n, _ = x.shape
        q, k, v = (
            self.qkv(x)
            .reshape(b, n, 3, self.num_heads, self.head_dim)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        a = (q @ k.transpose(-2, -1) * 0.5).softmax(-1)
        return self.o((x + self.p((a @ v).transpose(1, 2).reshape(b, n, -1))).mean(1))


@reg
def qkv():
    return QKV(), {"x": torch.rand(2, 5, 6)}
