"""Records on their way may be counted and read while others are sent."""

from __future__ import annotations

import threading
from pathlib import Path

from harness.store.entries import Addition
from harness.store.outbox import Outbox, done


def test_records_are_counted_and_read_while_they_are_sent(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "http://server")
    entries = [box.keep(str(number), None, Addition()) for number in range(100)]
    errors: list[Exception] = []
    is_over = threading.Event()

    def look() -> None:
        try:
            while not is_over.is_set():
                assert {entry.run_id for entry in box.mine()} <= {entry.run_id for entry in entries}
                assert len(box) <= len(entries)
        except Exception as error:
            errors.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    for entry in entries:
        done(entry)
    is_over.set()
    looking.join()
    assert errors == []
    assert (len(box), box.mine()) == (0, [])
