"""The connector: `isthmus connector run`, the process in a customer's network that carries its connections to the hub.

`connector.py` is the whole of it; `carrying.py` carries one connection, `control.py` is the conversation with the hub.
"""
