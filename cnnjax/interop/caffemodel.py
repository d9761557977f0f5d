"""Read arrays from Caffe's `.caffemodel`: a `NetParameter` of protocol buffers, old form or new.

Only the fields of `caffe.proto` that hold names and numbers are declared here. Numbers are declared as bytes:
packed floats are a run of bytes in the file, and numpy takes 60 million of them as they are.
"""

import functools
from typing import Any, BinaryIO

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto
MESSAGES = {
    "NetParameter": {"layers": (2, "V1LayerParameter"), "layer": (100, "LayerParameter")},
    "V1LayerParameter": {"name": (4, Field.TYPE_STRING), "blobs": (6, "BlobProto")},  # until 2014
    "LayerParameter": {"name": (1, Field.TYPE_STRING), "blobs": (7, "BlobProto")},
    "BlobProto": {
        "num": (1, Field.TYPE_INT32),
        "channels": (2, Field.TYPE_INT32),
        "height": (3, Field.TYPE_INT32),
        "width": (4, Field.TYPE_INT32),
        "data": (5, Field.TYPE_BYTES),
        "shape": (7, "BlobShape"),
    },
    "BlobShape": {"dim": (1, Field.TYPE_INT64)},
}
"""Number and type of each field by message; messages and `dim` repeat, except for `shape`."""
FIRST_BYTES = b"\x0a\x12\xa2"  # tags of the fields `name`, `layers` and `layer`
LEAVES = ("weight", "bias")


@functools.cache
def net_parameter() -> Any:
    """Return the class of the message that a file holds."""
    file = descriptor_pb2.FileDescriptorProto(name="caffemodel", package="caffemodel", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            many = field == "dim" or (isinstance(kind, str) and field != "shape")
            label = Field.LABEL_REPEATED if many else Field.LABEL_OPTIONAL
            if isinstance(kind, str):
                kinds = {"type": Field.TYPE_MESSAGE, "type_name": f".caffemodel.{kind}"}
            else:
                kinds = {"type": kind}
            message.field.add(name=field, number=number, label=label, **kinds)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffemodel.NetParameter"))


def read_caffe(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read all layers' arrays, such as `inception_3a.1x1.weight` and `.bias`, in the order of the layers.

    A layer without arrays, such as a pooling, is there by its name alone with an empty array, since networks
    can differ in the order of such layers only.

    Raises:
        ValueError: there are no layers, or a layer has other than a kernel and a bias.
    """
    net = net_parameter().FromString(file.read())
    found = {}
    for layer in (*net.layers, *net.layer):
        name = layer.name.replace("/", ".")
        if not layer.blobs:
            found[name] = np.zeros(0, np.float32)
        if len(layer.blobs) > len(LEAVES):
            raise ValueError(f"its layer {layer.name} has {len(layer.blobs)} arrays, not a kernel and a bias")
        found |= {f"{name}.{leaf}": _array(one) for leaf, one in zip(LEAVES, layer.blobs, strict=False)}
    if not found:
        raise ValueError("it has no layers")
    return found


def _array(blob: Any) -> np.ndarray:
    """A blob's numbers; old files fill the shapes of vectors and matrices up with ones, to four sides."""
    values = np.frombuffer(blob.data, "<f4")
    if blob.HasField("shape"):
        return values.reshape(blob.shape.dim)
    sides = (blob.num, blob.channels, blob.height, blob.width)
    if sides[:3] == (1, 1, 1):
        return values.reshape(sides[3:])
    return values.reshape(sides[2:] if sides[:2] == (1, 1) else sides)
