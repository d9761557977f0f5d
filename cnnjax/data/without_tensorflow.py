"""Lets tensorflow-datasets 4.9 prepare image data sets on a machine without TensorFlow.

Preparation asks TensorFlow for two things only: to open local files and to encode images. Both are replaced
by name, in the modules that ask, for the time of a `with` block; nothing else in the process sees it.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

_USERS_OF_TENSORFLOW = (
    "tensorflow_datasets.core.download.downloader",
    "tensorflow_datasets.core.download.extractor",
    "tensorflow_datasets.image_classification.cifar",
    "tensorflow_datasets.image_classification.mnist",
    "tensorflow_datasets.datasets.imagenet2012.imagenet2012_dataset_builder",
    "tensorflow_datasets.datasets.imagenet2012.imagenet_common",
    "tensorflow_datasets.datasets.svhn_cropped.svhn_cropped_dataset_builder",
)
_ENCODER = "tensorflow_datasets.core.features.image_feature._ImageEncoder._encode_image"
# What ImageNet's few pictures of another format go through.
_CONVERTERS = (
    "tensorflow_datasets.core.utils.jpeg_cmyk_to_rgb",
    "tensorflow_datasets.core.utils.png_to_jpeg",
)
_STAND_IN = SimpleNamespace(
    io=SimpleNamespace(gfile=SimpleNamespace(GFile=open, exists=os.path.exists)),
    compat=SimpleNamespace(as_text=os.fsdecode),
    errors=SimpleNamespace(UnimplementedError=NotImplementedError),
)


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """Within this block `download_and_prepare` needs no TensorFlow."""
    with contextlib.ExitStack() as patches:
        for module in _USERS_OF_TENSORFLOW:
            patches.enter_context(mock.patch(f"{module}.tf", _STAND_IN))
        for converter in _CONVERTERS:
            patches.enter_context(mock.patch(converter, _to_colour_jpeg))
        patches.enter_context(mock.patch(_ENCODER, _encode_png))
        patches.enter_context(_own_extractor())
        yield


@contextlib.contextmanager
def _own_extractor() -> Iterator[None]:
    """Give tensorflow-datasets an extractor whose threads end with the block.

    Of a damaged archive, files may still be copied when the error is told; a copy that began after the block
    would look for TensorFlow, and print that it is missing.
    """
    from tensorflow_datasets.core.download import extractor

    own = extractor._Extractor()
    with mock.patch.object(extractor, "get_extractor", return_value=own):
        try:
            yield
        finally:
            own._executor.shutdown(cancel_futures=True)


def _encode_png(_encoder: Any, image: np.ndarray) -> bytes:
    """Stand in for the encoder's method: uint8 `[height, width, 1 or 3]` to the bytes of a PNG."""
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(png, format="png")
    return png.getvalue()


def _to_colour_jpeg(encoded: bytes) -> bytes:
    """Stand in for both converters: any picture to a JPEG of red, green and blue."""
    from PIL import Image

    jpeg = io.BytesIO()
    with Image.open(io.BytesIO(encoded)) as image:
        image.convert("RGB").save(jpeg, format="jpeg", quality=100, subsampling=0)
    return jpeg.getvalue()
