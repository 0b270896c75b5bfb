"""XML as the Blob service takes and gives it: elements without attributes' subtleties, and no document types."""

from collections.abc import Iterable
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from isthmus.base import xml
from isthmus.neighbours.blob.errors import StorageCode, StorageError

DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'


def parse_xml(body: bytes) -> Element:
    """The root element; raises StorageError InvalidXmlDocument, also for a document type, which could grow."""
    try:
        return xml.parse_xml(body)
    except ValueError:
        raise StorageError(StorageCode.INVALID_XML) from None


def child_text(parent: Element, name: str) -> str:
    """The text of a child, trimmed; empty when there is no such child."""
    return (parent.findtext(name) or "").strip()


def element(name: str, text: str = "") -> str:
    """An element with text, or an empty one."""
    return f"<{name}>{xml_text(text)}</{name}>" if text else f"<{name} />"


def parent(name: str, children: Iterable[str]) -> str:
    """An element with elements."""
    inner = "".join(children)
    return f"<{name}>{inner}</{name}>" if inner else f"<{name} />"


def document(root: str) -> bytes:
    """A whole document, with the mark of UTF-8 in front as the service writes it."""
    return f"\ufeff{DECLARATION}{root}".encode()


def xml_text(text: str) -> str:
    """Escaped; characters that XML cannot have are left out."""
    return escape("".join(character for character in text if _is_xml(character)))


def is_writable(text: str) -> bool:
    """True when XML can carry the text as it is."""
    return all(map(_is_xml, text))


def _is_xml(character: str) -> bool:
    is_half = "\ud800" <= character <= "\udfff"
    return (character >= " " and not is_half and character not in "\ufffe\uffff") or character in "\t\n\r"
