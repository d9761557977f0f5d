import contextlib
import os
import stat
import tempfile

import pytest

from cnnjax.errors import UserError
from cnnjax.files import (
    _writable_cache,
    cache_root,
    read_json,
    read_jsonl,
    replacing,
    replacing_folder,
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


def test_lines_are_read_up_to_the_one_cut_short(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert read_jsonl(path) == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}]
    with pytest.raises(UserError, match="no whole JSON file"):
        read_json(path)
