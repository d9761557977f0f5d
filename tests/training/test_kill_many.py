import os
import subprocess

import pytest

from tests.training.kill_many import study


@pytest.mark.slow
def test_nothing_is_lost_whenever_it_is_killed(tmp_path):
    """KILLS deaths, 40 by default; SEED draws when and how."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        kills, seed = (int(os.environ.get(name, default)) for name, default in (("KILLS", 40), ("SEED", 0)))
        failures = study(kills, seed, disk, full_disk=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", disk], check=True)
    assert not failures, "\n".join(failures)
