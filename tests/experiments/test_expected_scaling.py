import dataclasses
import math

import pytest

from cnnjax.errors import UserError
from experiments.expected_scaling import Args, Net, count, rows, step_seconds

NET = Net(macs=10**9, gradients=10**8, norms=50)


def test_one_device_only_works():
    assert step_seconds(NET, 100, 1, Args(macs_per_second=1e12), global_norm=True) == pytest.approx(0.3)


def test_gradients_go_beside_the_backward_pass():
    args = Args(macs_per_second=1e12, latency=1e-12)
    assert step_seconds(NET, 100, 64, args, global_norm=False) == pytest.approx(0.3)
    slow = dataclasses.replace(args, bandwidth=1e7)  # 2 x 10^8 / 8 x 7 / 8 bytes take 2.1875 s
    inside = 2 * 1e8 * 7 / 8 / args.node_bandwidth
    assert step_seconds(NET, 100, 64, slow, global_norm=False) == pytest.approx(0.3 + 2.1875 + inside - 0.2)


def test_statistics_are_waited_for():
    args = Args(latency=1e-5)
    with_them, without = (step_seconds(NET, 100, 256, args, norm) for norm in (True, False))
    assert with_them - without == pytest.approx(3 * 50 * 2 * math.log2(256) * 1e-5)


@pytest.mark.parametrize(("name", "norms"), [("resnet20", 19), ("fixup_resnet20", 0), ("inception_v3", 96)])
def test_norms_are_counted_by_their_kind(name, norms):
    assert count(name).norms == norms  # those of auxiliary heads too, which training waits for


def test_rows():
    (row,) = rows("resnet20", Args(devices=(1,)))
    assert row == ["`resnet20`", "1", "100 %", "100 %", "4096", "100 %", "100 %"]
    with pytest.raises(UserError, match="--bandwidth 0: must be above 0"):
        Args(bandwidth=0)
