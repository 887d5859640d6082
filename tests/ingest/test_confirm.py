"""What ingest tells the sources after a commit: which batches their spools may forget."""

from __future__ import annotations

import msgspec
import pytest

from ingest.confirm import Confirmations, seq_of
from ingest.inbox import Received
from park.wire import Batch, encode_batch


def _received(topic: str, payload: bytes) -> Received:
    return Received(topic, payload, 0, 1, 1, 1)


@pytest.mark.parametrize(("payload", "seq"), [
    (encode_batch(Batch(17, ["p"], [1], [2.0], None)), 17),
    (b'{ "seq" : 18 , "readings": []}', 18),
    (b'{"readings": [], "seq": 19}', 19),
    (msgspec.msgpack.encode({"seq": 20, "point": []}), 20),
    (b'{"devices": []}', None),
    (b"\xff\x00", None),
    (b"", None),
])
def test_the_number_of_a_batch_is_found_in_every_form(payload: bytes, seq: int | None) -> None:
    assert seq_of(payload) == seq


def test_a_source_is_told_once_a_flush_and_nothing_twice() -> None:
    told: list[tuple[str, bytes]] = []
    confirmations = Confirmations()
    confirmations.add([_received("park/v1/b/one/readings", b'{"seq":1}'), _received("park/v1/b/one/deadletter", b'{"seq":2}'),
                       _received("park/v1/b/two/readings", b'{"seq":1}'), _received("park/v1/b/one/health", b'{"seq":9}')])
    confirmations.flush(lambda topic, payload: told.append((topic, payload)))
    confirmations.flush(lambda topic, payload: told.append((topic, payload)))
    assert told == [("park/v1/b/one/committed", b'{"seq":[1,2]}'), ("park/v1/b/two/committed", b'{"seq":[1]}')]
