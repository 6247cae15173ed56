import numpy as np
from torch import nn

from fairdd_cli.extension import Classifier, Metric, Request, Samples, Source, Strategy, TargetWeights
from fairdd_cli.methods import dm

OPTIONS = frozenset()  # of fairdd make-dataset that the data set takes


class Method(dm.Method):
    @classmethod
    def for_ipc(cls, ipc):
        return cls(warmup_epochs=2)


def rarest_group(protected, sample_weights):
    _, group, count = np.unique(protected, return_inverse=True, return_counts=True)
    chosen = group == count.argmin()
    return TargetWeights(np.zeros(len(chosen), int), (chosen / chosen.sum()).astype("float32"), 1)


strategy = Strategy("the rarest group only", "an example", uses_groups=True, targets=rarest_group)


class Network(Classifier):
    def __init__(self, shape, classes):
        super().__init__()
        self.classifier = nn.Linear(int(np.prod(shape)), classes)

    def embed(self, images):
        return images.flatten(1)


def source(request: Request) -> Source:
    label, group = np.divmod(np.arange(400) % 4, 2)
    pixels = np.full((400, 1, 16, 16), 40, np.uint8) + 100 * group[:, None, None, None].astype(np.uint8)
    pixels[label == 1, :, ::2] = 200
    samples = Samples(label, group, type("Pixels", (), {"blocks": lambda self, order: iter([pixels[order]])})())
    return Source(["plain", "striped"], ["dark", "bright"], (1, 16, 16), [0.5], [0.25], samples, samples)


def error_rate(confusion):
    return 1 - confusion.correct.sum((-2, -1)) / confusion.total.sum((-2, -1))


metric = Metric("error_rate", "Error", "wrong images", "P(ŷ ≠ y)", higher_is_better=False, compute=error_rate)
