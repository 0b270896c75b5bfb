"""Automatic device management: configurations and edge deployments, and the engine that brings twins to them."""
