"""Small architectures to prune: each builds a module and example inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers as T  # noqa: N812
from torch import nn

from edgekit import zoo

Built = tuple[nn.Module, dict[str, torch.Tensor]]
MODELS: dict[str, Callable[[], Built]] = {}


def reg(build: Callable[[], Built]) -> Callable[[], Built]:
    MODELS[build.__name__] = build
    return build


def _zoo(name: str) -> Callable[[], Built]:
    def build() -> Built:
        workload = zoo.load(name)
        inputs = {k: torch.as_tensor(v) for k, v in workload.example_inputs.items()}
        return workload.model, inputs

    return build


for _name in zoo.names():
    MODELS[_name] = _zoo(_name)


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


def ids():
    return torch.randint(0, 50, (2, 7))


@reg
def cnn():
    return Net(), {"x": torch.rand(2, 3, 4, 4)}


class W(nn.Module):
    def __init__(self, m, f):
        super().__init__()
        self.m = m
        self.f = f

    def forward(self, x, y=None):
        return self.f(self.m, x) if y is None else self.f(self.m, x, y)


@reg
def bert():
    c = T.BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=50,
        num_labels=3,
    )
    return W(
        T.BertForSequenceClassification(c), lambda m, x, y: m(input_ids=x, attention_mask=y).logits
    ), {"input_ids": ids(), "attention_mask": torch.ones(2, 7, dtype=torch.int64)}


@reg
def distilbert():
    c = T.DistilBertConfig(
        dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=50, num_labels=3
    )
    return W(T.DistilBertForSequenceClassification(c), lambda m, x: m(input_ids=x).logits), {
        "input_ids": ids()
    }


@reg
def gpt2():
    c = T.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=32)
    return W(T.GPT2LMHeadModel(c), lambda m, x: m(input_ids=x, use_cache=False).logits), {
        "input_ids": ids()
    }


@reg
def llama():
    c = T.LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=64,
        vocab_size=50,
    )
    return W(T.LlamaForCausalLM(c), lambda m, x: m(input_ids=x, use_cache=False).logits), {
        "input_ids": ids()
    }


@reg
def t5():
    c = T.T5Config(
        attn_implementation="eager",  # torch cannot convert its fused attention with this mask
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        vocab_size=50,
        decoder_start_token_id=0,
    )
    return W(
        T.T5ForConditionalGeneration(c),
        lambda m, x, y: m(input_ids=x, decoder_input_ids=y, use_cache=False).logits,
    ), {"input_ids": ids(), "dec": ids()[:, :5]}


@reg
def vit():
    c = T.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        num_labels=5,
    )
    return W(T.ViTForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 16, 16)
    }


@reg
def deit():
    c = T.DeiTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        num_labels=5,
    )
    return W(T.DeiTForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 16, 16)
    }


@reg
def swin():
    c = T.SwinConfig(
        attn_implementation="eager",  # torch cannot convert its fused attention with this mask
        image_size=32,
        patch_size=4,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        num_labels=5,
    )
    return W(T.SwinForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def clip():
    t = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 50,
        "max_position_embeddings": 16,
        "eos_token_id": 49,
    }
    v = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "image_size": 16,
        "patch_size": 4,
    }
    c = T.CLIPConfig(text_config=t, vision_config=v, projection_dim=16)
    return W(T.CLIPModel(c), lambda m, x, y: m(input_ids=x, pixel_values=y).logits_per_image), {
        "i": ids(),
        "x": torch.rand(2, 3, 16, 16),
    }


@reg
def whisper():
    c = T.WhisperConfig(
        vocab_size=50,
        num_mel_bins=8,
        encoder_layers=2,
        encoder_attention_heads=4,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        encoder_ffn_dim=64,
        d_model=32,
        max_source_positions=10,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return W(
        T.WhisperForConditionalGeneration(c),
        lambda m, x, y: m(input_features=x, decoder_input_ids=y, use_cache=False).logits,
    ), {"x": torch.rand(2, 8, 20), "y": ids()}


@reg
def wav2vec2():
    c = T.Wav2Vec2Config(
        vocab_size=20,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16, 16),
        conv_stride=(4, 2),
        conv_kernel=(8, 3),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        num_feat_extract_layers=2,
    )
    return W(T.Wav2Vec2ForCTC(c), lambda m, x: m(input_values=x).logits), {"x": torch.rand(2, 200)}


@reg
def segformer():
    c = T.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[16, 32],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[2, 4],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        num_labels=5,
    )
    return W(T.SegformerForSemanticSegmentation(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def resnet():
    c = T.ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[2, 2],
        layer_type="bottleneck",
        num_labels=5,
    )
    return W(T.ResNetForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def convnext():
    c = T.ConvNextConfig(hidden_sizes=[16, 32], depths=[2, 2], num_stages=2, num_labels=5)
    return W(T.ConvNextForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def mobilenetv2():
    c = T.MobileNetV2Config(depth_multiplier=0.35, num_labels=5, image_size=32)
    return W(T.MobileNetV2ForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def regnet():
    c = T.RegNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2], groups_width=8, num_labels=5
    )
    return W(T.RegNetForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def efficientnet():
    c = T.EfficientNetConfig(
        image_size=32, width_coefficient=0.25, depth_coefficient=0.2, hidden_dim=320, num_labels=5
    )
    return W(T.EfficientNetForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


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
