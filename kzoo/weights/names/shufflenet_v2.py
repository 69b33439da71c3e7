"""ShuffleNet V2 in torchvision."""

from kzoo.weights.names.table import Rule, Table

TORCHVISION = (
    Rule("stem_0_conv", "conv1.0"),
    Rule("stem_0_norm", "conv1.1"),
    Rule("stage_{i}_block_{j}_left_depthwise_conv", "stage{i+2}.{j}.branch1.0"),
    Rule("stage_{i}_block_{j}_left_depthwise_norm", "stage{i+2}.{j}.branch1.1"),
    Rule("stage_{i}_block_{j}_left_project_conv", "stage{i+2}.{j}.branch1.2"),
    Rule("stage_{i}_block_{j}_left_project_norm", "stage{i+2}.{j}.branch1.3"),
    Rule("stage_{i}_block_{j}_right_expand_conv", "stage{i+2}.{j}.branch2.0"),
    Rule("stage_{i}_block_{j}_right_expand_norm", "stage{i+2}.{j}.branch2.1"),
    Rule("stage_{i}_block_{j}_right_depthwise_conv", "stage{i+2}.{j}.branch2.3"),
    Rule("stage_{i}_block_{j}_right_depthwise_norm", "stage{i+2}.{j}.branch2.4"),
    Rule("stage_{i}_block_{j}_right_project_conv", "stage{i+2}.{j}.branch2.5"),
    Rule("stage_{i}_block_{j}_right_project_norm", "stage{i+2}.{j}.branch2.6"),
    Rule("head_conv", "conv5.0"),
    Rule("head_norm", "conv5.1"),
    Rule("logits", "fc"),
)

SOURCES = {"torchvision": Table(TORCHVISION)}
