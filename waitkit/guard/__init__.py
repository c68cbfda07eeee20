"""The sleep guard: what a program sleeps instead of waiting for something, and where.

While a guard is installed, ``patches`` stands in the place of what sleeps and times it, ``busy`` takes samples of loops
that burn time, ``sites`` finds who is to be named, ``ledger`` adds up, and ``summary`` tells it.
"""
