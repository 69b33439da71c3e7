"""T5 in transformers."""

from collections.abc import Mapping
from typing import Any

from kzoo.preprocessing import Preprocessing
from kzoo.weights.names.table import Configuration, Rule, Table

ENCODER, DECODER = "encoder.block.{i}.layer.", "decoder.block.{i}.layer."


def attention(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The four kernels of an attention."""
    letters = {"query": "q", "key": "k", "value": "v", "output": "o"}
    return tuple(
        Rule(f"{ours}_{part}", f"{theirs}.{letter}") for part, letter in letters.items()
    )


def branches(ours: str, theirs: str, last: int) -> tuple[Rule, ...]:
    """The attention to the stream itself, the MLP, and what they begin with."""
    return (
        *attention(ours, theirs + "0.SelfAttention"),
        Rule(f"{ours}_attention_norm/scale", theirs + "0.layer_norm.weight"),
        Rule(f"{ours}_mlp_in", theirs + f"{last}.DenseReluDense.wi"),
        Rule(f"{ours}_mlp_out", theirs + f"{last}.DenseReluDense.wo"),
        Rule(f"{ours}_mlp_norm/scale", theirs + f"{last}.layer_norm.weight"),
    )


def distances(side: str) -> str:
    """The table of distances, which the first block has for all."""
    return f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def depth(hparams: Mapping[str, Any]) -> Mapping[str, Any]:
    """What kzoo has once and config.json twice."""
    return {
        "num_decoder_layers": hparams["num_layers"],
        "architectures": ["T5ForConditionalGeneration"],
    }


TRANSFORMERS = Table(
    (
        Rule("embedding", "shared"),
        Rule("stage_0_positions/table", distances("encoder")),
        Rule("stage_1_positions/table", distances("decoder")),
        *branches("stage_0_block_{i}", ENCODER, last=1),
        *attention("stage_1_block_{i}_memory", DECODER + "1.EncDecAttention"),
        Rule("stage_1_block_{i}_memory_norm/scale", DECODER + "1.layer_norm.weight"),
        *branches("stage_1_block_{i}", DECODER, last=2),
        Rule("memory_norm/scale", "encoder.final_layer_norm.weight"),
        Rule("norm/scale", "decoder.final_layer_norm.weight"),
    ),
    # Never read: the decoder looks at the source without distances.
    aside=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias",),
    copies={
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
        "lm_head.weight": "shared.weight",
    },
    preprocessing=Preprocessing(),
    configuration=Configuration(
        names={
            "vocab_size": "vocab_size",
            "d_model": "hidden_dim",
            "d_kv": "head_dim",
            "d_ff": "mlp_dim",
            "num_layers": "num_layers",
            "num_heads": "num_heads",
            "relative_attention_num_buckets": "num_buckets",
            "relative_attention_max_distance": "max_distance",
            "dropout_rate": "dropout_rate",
            "pad_token_id": "pad_token_id",
            "eos_token_id": "end_token_id",
            "decoder_start_token_id": "start_token_id",
        },
        defaults={
            "vocab_size": 32128,
            "d_model": 512,
            "d_kv": 64,
            "d_ff": 2048,
            "num_layers": 6,
            "num_heads": 8,
            "relative_attention_num_buckets": 32,
            "relative_attention_max_distance": 128,
            "dropout_rate": 0.1,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
        },
        # T5 1.1 has gated branches, and logits by a table of their own.
        fixed={
            "model_type": "t5",
            "feed_forward_proj": "relu",
            "layer_norm_epsilon": 1e-6,
        },
        write=depth,
    ),
)

SOURCES = {"transformers": TRANSFORMERS}
