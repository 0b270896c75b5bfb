"""The part of the Blob service that a hub, its devices' uploads and a reader need: pure forms and rules, and a port."""
