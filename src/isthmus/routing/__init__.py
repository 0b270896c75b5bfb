"""Routing: which endpoints a record is for, judged once at ingest."""
