"""Checks from outside: what the kernel says is open, and what somebody finds who knocks there."""
