"""Network: doors, private endpoint connections, and the pure decision who is admitted."""
