import os

from cnnjax.counting.faults import compiler_said, faults, transposes
from cnnjax.counting.hlo import Program

# As XLA writes it, shortened.
HLO = """
%moved (param_0: bf16[19,8,8,4]) -> bf16[19,4,8,8] {
  %param_0 = bf16[19,8,8,4]{3,2,1,0} parameter(0)
  ROOT %transpose.1 = bf16[19,4,8,8]{3,2,1,0} transpose(%param_0), dimensions={0,3,1,2}
}

%computed (param_0.1: bf16[19,8,8,4]) -> bf16[19,4,8,8] {
  %param_0.1 = bf16[19,8,8,4]{3,2,1,0} parameter(0)
  %negate = bf16[19,8,8,4]{3,2,1,0} negate(%param_0.1)
  ROOT %transpose.2 = bf16[19,4,8,8]{3,2,1,0} transpose(%negate), dimensions={0,3,1,2}
}

ENTRY %main (a: bf16[19,8,8,4], k: bf16[3,3,4,8]) -> bf16[19,4,8,8] {
  %a = bf16[19,8,8,4]{3,2,1,0} parameter(0)
  %k = bf16[3,3,4,8]{3,2,1,0} parameter(1)
  %kernel = bf16[8,3,3,4]{3,2,1,0} transpose(%k), dimensions={3,0,1,2}
  %images = bf16[19,4,8,8]{3,2,1,0} fusion(%a), kind=kLoop, calls=%moved
  %more = bf16[19,4,8,8]{3,2,1,0} fusion(%a), kind=kLoop, calls=%computed
  ROOT %copy = bf16[19,4,8,8]{0,3,2,1} copy(%more)
}
"""
ENTRY = "ENTRY %main (a: f32[4]) -> f32[4] {{\n  %one = {}\n}}"


def test_images_that_are_only_moved_are_told_from_kernels_and_from_computation():
    assert {one.name for one in transposes(Program(HLO), images=19)} == {"images", "copy"}
    assert {one.name for one in transposes(Program(HLO), images=3)} == {"kernel"}
    assert faults(Program(HLO), "h100", set()) == []


def test_each_fault_is_found():
    for line, platform, fault in (
        ("f64[4]{0} add(%a, %b)", "cpu", "float64"),
        (
            'f32[4]{0} custom-call(%a), custom_call_target="xla_ffi_python_cpu_callback"',
            "cpu",
            "host callback",
        ),
        ("f32[4]{0} outfeed(%a, %token)", "v5e", "host callback"),
        ('f32[4]{0} custom-call(%a), custom_call_target="cnnjax_conv"', "h100", "our CPU code"),
        ("f32[2,19]{1,0} all-gather(%a), replica_groups={{0,1}}", "h100", "activations are gathered"),
        (
            "(f32[4]{0}, f32[2]{0}, f32[2,19]{1,0}, f32[8]{0}) all-gather-start(%a, %b)",
            "h100",
            "activations are gathered",
        ),
    ):
        found = Program(ENTRY.format(line))
        assert faults(found, platform, {8}) == [fault], line
    for line, platform in (
        ('f32[4]{0} custom-call(%a), custom_call_target="cnnjax_conv"', "cpu"),
        ("f32[2,4]{1,0} all-gather(%a), replica_groups={{0,1}}", "h100"),
        ("(f32[4]{0}, f32[8]{0}) all-gather-start(%a), replica_groups={{0,1}}", "h100"),
    ):
        assert faults(Program(ENTRY.format(line)), platform, {8}) == [], line


def test_what_a_compiler_writes_to_stderr_is_gathered():
    with compiler_said() as said:
        os.write(2, b"Involuntary full rematerialization\n")
    assert said == ["Involuntary full rematerialization"]
