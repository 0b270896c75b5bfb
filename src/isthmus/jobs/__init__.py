"""Jobs: work on many identities at once, which goes on where it was when the process ends."""
