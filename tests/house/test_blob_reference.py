"""Every code of the Blob service that is answered has its row in the reference, and no other has one."""

import re

from house.source import ROOT
from isthmus.neighbours.blob.errors import StorageCode

PAGE = ROOT / "docs" / "reference" / "blob-service.md"


def test_every_code_is_in_the_reference_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3})", PAGE.read_text(), re.MULTILINE)
    assert set(rows) == {(code.wire_name, str(code.status)) for code in StorageCode}
