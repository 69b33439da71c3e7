"""Derives kzoo/models/index.json from the families: one line a model, sorted.

python scripts/derive_index.py
"""

import json

from kzoo import registry
from kzoo.index import INDEX


def main() -> None:
    """Writes the file."""
    names = sorted(name for family in registry.FAMILIES for name in family.variants)
    lines = [json.dumps(registry.index_entry(name)) for name in names]
    INDEX.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(names)} models in {INDEX.name}")


if __name__ == "__main__":
    main()
