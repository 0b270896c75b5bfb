"""Resources: hubs as managed resources with ARM ids and descriptions."""
