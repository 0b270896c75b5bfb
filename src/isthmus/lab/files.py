"""Files of a namespace, which `ip netns exec` puts over those of /etc (ip-netns(8))."""

from pathlib import Path

from isthmus.lab.record import Record

FILES = Path("/etc/netns")


def write_file(record: Record, namespace: str, name: str, text: str) -> None:
    """Writes a file that whoever is started in a namespace finds as /etc/{name}."""
    folder = FILES / namespace
    make_folder(record, FILES)
    make_folder(record, folder)
    record.add("file", str(folder / name))
    (folder / name).write_text(text)


def make_folder(record: Record, folder: Path) -> None:
    """Makes a folder that is taken away with the lab; one that is there already is left to whoever made it."""
    if not folder.exists():
        record.add("folder", str(folder))
        folder.mkdir(mode=0o755)
