"""LeNet-5 as in 1998 and as today's tutorials train it, and Caffe's LeNet."""

from cnnjax.papers.recipe import Recipe, epochs, stated

CAFFE_NET = "examples/mnist/lenet_train_test.prototxt"
CAFFE_SOLVER = "examples/mnist/lenet_solver.prototxt"

PASS = 60_000
RATES = {2: 0.4, 5: 0.5, 8: 0.5, 12: 0.2}
"""Passes after which LeNet-5's global rate is multiplied: 5e-4, 2e-4, 1e-4, 5e-5, 1e-5."""

RECIPES = {
    "lenet5": Recipe(
        "LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition",
        {
            **stated(
                "section II.B, on 32x32 fields", model="lenet5", model_options={"padding": 2}, data="mnist"
            ),
            **stated("section III.B: no distortions", augment="none"),
            **stated("section II.B: from -0.1 to 1.175; ours from 0 to 1", normalize="none"),
            **stated("equation 9", loss="map"),
            **stated("section III.B: one sample at a time, 20 passes", batch_size=1, steps=20 * PASS),
            **stated(
                "section III.B and appendix C: mu of .02, 500 samples before each pass",
                optimizer="diagonal_lm",
                optimizer_options={"damping": 0.02, "samples": 500, "every": PASS},
                weight_decay=0.0,
            ),
            **stated(
                "section III.B: .0005 for 2 passes, .0002 for 3, .0001 for 3, .00005 for 4, then .00001",
                learning_rate=5e-4,
                schedule="piecewise_constant",
                schedule_options={
                    "boundaries_and_scales": {str(at * PASS): factor for at, factor in RATES.items()}
                },
            ),
            **stated("once a pass", evaluate_every=PASS, checkpoint_every=PASS),
        },
        {"lenet5": "0.95 % test error (section III.B)"},
        (
            "curvatures are the exact Gauss-Newton diagonal, not the paper's backpropagated approximation of "
            "it, and of the same 500 samples before each pass (`cnnjax.second_order`)",
            "at the paper's rates the first pass diverged when we tried (2,000 steps on `fashion_mini`, loss "
            "83 to 245); a tenth of them, `--learning-rate 5e-5`, trains (loss 43, test error 52 % by then)",
            "the constant j of the loss is not stated: Config's is taken",
            "the codes of the digits are our drawings (`cnnjax.models.lenet5`)",
            "with another batch size, change `every` and the schedule's boundaries too: they are in steps",
        ),
    ),
    "lenet5_modern": Recipe(
        "LeCun, Bottou, Bengio and Haffner 1998, LeNet-5; with ReLU, dropout and Adam, as tutorials have it",
        {
            **stated(
                "the tutorials: padded to 32x32, dropout of half",
                model="lenet5_modern",
                model_options={"padding": 2, "dropout": 0.5},
            ),
            **stated(
                "the tutorials",
                data="mnist",
                augment="none",
                normalize="none",
                optimizer="adam",
                learning_rate=1e-3,
                schedule="constant",
                batch_size=64,
            ),
            **stated(
                "the tutorials: l2(1e-3) on kernels, whose gradient has twice that",
                weight_decay=2e-3,
                decay="kernels",
            ),
            **stated(
                "LeCun et al. 1998, section III.B: 20 passes; the tutorials differ",
                steps=epochs(20, 60_000, 64),
            ),
        },
        {},
    ),
    "lenet_caffe": Recipe(
        "Jia et al. 2014, Caffe, examples/mnist: LeNet",
        {
            **stated(CAFFE_NET, model="lenet_caffe", data="mnist", batch_size=64, augment="none"),
            **stated(f"{CAFFE_NET}: from 0 to 1", normalize="none"),
            **stated(f"{CAFFE_NET}: biases at twice the rate", groups={"*/bias": {"rate": 2}}),
            **stated(f"{CAFFE_NET}: biases decay too", decay="all"),
            **stated(CAFFE_SOLVER, optimizer="sgd", learning_rate=0.01, momentum=0.9, weight_decay=5e-4),
            **stated(
                f"{CAFFE_SOLVER}: the policy inv, .01 (1 + 1e-4 step)^-.75",
                schedule="inverse",
                schedule_options={"decay_rate": 1e-4, "power": 0.75},
            ),
            **stated(CAFFE_SOLVER, steps=10_000, evaluate_every=500),
        },
        {"lenet_caffe": "0.9 % test error (examples/mnist/readme.md)"},
        ("pixels are divided by 255; Caffe's by 256",),
    ),
}
