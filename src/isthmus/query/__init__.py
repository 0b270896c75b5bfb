"""The query language for twins: its words, its syntax, and what of it can be asked today."""
