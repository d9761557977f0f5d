"""Torchvision's reference training of ResNet and of VGG with BatchNorm: what today's nets are measured by."""

from cnnjax.papers.recipe import IMAGENET, Recipe, dropped, stated

PAPER = "torchvision, references/classification: its weights IMAGENET1K_V1"
README = "README.md"
CODE = "train.py and presets.py"
CHOICES = {
    **stated(
        f"{README}: 32 images on each of 8 GPUs",
        data="imagenet2012",
        batch_size=256,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=1e-4,
    ),
    **dropped(
        f"{README}: divided by 10 every 30 of 90 epochs", IMAGENET, 256, 90, at=(30, 60), rate_drop=0.1
    ),
    **stated(f"{CODE}: SGD of all parameters", optimizer="sgd", nesterov=False, decay="all"),
    **stated(f"{CODE}: each GPU's BatchNorm for itself", bn_group_size=32),
    **stated(f"{CODE}: crops of 8 to 100 % of the area, and their mirror images", augment="area_crop_flip"),
    **stated(f"{CODE}: mean and standard deviation of each channel", normalize="channel"),
}
DIFFERS = ("whole batches only; theirs has a last, smaller one in an epoch",)

RECIPES = {
    "resnet_imagenet_modern": Recipe(
        PAPER,
        {
            **stated("models/resnet.py: the stride in a bottleneck's 3x3", model="resnet50_torchvision"),
            **CHOICES,
        },
        {
            "resnet50_torchvision": "23.87 % top-1, 7.14 % top-5, one crop (ResNet50_Weights)",
            "resnet101_torchvision": "22.63 % top-1, 6.45 % top-5, one crop (ResNet101_Weights)",
            "resnet152_torchvision": "21.69 % top-1, 5.95 % top-5, one crop (ResNet152_Weights)",
        },
        DIFFERS,
    ),
    "vgg_modern": Recipe(
        PAPER,
        {
            **stated(
                f"{README}: with BatchNorm, the same rate as ResNet",
                model="vgg16_bn",
                model_options={"kernel_init": "torchvision"},
            ),
            **CHOICES,
        },
        {
            "vgg11_bn": "29.63 % top-1, 10.19 % top-5, one crop (VGG11_BN_Weights)",
            "vgg13_bn": "28.41 % top-1, 9.63 % top-5, one crop (VGG13_BN_Weights)",
            "vgg16_bn": "26.64 % top-1, 8.48 % top-5, one crop (VGG16_BN_Weights)",
            "vgg19_bn": "25.78 % top-1, 8.16 % top-5, one crop (VGG19_BN_Weights)",
        },
        DIFFERS,
    ),
}
