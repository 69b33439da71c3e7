"""Test scores on names, beside character n-grams in scikit-learn on the same splits.

    python benchmarks/names.py                           # about an hour
    python benchmarks/names.py --models gru --seeds 0
    python benchmarks/names.py --models gru --write      # into models/results.json
    python benchmarks/names.py --models ""               # the baselines alone, minutes

Each seed is a process of its own, `kzoo train MODEL --dataset names --seed S`, timed
from outside with its imports. Split s comes from seed s; the epoch, and everything
about the baselines, is chosen on the validation split.
"""

import argparse
import time
from typing import Any

import numpy as np
from digits import one_run, show, write
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

import kzoo

MODELS = "lstm,gru,transformer,cnn_1d"
# n-grams across the whole name, or inside of its words, with their ends marked.
ANALYZERS = ("char", "char_wb")
LONGEST = (4, 5)
CLASSIFIERS: dict[str, list[Any]] = {
    "LinearSVC": [LinearSVC(C=C) for C in (0.3, 1.0, 3.0)],
    "naive Bayes": [MultinomialNB(alpha=alpha) for alpha in (0.003, 0.01, 0.03, 0.1)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--write", action="store_true", help="keep the scores")
    parsed = parser.parse_args()
    seeds = [int(seed) for seed in parsed.seeds.split(",")]
    print(f"{'':14}{'mean':>8}  {'each seed':40}{'s a seed':>9}")
    for model in filter(None, parsed.models.split(",")):
        runs = [one_run(model, "names", seed, parsed.backend) for seed in seeds]
        scores = [told["test"]["accuracy"] for told, *_ in runs]
        seconds = [took for _, took, _ in runs]
        show(model, scores, seconds)
        if parsed.write:
            write(model, "names", "accuracy", seeds, scores, seconds, parsed.backend)
    found: dict[str, list[float]] = {name: [] for name in CLASSIFIERS}
    seconds = []
    for seed in seeds:
        started = time.perf_counter()
        for name, score in baselines(seed).items():
            found[name].append(score)
        seconds.append(time.perf_counter() - started)
    for name, scores in found.items():
        show(name, scores, seconds)


def baselines(seed: int) -> dict[str, float]:
    """Test accuracy of each classifier, at its best validation accuracy."""
    splits = kzoo.load_dataset("names", seed=seed).splits
    train, validation, test = (splits[name] for name in ("train", "validation", "test"))
    best = dict.fromkeys(CLASSIFIERS, (-1.0, 0.0))
    for analyzer in ANALYZERS:
        for longest in LONGEST:
            vectors = TfidfVectorizer(
                analyzer=analyzer,
                ngram_range=(1, longest),
                lowercase=False,
                sublinear_tf=True,
            )
            seen = vectors.fit_transform(train.inputs)
            held_out = [vectors.transform(split.inputs) for split in (validation, test)]
            for name, candidates in CLASSIFIERS.items():
                for model in candidates:
                    model.fit(seen, train.labels)
                    chosen, reported = (
                        float(np.mean(model.predict(vector) == split.labels))
                        for vector, split in zip(
                            held_out, (validation, test), strict=True
                        )
                    )
                    best[name] = max(best[name], (chosen, reported))
    return {name: reported for name, (_, reported) in best.items()}


if __name__ == "__main__":
    main()
