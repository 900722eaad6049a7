"""What a lease costs: a cell is claimed, asked for before its record is written, and released.

On a store in a folder, with one driver, and with a second one that has up to a hundred cells a second; and as on a
tracking server, through MLflow's client, here over an sqlite file without a server between.

Run: OMP_NUM_THREADS=1 python benchmarks/lease.py [cells]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness.store.leases import Leases, roster_of
from harness.store.mlflow_store import Store
from harness.store.roster import Roster, RunRoster


def leases_ms(roster: Roster, cells: int) -> list[float]:
    """Return what the lease of each cell took, in milliseconds."""
    found = []
    with Leases(roster) as leases:
        for number in range(cells):
            key = f"{number:064x}"
            started = time.perf_counter()
            assert leases.claim([key]) == {key}
            assert leases.holds(key)
            leases.release([key])
            found.append(1000 * (time.perf_counter() - started))
    return found


def beside_another_ms(roster: Roster, cells: int) -> list[float]:
    """Return the same while another driver is at work."""
    is_over = threading.Event()

    def work() -> None:
        with Leases(roster) as leases:
            while not is_over.is_set():
                leases.claim(["another"])
                leases.release(["another"])
                time.sleep(0.01)

    other = threading.Thread(target=work)
    other.start()
    try:
        return leases_ms(roster, cells)
    finally:
        is_over.set()
        other.join()


def main() -> None:
    """Measure and print."""
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder, "store")))
        rows = {
            "sqlite, one driver": leases_ms(roster_of(store), cells),
            "sqlite, two drivers": beside_another_ms(roster_of(store), cells),
            "MLflow's client": leases_ms(RunRoster(store.client), max(1, cells // 20)),
        }
    for name, each in rows.items():
        at_95 = statistics.quantiles(each, n=20)[-1]
        print(
            f"{name:<20} {statistics.median(each):6.2f} ms a lease (median of {len(each)}; 95 % below {at_95:.2f})"
        )


if __name__ == "__main__":
    main()
