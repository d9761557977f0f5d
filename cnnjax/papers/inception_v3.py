"""Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2015, Inception v3."""

from cnnjax.papers.recipe import IMAGENET, Recipe, epochs, stated

RECIPES = {
    "inception_v3": Recipe(
        "Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2015, Rethinking Inception, arXiv 1512.00567",
        {
            **stated("section 6", model="inception_v3", data="imagenet2012"),
            **stated("section 8: RMSProp", optimizer="rmsprop", optimizer_options={"decay": 0.9, "eps": 1.0}),
            **stated(
                "section 8: times 0.94 every two epochs",
                learning_rate=0.045,
                schedule="exponential",
                schedule_options={
                    "transition_steps": epochs(2, IMAGENET, 32),
                    "decay_rate": 0.94,
                    "staircase": True,
                },
            ),
            **stated(
                "section 8: 32 on each replica, for 100 epochs",
                batch_size=32,
                steps=epochs(100, IMAGENET, 32),
            ),
            **stated("section 8", clip_norm=2.0),
            **stated("section 7", label_smoothing=0.1),
            **stated("section 8 has an average, without its decay; this is TF-slim's", ema=0.9999),
            **stated("none is stated", weight_decay=0.0),
            **stated(
                "Szegedy et al. 2014, section 6: crops of varied area and aspect", augment="area_crop_flip"
            ),
            **stated("the paper does not say", normalize="channel"),
        },
        {"inception_v3": "21.2 % top-1, 5.6 % top-5, one crop (Table 3)"},
        (
            "one synchronous replica; theirs were 50 asynchronous ones",
            "no photometric distortions: the paper states none",
        ),
    ),
}
