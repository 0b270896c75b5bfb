"""Walking a path to a hub as a client does, station by station, from wherever the walker runs."""
