"""A key goes to the partition that the SDKs' own spreading would send it to."""

from azure.eventhub._buffered_producer._partition_resolver import generate_hash_code
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.partitioning import key_hash, partition_of


@given(st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=127), max_size=60))
def test_the_hash_is_the_one_of_the_stock_buffered_producer(key: str) -> None:
    assert key_hash(key) == generate_hash_code(key)


@given(st.text(max_size=40), st.integers(1, 1024))
def test_every_key_has_one_partition_of_those_there_are(key: str, partitions: int) -> None:
    found = partition_of(key, partitions)
    assert 0 <= found < partitions
    assert found == partition_of(key, partitions)


def test_keys_spread_over_all_partitions() -> None:
    assert {partition_of(f"device-{number}", 32) for number in range(1_000)} == set(range(32))


def test_a_negative_hash_loses_its_sign_after_the_division() -> None:
    negative = next(f"key-{number}" for number in range(100) if key_hash(f"key-{number}") < 0)
    assert partition_of(negative, 7) == -key_hash(negative) % 7
