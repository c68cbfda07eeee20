"""A store as unlike the default one as can be: in a file, for several processes, with a clock that is nobody's."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from waitkit import Rate
from waitkit.engine.clock import now
from waitkit.policies.gcra import Bucket
from waitkit.rates.store import NEVER, Slot, Store


class SqliteStore(Store):
    """One row in a database. Its own clock runs *offset* nanoseconds off, as on another machine.

    Args:
        path: the database.
        offset: what its clock shows more than that of the process.
        trips: counts the transactions.
    """

    may_block = True

    def __init__(self, path: Path, offset: int = 3_600_000_000_000) -> None:
        self.path = path
        self.offset = offset
        self.trips: list[str] = []
        self._local = threading.local()
        self._rates: tuple[Rate, ...] = ()
        with self._transaction("init") as database:
            database.execute("CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, state TEXT)")

    def __reduce__(self):
        return SqliteStore, (self.path, self.offset)

    @contextmanager
    def _transaction(self, name: str):
        self.trips.append(name)
        database = sqlite3.connect(self.path, timeout=20, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        finally:
            database.close()

    def _read(self, database) -> tuple[int, list[Bucket]]:
        (text,) = database.execute("SELECT state FROM state").fetchone()
        version, rows = json.loads(text)
        buckets = []
        for rate_text, burst, tat, closed in rows:
            bucket = Bucket(Rate(rate_text, burst))
            bucket.tat = tat
            if closed is not None:
                bucket.close_until(closed)
            buckets.append(bucket)
        return version, buckets

    def _write(self, database, version: int, buckets: Sequence[Bucket]) -> None:
        rows = [(bucket.rate.text, bucket.rate.burst, bucket.tat, bucket._closed_until) for bucket in buckets]
        database.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (json.dumps((version, rows)),))

    def _now(self) -> int:
        return now() + self.offset

    def open(self, rates: Sequence[Rate]) -> None:
        self._rates = tuple(rates)
        with self._transaction("open") as database:
            if database.execute("SELECT 1 FROM state").fetchone() is None:
                self._write(database, 0, [Bucket(rate) for rate in rates])
            elif [bucket.rate for bucket in self._read(database)[1]] != list(rates):
                raise ValueError("the store is in use with other rates")

    @property
    def rates(self) -> tuple[Rate, ...]:
        return self._rates

    def reserve(self, tokens: int, longest: int | None = None, ahead: int = 0) -> Slot:
        with self._transaction("ask" if longest == -1 else "reserve") as database:
            version, buckets = self._read(database)
            instant = self._now()
            if any(tokens > bucket.rate.burst for bucket in buckets):
                return NEVER
            due = max(instant, *(bucket.due(tokens, instant, ahead) for bucket in buckets))
            if longest is not None and due - instant > longest:
                return Slot(due - instant)
            before = [bucket.tat for bucket in buckets]
            for bucket in buckets:
                bucket.charge(tokens, due)
            self._write(database, version + 1, buckets)
            return Slot(due - instant, (version + 1, before))

    def cancel(self, slot: Slot) -> bool:
        taken_at, before = slot.receipt
        with self._transaction("cancel") as database:
            version, buckets = self._read(database)
            if version != taken_at:
                return False
            for bucket, tat in zip(buckets, before, strict=True):
                bucket.tat = tat
            self._write(database, version - 1, buckets)
            return True

    def penalize(self, pause: int) -> None:
        with self._transaction("penalize") as database:
            version, buckets = self._read(database)
            for bucket in buckets:
                bucket.close_until(self._now() + pause)
            self._write(database, version, buckets)

    def change(self, rates: Sequence[Rate]) -> None:
        self._rates = tuple(rates)
        with self._transaction("change") as database:
            version, buckets = self._read(database)
            for bucket, rate in zip(buckets, rates, strict=True):
                bucket.change(rate, self._now())
            self._write(database, version + 1_000_000, buckets)

    def full(self) -> bool:
        with self._transaction("full") as database:
            return all(bucket.due(bucket.rate.burst, self._now()) <= self._now() for bucket in self._read(database)[1])
