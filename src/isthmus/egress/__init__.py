"""Egress: the worker processes that read the log and deliver by the sinks, and the hub's side of them."""
