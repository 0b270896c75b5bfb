"""Route conditions: a small, statically typed language, compiled once to closures and judged for each message."""
