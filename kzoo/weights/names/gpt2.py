"""GPT-2 in transformers."""

from kzoo.preprocessing import Preprocessing
from kzoo.weights.names.table import Configuration, Rule, Table

BLOCK = "transformer.h.{i}."
# Its Conv1D keeps kernels (in, out), as kzoo does.
IN_OUT = (0, 1)
TRANSFORMERS = Table(
    (
        Rule("embedding", "transformer.wte"),
        Rule("positions/table", "transformer.wpe.weight"),
        Rule("block_{i}_attention_norm", BLOCK + "ln_1"),
        Rule("block_{i}_query", BLOCK + "attn.c_attn", part=0, axes=IN_OUT),
        Rule("block_{i}_key", BLOCK + "attn.c_attn", part=1, axes=IN_OUT),
        Rule("block_{i}_value", BLOCK + "attn.c_attn", part=2, axes=IN_OUT),
        Rule("block_{i}_output", BLOCK + "attn.c_proj", axes=IN_OUT),
        Rule("block_{i}_mlp_norm", BLOCK + "ln_2"),
        Rule("block_{i}_mlp_in", BLOCK + "mlp.c_fc", axes=IN_OUT),
        Rule("block_{i}_mlp_out", BLOCK + "mlp.c_proj", axes=IN_OUT),
        Rule("norm", "transformer.ln_f"),
    ),
    # Causal masks, which older files hold.
    aside=(r"transformer\.h\.\d+\.attn\.(masked_)?bias",),
    copies={"lm_head.weight": "transformer.wte.weight"},
    # Files of the model without its head.
    renamed=((r"^(wte|wpe|h|ln_f)\.", r"transformer.\1."),),
    preprocessing=Preprocessing(),
    base="transformer",
    configuration=Configuration(
        names={
            "vocab_size": "vocab_size",
            "n_positions": "sequence_length",
            "n_embd": "hidden_dim",
            "n_layer": "num_layers",
            "n_head": "num_heads",
            "n_inner": "mlp_dim",
            "resid_pdrop": "dropout_rate",
            "embd_pdrop": "dropout_rate",
            "attn_pdrop": "attention_dropout_rate",
            "eos_token_id": "end_token_id",
        },
        defaults={
            "vocab_size": 50257,
            "n_positions": 1024,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "resid_pdrop": 0.1,
            "embd_pdrop": 0.1,
            "attn_pdrop": 0.1,
            "eos_token_id": 50256,
        },
        fixed={
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
        },
        read=lambda entries: {
            "mlp_dim": entries.get("n_inner") or 4 * entries["n_embd"]
        },
        write=lambda hparams: {"architectures": ["GPT2LMHeadModel"]},
    ),
)

SOURCES = {"transformers": TRANSFORMERS}
