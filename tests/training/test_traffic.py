import pytest

from cnnjax.training.traffic import Traffic, traffic

# Lines as XLA writes them, shortened.
HLO = """
  %all-reduce = f32[4]{0} all-reduce(%reduce), replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}
  %all-reduce.1 = (f32[2,3]{1,0}, bf16[8]{0}) all-reduce(%a, %b), replica_groups=[1,8]<=[8]
  %all-reduce.2 = f32[100]{0} all-reduce(%a), replica_groups={{0},{1}}
  %all-gather = f32[4,16]{1,0} all-gather(%copy), replica_groups={{0,1},{2,3}}
  %ags = (f32[4]{0}, f32[8]{0}) all-gather-start(%copy), replica_groups=[4,2]<=[8]
  %agd = f32[8]{0} all-gather-done(%ags)
  ROOT %reduce-scatter = f32[5]{0} reduce-scatter(%copy), replica_groups=[1,4]<=[4]
  %collective-permute = f32[3]{0} collective-permute(%copy), source_target_pairs={{0,1},{1,0}}
  %add = f32[4]{0} add(%all-reduce, %all-reduce)
"""


def test_exchanges_are_counted_by_kind():
    assert traffic(HLO) == {
        "all-reduce": Traffic(2, 16 + 24 + 16, pytest.approx(2 * 16 * 3 / 4 + 2 * 40 * 7 / 8)),
        "all-gather": Traffic(2, 256 + 32, 256 / 2 + 32 / 2),
        "reduce-scatter": Traffic(1, 20, 60),
        "collective-permute": Traffic(1, 12, 12),
    }
    assert traffic("%add = f32[4]{0} add(%a, %b)") == {}
