"""The ``kzoo`` command: one file a command, imported only when it is called."""
