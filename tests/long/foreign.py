"""Other people's networks, small: torchvision's, timm's and Hugging Face's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Network = tuple[nn.Module, Any]


def images(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def torchvision(name: str) -> Network:
    models = pytest.importorskip("torchvision").models
    return models.get_model(name, weights=None), images()


def timm(name: str, size: int = 64, **options: Any) -> Network:
    return pytest.importorskip("timm").create_model(name, **options), images(size)


def transformers(kind: str, **options: Any) -> Network:
    library = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    if kind == "GPT2LMHead":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "bos_token_id": 1, "eos_token_id": 2}
    looks = kind.startswith("ViT")
    sizes |= {"image_size": 32, "patch_size": 8} if looks else {"vocab_size": 50}
    config = getattr(library, kind.removesuffix("LMHead").partition("For")[0] + "Config")(**(sizes | options))
    model = getattr(library, kind if "For" in kind else f"{kind}Model")(config)
    tokens = torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(1))
    return model, {"pixel_values": images(32)} if looks else {"input_ids": tokens}


NETWORKS: dict[str, Callable[[], Network]] = {
    **{
        name: lambda name=name: torchvision(name)
        for name in ("resnet18", "resnet50", "densenet121", "mobilenet_v3_small", "convnext_tiny")
    },
    **{
        f"timm {name}": lambda name=name: timm(name)
        for name in ("resnetv2_50", "efficientnet_b0", "nf_resnet26", "convnext_atto")
    },
    "timm vit_tiny": lambda: timm("vit_tiny_patch16_224", img_size=64),
    "timm mixer": lambda: timm("mixer_s32_224", img_size=64),
    "gpt2": lambda: transformers("GPT2LMHead"),
    "llama": lambda: transformers("LlamaForCausalLM", num_key_value_heads=2, rms_norm_eps=1e-3),
    "bert": lambda: transformers("BertForSequenceClassification"),
    "vit": lambda: transformers("ViTForImageClassification"),
}


def outputs_of(model: nn.Module, inputs: Any) -> Tensor:
    outputs = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return outputs if isinstance(outputs, Tensor) else outputs.logits


def randomized(model: nn.Module) -> nn.Module:
    """The model with vectors that are not what they start as, and without layers that start at zero."""
    generator = torch.Generator().manual_seed(2)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.ndim == 1:
            middle = 1.0 if tensor.detach().mean() > 0.5 else 0.0
            nn.init.uniform_(tensor, middle - 0.3, middle + 0.3, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim > 1 and not tensor.any():
            nn.init.normal_(tensor, std=0.05, generator=generator)
    return model
