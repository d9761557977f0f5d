import pytest

from cnnjax.counting.exchanges import Exchange, exchanges
from cnnjax.counting.hlo import Program

# As XLA writes it, shortened.
HLO = """
%fused (param_0: f32[100,4], param_1: s32[3]) -> f32[3,4] {
  %param_0 = f32[100,4]{1,0} parameter(0)
  %param_1 = s32[3]{0} parameter(1)
  ROOT %gather.1 = f32[3,4]{1,0} gather(%param_0, %param_1), slice_sizes={1,4}
}

%body (arg: (f32[4])) -> (f32[4]) {
  %inside = f32[4]{0} all-reduce(%x), channel_id=9, replica_groups=[1,8]<=[8]
}

ENTRY %main (a: f32[100,4], b: s32[3]) -> f32[3,4] {
  %a = f32[100,4]{1,0} parameter(0)
  %b = s32[3]{0:T(128)S(1)} parameter(1)
  %all-reduce = f32[4]{0} all-reduce(%r), channel_id=1, replica_groups=mesh['a'=4,'b'=2] {'a'}
  %all-reduce.0 = f32[4]{0} all-reduce(%r), channel_id=1, replica_groups=mesh['a'=4,'b'=2] {'a'}
  %all-reduce.1 = (f32[2,3]{1,0}, bf16[8]{0}) all-reduce(%x, %y), replica_groups=[1,8]<=[8]
  %all-reduce.2 = f32[100]{0} all-reduce(%x), replica_groups={{0},{1}}
  %all-gather = f32[4,16]{1,0} all-gather(%copy), replica_groups={{0,1},{2,3}}
  %ags = (f32[4]{0}, f32[8]{0}) all-gather-start(%copy), replica_groups=[4,2]<=[8]
  %agd = f32[8]{0} all-gather-done(%ags)
  %reduce-scatter = f32[5]{0} reduce-scatter(%copy), replica_groups=[1,4]<=[4]
  %collective-permute = f32[3]{0} collective-permute(%copy), source_target_pairs={{0,1},{1,0}}
  %loop = (f32[4]{0}) while(%t), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %picked = f32[3,4]{1,0} fusion(%a, %b), kind=kLoop, calls=%fused
}
"""


def test_exchanges_are_counted_by_kind():
    assert exchanges(Program(HLO)) == {
        "all-reduce": Exchange(
            2 + 5, 16 + 24 + 16 + 5 * 16, pytest.approx(2 * 16 * 3 / 4 + 2 * (40 + 5 * 16) * 7 / 8)
        ),
        "all-gather": Exchange(2, 256 + 32, 256 / 2 + 32 / 2),
        "reduce-scatter": Exchange(1, 20, 60),
        "collective-permute": Exchange(1, 12, 12),
    }
    assert exchanges(Program("ENTRY %main (a: f32[4]) -> f32[4] {\n  %add = f32[4]{0} add(%a, %b)\n}")) == {}


def test_a_fusion_that_gathers_reads_what_it_gathers_alone():
    """48 bytes there and 48 back; the indices are on the chip."""
    program = Program(HLO)
    moved = dict((operation.name, program._moved(operation, {})) for operation, _ in program.launched())
    assert moved["picked"] == 48 + 48
    assert program.times["body"] == 5
