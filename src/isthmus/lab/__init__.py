"""The lab: a plant, its networks and a hub, in Linux network namespaces of one machine, from one small TOML file."""
