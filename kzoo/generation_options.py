"""How to write on; without Keras, so that a typo gets its error at once."""

from dataclasses import dataclass
from typing import ClassVar

from kzoo.hparams import HParams, hp


@dataclass(frozen=True, kw_only=True)
class Generation(HParams):
    """How to write on; options of ``kzoo.generate``.

    Example:
        >>> Generation(strategy="sample", top_p=0.9).temperature
        1.0
    """

    noun: ClassVar[str] = "option"

    strategy: str = hp(
        "greedy",
        "the likeliest token, the likeliest text, or one that is drawn",
        choices=("greedy", "beam", "sample"),
    )
    max_new_tokens: int = hp(64, "tokens to write at most", min=1)
    end_token_id: int | None = hp(
        None, "the token that ends a text; none = the model's own", min=0
    )
    repetition_penalty: float = hp(
        1.0, "what the logits of tokens seen before are divided by", min=0.01, max=100.0
    )
    seed: int = hp(0, "of strategy=sample", min=0)
    temperature: float = hp(
        1.0, "of strategy=sample: below 1 sharper, above 1 flatter", min=1e-3, max=1e3
    )
    top_k: int = hp(0, "of strategy=sample: the likeliest alone; 0 = all", min=0)
    top_p: float = hp(
        1.0, "of strategy=sample: the likeliest with this mass", min=0.0, max=1.0
    )
    num_beams: int = hp(4, "of strategy=beam: texts side by side", min=1, max=1024)
    length_penalty: float = hp(
        1.0, "of strategy=beam: a text's score is divided by its length to this power"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        meant = {
            "sample": ("seed", "temperature", "top_k", "top_p"),
            "beam": ("num_beams", "length_penalty"),
        }
        for strategy, names in meant.items():
            for name in names:
                changed = getattr(self, name) != getattr(type(self), name, None)
                if changed and strategy != self.strategy:
                    raise ValueError(
                        f"{name}={getattr(self, name)} goes with "
                        f"strategy={strategy!r}, not with {self.strategy!r}"
                    )
