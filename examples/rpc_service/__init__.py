"""An RPC service and the tests of its life, in two editions that assert the same and differ in how they wait.

- ``service.py``, ``client.py``, ``background.py``: the service and what talks to it. Nothing in them waits for time to pass.
- ``lifecycle.py``: 26 tests, from start to restart, written against ``edition.py``.
- ``sleeping.py``: the edition that sleeps and hopes, as such tests usually do. The only file here with a sleep in it.
- ``waiting.py``: the edition that waits for conditions.
- ``run.py``: runs an edition and tells what it waited for; ``waitkit demo`` prints it.
"""
