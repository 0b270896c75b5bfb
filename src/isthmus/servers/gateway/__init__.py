"""Gateway: the front door and the pumps and contracts of each protocol."""
