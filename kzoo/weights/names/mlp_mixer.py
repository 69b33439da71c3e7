"""MLP-Mixer in timm."""

from kzoo.preprocessing import imagenet
from kzoo.weights.names.table import Rule, Table

TIMM = Table(
    (
        Rule("patches", "stem.proj"),
        Rule("block_{i}_token_norm", "blocks.{i}.norm1"),
        Rule("block_{i}_token_in", "blocks.{i}.mlp_tokens.fc1"),
        Rule("block_{i}_token_out", "blocks.{i}.mlp_tokens.fc2"),
        Rule("block_{i}_channel_norm", "blocks.{i}.norm2"),
        Rule("block_{i}_channel_in", "blocks.{i}.mlp_channels.fc1"),
        Rule("block_{i}_channel_out", "blocks.{i}.mlp_channels.fc2"),
        Rule("norm", "norm"),
        Rule("logits", "head"),
    ),
    preprocessing=imagenet(
        interpolation="bicubic", mean=(0.5, 0.5, 0.5), spread=(0.5, 0.5, 0.5)
    ),
)

SOURCES = {"timm": TIMM}
