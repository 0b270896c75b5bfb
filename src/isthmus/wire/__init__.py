"""Wire: protocol codecs and state machines, pure and without I/O."""
