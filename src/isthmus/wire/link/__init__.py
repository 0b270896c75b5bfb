"""The link protocol: what a hub and a connector say to each other, both halves, pure.

Begin at `messages.py`; `hub_side.py` and `connector_side.py` are the two ends of a control connection, `token.py` is
what a connector is enrolled with.
"""
