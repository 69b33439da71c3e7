"""ConvNeXt in timm and torchvision."""

from kzoo.preprocessing import imagenet
from kzoo.weights.names.table import Rule, Table

BLOCK = "stages.{i}.blocks.{j}"
# timm has the MLPs of the smallest four as convolutions.
CONVOLVED = [
    {"filters": [width * 2**i for i in range(4)]} for width in (40, 48, 64, 80)
]
TIMM = Table(
    (
        *(
            Rule(
                f"stage_{{i}}_block_{{j}}_mlp_{way}",
                f"{BLOCK}.mlp.fc{number}",
                convolution=True,
                when=when,
            )
            for way, number in (("in", 1), ("out", 2))
            for when in CONVOLVED
        ),
        Rule("stem_conv", "stem.0"),
        Rule("stem", "stem.1"),
        Rule("stage_{i}_block_{j}_conv", BLOCK + ".conv_dw"),
        Rule("stage_{i}_block_{j}_norm", BLOCK + ".norm"),
        Rule("stage_{i}_block_{j}_mlp_in", BLOCK + ".mlp.fc1"),
        Rule("stage_{i}_block_{j}_response_norm", BLOCK + ".mlp.grn"),
        Rule("stage_{i}_block_{j}_mlp_out", BLOCK + ".mlp.fc2"),
        Rule("stage_{i}_block_{j}_scale/gamma", BLOCK + ".gamma"),
        Rule("downsample_{i}_norm", "stages.{i}.downsample.0"),
        Rule("downsample_{i}_conv", "stages.{i}.downsample.1"),
        Rule("pooled", "head.norm"),
        Rule("logits", "head.fc"),
    ),
    preprocessing=imagenet(interpolation="bicubic"),
)
TORCHVISION = Table(
    (
        Rule("stem_conv", "features.0.0"),
        Rule("stem", "features.0.1"),
        Rule("stage_{i}_block_{j}_conv", "features.{2*i+1}.{j}.block.0"),
        Rule("stage_{i}_block_{j}_norm", "features.{2*i+1}.{j}.block.2"),
        Rule("stage_{i}_block_{j}_mlp_in", "features.{2*i+1}.{j}.block.3"),
        Rule("stage_{i}_block_{j}_mlp_out", "features.{2*i+1}.{j}.block.5"),
        Rule(
            "stage_{i}_block_{j}_scale/gamma",
            "features.{2*i+1}.{j}.layer_scale",
            axes=(0, None, None),
        ),
        Rule("downsample_{i}_norm", "features.{2*i}.0"),
        Rule("downsample_{i}_conv", "features.{2*i}.1"),
        Rule("pooled", "classifier.0"),
        Rule("logits", "classifier.2"),
    ),
)

SOURCES = {"timm": TIMM, "torchvision": TORCHVISION}
