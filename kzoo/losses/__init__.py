"""Losses as pure functions on tensors: one value an example, whatever the backend."""
