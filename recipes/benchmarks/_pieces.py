"""The pieces of the work that bench.py measures: our way of each, and that of the reference."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

PIECES = {  # by family: those of one family are measured in turn
    "dm": ["dm-step", "dm-fair-step"],
    "gm": ["gm-step", "gm-fair-step"],
    "dsa": ["dsa-step", "dsa-fair-step"],
    "idc": ["idc-step", "idc-fair-step"],
    "dream": ["dream-step", "dream-fair-step"],
    "mtt": ["mtt-step", "mtt-fair-step"],
    "network": ["inner-epoch", "evaluation-epoch", "test-pass"],
    "data": ["make-dataset"],
}
# One matching step each. Between two of them gm, dsa, idc and dream train a network, which `inner-epoch` measures.
STEP = {
    "gm": {"outer_loop": "1", "inner_loop": "1"},
    "dsa": {"outer_loop": "1", "inner_loop": "1"},
    "idc": {"inner_loop": "1", "real_per_step": "1"},
    "dream": {"inner_loop": "1", "real_per_step": "1", "pool": "100"},
    "mtt": {"syn_steps": "3", "num_experts": "1", "train_epochs": "1", "expert_epochs": "1", "max_start_epoch": "1"},
}
REFERENCE = ("dm", "gm", "dsa", "idc")  # methods whose step reference.py has


@dataclass(frozen=True)
class Setting:
    """What is measured; the defaults are FairDD's on colour-biased Fashion-MNIST."""

    groups: int = 10
    classes: int = 10
    ipc: int = 10
    images: int = 60_000  # in the data set
    side: int = 32
    width: int = 128
    batch_real: int = 256
    sampling: str = "proportional"
    compile: str = "on"
    device: str = "cpu"
    precision: str = "fp32"


def generated(setting: Setting):  # type: ignore[no-untyped-def]
    """A data set of noise, 90 % of each class in one group; beyond 10,000 images it shows the same ones again."""
    import numpy as np

    from fairdd_cli.artifacts import BiasedDataset, Split
    from fairdd_cli.runtime import Streams

    generator = Streams(0).numpy("bench")
    kept = generator.integers(0, 256, (min(10_000, setting.images), 3, setting.side, setting.side), np.uint8)

    class Repeated:
        """Images that follow each other again and again."""

        def __init__(self, count: int) -> None:
            self.shape = (count, *kept.shape[1:])

        def take(self, indices: np.ndarray) -> np.ndarray:
            return kept[indices % len(kept)]

        def all(self) -> np.ndarray:
            return self.take(np.arange(self.shape[0]))

    def split(total: int, bias: float) -> Split:
        per_class = total // setting.classes
        labels = np.repeat(np.arange(setting.classes), per_class)
        place = np.tile(np.arange(per_class), setting.classes)
        minority = (labels + 1 + place % max(1, setting.groups - 1)) % setting.groups
        protected = np.where(place < bias * per_class, labels % setting.groups, minority)
        return Split.sorted_by_cell(Repeated(len(labels)), labels, protected, setting.classes, setting.groups)

    return BiasedDataset(
        name="bench-mnist",  # so that idc takes its values for garments
        class_names=tuple(map(str, range(setting.classes))),
        protected_names=tuple(map(str, range(setting.groups))),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        bias_ratio=0.9,
        train=split(setting.images, 0.9),
        test=split(10_000, 1 / setting.groups),
        options={},
        seed=0,
    )


def run_of(setting: Setting, method: str, fairness: str):  # type: ignore[no-untyped-def]
    """(the method, its run) before the first iteration; experts, where needed, lie in the working folder."""
    from fairdd_cli.config import DistillConfig
    from fairdd_cli.distill import resolve_config, start_run, use_experts
    from fairdd_cli.runtime import NullProgress, open_runtime

    samples = method != "mtt"
    dataset = generated(setting if samples else replace(setting, images=2000))
    config = DistillConfig(
        data="data.h5",
        method=method,
        fairness=fairness,
        sampling=setting.sampling if samples else None,
        init="real",
        ipc=setting.ipc,
        batch_real=setting.batch_real if method in ("dm", "gm", "dsa") else None,
        iterations=1,
        network=f"convnet:width={setting.width}",
        hyper=STEP.get(method, {}),
        experts=None if samples else f"{fairness}.h5",
    )
    resolved = resolve_config(config)
    algorithm = resolved.algorithm.for_data(dataset, resolved.ipc)
    runtime = open_runtime(setting.device, setting.precision, compiles=setting.compile)
    resolved = replace(resolved, algorithm=algorithm)
    run = start_run(resolved, dataset, runtime, NullProgress())
    use_experts(run, resolved, dataset)
    algorithm.prepare(run)
    return algorithm, run


Piece = tuple[Callable[[], None], float]  # what to time, and how many times over that is what is measured


def ours(name: str, setting: Setting) -> Piece:
    """Our way of the piece `name`."""
    import torch

    from fairdd_cli.runtime import ImageStore, NullProgress
    from fairdd_cli.training import TrainingConfig, predict

    method, fairness = name.partition("-")[0], "fairdd" if "-fair-" in name else "vanilla"
    if name == "make-dataset":
        return make_dataset, 1.0
    if not name.endswith("-step"):
        method = "gm"
    algorithm, run = run_of(setting, method, fairness)
    run.runtime.decide_compiling(1e30)
    network = run.networks.fresh()
    synchronize = torch.cuda.synchronize if setting.device != "cpu" else lambda: None
    count = iter(range(10**9))

    def step() -> None:
        algorithm.step(run, next(count))
        synchronize()

    if name == "test-pass":
        dataset = generated(setting)
        store = ImageStore(dataset.test.images, dataset.mean, dataset.std, run.runtime)

        def test() -> None:
            predict(network, store, len(dataset.test), run.runtime, NullProgress())

        return test, 1.0
    epochs = 3
    if name in ("inner-epoch", "evaluation-epoch"):
        training = TrainingConfig(epochs) if name == "evaluation-epoch" else algorithm.network_training(run)
        training = replace(training, epochs=epochs)

        def train() -> None:
            run.networks.train_on_synthetic(network, training, next(count))
            synchronize()

        return train, 1 / epochs
    return step, 1.0


def plain(name: str, setting: Setting) -> Piece | None:
    """The reference implementation of the piece `name`, None where there is none."""
    import numpy as np
    import reference
    import torch

    from fairdd_cli.runtime import Streams
    from fairdd_cli.training import augmentation as augment

    kind, fairness = name.partition("-")[0], "fairdd" if "-fair-" in name else "vanilla"
    if name == "make-dataset" or (name.endswith("-step") and kind not in REFERENCE):
        return None
    _, run = run_of(setting, kind if name.endswith("-step") else "gm", fairness)
    network = run.networks.spec.build(run.real.shape, setting.classes).to(setting.device)
    ours, labels = run.synthetic.decoded_images(slice(0, setting.classes))
    labels = labels.to(setting.device)
    synchronize = torch.cuda.synchronize if setting.device != "cpu" else lambda: None
    own = ours.detach().contiguous().requires_grad_()
    count = iter(range(10**9))
    optimizer = torch.optim.SGD([own], lr=0.0)

    def step() -> None:
        number = next(count)
        drawn = [run.real.sample_indices(label, number) for label in range(setting.classes)]
        real = [run.real.store.take(part).contiguous() for part in drawn]
        protected = [torch.from_numpy(run.real.split.protected[part]) for part in drawn]
        mine = list(own.split(len(own) // setting.classes))
        loss = reference.loss(kind, network, real, protected, mine, fairness != "vanilla")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        synchronize()

    if name.endswith("-step"):
        return step, 1.0
    if name == "test-pass":
        images = run.real.store.take(np.arange(10_000)).contiguous()

        def test() -> None:
            with torch.no_grad():
                torch.cat([network(part).argmax(dim=1) for part in images.split(256)])
            synchronize()

        return test, 1.0

    def train() -> None:
        images = own.detach()
        if name == "evaluation-epoch":
            draw = augment.sample_per_image(
                augment.FULL, len(own), run.real.shape[1:], Streams(0).torch("book", next(count))
            )
            images = draw.apply(images, torch.arange(len(own)))
        reference.train_epoch(network, images, labels)
        synchronize()

    return train, 1.0


def make_dataset() -> None:
    """The embedded sample, as a command."""
    words = ["make-dataset", "c-fmnist-fg", "--embedded", "--force", "-q", "-o", "sample.h5"]
    subprocess.run([sys.executable, "-m", "fairdd_cli", *words], check=True, stdout=subprocess.DEVNULL)
