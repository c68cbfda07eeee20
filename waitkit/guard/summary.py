"""The summary: what the tests of a run slept, in all, and at which sites."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from waitkit.ground.durations import format_duration
from waitkit.guard.ledger import Slept, SleptAt

__all__ = ["Summary", "site_line"]

_MOST_SITES: Final = 10


class Summary:
    """Adds up tests, those of several processes too."""

    def __init__(self) -> None:
        self._sites: dict[tuple[str, str, bool], list[int]] = defaultdict(lambda: [0, 0, 0])
        self._guessed = 0
        self._duration = 0
        self._tests = 0

    def add(self, slept: Slept, duration: int = 0) -> None:
        """One test.

        Args:
            slept: what it slept.
            duration: the nanoseconds it took, from the begin of its setup to the end of its teardown.
        """
        self._guessed += slept.guessed
        self._duration += duration
        self._tests += slept.guessed > 0
        for site in slept.sites:
            sums = self._sites[site.kind, site.site, site.elsewhere]
            sums[0] += site.times
            sums[1] += site.nanoseconds
            sums[2] += 1

    @property
    def guessed(self) -> int:
        """The nanoseconds that the tests' own threads slept."""
        return self._guessed

    def sites(self) -> list[SleptAt]:
        """All sites, the most expensive first."""
        sites = [SleptAt(*which, count, spent) for which, (count, spent, _) in self._sites.items()]
        return sorted(sites, key=lambda site: -site.nanoseconds)

    def lines(self) -> Iterator[str]:
        """The summary in words: one line, then one for each of the ten most expensive sites."""
        sites = self.sites()
        if not sites:
            yield "nothing slept"
            return
        share = f", {self._guessed / self._duration:.0%} of the {format_duration(self._duration)} that all tests took"
        elsewhere = sum(site.nanoseconds for site in sites if site.elsewhere)
        tests = "1 test" if self._tests == 1 else f"{self._tests} tests"
        yield (
            f"{format_duration(self._guessed)} of guessing in {tests}{share if self._duration else ''}"
            + (f"; {format_duration(elsewhere)} more in other threads" if elsewhere else "")
        )
        for site in sites[:_MOST_SITES]:
            number = self._sites[site.kind, site.site, site.elsewhere][2]
            yield f"{site_line(site)}, in {'1 test' if number == 1 else f'{number} tests'}"
        if len(sites) > _MOST_SITES:
            rest = sum(site.nanoseconds for site in sites[_MOST_SITES:])
            yield f"{format_duration(rest):>10}  at {len(sites) - _MOST_SITES} other sites"


def site_line(site: SleptAt) -> str:
    """``"     1.2 s   12 x time.sleep  tests/test_orders.py:41"``."""
    where = f"{site.site} (in another thread)" if site.elsewhere else site.site
    return f"{format_duration(site.nanoseconds):>10} {site.times:>5} x {site.kind:<14} {where}"
