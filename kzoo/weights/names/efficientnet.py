"""EfficientNet in torchvision and timm."""

from kzoo.weights.names.mobilenet import TIMM_BLOCKS
from kzoo.weights.names.table import Rule, Table

V2_S = {"design": "v2_s"}
TORCHVISION = (
    Rule("stem_conv", "features.0.0"),
    Rule("stem_norm", "features.0.1"),
    Rule("stage_{i}_block_{j}_expand_conv", "features.{i+1}.{j}.block.{m}.0"),
    Rule("stage_{i}_block_{j}_expand_norm", "features.{i+1}.{j}.block.{m}.1"),
    Rule("stage_{i}_block_{j}_depthwise_conv", "features.{i+1}.{j}.block.{m}.0"),
    Rule("stage_{i}_block_{j}_depthwise_norm", "features.{i+1}.{j}.block.{m}.1"),
    Rule("stage_{i}_block_{j}_se_reduce", "features.{i+1}.{j}.block.{m}.fc1"),
    Rule("stage_{i}_block_{j}_se_expand", "features.{i+1}.{j}.block.{m}.fc2"),
    Rule("stage_{i}_block_{j}_project_conv", "features.{i+1}.{j}.block.{m}.0"),
    Rule("stage_{i}_block_{j}_project_norm", "features.{i+1}.{j}.block.{m}.1"),
    Rule("head_conv", "features.7.0", when=V2_S),  # six stages, else seven
    Rule("head_norm", "features.7.1", when=V2_S),
    Rule("head_conv", "features.8.0"),
    Rule("head_norm", "features.8.1"),
    Rule("logits", "classifier.1"),
)


def fused(stage: int, design: str) -> tuple[Rule, ...]:
    """Timm's names where one convolution stands for two."""
    kzoo, timm = f"stage_{stage}_block_{{j}}", f"blocks.{stage}.{{j}}"
    when = {"design": design}
    return (
        Rule(f"{kzoo}_expand_conv", f"{timm}.conv_exp", when=when),
        Rule(f"{kzoo}_expand_norm", f"{timm}.bn1", when=when),
        Rule(f"{kzoo}_project_conv", f"{timm}.conv_pwl", when=when),
        Rule(f"{kzoo}_project_norm", f"{timm}.bn2", when=when),
    )


TIMM = (
    Rule("stage_0_block_{j}_expand_conv", "blocks.0.{j}.conv"),  # of V2 alone
    Rule("stage_0_block_{j}_expand_norm", "blocks.0.{j}.bn1"),
    *(
        rule
        for stage in (1, 2)
        for design in ("v2_s", "v2_m", "v2_l")
        for rule in fused(stage, design)
    ),
    Rule("head_conv", "conv_head"),
    Rule("head_norm", "bn2"),
    *TIMM_BLOCKS,
)

SOURCES = {
    "timm": Table(TIMM, hparams={"norm_epsilon": 1e-5}),
    "torchvision": Table(TORCHVISION),
}
