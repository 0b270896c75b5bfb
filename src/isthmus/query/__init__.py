"""The query language of twins and jobs: its words, its syntax, and what it means; and conditions of routes."""
