"""Private names: what the clients of a network see, answered over DNS and exported for other servers."""
