"""The architectures, one file a family; ``kzoo/registry.py`` lists them."""
