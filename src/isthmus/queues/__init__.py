"""Queues: one lock-queue with a policy per instance."""
