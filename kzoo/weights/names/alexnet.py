"""AlexNet in torchvision."""

from kzoo.weights.names.table import Rule, Table

SOURCES = {
    "torchvision": Table(
        (
            Rule("stem_conv", "features.0"),
            Rule("stage_0_block_0_conv", "features.3"),
            Rule("stage_1_block_{j}_conv", "features.{2*j+6}"),
            Rule("dense_0", "classifier.1", grid="grid"),
            Rule("dense_1", "classifier.4"),
            Rule("logits", "classifier.6"),
        )
    )
}
