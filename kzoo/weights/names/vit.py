"""Vision transformers and DeiT in timm, and in torchvision."""

import dataclasses

from kzoo.preprocessing import imagenet
from kzoo.weights.names.table import Rule, Table

TOKEN = (None, None, 0)  # an example, a step
TIMM_RULES = (
    Rule("patches", "patch_embed.proj"),
    Rule("distillation_token/token", "dist_token", axes=TOKEN),
    Rule("class_token/token", "cls_token", axes=TOKEN),
    Rule("positions/table", "pos_embed", axes=(None, 0, 1)),
    Rule("block_{i}_attention_norm", "blocks.{i}.norm1"),
    Rule("block_{i}_query", "blocks.{i}.attn.qkv", part=0),
    Rule("block_{i}_key", "blocks.{i}.attn.qkv", part=1),
    Rule("block_{i}_value", "blocks.{i}.attn.qkv", part=2),
    Rule("block_{i}_output", "blocks.{i}.attn.proj"),
    Rule("block_{i}_attention_scale/gamma", "blocks.{i}.ls1.gamma"),
    Rule("block_{i}_mlp_norm", "blocks.{i}.norm2"),
    Rule("block_{i}_mlp_in", "blocks.{i}.mlp.fc1"),
    Rule("block_{i}_mlp_out", "blocks.{i}.mlp.fc2"),
    Rule("block_{i}_mlp_scale/gamma", "blocks.{i}.ls2.gamma"),
    Rule("norm", "norm"),
    Rule("logits", "head"),
    Rule("logits_class", "head"),
    Rule("logits_distillation", "head_dist"),
)
TIMM = Table(
    TIMM_RULES,
    preprocessing=imagenet(
        crop_rate=0.9,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        spread=(0.5, 0.5, 0.5),
    ),
)
TIMM_DEIT = dataclasses.replace(
    TIMM, preprocessing=imagenet(crop_rate=0.9, interpolation="bicubic")
)

LAYER = "encoder.layers.encoder_layer_{i}"
ATTENTION = LAYER + ".self_attention"
TORCHVISION = Table(
    (
        Rule("patches", "conv_proj"),
        Rule("class_token/token", "class_token", axes=TOKEN),
        Rule("positions/table", "encoder.pos_embedding", axes=(None, 0, 1)),
        Rule("block_{i}_attention_norm", LAYER + ".ln_1"),
        *(
            Rule(f"block_{{i}}_{part}/{ours}", f"{ATTENTION}.{theirs}", part=number)
            for number, part in enumerate(("query", "key", "value"))
            for ours, theirs in (
                ("kernel", "in_proj_weight"),
                ("bias", "in_proj_bias"),
            )
        ),
        Rule("block_{i}_output", ATTENTION + ".out_proj"),
        Rule("block_{i}_mlp_norm", LAYER + ".ln_2"),
        Rule("block_{i}_mlp_in", LAYER + ".mlp.0"),
        Rule("block_{i}_mlp_out", LAYER + ".mlp.3"),
        Rule("norm", "encoder.ln"),
        Rule("logits", "heads.head"),
    ),
    # torchvision's first files.
    renamed=((r"mlp\.linear_1\.", "mlp.0."), (r"mlp\.linear_2\.", "mlp.3.")),
)

VIT_SOURCES = {"timm": TIMM, "torchvision": TORCHVISION}
DEIT_SOURCES = {"timm": TIMM_DEIT}
