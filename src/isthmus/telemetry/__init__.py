"""Telemetry: messages, partitions and the durable log that is the only queue of the house."""
