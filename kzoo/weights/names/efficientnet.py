"""EfficientNet in torchvision, timm and keras.applications."""

from kzoo.preprocessing import Preprocessing, imagenet
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

V1 = {"design": "v1"}
BLOCK = "block{i+1}{j:a}"
KERAS = (
    Rule("stem_conv", "stem_conv"),
    Rule("stem_norm", "stem_bn"),
    # One convolution stands for two in the second paper's first stages.
    Rule("stage_0_block_{j}_expand_conv", "block1{j:a}_project_conv"),
    Rule("stage_0_block_{j}_expand_norm", "block1{j:a}_project_bn"),
    Rule("stage_{i}_block_{j}_expand_conv", BLOCK + "_expand_conv"),
    Rule("stage_{i}_block_{j}_expand_norm", BLOCK + "_expand_bn"),
    Rule("stage_{i}_block_{j}_depthwise_conv", BLOCK + "_dwconv", when=V1),
    Rule("stage_{i}_block_{j}_depthwise_conv", BLOCK + "_dwconv2"),
    Rule("stage_{i}_block_{j}_depthwise_norm", BLOCK + "_bn"),
    Rule("stage_{i}_block_{j}_se_reduce", BLOCK + "_se_reduce"),
    Rule("stage_{i}_block_{j}_se_expand", BLOCK + "_se_expand"),
    Rule("stage_{i}_block_{j}_project_conv", BLOCK + "_project_conv"),
    Rule("stage_{i}_block_{j}_project_norm", BLOCK + "_project_bn"),
    Rule("head_conv", "top_conv"),
    Rule("head_norm", "top_bn"),
    Rule("logits", "predictions"),
)
# The second paper's networks take (x - 128) / 128.
PIXELS = Preprocessing(
    input_mean=(128.0,) * 3,
    input_scale=(128.0,) * 3,
    image_size=(224, 224),
    crop_rate=0.875,
    interpolation="bicubic",
)

SOURCES = {
    "timm": Table(TIMM, hparams={"norm_epsilon": 1e-5}),
    "torchvision": Table(TORCHVISION),
    "keras": Table(
        KERAS,
        framework="keras",
        hparams={"norm_epsilon": 1e-3, "padding": "uneven"},
        aside=(r"normalization(_\d+)?\.",),  # ImageNet's: kzoo's preprocessing
        preprocessing=imagenet(interpolation="bicubic"),
        preprocessing_of=dict.fromkeys(("v2_s", "v2_m", "v2_l"), PIXELS),
    ),
}
