"""Writing on: every decoder, every strategy, on ids.

A decoder has ``initial_cache(batch, length)`` and ``decode_step(tokens, cache,
index)``; one that first reads a source has ``encode(tokens)`` too. Nothing else is
known of it here.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.datasets.batches import philox
from kzoo.distribution.compiled import compiled
from kzoo.generation_options import Generation
from kzoo.hparams import identity, replace

# Prompts are padded to a multiple of this, so that few lengths are compiled.
BUCKET = 32
IMPOSSIBLE = -1e9  # a log-probability below all others, and still a number


def generate(
    model: keras.Model, prompts: Sequence[Sequence[int]], /, **options: Any
) -> list[list[int]]:
    """Writes on from each prompt, or writes the text that belongs to each source.

    Prompts need not be of one length: greedy and beam give each the text that it would
    get alone. The same seed draws the same texts. Each set of shapes is compiled once.

    Args:
        model: a decoder of kzoo's, such as ``gpt2`` or ``transformer_seq2seq``.
        prompts: ids of tokens, a list for each text; sources where the model reads one.
        **options: fields of :class:`Generation`, such as ``strategy="beam"``,
            ``max_new_tokens=20``.

    Returns:
        Ids, a list for each prompt: the prompt and what was written after it, or what
        was written alone where the model has an encoder. The end token comes along.

    Raises:
        ValueError: a model that cannot decode, an unknown option, an empty prompt, a
            token out of range, or a text longer than the model's longest.

    Example:
        >>> import kzoo
        >>> model = kzoo.build_model("gpt2_tiny", num_layers=1, hidden_dim=8)
        >>> texts = kzoo.generate(model, [[1, 2, 3], [4]], max_new_tokens=5)
        >>> [len(ids) for ids in texts]
        [8, 6]
    """
    chosen = replace(Generation(), "generate", options)
    session = Session(model, prompts, chosen)
    if chosen.strategy == "beam":
        written = beam_search(session)
    else:
        written = [[] for _ in prompts]
        for tokens in one_by_one(session):
            for ids, token in zip(written, tokens, strict=True):
                if token is not None:
                    ids.append(token)
    if session.encodes:
        return written
    pairs = zip(session.prompts, written, strict=True)
    return [[*prompt, *ids] for prompt, ids in pairs]


def stream(
    model: keras.Model, prompts: Sequence[Sequence[int]], /, **options: Any
) -> Iterator[list[int | None]]:
    """The tokens of :func:`generate` as they come, without the prompts.

    Yields:
        One token for each prompt, None where the text has ended.

    Raises:
        ValueError: as ``generate`` does; and for ``strategy="beam"``, which decides at
            the end.

    Example:
        >>> import kzoo
        >>> from kzoo.generation import stream
        >>> model = kzoo.build_model("gpt2_tiny", num_layers=1, hidden_dim=8)
        >>> len(list(stream(model, [[1, 2, 3]], max_new_tokens=5)))
        5
    """
    chosen = replace(Generation(), "generate", options)
    if chosen.strategy == "beam":
        raise ValueError(
            "strategy='beam' knows its text at the end only: stream with 'greedy' or "
            "'sample'"
        )
    return one_by_one(Session(model, prompts, chosen))


class Session:
    """Prompts, checked and read, before the first token is written.

    Attributes:
        tokens: (prompts, longest) int32, what is decoded first: the prompts, padded at
            their end, or the start token.
        lengths: (prompts,) int32, the real ones of these.
        length: of the cache.
        end: the token that ends a text, or None.
    """

    def __init__(
        self,
        model: keras.Model,
        prompts: Sequence[Sequence[int]],
        options: Generation,
    ) -> None:
        known = identity(model).hparams
        if not hasattr(model, "decode_step"):
            raise ValueError(
                f"{model.name} does not write: generate takes a decoder, such as "
                "gpt2, lstm_language_model or transformer_seq2seq"
            )
        self.model = model
        self.options = options
        self.vocab_size = known["vocab_size"]
        self.encodes = hasattr(model, "encode")
        self.prompts = [self._checked(i, prompt) for i, prompt in enumerate(prompts)]
        if not self.prompts:
            raise ValueError("there are no prompts")
        self.end = options.end_token_id
        if self.end is None:
            self.end = known["end_token_id"]
        longest = known["sequence_length"]
        if self.encodes:
            self.tokens = np.full((len(prompts), 1), known["start_token_id"], "int32")
            self.lengths = np.ones(len(prompts), "int32")
            wanted = 1 + options.max_new_tokens
        else:
            self.tokens = padded(self.prompts, 0, longest)
            self.lengths = np.array([len(ids) for ids in self.prompts], "int32")
            wanted = int(self.lengths.max()) + options.max_new_tokens
        if longest is not None and wanted > longest:
            raise ValueError(
                f"{wanted - options.max_new_tokens} tokens and "
                f"max_new_tokens={options.max_new_tokens} are more than the longest "
                f"text of {model.name}: sequence_length={longest}"
            )
        # The last token is written, and never read.
        self.length = max(wanted - 1, self.tokens.shape[1])
        self.pad = known.get("pad_token_id", 0)

    def _checked(self, i: int, prompt: Sequence[int]) -> list[int]:
        ids = [int(token) for token in prompt]
        if not ids:
            raise ValueError(f"prompt {i} is empty")
        wrong = [token for token in ids if not 0 <= token < self.vocab_size]
        if wrong:
            raise ValueError(
                f"prompt {i}: token {wrong[0]} is out of range: a vocabulary of "
                f"{self.vocab_size} is 0 to {self.vocab_size - 1}"
            )
        return ids

    def cache(self) -> dict[str, Any]:
        """The cache before the first step, with what was read."""
        cache = self.model.initial_cache(len(self.prompts), self.length)
        if self.encodes:
            encode = _compiled(self.model, "encode", lambda model, x: model.encode(x))
            cache = cache | encode(padded(self.prompts, self.pad, None))
        return dict(cache)

    def seen(self) -> np.ndarray:
        """(prompts, vocab_size), true at the tokens of each prompt."""
        if self.options.repetition_penalty == 1.0:
            return np.zeros((len(self.prompts), 1), bool)  # nobody looks
        seen = np.zeros((len(self.prompts), self.vocab_size), bool)
        for row, ids in enumerate(self.tokens):
            seen[row, ids[: self.lengths[row]]] = True
        return seen


def padded(rows: list[list[int]], pad: int, longest: int | None) -> np.ndarray:
    """(rows, time) int32: a multiple of ``BUCKET``, or ``longest`` if that is less."""
    time = -(-max(map(len, rows)) // BUCKET) * BUCKET
    array = np.full((len(rows), min(time, longest or time)), pad, "int32")
    for row, ids in zip(array, rows, strict=False):
        row[: len(ids)] = ids[: len(row)]
    return array


def one_by_one(session: Session) -> Iterator[list[int | None]]:
    """Greedy and sampled texts: a token for each prompt, None where it has ended."""
    options = session.options
    rows = np.arange(len(session.prompts))

    def step(
        model: Any, cache: Any, seen: Any, tokens: Any, at: Any, *rest: Any
    ) -> Any:
        last, uniform = rest
        logits, cache = model.decode_step(tokens, cache, at)
        logits = penalized(picked(logits, last), seen, options.repetition_penalty)
        if options.strategy == "greedy":
            token = ops.argmax(logits, axis=-1)
        else:
            token = drawn(logits, uniform, options)
        token = ops.cast(token, "int32")
        return token, cache, noted(seen, token)

    advance = _compiled(
        session.model, ("one_by_one", options_of(options)), step, (0, 1)
    )
    cache, seen = session.cache(), session.seen()
    tokens, at, last = session.tokens, np.zeros(len(rows), "int32"), session.lengths - 1
    going = np.ones(len(rows), bool)
    for i in range(options.max_new_tokens):
        uniform = philox(options.seed, "generation", i).random(len(rows))
        found, cache, seen = advance(
            cache, seen, tokens, at, last, uniform.astype("float32")
        )
        written = np.asarray(ops.convert_to_numpy(found))
        yield [
            int(token) if on else None for token, on in zip(written, going, strict=True)
        ]
        going = going & (written != session.end)
        if not going.any():
            return
        at = session.lengths + i
        tokens, last = written[:, None], np.zeros(len(rows), "int32")


def options_of(options: Generation) -> tuple[Any, ...]:
    """What a compiled step depends on."""
    values = options.to_json()
    for name in ("seed", "max_new_tokens", "end_token_id"):
        del values[name]
    return tuple(values.values())


def picked(logits: Any, last: Any) -> Any:
    """Each row's logits at its last token: (rows, steps, vocab) -> (rows, vocab)."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return ops.squeeze(ops.take_along_axis(logits, last[:, None, None], axis=1), axis=1)


def penalized(logits: Any, seen: Any, penalty: float) -> Any:
    """Logits of tokens seen before made less likely (Keskar et al. 2019, sec. 4.1)."""
    if penalty == 1.0:
        return logits
    lower = ops.where(logits < 0, logits * penalty, logits / penalty)
    return ops.where(seen, lower, logits)


def noted(seen: Any, tokens: Any) -> Any:
    """``seen`` with one more token of each row."""
    vocab_size = seen.shape[1]
    if vocab_size == 1:
        return ops.cast(seen, "bool")
    new = ops.arange(vocab_size, dtype="int32") == tokens[:, None]
    return ops.logical_or(seen, new)


def kept_probabilities(logits: Any, options: Generation) -> tuple[Any, Any]:
    """What may be drawn.

    The temperature comes first, then the ``top_k`` likeliest (Fan et al. 2018), and of
    these the fewest that hold ``top_p`` of their mass (Holtzman et al. 2020).

    Returns:
        Probabilities from the likeliest down, 0 where left out, and their tokens; both
        (rows, vocab_size) or (rows, top_k).
    """
    vocab_size = logits.shape[-1]
    count = min(options.top_k or vocab_size, vocab_size)
    ordered, tokens = ops.top_k(logits / options.temperature, count, sorted=True)
    probabilities = (
        ops.softmax(ordered, axis=-1) if count > 1 else ops.ones_like(ordered)
    )
    before = ops.cumsum(probabilities, axis=-1) - probabilities
    kept = before < options.top_p
    first = ops.arange(count) == 0  # there is always one
    kept = ops.logical_or(kept, first)
    probabilities = ops.where(kept, probabilities, 0.0)
    total = ops.sum(probabilities, axis=-1, keepdims=True)
    return probabilities / total, tokens


def drawn(logits: Any, uniform: Any, options: Generation) -> Any:
    """One token a row, by a number from 0 to 1 that says where in the distribution."""
    probabilities, tokens = kept_probabilities(logits, options)
    upper = ops.cumsum(probabilities, axis=-1)
    # A number above all sums, by rounding, takes the last token that may be drawn.
    passed = ops.logical_and(upper <= uniform[:, None], upper < upper[:, -1:])
    place = ops.sum(ops.cast(passed, "int32"), axis=-1, keepdims=True)
    return ops.squeeze(ops.take_along_axis(tokens, place, axis=-1), axis=-1)


def beam_search(session: Session) -> list[list[int]]:
    """The likeliest text of each prompt that ``num_beams`` texts side by side find.

    A text's score is its log-probability divided by ``length ** length_penalty``. A
    prompt is done once it has ``num_beams`` ended texts and no open one can do better
    at its present length, as in transformers by default.
    """
    options, beams = session.options, session.options.num_beams
    if 2 * beams > session.vocab_size:
        raise ValueError(
            f"num_beams={beams} is too many for {session.vocab_size} tokens: at most "
            f"{session.vocab_size // 2}"
        )

    def step(
        model: Any, cache: Any, seen: Any, tokens: Any, at: Any, *rest: Any
    ) -> Any:
        """The best 2 * beams ways to go on of each prompt: scores and places."""
        last, parents, scores = rest
        cache = {name: ops.take(x, parents, axis=0) for name, x in cache.items()}
        seen = noted(ops.take(seen, parents, axis=0), tokens[:, -1])
        logits, cache = model.decode_step(tokens, cache, at)
        chances = ops.log_softmax(picked(logits, last), axis=-1)
        chances = penalized(chances, seen, options.repetition_penalty)
        prompts, side_by_side = scores.shape
        chances = ops.reshape(chances, (prompts, side_by_side, -1)) + scores[..., None]
        best, places = ops.top_k(ops.reshape(chances, (prompts, -1)), 2 * beams)
        return best, places, cache, seen

    advance = _compiled(session.model, ("beam", options_of(options)), step)
    prompts = len(session.prompts)
    searches = [Beams(options, session.end) for _ in range(prompts)]
    cache, seen = session.cache(), session.seen()
    # The prompt is read once; its beams begin with the tokens after it.
    tokens, at, last = session.tokens, np.zeros(prompts, "int32"), session.lengths - 1
    parents, scores = (
        np.arange(prompts, dtype="int32"),
        np.zeros((prompts, 1), "float32"),
    )
    for i in range(options.max_new_tokens):
        best, places, cache, seen = advance(
            cache, seen, tokens, at, last, parents, scores
        )
        best, places = (np.asarray(ops.convert_to_numpy(x)) for x in (best, places))
        ends = i + 1 == options.max_new_tokens
        for search, values, where in zip(searches, best, places, strict=True):
            search.go_on(values, where, session.vocab_size, ends)
        if ends or all(search.done for search in searches):
            break
        side_by_side = scores.shape[1]
        parents = np.concatenate(
            [n * side_by_side + np.array(s.parents) for n, s in enumerate(searches)]
        ).astype("int32")
        scores = np.array([search.scores for search in searches], "float32")
        tokens = np.array([[t[-1]] for s in searches for t in s.texts], "int32")
        at = np.repeat(session.lengths + i, beams).astype("int32")
        last = np.zeros(len(tokens), "int32")
    return [search.best() for search in searches]


class Beams:
    """The texts of one prompt side by side, and those that have ended.

    Attributes:
        texts: the open ones, from the likeliest down.
        scores: their log-probabilities.
        parents: which of the texts before each of them goes on from.
        done: nothing better can come.
    """

    def __init__(self, options: Generation, end: int | None) -> None:
        self.size = options.num_beams
        self.length_penalty = options.length_penalty
        self.end = end
        self.texts: list[list[int]] = [[]]
        self.scores: list[float] = [0.0]
        self.parents: list[int] = [0]
        self.ended: list[tuple[float, list[int]]] = []
        self.done = False

    def go_on(
        self, values: np.ndarray, places: np.ndarray, vocab_size: int, last: bool
    ) -> None:
        """Takes the best 2 * size candidates, by (text, token) places, in order."""
        if self.done:
            return
        length = len(self.texts[0]) + 1
        norm = np.float32(length**self.length_penalty)
        open_texts: list[tuple[float, list[int], int]] = []
        for rank, (value, place) in enumerate(zip(values, places, strict=True)):
            parent, token = divmod(int(place), vocab_size)
            text = [*self.texts[parent], token]
            if last or token == self.end:
                if rank < self.size:  # the others only stand in for ended ones
                    self.ended.append((float(value / norm), text))
            else:
                open_texts.append((float(value), text, parent))
        self.ended = sorted(self.ended, key=lambda pair: -pair[0])[: self.size]
        if last:
            return
        columns = zip(*open_texts[: self.size], strict=True)
        self.scores, self.texts, self.parents = (list(column) for column in columns)
        full = len(self.ended) == self.size
        self.done = full and bool(self.scores[0] / norm <= self.ended[-1][0])

    def best(self) -> list[int]:
        return self.ended[0][1]


# Compiled functions live as long as their model.
_functions: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def _compiled(
    model: keras.Model,
    key: Any,
    function: Callable[..., Any],
    donated: tuple[int, ...] = (),
) -> Callable[..., Any]:
    """``function(model, ...)`` compiled for this model, the first one of this key."""
    functions = _functions.setdefault(model, {})
    if key not in functions:
        reference = weakref.ref(model)  # or the model would never be let go
        functions[key] = compiled(
            model, lambda *arguments: function(reference(), *arguments), donated
        )
    return functions[key]
