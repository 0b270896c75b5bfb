"""How blobs change: what a rule makes of what is there, and when it refuses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.neighbours.blob import rules
from isthmus.neighbours.blob.blob import Blob, BlobKind, BlockSource, Copied
from isthmus.neighbours.blob.block_list import BLOCKS_MAX, UNCOMMITTED_BLOCKS_MAX, ListedBlock
from isthmus.neighbours.blob.conditions import NO_CONDITIONS, Conditions
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.rules import AppendLimits, Waiting, Wish
from neighbours.blob.blobs import NOW_MS, There, blob, extent


def code(refused: pytest.ExceptionInfo[StorageError]) -> StorageCode:
    return refused.value.storage_code


def test_a_put_replaces_everything() -> None:
    content = extent(5)
    outcome = rules.put(There(blob(size=9)), "x", BlobKind.BLOCK, content, Wish(metadata=(("a", "1"),)))
    assert outcome.blob is not None
    assert (outcome.extents, outcome.unstage) == ((content,), True)
    assert (outcome.blob.number, outcome.blob.size, outcome.blob.etag) == (90, 5, 900)
    assert (outcome.blob.created_ms, outcome.blob.metadata) == (NOW_MS, (("a", "1"),))


def test_who_may_only_create_replaces_nothing() -> None:
    wish = Wish(may_overwrite=False)
    assert rules.put(There(), "x", BlobKind.BLOCK, None, wish).blob is not None
    with pytest.raises(StorageError) as refused:
        rules.put(There(blob()), "x", BlobKind.BLOCK, None, wish)
    assert code(refused) is StorageCode.UNAUTHORIZED_OVERWRITE


def test_a_list_takes_the_newest_block_of_an_id_or_the_one_it_names() -> None:
    old, new = extent(1, b"a", file=1), extent(2, b"a", file=2)
    there = There(blob(size=1), (old,), {b"a": new})
    for source, chosen in ((BlockSource.LATEST, new), (BlockSource.UNCOMMITTED, new), (BlockSource.COMMITTED, old)):
        outcome = rules.commit(there, "x", [ListedBlock(b"a", source)], Wish())
        assert outcome.extents == (chosen,)
        assert outcome.blob is not None
        assert (outcome.blob.size, outcome.blob.created_ms) == (chosen.length, NOW_MS - 5_000)


def test_a_list_of_unknown_blocks_is_refused() -> None:
    there = There(blob(), (extent(1, b"a"),), {b"b": extent(1, b"b")})
    for entry in (ListedBlock(b"c", BlockSource.LATEST), ListedBlock(b"a", BlockSource.UNCOMMITTED),
                  ListedBlock(b"b", BlockSource.COMMITTED)):  # fmt: skip
        with pytest.raises(StorageError) as refused:
            rules.commit(there, "x", [entry], Wish())
        assert code(refused) is StorageCode.INVALID_BLOCK_LIST


@given(st.lists(st.integers(1, 1_000), max_size=30), st.data())
def test_listed_blocks_lie_one_behind_another(lengths: list[int], data: st.DataObject) -> None:
    staged = {bytes([place]): extent(length, bytes([place])) for place, length in enumerate(lengths)}
    order = data.draw(st.lists(st.sampled_from(sorted(staged)), max_size=40)) if staged else []
    outcome = rules.commit(There(waits=staged), "x", [ListedBlock(each, BlockSource.LATEST) for each in order], Wish())
    assert outcome.blob is not None
    assert outcome.extents is not None
    assert outcome.blob.size == sum(staged[each].length for each in order)
    assert [each.start for each in outcome.extents] == [
        sum(staged[each].length for each in order[:place]) for place in range(len(order))
    ]


def test_blocks_of_a_blob_have_ids_of_one_length() -> None:
    with pytest.raises(StorageError) as refused:
        rules.stage(There(waits={b"aa": extent(1, b"aa")}), extent(1, b"b"))
    assert code(refused) is StorageCode.INVALID_BLOB_OR_BLOCK
    with pytest.raises(StorageError) as refused:
        rules.stage(There(blob(BlobKind.APPEND)), extent(1, b"b"))
    assert code(refused) is StorageCode.INVALID_BLOB_TYPE


def test_blocks_that_wait_are_counted() -> None:
    class Full(There):
        def waiting(self) -> Waiting:
            return Waiting(UNCOMMITTED_BLOCKS_MAX, 1)

    with pytest.raises(StorageError) as refused:
        rules.stage(Full(), extent(1, b"b"))
    assert code(refused) is StorageCode.UNCOMMITTED_BLOCKS


def test_an_append_lands_at_the_end() -> None:
    outcome = rules.append(There(blob(BlobKind.APPEND, size=10, blocks=2)), 7, extent(4), NO_CONDITIONS)
    assert outcome.blob is not None
    assert outcome.added is not None
    assert (outcome.blob.size, outcome.blob.blocks, outcome.added.start) == (14, 3, 10)


@pytest.mark.parametrize(
    ("there", "number", "limits", "expected"),
    [
        (None, 7, AppendLimits(), StorageCode.BLOB_NOT_FOUND),
        (blob(), 7, AppendLimits(), StorageCode.INVALID_BLOB_TYPE),
        (blob(BlobKind.APPEND, size=3), 7, AppendLimits(position=2), StorageCode.APPEND_POSITION),
        (blob(BlobKind.APPEND, size=3), 7, AppendLimits(size_max=6), StorageCode.MAX_BLOB_SIZE),
        # Content that was written for a blob which was replaced meanwhile is not the new one's.
        (blob(BlobKind.APPEND), 6, AppendLimits(), StorageCode.SERVER_BUSY),
        (blob(BlobKind.APPEND, blocks=BLOCKS_MAX), 7, AppendLimits(), StorageCode.BLOCK_COUNT),
    ],
)
def test_an_append_is_refused(there: Blob | None, number: int, limits: AppendLimits, expected: StorageCode) -> None:
    with pytest.raises(StorageError) as refused:
        rules.append(There(there), number, extent(4), NO_CONDITIONS, limits)
    assert code(refused) is expected


def test_a_copy_keeps_what_the_source_says_unless_it_is_told_otherwise() -> None:
    source = replace(blob(size=3), metadata=(("a", "1"),))
    copied = Copied("id", "https://a/b", 3, 0)
    kept = rules.copy(There(), source, (extent(3),), copied, Wish(), "y").blob
    told = rules.copy(There(), source, (extent(3),), copied, Wish(metadata=(("b", "2"),)), "y").blob
    assert kept is not None
    assert told is not None
    assert (kept.name, kept.number, kept.metadata, told.metadata) == ("y", 90, (("a", "1"),), (("b", "2"),))
    assert kept.copied is not None
    assert kept.copied.completed_ms == NOW_MS


def test_nothing_is_deleted_that_is_not_there_or_not_meant() -> None:
    with pytest.raises(StorageError) as refused:
        rules.delete(There(), NO_CONDITIONS)
    assert code(refused) is StorageCode.BLOB_NOT_FOUND
    with pytest.raises(StorageError) as refused:
        rules.delete(There(blob()), Conditions(if_match="0x1"))
    assert code(refused) is StorageCode.CONDITION_NOT_MET
    assert rules.delete(There(blob()), Conditions(if_match="*")).blob is None
