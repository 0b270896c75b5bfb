"""Access: who asks, what proves it, what it may do, and the journal of every decision."""
