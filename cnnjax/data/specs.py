"""The table of data sets: what each one is, and the archives it is published in."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from cnnjax.data.archives import Arrays, read_cifar_binary, read_cifar_python, read_idx, read_svhn
from cnnjax.errors import UserError


@dataclass(frozen=True)
class Archive:
    """A file as it is published.

    `repacked` is the digest of another packing of the same content, `unpacked` the file or folder that it
    unpacks to.
    """

    name: str
    bytes: int
    sha256: str
    repacked: str = ""
    unpacked: str = ""

    def is_official(self, sha256: str) -> bool:
        """Whether a file with this digest is the published one."""
        return sha256 in (self.sha256, self.repacked)


@dataclass(frozen=True)
class Packing:
    """Archives that together hold a data set; `read` takes their paths in this order."""

    archives: tuple[Archive, ...]
    read: Callable[..., Arrays]


@dataclass(frozen=True)
class Spec:
    """What a data set is: `shape` is (height, width, channel), `train` and `test` count images.

    `flips` says whether a mirrored image is still an example of its class. `packings` are alternatives, the
    first is the one tensorflow-datasets reads; it also wants `tfds_extra`, which nothing here uses.
    `class_names` are by label; without them labels speak for themselves, or there are too many.
    A data set without packings is part of the program.
    """

    name: str
    title: str
    classes: int
    shape: tuple[int, int, int]
    train: int
    test: int
    flips: bool
    licence: str
    homepage: str
    url: str = ""
    packings: tuple[Packing, ...] = ()
    tfds_extra: tuple[Archive, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def tfds_packing(self) -> Packing:
        """The archives that tensorflow-datasets needs."""
        return replace(self.packings[0], archives=(*self.packings[0].archives, *self.tfds_extra))

    @property
    def unpacked(self) -> tuple[Packing, ...]:
        """The same packings, their archives unpacked by hand: for these no checksum is published."""
        return tuple(
            replace(packing, archives=tuple(Archive(one.unpacked, 0, "") for one in packing.archives))
            for packing in self.packings
            if all(one.unpacked for one in packing.archives)
        )


def _idx(*archives: Archive) -> Packing:
    """The images and labels of training, then those of the test."""
    unpacked = (replace(archive, unpacked=archive.name.removesuffix(".gz")) for archive in archives)
    return Packing(tuple(unpacked), read_idx)


_CLOTHES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TABLE = (
    Spec(
        name="fashion_mini",
        class_names=_CLOTHES,
        title="12,000 + 2,000 images drawn from Fashion-MNIST, part of cnnjax",
        classes=10,
        shape=(28, 28, 1),
        train=12_000,
        test=2_000,
        flips=True,
        licence="MIT, © 2017 Zalando SE",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
    ),
    Spec(
        name="synthetic",
        title="shifted, noisy low-pass patterns, generated on the spot",
        classes=10,
        shape=(16, 16, 3),
        train=2048,
        test=512,
        flips=False,
        licence="Apache-2.0",
        homepage="cnnjax/data/synthetic.py",
    ),
    Spec(
        name="low_pass",
        title="low-pass noise with random labels, generated on the spot",
        classes=10,
        shape=(16, 16, 3),
        train=2048,
        test=512,
        flips=False,
        licence="Apache-2.0",
        homepage="cnnjax/data/synthetic.py",
    ),
    Spec(
        name="mnist",
        title="MNIST handwritten digits",
        classes=10,
        shape=(28, 28, 1),
        train=60_000,
        test=10_000,
        flips=False,
        licence="CC BY-SA 3.0",
        homepage="http://yann.lecun.com/exdb/mnist/",
        url="https://storage.googleapis.com/cvdf-datasets/mnist/",
        packings=(
            _idx(
                Archive(
                    "train-images-idx3-ubyte.gz",
                    9_912_422,
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                ),
                Archive(
                    "train-labels-idx1-ubyte.gz",
                    28_881,
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                ),
                Archive(
                    "t10k-images-idx3-ubyte.gz",
                    1_648_877,
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                ),
                Archive(
                    "t10k-labels-idx1-ubyte.gz",
                    4_542,
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
            ),
        ),
    ),
    Spec(
        name="fashion_mnist",
        class_names=_CLOTHES,
        title="Fashion-MNIST, Zalando's articles of clothing",
        classes=10,
        shape=(28, 28, 1),
        train=60_000,
        test=10_000,
        flips=True,
        licence="MIT, © 2017 Zalando SE",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        packings=(
            # Debian's package dataset-fashion-mnist holds these files under another gzip header.
            _idx(
                Archive(
                    "train-images-idx3-ubyte.gz",
                    26_421_880,
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                    repacked="b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                ),
                Archive(
                    "train-labels-idx1-ubyte.gz",
                    29_515,
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                    repacked="0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                ),
                Archive(
                    "t10k-images-idx3-ubyte.gz",
                    4_422_102,
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                    repacked="cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                ),
                Archive(
                    "t10k-labels-idx1-ubyte.gz",
                    5_148,
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                    repacked="8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                ),
            ),
        ),
    ),
    Spec(
        name="cifar10",
        class_names=_CIFAR10,
        title="CIFAR-10 tiny colour photographs",
        classes=10,
        shape=(32, 32, 3),
        train=50_000,
        test=10_000,
        flips=True,
        licence="none stated; cite Krizhevsky 2009",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        url="https://www.cs.toronto.edu/~kriz/",
        packings=(
            Packing(
                (
                    Archive(
                        "cifar-10-binary.tar.gz",
                        170_052_171,
                        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                        unpacked="cifar-10-batches-bin",
                    ),
                ),
                partial(
                    read_cifar_binary,
                    train=[f"data_batch_{batch}.bin" for batch in range(1, 6)],
                    test=["test_batch.bin"],
                    label_bytes=1,
                ),
            ),
            Packing(
                (
                    Archive(
                        "cifar-10-python.tar.gz",
                        170_498_071,
                        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                        unpacked="cifar-10-batches-py",
                    ),
                ),
                partial(
                    read_cifar_python,
                    train=[f"data_batch_{batch}" for batch in range(1, 6)],
                    test=["test_batch"],
                    labels=b"labels",
                ),
            ),
        ),
    ),
    Spec(
        name="cifar100",
        title="CIFAR-100 tiny colour photographs, fine labels",
        classes=100,
        shape=(32, 32, 3),
        train=50_000,
        test=10_000,
        flips=True,
        licence="none stated; cite Krizhevsky 2009",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        url="https://www.cs.toronto.edu/~kriz/",
        packings=(
            Packing(
                (
                    Archive(
                        "cifar-100-binary.tar.gz",
                        168_513_733,
                        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                        unpacked="cifar-100-binary",
                    ),
                ),
                partial(read_cifar_binary, train=["train.bin"], test=["test.bin"], label_bytes=2),
            ),
            Packing(
                (
                    Archive(
                        "cifar-100-python.tar.gz",
                        169_001_437,
                        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
                        unpacked="cifar-100-python",
                    ),
                ),
                partial(read_cifar_python, train=["train"], test=["test"], labels=b"fine_labels"),
            ),
        ),
    ),
    Spec(
        name="svhn_cropped",
        title="Street View House Numbers, cropped digits",
        classes=10,
        shape=(32, 32, 3),
        train=73_257,
        test=26_032,
        flips=False,
        licence="for non-commercial use",
        homepage="http://ufldl.stanford.edu/housenumbers/",
        url="http://ufldl.stanford.edu/housenumbers/",
        packings=(
            Packing(
                (
                    Archive(
                        "train_32x32.mat",
                        182_040_794,
                        "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
                    ),
                    Archive(
                        "test_32x32.mat",
                        64_275_384,
                        "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
                    ),
                ),
                read_svhn,
            ),
        ),
        tfds_extra=(
            Archive(
                "extra_32x32.mat",
                1_329_278_602,
                "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
            ),
        ),
    ),
)
SPECS = {entry.name: entry for entry in _TABLE}


def list_datasets() -> list[str]:
    """List the names that `load` takes; those that need no download come first."""
    return list(SPECS)


def spec(name: str) -> Spec:
    """Look up a data set's entry in the table."""
    if not isinstance(name, str):
        raise UserError(
            f"a data set is given by its name, not {type(name).__name__}; the names are {', '.join(SPECS)}"
        )
    if os.sep in name:
        raise UserError(f"{name} is no data set's name but a path: cnnjax.data.open_data opens a folder")
    if name not in SPECS:
        near = difflib.get_close_matches(name, SPECS, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(f"no data set is called {name!r}; {hint}the names are {', '.join(SPECS)}")
    return SPECS[name]
