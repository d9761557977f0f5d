import contextlib
import os
import stat

import pytest

from cnnjax.errors import UserError
from cnnjax.files import read_json, read_jsonl, replacing, replacing_folder, write_json


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
