import json

import pytest

from cnnjax.errors import UserError
from experiments.accelerator import Args, Case, cases, main, paper_hours


def test_cases_are_each_network_one_with_seeds_and_one_with_a_probe():
    found = cases(("resnet20", "resnet50"))
    assert found[0] == Case("resnet20", 128)
    assert found[1] == Case("resnet50", 256)
    assert [case.name for case in found[2:]] == [
        "resnet20, 5 seeds at once",
        "resnet50, every layer measured",
    ]


def test_hours_of_the_paper_are_on_the_line_through_what_was_timed():
    rows = [{"case": "resnet20", "step_seconds": 0.020}, {"case": "resnet56", "step_seconds": 0.056}]
    assert paper_hours(rows) == pytest.approx(0.001 * (20 + 32 + 44 + 56) * 64_000 * 3 * 2 / 3600)
    assert paper_hours(rows[:1]) is None


def test_an_unknown_kind_is_one_line():
    with pytest.raises(UserError, match="--kind z80: must be one of"):
        main(Args(kind="z80"))


@pytest.mark.slow
def test_the_experiment_times_on_this_machine(own_cache, tmp_path):
    main(Args(models=("resnet8",), dispatches=1, out=tmp_path))
    rows = json.loads((tmp_path / "summary.json").read_text())["results"]
    assert len(rows) == 3
    assert all(row["images_per_second"] > 0 for row in rows)
