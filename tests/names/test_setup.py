"""What travels to a name service in another network."""

import msgspec
import pytest

from isthmus.names.setup import NamesSetup, decode_names_setup, encode_names_setup
from isthmus.names.zone import View
from names.asking import PLANT


def test_what_was_encoded_is_decoded() -> None:
    setup = NamesSetup(PLANT, ("10.1.0.5", "10.1.0.6"), ("10.0.0.2",), 5353)
    value = msgspec.json.decode(msgspec.json.encode(encode_names_setup(setup)))
    assert decode_names_setup(value) == setup


def test_nothing_is_a_service_without_an_address() -> None:
    assert decode_names_setup({}) == NamesSetup(View())


@pytest.mark.parametrize("value", [{"listeners": "10.0.0.1"}, {"port": "a"}, {"zones": [{"nom": 1}]}, {"forward": [1]}])
def test_what_is_no_setup_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_names_setup(value)
