"""Management: the local owner's API over a Unix socket, in ARM's paths and shapes where ARM has them."""
