"""MobileNet V2 and V3 in torchvision, timm and keras.applications."""

from collections.abc import Mapping
from typing import Any

from kzoo.preprocessing import imagenet
from kzoo.weights.names.table import Rule, Table

Values = Mapping[str, Any]

V2 = {"design": "v2"}
TORCHVISION = (
    Rule("stem_conv", "features.0.0"),
    Rule("stem_norm", "features.0.1"),
    # A block is a list there; V2 counts its last convolution and normalisation apart.
    Rule("stage_{i}_block_{j}_expand_conv", "features.{n+1}.conv.{m}.0", when=V2),
    Rule("stage_{i}_block_{j}_expand_norm", "features.{n+1}.conv.{m}.1", when=V2),
    Rule("stage_{i}_block_{j}_depthwise_conv", "features.{n+1}.conv.{m}.0", when=V2),
    Rule("stage_{i}_block_{j}_depthwise_norm", "features.{n+1}.conv.{m}.1", when=V2),
    Rule("stage_{i}_block_{j}_project_conv", "features.{n+1}.conv.{m}", when=V2),
    Rule("stage_{i}_block_{j}_project_norm", "features.{n+1}.conv.{m+1}", when=V2),
    Rule("stage_{i}_block_{j}_expand_conv", "features.{n+1}.block.{m}.0"),
    Rule("stage_{i}_block_{j}_expand_norm", "features.{n+1}.block.{m}.1"),
    Rule("stage_{i}_block_{j}_depthwise_conv", "features.{n+1}.block.{m}.0"),
    Rule("stage_{i}_block_{j}_depthwise_norm", "features.{n+1}.block.{m}.1"),
    Rule("stage_{i}_block_{j}_se_reduce", "features.{n+1}.block.{m}.fc1"),
    Rule("stage_{i}_block_{j}_se_expand", "features.{n+1}.block.{m}.fc2"),
    Rule("stage_{i}_block_{j}_project_conv", "features.{n+1}.block.{m}.0"),
    Rule("stage_{i}_block_{j}_project_norm", "features.{n+1}.block.{m}.1"),
    Rule("head_conv", "features.{blocks+1}.0"),
    Rule("head_norm", "features.{blocks+1}.1"),
    Rule("logits", "classifier.1", when=V2),
    Rule("dense", "classifier.0"),
    Rule("logits", "classifier.3"),
)
# timm's names of the blocks, of EfficientNet too. In the first stage nothing widens.
TIMM_BLOCKS = (
    Rule("stem_conv", "conv_stem"),
    Rule("stem_norm", "bn1"),
    Rule("stage_0_block_{j}_depthwise_norm", "blocks.0.{j}.bn1"),
    Rule("stage_0_block_{j}_project_conv", "blocks.0.{j}.conv_pw"),
    Rule("stage_0_block_{j}_project_norm", "blocks.0.{j}.bn2"),
    Rule("stage_{i}_block_{j}_expand_conv", "blocks.{i}.{j}.conv_pw"),
    Rule("stage_{i}_block_{j}_expand_norm", "blocks.{i}.{j}.bn1"),
    Rule("stage_{i}_block_{j}_depthwise_conv", "blocks.{i}.{j}.conv_dw"),
    Rule("stage_{i}_block_{j}_depthwise_norm", "blocks.{i}.{j}.bn2"),
    Rule("stage_{i}_block_{j}_se_reduce", "blocks.{i}.{j}.se.conv_reduce"),
    Rule("stage_{i}_block_{j}_se_expand", "blocks.{i}.{j}.se.conv_expand"),
    Rule("stage_{i}_block_{j}_project_conv", "blocks.{i}.{j}.conv_pwl"),
    Rule("stage_{i}_block_{j}_project_norm", "blocks.{i}.{j}.bn3"),
    Rule("logits", "classifier"),
)
TIMM = (
    Rule("head_conv", "conv_head", when=V2),
    Rule("head_norm", "bn2", when=V2),
    Rule("head_conv", "blocks.5.0.conv", when={"design": "v3_small"}),
    Rule("head_norm", "blocks.5.0.bn1", when={"design": "v3_small"}),
    Rule("head_conv", "blocks.6.0.conv"),
    Rule("head_norm", "blocks.6.0.bn1"),
    Rule("dense", "conv_head", convolution=True),
    *TIMM_BLOCKS,
)


def keras_block(kzoo: str, source: str, norm: str, when: Values) -> tuple[Rule, ...]:
    """A block's layers; the generations write normalisations differently."""
    parts = ("expand", "depthwise", "project")
    return (
        *(Rule(f"{kzoo}_{p}_conv", f"{source}_{p}", when=when) for p in parts),
        *(Rule(f"{kzoo}_{p}_norm", f"{source}_{p}_{norm}", when=when) for p in parts),
        Rule(f"{kzoo}_se_reduce", f"{source}_squeeze_excite_conv", when=when),
        Rule(f"{kzoo}_se_expand", f"{source}_squeeze_excite_conv_1", when=when),
    )


# The first block has no number there. V3 has the layers after the mean as convolutions.
KERAS = (
    *keras_block("stage_0_block_0", "expanded_conv", "BN", V2),
    *keras_block("stage_{i}_block_{j}", "block_{n}", "BN", V2),
    Rule("stem_conv", "Conv1", when=V2),
    Rule("stem_norm", "bn_Conv1", when=V2),
    Rule("head_conv", "Conv_1", when=V2),
    Rule("head_norm", "Conv_1_bn", when=V2),
    Rule("logits", "predictions", when=V2),
    *keras_block("stage_0_block_0", "expanded_conv", "bn", {}),
    *keras_block("stage_{i}_block_{j}", "expanded_conv_{n}", "bn", {}),
    Rule("stem_conv", "conv"),
    Rule("stem_norm", "conv_bn"),
    Rule("head_conv", "conv_1"),
    Rule("head_norm", "conv_1_bn"),
    Rule("dense", "conv_2", axes=(None, None, 0, 1)),
    Rule("logits", "logits", axes=(None, None, 0, 1)),
)

SOURCES = {
    "timm": Table(TIMM, hparams={"norm_epsilon": 1e-5}),
    "torchvision": Table(TORCHVISION),
    "keras": Table(
        KERAS,
        framework="keras",
        hparams={"norm_epsilon": 1e-3, "padding": "uneven"},
        optional=(r"conv_2\.",),  # not in the files of networks without a top
        preprocessing=imagenet(mean=(0.5, 0.5, 0.5), spread=(0.5, 0.5, 0.5)),
    ),
}
