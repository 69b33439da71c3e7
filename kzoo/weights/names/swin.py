"""Swin in timm and torchvision."""

from typing import Any

import numpy as np

from kzoo.layers.windows import relative_positions
from kzoo.preprocessing import imagenet
from kzoo.weights.names.table import Buffer, Rule, Table


def block(module: str, mlp_in: str, mlp_out: str) -> list[Rule]:
    """The rules of a block that the source calls ``module``."""
    kzoo = "stage_{i}_block_{j}"
    return [
        Rule(f"{kzoo}_attention_norm", f"{module}.norm1"),
        Rule(f"{kzoo}_query", f"{module}.attn.qkv", part=0),
        Rule(f"{kzoo}_key", f"{module}.attn.qkv", part=1),
        Rule(f"{kzoo}_value", f"{module}.attn.qkv", part=2),
        Rule(f"{kzoo}_attention/table", f"{module}.attn.relative_position_bias_table"),
        Rule(f"{kzoo}_output", f"{module}.attn.proj"),
        Rule(f"{kzoo}_mlp_norm", f"{module}.norm2"),
        Rule(f"{kzoo}_mlp_in", f"{module}.mlp.{mlp_in}"),
        Rule(f"{kzoo}_mlp_out", f"{module}.mlp.{mlp_out}"),
    ]


def flat_positions(layer: Any) -> np.ndarray:
    """What torchvision keeps of a layer beside its weights."""
    return relative_positions(layer.window_size).reshape(-1)


TIMM = Table(
    (
        Rule("patches", "patch_embed.proj"),
        Rule("stem", "patch_embed.norm"),
        *block("layers.{i}.blocks.{j}", "fc1", "fc2"),
        Rule("merge_{i}_norm", "layers.{i}.downsample.norm"),
        Rule("merge_{i}_dense", "layers.{i}.downsample.reduction"),
        Rule("norm", "norm"),
        Rule("logits", "head.fc"),
    ),
    # Buffers of the authors' own files.
    aside=(r".*\.relative_position_index", r".*\.attn_mask"),
    preprocessing=imagenet(crop_rate=0.9, interpolation="bicubic"),
)
TORCHVISION = Table(
    (
        Rule("patches", "features.0.0"),
        Rule("stem", "features.0.2"),
        *block("features.{2*i+1}.{j}", "0", "3"),
        Rule("merge_{i}_norm", "features.{2*i}.norm"),
        Rule("merge_{i}_dense", "features.{2*i}.reduction"),
        Rule("norm", "norm"),
        Rule("logits", "head"),
    ),
    buffers=(
        Buffer(
            "stage_{i}_block_{j}_attention",
            "features.{2*i+1}.{j}.attn.relative_position_index",
            flat_positions,
        ),
    ),
    preprocessing=imagenet(interpolation="bicubic"),
)

SOURCES = {"timm": TIMM, "torchvision": TORCHVISION}
