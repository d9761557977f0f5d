import contextlib
import os
import stat
import tempfile

import pytest

from cnnjax.errors import UserError
from cnnjax.files import (
    _writable_cache,
    append_lines,
    cache_root,
    read_json,
    read_jsonl,
    replacing,
    replacing_folder,
    set_aside,
    sort_lines,
    write_json,
)


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """Nothing says where the cache is; temporary files go below `tmp_path`."""
    monkeypatch.delenv("CNNJAX_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield monkeypatch
    _writable_cache.cache_clear()


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null", None])
def test_without_a_home_the_cache_is_among_the_temporary_files(no_cache, tmp_path, capsys, home):
    _writable_cache.cache_clear()
    if home:
        no_cache.setenv("HOME", home)
    else:  # nor an entry in the table of users
        no_cache.setattr(os.path, "expanduser", lambda path: path)
    expected = tmp_path / f"cnnjax-{os.getuid()}"
    assert cache_root() == cache_root() == expected
    assert stat.S_IMODE(expected.stat().st_mode) == 0o700
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(
        f"cnnjax: {home or '~'}/.cache/cnnjax cannot be written, so the cache is in {expected};"
    )


def test_a_cache_that_others_can_write_is_not_taken(no_cache, tmp_path):
    no_cache.setenv("HOME", "/proc/none")
    folder = tmp_path / f"cnnjax-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UserError, match=r"neither .* nor .* can be used: set CNNJAX_CACHE"):
        cache_root()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(UserError, match="set CNNJAX_CACHE"):
        cache_root()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, 1)
    with contextlib.suppress(RuntimeError), replacing(path) as file:
        file.write("half")
        raise RuntimeError
    with pytest.raises(TypeError):
        write_json(path, object())
    assert read_json(path) == 1
    assert os.listdir(tmp_path) == ["value.json"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    for text in ("old", "new"):
        with replacing_folder(path) as folder:
            (folder / "file").write_text(text)
    with pytest.raises(RuntimeError), replacing_folder(path):
        raise RuntimeError
    assert (path / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["folder"]


def test_whole_lines_are_read_whatever_is_between_them(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert read_jsonl(path) == []
    damage = [
        b'{"ste',
        b"\0" * 40,
        b"\xff\xfe",
        b"[" * 100_000,
        b"[1]",
        b'{"loss": 1.0}',
        b'{"step": "1"}',
        b'{"step": 1, "loss": null}',
    ]
    zeros_before = b'\0\0{"step": 5}'
    whole = [b'{"step": %d}' % number for number in range(1, 5)]
    path.write_bytes(b"\n".join([*whole[:2], *damage, whole[2], b"", zeros_before, whole[3]]))
    found, rest = sort_lines(path)
    assert found == read_jsonl(path) == [{"step": step} for step in (1, 2, 3, 5, 4)]
    assert rest == [*damage, zeros_before]
    with pytest.raises(UserError, match="no whole JSON file"):
        read_json(path)


def test_what_is_set_aside_overwrites_nothing(tmp_path):
    for text in "abc":
        (tmp_path / "file").write_text(text)
        set_aside(tmp_path / "file")
    (tmp_path / "7").mkdir()
    assert set_aside(tmp_path / "7", into=tmp_path / "damaged") == tmp_path / "damaged" / "7"
    assert {path.name: path.read_text() for path in tmp_path.glob("file*")} == {
        "file.damaged": "a",
        "file.damaged.2": "b",
        "file.damaged.3": "c",
    }


def test_lines_are_appended_after_one_that_was_cut_short(tmp_path):
    path = tmp_path / "lines"
    append_lines(path, [b"1\n", b"2\n"])
    path.write_bytes(path.read_bytes()[:-1])
    append_lines(path, [b"3\n"])
    assert path.read_bytes() == b"1\n2\n3\n"
