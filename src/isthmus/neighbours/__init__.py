"""Neighbours: namespaces and storage accounts hosted here, so that a closed site has somewhere to route to."""
