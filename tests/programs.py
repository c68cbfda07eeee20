"""Server programs of the system, unmodified: what starts them in a folder, on a port. Without one, its test is skipped."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import urllib.request
from functools import cache
from pathlib import Path

import pytest

#: Who runs what refuses to run as root.
UNPRIVILEGED = "nobody" if os.getuid() == 0 else None


def installed(name: str) -> str:
    """The path of a server program."""
    postgresql = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    found = shutil.which(
        name, path=os.pathsep.join([*postgresql, os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    )
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def redis(folder: Path, port: int) -> list[str]:
    return [installed("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]


def memcached(folder: Path, port: int) -> list[str]:
    user = ["-u", "root"] if os.getuid() == 0 else []
    return [installed("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", *user]


def nginx(folder: Path, port: int, *, workers: int = 0) -> list[str]:
    """Nginx, which serves a page; without workers it is one process."""
    (folder / "page").write_text("served")
    processes = f"worker_processes {workers}" if workers else "master_process off"
    user = "user root;" if os.getuid() == 0 else ""
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; {processes}; pid {folder}/pid; error_log stderr; {user} events {{}}\n"
        f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    return [installed("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def postgresql(folder: Path, port: int) -> list[str]:
    """PostgreSQL with a database in the folder, to be run by the unprivileged."""
    postgres, data = installed("postgres"), folder / "data"
    if not data.exists():
        _run_unprivileged("cp", "-r", str(_new_database()), str(data))
    return [postgres, "-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]


@cache
def _new_database() -> Path:
    """A database as ``initdb`` makes it, for this process: a copy of it takes a fraction of the time."""
    around = Path(tempfile.mkdtemp(prefix="waitkit-postgresql-"))
    atexit.register(shutil.rmtree, around, ignore_errors=True)
    around.chmod(0o777)
    options = ["-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    _run_unprivileged(installed("initdb"), "-D", str(around / "data"), *options)
    return around / "data"


def _run_unprivileged(*argv: str) -> None:
    subprocess.run(
        argv, user=UNPRIVILEGED, cwd="/", env={**os.environ, "HOME": "/"}, check=True, capture_output=True, timeout=60
    )


def get(port: int, page: str = "") -> bytes:
    """A page, asked for directly whatever proxies the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/{page}", timeout=30) as answer:
        content: bytes = answer.read()
    return content
