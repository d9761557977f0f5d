"""What a user types wrong: one line that says what to type instead, exit code 2, and nothing left behind."""

import importlib.util
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax import launch, probes
from cnnjax.__main__ import main
from cnnjax.command import parse
from cnnjax.data import Dataset, load, spec
from cnnjax.data.synthetic import synthetic
from cnnjax.errors import UserError, one_line_errors
from cnnjax.launch import joined
from cnnjax.mesh import parse_mesh
from cnnjax.training import memory

TRAIN = "train --out run --model resnet8 --options width=2 --data synthetic --steps 2 --batch-size 8"
COMMANDS = [
    # the command itself
    ("", "Expected one of {models"),
    ("modles", "there are models, summary"),
    ("--verison", "Unrecognized options: --verison"),
    # models
    ("models resnte56", "did you mean resnet56"),
    ("models plain21", "plain20 and plain26"),
    ("models resnet*x", "unknown model 'resnet*x'"),
    ("models resnet20 resnet56", "Unrecognized options: resnet56"),
    # summary
    ("summary resnet20 --input 0", "of 1 to 32768"),
    ("summary resnet20 --input -3", "of 1 to 32768"),
    ("summary resnet20 --input 99999999", "input=99999999: must be pixels a side"),
    ("summary resnet20 --input 2.5", "--input"),
    ("summary alexnet --input 20000", "alexnet takes images of 227x227"),
    ("summary resnet_20", "did you mean resnet20"),
    ("summary --compare resnet20 nonet", "unknown model 'nonet'"),
    ("summary resnet50 --input", "--input"),
    # predict
    ("predict", "Missing from cnnjax predict"),
    ("predict resnet50 cat.jpg", "--weights"),
    ("predict resnet50 cat.jpg --weights no.pth", "cat.jpg"),
    ("predict resnet49 cat.jpg --weights no.pth", "cat.jpg"),
    # train
    ("train", "--out"),
    (f"{TRAIN} --steps 1e20", "--steps: invalid literal for int"),
    (f"{TRAIN} --steps 0", "steps=0: must be at least 1"),
    (f"{TRAIN} --steps 99999999999999999999", "steps=99999999999999999999: must be at most 2147483647"),
    (f"{TRAIN} --batch-size 0", "batch_size=0: must be at least 1"),
    (f"{TRAIN} --batch-size -8", "batch_size=-8: must be at least 1"),
    (f"{TRAIN} --batch-size 4096", "batch_size=4096: a step of resnet8 needs"),
    (f"{TRAIN} --learning-rate nan", "learning_rate=nan: must be a positive number"),
    (f"{TRAIN} --learning-rate 0", "learning_rate=0.0: must be a positive number"),
    (f"{TRAIN} --momentum 1", "momentum=1.0: must be in [0, 1)"),
    (f"{TRAIN} --boundaries 9 5", "must be rising steps"),
    (f"{TRAIN} --augment mixup", "crop_flip"),
    (f"{TRAIN} --modle resnet8", "did you mean --model?"),
    (f"{TRAIN} --options width", "NAME=VALUE"),
    (f"{TRAIN} --options widht=2", "did you mean width"),
    (f"{TRAIN} --options width=0", "width=0"),
    (f"{TRAIN} --options width=two", "width='two': must be a whole number"),
    (f"{TRAIN} --options width=9999999", "take a smaller network"),
    (f"{TRAIN} --options num_classes=3", "the data has 10 classes"),
    (f"{TRAIN} --model resnet9", "resnet8 and resnet14"),
    (f"{TRAIN} --data cifar11", "did you mean cifar10"),
    (f"{TRAIN} --data ./no_folder", "no_folder"),
    (f"{TRAIN} --data cifar10 --data-dir no/such", "there is no folder no/such"),
    (f"{TRAIN} --data cifar10", "cifar10"),
    (f"{TRAIN} --validation 99999999", "cannot hold out 99999999"),
    (f"{TRAIN} --downsample 3", "cannot downsample"),
    (f"{TRAIN} --workers -1", "--workers -1: must not be negative"),
    (f"{TRAIN} --mesh data=64", "needs 64 devices: 1 found"),
    (f"{TRAIN} --mesh gpu=4", "unknown axis 'gpu'"),
    (f"{TRAIN} --keep.last 0", "keep.last=0"),
    (f"{TRAIN} --resume -1", "resume=-1"),
    # data
    ("data cifar11", "cifar10"),
    ("data cifar10 --data-dir no/such", "there is no folder no/such"),
    ("data ./pictures --data-dir .", "leave out --data-dir"),
    ("data cifar10 --source web", "invalid choice 'web'"),
    # doctor
    ("doctor --fix", "Unrecognized options: --fix"),
    # experiments
    ("degradation --depht 20", "did you mean --depths?"),
    ("degradation --preset qick", "quick"),
    ("degradation --depths 21", "6n + 2"),
    ("degradation --depths", "--depths"),
    ("degradation --families", "--families"),
    ("degradation --families vgg", "invalid choice 'vgg'"),
    ("degradation --seeds 0", "--seeds 0: must be at least 1"),
    ("degradation --steps 0", "--steps 0: must be at least 1"),
    ("degradation --data fashon_mini", "fashion_mini"),
    ("degradation --data cifar10 --data-dir no/such", "no/such"),
    ("degradation --preset smoke --workers 1000", "--workers 1000: must be 1 to"),
    ("degradation --preset smoke --mesh data=99", "needs 99 devices"),
    ("degradation --preset smoke --out /dev/null/runs", "/dev/null"),
    ("gradient_norms --families vgg", "--families 'vgg': must be of plain;"),
    ("gradient_norms --families --trained", "nothing to measure"),
    ("gradient_norms --depths", "--depths: there must be one"),
    ("gradient_norms --seeds 0", "--seeds 0: must be at least 1"),
    ("gradient_norms --steps -1", "--steps -1: must not be negative"),
    ("gradient_norms --depths 21", "plain20 and plain26"),
    ("shattered_gradients --parts", "--parts: there must be one"),
    ("shattered_gradients --parts grid", "one_dimensional"),
    ("shattered_gradients --nets 1", "--nets 1: must be at least 2"),
    ("shattered_gradients --steps 0", "--steps 0: must be at least 1"),
    ("shattered_gradients --seed -1", "--seed -1"),
    ("shattered_gradients --models resnte56", "did you mean resnet56"),
    ("scaling --model resnet_20", "did you mean resnet20"),
    ("scaling --batch 0", "--batch 0: must be at least 1"),
    ("scaling --virtual 0", "--virtual 0: must be at least 1"),
    ("scaling --devices", "--devices"),
    ("expected_scaling --models", "--models: there must be one"),
    ("expected_scaling --devices", "--devices: there must be one"),
    ("expected_scaling --bandwidth 0", "must be above 0"),
    ("throughput --models", "nothing to time"),
    ("throughput --batch 0", "--batch 0: must be at least 1"),
    ("throughput --models resnet_56", "did you mean resnet56"),
    ("throughput --against tensorflow", "invalid choice 'tensorflow'"),
    # launch
    ("launch", "what shall be run?"),
    ("launch --processes 0 -- true", "--processes"),
    ("launch --processes 2 --process 2 -- true", "--process 2: must be from 0 to 1"),
    ("launch --processes 2 --devices 0 -- true", "--devices 0: must be at least 1"),
    ("launch --processes 2 -- no_such_program", "there is no program no_such_program"),
]


def run(words):
    """The command, as the shell starts it, in this process."""
    name = words[0] if words else ""
    if name == "launch":
        with one_line_errors(name):
            sys.exit(launch.main(parse(launch.Args, "", prog=name)))
    for module in (f"experiments.{name}.__main__", f"experiments.{name}"):
        if name and _exists(module):
            experiment = importlib.import_module(module)
            with joined(), one_line_errors(name):
                return experiment.main(parse(experiment.Args, "", prog=name))
    return main()


def _exists(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 2**25)


@pytest.mark.parametrize(("words", "message"), COMMANDS)
def test_a_wrong_command_is_one_line_and_leaves_nothing(words, message, monkeypatch, capsys, tmp_path):
    words = words.split()
    known = words[:1] if (words[:1] and _exists(f"experiments.{words[0]}")) or words[:1] == ["launch"] else []
    monkeypatch.setattr(sys, "argv", [" ".join(["cnnjax", *known]), *words[len(known) :]])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run(words)
    said = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2, said
    assert message in said[-1]
    # What comes before is progress, such as "compiling": of the error itself there is one line.
    assert all(line.startswith("resnet8") for line in said[:-1]), said
    assert not list(tmp_path.iterdir())


def test_the_corrected_command_works_at_once(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for wrong in ("--validation 99999999", "--options width=9999999", "--batch-size 4096", ""):
        monkeypatch.setattr(sys, "argv", ["cnnjax", *TRAIN.split(), *wrong.split()])
        if wrong:
            with pytest.raises(SystemExit):
                main()
    main()
    assert "test_error" in capsys.readouterr().out


DATA = synthetic(train=16, test=8, size=8)
CONFIG = cnnjax.Config(
    model="resnet8", model_options={"width": 2}, data="synthetic", steps=2, batch_size=8, boundaries=(1,)
)
MODEL = cnnjax.build("resnet8", width=2)
BATCH = jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, int)
VARIABLES = {"params": {}, "batch_stats": {}}
IMAGES, LABELS = np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int32)
CALLS = {
    "build(5)": (lambda: cnnjax.build(5), "name=5: must be a network's name"),
    "build('')": (lambda: cnnjax.build(""), "unknown model ''"),
    "build(module)": (lambda: cnnjax.build(MODEL), "must be a network's name"),
    "build width": (lambda: cnnjax.build("resnet8", width="2"), "width='2': must be a whole number"),
    "build classes": (lambda: cnnjax.build("resnet8", num_classes=0), "num_classes=0: must be at least 1"),
    "build field": (lambda: cnnjax.build("resnet8", widht=2), "did you mean width"),
    "list_models": (lambda: cnnjax.list_models(5), "pattern=5"),
    "Config boundaries": (lambda: cnnjax.Config(boundaries=5), "boundaries=5: must be several steps"),
    "Config model": (lambda: cnnjax.Config(model=MODEL), "must be a word in quotes, such as 'resnet20'"),
    "Config options": (lambda: cnnjax.Config(model_options=[1]), "model_options=[1]: must be fields by name"),
    "Config steps": (lambda: cnnjax.Config(steps=10**20), "must be at most 2147483647"),
    "Config steps True": (lambda: cnnjax.Config(steps=True), "steps=True: must be a whole number"),
    "Config rate": (lambda: cnnjax.Config(learning_rate=1e39), "must be a positive number"),
    "Config nesterov": (lambda: cnnjax.Config(nesterov="no"), "nesterov='no': must be True or False"),
    "from_json": (lambda: cnnjax.Config.from_json([1]), "must be fields by name, not [1]"),
    "Keep": (lambda: cnnjax.CheckpointPolicy(last="a"), "keep.last='a': must be a whole number"),
    "train config": (lambda: cnnjax.train({}, "run"), "config={}: must be a cnnjax.Config"),
    "train out": (lambda: cnnjax.train(CONFIG, None), "out=None: must be the path of a folder"),
    "train data": (lambda: cnnjax.train(CONFIG, "run", data="mnist"), "a name goes into Config(data=...)"),
    "train mesh": (lambda: cnnjax.train(CONFIG, "run", mesh="data=4"), "such as cnnjax.make_mesh(data=4"),
    "train class": (
        lambda: cnnjax.train(CONFIG, "run", probes=probes.LayerProbe),
        "probes=LayerProbe is a class: give an instance, LayerProbe()",
    ),
    "train probes": (
        lambda: cnnjax.train(CONFIG, "run", probes=[5]),
        "probes=builtins:int 5: is no cnnjax.probes.Probe",
    ),
    "train keep": (lambda: cnnjax.train(CONFIG, "run", keep=2), "keep=2: must be a cnnjax.CheckpointPolicy"),
    "train shard": (lambda: cnnjax.train(CONFIG, "run", shard="all"), "must be one of replicated, model"),
    "train resume": (lambda: cnnjax.train(CONFIG, "run", resume="2"), "resume='2': must be a whole number"),
    "train dispatch": (
        lambda: cnnjax.train(CONFIG, "run", steps_per_dispatch=0),
        "steps_per_dispatch=0: must be a whole number, at least 1",
    ),
    "train_many": (lambda: cnnjax.train_many(CONFIG, "run"), "must be a list of Config"),
    "train_many folders": (lambda: cnnjax.train_many([CONFIG], []), "1 configs and 0 folders"),
    "train_many twice": (
        lambda: cnnjax.train_many([CONFIG] * 2, ["run"] * 2),
        "two runs have the same folder",
    ),
    "train_many how": (lambda: cnnjax.train_many([CONFIG], ["run"], "pmap"), "how='pmap': must be one of"),
    "evaluate {}": (lambda: cnnjax.evaluate(CONFIG, {}, data=DATA), "variables={}: must have 'params'"),
    "evaluate None": (lambda: cnnjax.evaluate(CONFIG, None, data=DATA), "variables=None: must have 'params'"),
    "evaluate others": (
        lambda: cnnjax.evaluate(CONFIG, VARIABLES, data=DATA),
        "variables do not fit resnet8: batch_stats/bn1/mean is missing, must be [2]",
    ),
    "make_mesh": (lambda: cnnjax.make_mesh(data="4"), "data='4': must be a number of devices"),
    "make_mesh 0": (lambda: cnnjax.make_mesh(data=0), "each must be at least 1"),
    "parse_mesh": (lambda: parse_mesh(4), "mesh 4: must be devices of axes as text"),
    "summary": (lambda: cnnjax.summary(5), "model=5: give a flax.linen.Module"),
    "summary of a function": (
        lambda: cnnjax.summary(lambda params, x: x @ params, 7),
        "give the parameters that it takes as variables",
    ),
    "layer_statistics of a pair": (
        lambda: probes.layer_statistics((lambda key: key, lambda params, x: x), None, BATCH),
        "give its variables, which it does not carry itself",
    ),
    "summary input": (lambda: cnnjax.summary("resnet8", (32, 32)), "input=(32, 32): must be pixels a side"),
    "layer_statistics": (
        lambda: probes.layer_statistics("resnet8", VARIABLES, BATCH),
        "model='resnet8': give a flax.linen.Module",
    ),
    "layer_statistics batch": (
        lambda: probes.layer_statistics(MODEL, VARIABLES, BATCH[0][:, :1, :1, :1]),
        "must be (inputs, labels)",
    ),
    "sample_statistics": (
        lambda: probes.sample_statistics(MODEL, {}, BATCH),
        "variables={}: must have 'params'",
    ),
    "sample_statistics one": (
        lambda: probes.sample_statistics(MODEL, VARIABLES, (BATCH[0][0], BATCH[1])),
        "inputs and labels of shape (8, 8, 3) and (2,)",
    ),
    "sample_statistics words": (
        lambda: probes.sample_statistics(MODEL, VARIABLES, BATCH, statistics="all"),
        "statistics='all': must be frozen or batch",
    ),
    "curvature": (
        lambda: probes.curvature.batch_loss(MODEL, VARIABLES, (BATCH[0], BATCH[1][:1])),
        "and (1,); must be [sample, ...]",
    ),
    "from_torchvision": (lambda: cnnjax.interop.from_torchvision("resnet49", {}), "resnet49"),
    "from_torchvision file": (lambda: cnnjax.interop.from_torchvision("resnet50", "no.pth"), "no.pth"),
    "from_torchvision {}": (lambda: cnnjax.interop.from_torchvision("resnet18", {}), "resnet18"),
    "to_torchvision": (lambda: cnnjax.interop.to_torchvision("resnet20", VARIABLES), "resnet20"),
    "load": (lambda: load("cifar11"), "did you mean cifar10"),
    "load folder": (lambda: load("cifar10", "no/such"), "there is no folder no/such"),
    "spec": (lambda: spec("cifar"), "no data set is called 'cifar'"),
    "Dataset float": (
        lambda: Dataset("mine", IMAGES / 255, LABELS, IMAGES, LABELS, 1, "here"),
        "images are float64",
    ),
    "Dataset lengths": (
        lambda: Dataset("mine", IMAGES, LABELS[:2], IMAGES, LABELS, 1, "here"),
        "4 images but 2 labels",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_is_one_line_and_leaves_nothing(call, monkeypatch, tmp_path):
    wrong, message = CALLS[call]
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UserError, FileNotFoundError)) as error:
        wrong()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_memory_that_runs_out_is_one_line(capsys):
    for error in (MemoryError("Unable to allocate 9 TiB"), RuntimeError("RESOURCE_EXHAUSTED: Out of memory")):
        with pytest.raises(SystemExit) as end, one_line_errors("cnnjax"):
            raise error
        assert end.value.code == 2
        assert "cnnjax: out of memory" in capsys.readouterr().err


def test_a_batch_that_fits_is_named(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 100_000)
    sizes = SimpleNamespace(temp_size_in_bytes=1_010_000, output_size_in_bytes=0, alias_size_in_bytes=0)
    compiled = SimpleNamespace(memory_analysis=lambda: sizes)
    # 10,000 bytes of gradients, and 1,000 for each image
    task = SimpleNamespace(config=cnnjax.Config(batch_size=1000), name="resnet20")
    with pytest.raises(UserError, match="try batch_size=64"):
        memory.check_memory("a step", compiled, task, cnnjax.make_mesh(), 10_000)
    with pytest.raises(UserError, match="take a smaller network"):
        memory.check_memory("a step", compiled, task, cnnjax.make_mesh(), 99_500)
