"""XML that clients send, read without what could grow on the way or lead elsewhere."""

from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser


def parse_xml(body: bytes) -> Element:
    """The root element; raises ValueError for what is no XML, and for a document type, whose entities could grow.

    An encoding that nobody knows, or one of several bytes that is not Unicode's, is no XML here.
    """
    parser = XMLParser(target=_Builder())
    try:
        parser.feed(body)
        root = parser.close()
    except (ParseError, LookupError) as error:
        raise ValueError(str(error)) from error
    assert isinstance(root, Element), "the builder makes elements"
    return root


class _Builder(TreeBuilder):
    """Refuses a document type, in whatever encoding it comes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("a document type")
