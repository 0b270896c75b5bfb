"""The blob store on this machine: content in files, what it is in a SQLite index, both synced before an answer."""

from isthmus.backends.blobs.store import FileBlobStore

__all__ = ["FileBlobStore"]
