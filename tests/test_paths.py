"""``path_exists``: something is at a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from children import LONG

from waitkit import WaitTimeout, any_of, path_exists, wait_for


def test_file_and_folder(tmp_path: Path) -> None:
    """A file and a folder exist, and the wait returns the path."""
    (tmp_path / "f").touch()
    assert wait_for(path_exists(tmp_path), timeout=0) == tmp_path
    assert wait_for(path_exists(str(tmp_path / "f")), timeout=0) == tmp_path / "f"


def test_broken_link_exists(tmp_path: Path) -> None:
    """A symbolic link that leads nowhere is there all the same."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert wait_for(path_exists(link), timeout=0) == link


def test_appears_and_goes(tmp_path: Path) -> None:
    """The wait ends when the path appears, and its opposite when it is gone."""
    path = tmp_path / "f"
    looks = 0

    def appears_at_the_third_look() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            path.touch()
        return False

    assert wait_for(any_of(appears_at_the_third_look, path_exists(path)), LONG).value == path
    assert looks == 3
    with pytest.raises(WaitTimeout):
        wait_for(~path_exists(path), timeout=0)
    path.unlink()
    assert wait_for(~path_exists(path), timeout=0) is True


def test_relative_path_is_fixed_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path counts from the working directory of then, not of the wait."""
    (tmp_path / "f").touch()
    monkeypatch.chdir(tmp_path)
    condition = path_exists("f")
    monkeypatch.chdir("/")
    assert wait_for(condition, timeout=0) == tmp_path / "f"


def test_missing(tmp_path: Path) -> None:
    """The error names the path, and says nothing of a folder that is there."""
    with pytest.raises(WaitTimeout) as caught:
        wait_for(path_exists(tmp_path / "f"), timeout="20ms")
    assert caught.value.what == f"{tmp_path / 'f'} to exist"
    assert caught.value.last == "No such file or directory"
    assert caught.value.facts.notes == ()


def test_missing_folder(tmp_path: Path) -> None:
    """Where the folder is missing too the error says that."""
    with pytest.raises(WaitTimeout) as caught:
        wait_for(path_exists(tmp_path / "a" / "f"), timeout=0)
    assert caught.value.facts.notes == (f"its folder {tmp_path / 'a'} does not exist either",)


def test_a_file_for_a_folder(tmp_path: Path) -> None:
    """A path below a file does not exist, and the wait says why."""
    (tmp_path / "f").touch()
    with pytest.raises(WaitTimeout, match="Not a directory"):
        wait_for(path_exists(tmp_path / "f" / "g"), timeout=0)


def test_failing_wait_stays_a_timeout(tmp_path: Path) -> None:
    """Where even the folder cannot be looked at (its name is too long) the error is the timeout, not that of its notes."""
    with pytest.raises(WaitTimeout, match="File name too long"):
        wait_for(path_exists(tmp_path / ("x" * 300) / "f"), timeout=0)


@pytest.mark.parametrize("path", [None, 3, b"/tmp"])
def test_no_path(path: object) -> None:
    """What is no path is refused when the condition is made."""
    with pytest.raises(TypeError, match="is not a path"):
        path_exists(path)  # type: ignore[arg-type]


def test_no_possible_path() -> None:
    """What can be no path at all is refused when the condition is made, not when it is waited for."""
    with pytest.raises(ValueError, match="null"):
        path_exists("a\0b")
