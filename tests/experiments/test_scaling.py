import json
import subprocess
import sys

import pytest

from experiments.scaling import Layout, compare, layouts, table


def test_what_is_timed():
    alone = [(Layout(1), 16), (Layout(1), 8), (Layout(1), 4)]
    strong, weak = [(Layout(2), 16), (Layout(4), 16)], [(Layout(2), 8)]
    divided = [(Layout(4, 1, "fsdp"), 16), (Layout(2, 2, "model"), 16), (Layout(2, 2, "fsdp"), 16)]
    assert layouts([1, 2, 4], 16) == alone + strong + weak + divided
    assert layouts([1], 16) == [(Layout(1), 16)]
    assert (Layout(2, 2).devices, Layout(2, 2).mesh, Layout(4).mesh) == (4, "data=2,model=2", "data=4")


def row(devices, batch, seconds, loss=1.0):
    return {
        "mesh": f"data={devices}", "devices": devices, "batch": batch, "images_per_device": batch // devices,
        "images_per_second": batch / seconds, "losses": [1.0, loss],
    }  # fmt: skip


@pytest.mark.parametrize(("virtual", "strong", "weak"), [(False, 0.8, 0.64), (True, 3.2, 2.56)])
def test_efficiencies(virtual, strong, weak):
    rows = [row(1, 64, 8.0), row(1, 16, 1.6), row(4, 64, 2.5, loss=1.01)]
    compare(rows, virtual)
    assert rows[0]["strong_efficiency"] == rows[1]["weak_efficiency"] == 1
    assert rows[2]["strong_efficiency"] == pytest.approx(strong)
    assert rows[2]["weak_efficiency"] == pytest.approx(weak)
    assert rows[2]["loss_difference"] == pytest.approx(0.01)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("scaling") / "runs"
    arguments = "--model lenet5_modern --width None --batch 64 --virtual 2 --dispatches 2 --out"
    command = [sys.executable, "-m", "experiments.scaling", *arguments.split(), out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    found = json.loads((out / "summary.json").read_text())["results"]
    assert table(found)[1][-1][0] in done.stdout
    return {(each["mesh"], each["shard"], each["batch"]): each for each in found}


@pytest.mark.slow
def test_every_layout_has_the_losses_of_one_device(rows):
    """In the first step but for rounding; tests/training/test_devices.py compares later ones, in float64."""
    several = [each for each in rows.values() if each["devices"] > 1]
    assert len(several) == 4
    for each in several:
        alone = rows["data=1", "replicated", each["batch"]]
        assert each["losses"][0] == pytest.approx(alone["losses"][0], rel=1e-5)
        assert len(each["losses"]) == len(set(each["losses"])) > 1
        assert each["loss_difference"] < 0.01


@pytest.mark.slow
def test_exchanges_are_those_of_the_design(rows):
    def kinds(*key):
        return set(rows[key]["traffic"])

    assert kinds("data=1", "replicated", 64) == set()
    assert kinds("data=2", "replicated", 64) == {"all-reduce"}
    assert kinds("data=2", "fsdp", 64) >= {"all-reduce", "all-gather"}


@pytest.mark.slow
def test_memory_falls(rows):
    alone, copied, divided = (
        rows[key]["bytes_per_device"]
        for key in (("data=1", "replicated", 64), ("data=2", "replicated", 64), ("data=2", "fsdp", 64))
    )
    assert copied["state"] == alone["state"]
    assert divided["state"] < 0.75 * alone["state"]
    assert copied["working"] < 0.75 * alone["working"]
