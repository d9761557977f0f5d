"""Ioffe and Szegedy 2015, batch normalisation in GoogLeNet: BN-x30, their best single network."""

from cnnjax.papers.recipe import IMAGENET, Recipe, epochs, stated

RECIPES = {
    "bn_inception": Recipe(
        "Ioffe and Szegedy 2015, Batch normalization, arXiv 1502.03167",
        {
            **stated("Figure 5", model="bn_inception", data="imagenet2012"),
            **stated("appendix: a separable first convolution", model_options={"stem": "separable"}),
            **stated("section 4.2: SGD with momentum, 32 images", optimizer="sgd", batch_size=32),
            **stated("Szegedy et al. 2014, section 6", momentum=0.9),
            **stated(
                "section 4.2.2, BN-x30: 30 times Inception's .0015; section 4.2.1: it decays 6 times as fast "
                "as 4 % in 8 epochs (Szegedy et al. 2014, section 6)",
                learning_rate=0.045,
                schedule="exponential",
                schedule_options={
                    "transition_steps": epochs(8, IMAGENET, 32) // 6,
                    "decay_rate": 0.96,
                    "staircase": True,
                },
            ),
            **stated("section 4.2.2: BN-x30 is at its best after 6 million steps", steps=6_000_000),
            **stated(
                "section 4.2.1: a fifth of Inception's, which is not stated; BVLC's bvlc_googlenet has 2e-4",
                weight_decay=4e-5,
                decay="kernels",
            ),
            **stated(
                "Szegedy et al. 2014, section 6: crops of varied area and aspect", augment="area_crop_flip"
            ),
            **stated("the paper does not say", normalize="channel"),
        },
        {"bn_inception": "25.2 % top-1, one crop (Figure 3, BN-x30)"},
        (
            "no photometric distortions; section 4.2.1 has fewer than Inception, unstated which",
            "one synchronous replica; theirs were distributed",
            "the net has 11.2 million parameters, the paper says 13.6 (`cnnjax.models.bn_inception`)",
        ),
    ),
}
