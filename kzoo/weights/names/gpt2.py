"""GPT-2 in transformers."""

from kzoo.preprocessing import Preprocessing
from kzoo.weights.names.table import Rule, Table

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
)

SOURCES = {"transformers": TRANSFORMERS}
