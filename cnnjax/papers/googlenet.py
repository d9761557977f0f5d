"""Szegedy et al. 2014, GoogLeNet: what the paper leaves open is Caffe's replication."""

from cnnjax.papers.recipe import IMAGENET, Recipe, epochs, stated

CAFFE = "not in the paper; BVLC's bvlc_googlenet"

RECIPES = {
    "googlenet": Recipe(
        "Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke and Rabinovich 2014, arXiv 1409.4842",
        {
            **stated("Table 1", model="googlenet", data="imagenet2012"),
            **stated("section 6", optimizer="sgd", momentum=0.9),
            **stated(
                "section 6: 4 % less every 8 epochs",
                schedule="exponential",
                schedule_options={
                    "transition_steps": epochs(8, IMAGENET, 32),
                    "decay_rate": 0.96,
                    "staircase": True,
                },
            ),
            **stated(
                CAFFE, learning_rate=0.01, batch_size=32, weight_decay=2e-4, decay="kernels", steps=2_400_000
            ),
            **stated("section 6: Polyak averaging, of unstated length", ema=0.9999),
            **stated("section 6: 8 to 100 % of the area, aspects of 3/4 to 4/3", augment="area_crop_flip"),
            **stated("section 6: as Howard 2013, section 2.2: factors of 0.5 to 1.5", photometry=0.5),
            **stated(f"{CAFFE}: the mean subtracted", normalize="raw_mean"),
        },
        {"googlenet": "10.07 % top-5 of ILSVRC-2014's validation images, one network, one crop (Table 3)"},
        (
            "of Howard's distortions brightness, contrast and saturation; one kind of interpolation",
            "synchronous; the paper's were asynchronous replicas",
        ),
    ),
}
