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


#: Of these the table of vectors is all there is, and a vector's numbers are what they give.
WHOLE = ("cbow-wordnet", "skipgram-wordnet")
#: Networks that are here already: unrolled, a part of them apart, or taught otherwise.
TWINS = (
    "byol-mnist", "ddim-digits", "double-dqn-cartpole", "gcn-miserables",
    "latent-diffusion-decoder", "latent-diffusion-sampler", "latent-diffusion-text", "moco-mnist",
    "reptile-glyphs", "seq2seq-dates-beam",
)  # fmt: skip
for _name in [name for name in zoo.names() if name not in {*WHOLE, *TWINS}]:
    MODELS[_name] = _zoo(_name)


def ids():
    return torch.randint(0, 50, (2, 7))


class Calling(nn.Module):
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
    return Calling(
        T.BertForSequenceClassification(c), lambda m, x, y: m(input_ids=x, attention_mask=y).logits
    ), {"input_ids": ids(), "attention_mask": torch.ones(2, 7, dtype=torch.int64)}


@reg
def distilbert():
    c = T.DistilBertConfig(
        dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=50, num_labels=3
    )
    return Calling(T.DistilBertForSequenceClassification(c), lambda m, x: m(input_ids=x).logits), {
        "input_ids": ids()
    }


@reg
def gpt2():
    c = T.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=32)
    return Calling(T.GPT2LMHeadModel(c), lambda m, x: m(input_ids=x, use_cache=False).logits), {
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
    return Calling(T.LlamaForCausalLM(c), lambda m, x: m(input_ids=x, use_cache=False).logits), {
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
    return Calling(
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
    return Calling(T.ViTForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
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
    return Calling(T.DeiTForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
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
    return Calling(T.SwinForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
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
    return Calling(
        T.CLIPModel(c), lambda m, x, y: m(input_ids=x, pixel_values=y).logits_per_image
    ), {
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
    return Calling(
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
    return Calling(T.Wav2Vec2ForCTC(c), lambda m, x: m(input_values=x).logits), {
        "x": torch.rand(2, 200)
    }


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
    return Calling(T.SegformerForSemanticSegmentation(c), lambda m, x: m(pixel_values=x).logits), {
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
    return Calling(T.ResNetForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def convnext():
    c = T.ConvNextConfig(hidden_sizes=[16, 32], depths=[2, 2], num_stages=2, num_labels=5)
    return Calling(T.ConvNextForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def mobilenetv2():
    c = T.MobileNetV2Config(depth_multiplier=0.35, num_labels=5, image_size=32)
    return Calling(T.MobileNetV2ForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def regnet():
    c = T.RegNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2], groups_width=8, num_labels=5
    )
    return Calling(T.RegNetForImageClassification(c), lambda m, x: m(pixel_values=x).logits), {
        "x": torch.rand(2, 3, 32, 32)
    }


@reg
def efficientnet():
    c = T.EfficientNetConfig(
        image_size=32, width_coefficient=0.25, depth_coefficient=0.2, hidden_dim=320, num_labels=5
    )
    return Calling(
        T.EfficientNetForImageClassification(c), lambda m, x: m(pixel_values=x).logits
    ), {"x": torch.rand(2, 3, 32, 32)}
