"""MobileNet V2 and V3 in torchvision and timm."""

from kzoo.weights.names.table import Rule, Table

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

SOURCES = {
    "timm": Table(TIMM, hparams={"norm_epsilon": 1e-5}),
    "torchvision": Table(TORCHVISION),
}
