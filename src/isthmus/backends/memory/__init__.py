"""The state port in memory, for tests and for a hub that forgets: same rules, nothing durable."""

from isthmus.backends.memory.state import MemoryState

__all__ = ["MemoryState"]
