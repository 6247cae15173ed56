"""Writes the recipes of FairDD's tables and studies, and of COBRA's dm, beside itself.

    python recipes/paper/make_recipes.py
    python recipes/paper/make_recipes.py --check    # names the files that differ, and exits with 1; a test runs this

One table here, one file for each cell there. Each opens with its command, its cost and what was published.
Fairness and seed stay on the command line.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fairdd_cli.methods import METHODS
from fairdd_cli.reporting.published import SETTINGS, published_values

FOLDER = Path(__file__).parent
DATASETS = ("c-mnist-fg", "c-mnist-bg", "c-fmnist-fg", "c-fmnist-bg", "cifar10-s", "celeba", "utkface", "bffhq")
METHOD_NAMES = ("random", "dm", "gm", "idc", "dream")
IPCS = (10, 50, 100)
BATCH = {"dm": 256, "gm": 256, "idc": 64, "dream": 128}  # real images of a class
INIT = {"dream": "kmeans"}
ARCHITECTURES = ("convnet", "alexnet", "vgg11", "resnet18")
COBRA_WARMUP = {10: 10, 50: 50, 100: 100}  # epochs by IPC
COBRA_EVALUATION = {"seeds": 5, "epochs": 1500}
NOT_STATED = ("idc", "dream")  # FairDD does not say how it evaluated these
VITS = ("vit:depth=1", "vit:depth=2", "vit:depth=3")

Options = dict[str, object]


@dataclass(frozen=True)
class Recipe:
    """One file: `name` is its path, the options go to the subcommands, `about` says what it is for."""

    name: str
    about: str
    dataset: str
    method: str
    ipc: int
    make: Options = field(default_factory=dict)
    distill: Options = field(default_factory=dict)
    evaluate: Options = field(default_factory=dict)
    networks: tuple[str, ...] = ("convnet",)
    fairness: str = "--fair"  # of the command in the heading
    compared: bool = True  # whether published figures are for what it sets
    figures: tuple[str, ...] = ("vanilla", "fairdd", "barycenter")  # strategies whose published figures it names

    def options(self) -> dict[str, Options]:
        """The sections, as the paper ran: batches that follow the data, real images to start from."""
        chosen: Options = {"method": self.method, "ipc": self.ipc, "init": INIT.get(self.method, "real")}
        chosen |= {"network": "convnet", "iterations": METHODS.load(self.method).Method.iterations}
        if self.method != "random":
            chosen["sampling"] = "proportional"
        if self.method in BATCH:
            chosen["batch-real"] = BATCH[self.method]
        sections = {"make-dataset": self.make, "distill": {**chosen, **self.distill}}
        evaluation: Options = {"network": list(self.networks), "seeds": 10, **self.evaluate}
        return {name: options for name, options in (*sections.items(), ("evaluate", evaluation)) if options}

    def text(self) -> str:
        """The file."""
        lines = [f"# {self.about}", "#", *(f"#     {line}" for line in self.commands()), "#"]
        iterations = self.options()["distill"]["iterations"]
        cost = f"{iterations:,} iterations; its time was not measured" if iterations else "no optimisation"
        lines += [f"# Cost: {cost}.", *(f"# {line}" for line in self.published())]
        if self.method in NOT_STATED:
            lines.append("# FairDD does not state how it evaluated this method; the protocol here is IDC's own.")
        lines.append("")
        for section, options in self.options().items():
            lines += [f"{section}:", *(f"  {key}: {json.dumps(value)}" for key, value in options.items())]
        return "\n".join(lines) + "\n"

    def commands(self) -> Iterator[str]:
        """What to type."""
        recipe = f"--recipe recipes/paper/{self.name}"
        data = f"{Path(self.name).stem if self.make else self.dataset}.h5"
        yield f"fairdd make-dataset {self.dataset} -o {data}{f' {recipe}' if self.make else ''}"
        yield f"fairdd distill {data} {recipe}{'' if self.method == 'random' else f' {self.fairness}'} -o synthetic.h5"
        yield f"fairdd evaluate synthetic.h5 {recipe}"

    def published(self) -> Iterator[str]:
        """What others report for this setting."""
        known = published_values()
        lines = []
        for network in self.networks:
            for fairness in self.figures:
                for entry in known.get((self.dataset, self.ipc, self.method, fairness, network), []):
                    figures = " / ".join(
                        f"{mean:.2f}" + (f" +- {deviation:.2f}" if deviation is not None else "")
                        for mean, deviation in (entry.metrics[name] for name in ("accuracy", "deo_max", "deo_mean"))
                    )
                    if self.compared and self.ran_as_long(entry.source):
                        lines.append(f"  {fairness:<10} {network:<9} {figures}  ({entry.source})")
        if not lines:
            yield "Published: no figures for this setting are at hand."
        else:
            yield "Published, accuracy / DEO_M / DEO_A in percent:"
            yield from lines

    def ran_as_long(self, source: str) -> bool:
        """Whether the figures of `source` are for this number of iterations."""
        ours = self.options()["distill"]["iterations"]
        return all(
            known.get(self.method, {}).get("iterations", ours) == ours
            for name, known in SETTINGS.items()
            if source.startswith(name)
        )


def recipes() -> Iterator[Recipe]:
    """Every recipe."""
    for dataset in DATASETS:
        for method in METHOD_NAMES:
            for ipc in IPCS:
                about = f"Tables 1 and 2 of FairDD: {dataset}, {method}, {ipc} images per class."
                yield Recipe(f"tables-1-2/{dataset}-{method}-ipc{ipc}.yaml", about, dataset, method, ipc)
    for dataset in ("c-mnist-fg", "c-fmnist-bg", "cifar10-s", "celeba", "utkface", "bffhq"):
        about = f"Cross-architecture study: {dataset}, distilled in a ConvNet, evaluated in four networks."
        yield Recipe(f"cross-architecture/{dataset}.yaml", about, dataset, "dm", 50, networks=ARCHITECTURES)
    for dataset in ("c-mnist-fg", "c-fmnist-bg", "cifar10-s"):
        for ratio in (0.85, 0.90, 0.95):
            about = f"Bias-ratio study: {dataset}, {ratio:.2f} of a class in its majority group."
            name = f"bias-ratio/{dataset}-{ratio:.2f}.yaml"
            yield Recipe(name, about, dataset, "dm", 10, make={"bias-ratio": ratio}, compared=ratio == 0.9)
        for init in ("real", "noise", "balanced"):
            about = f"Initialisation study: {dataset}, starting from {init} images."
            name = f"initialisation/{dataset}-{init}.yaml"
            yield Recipe(name, about, dataset, "dm", 10, distill={"init": init}, compared=init == "real")
        for noise in (0.1, 0.2, 0.3, 0.5):
            about = f"Group-noise study: {dataset}, {noise:.0%} of the protected labels replaced at random."
            name = f"group-noise/{dataset}-{noise}.yaml"
            yield Recipe(name, about, dataset, "dm", 10, distill={"group-noise": noise}, compared=False)
        about = f"Pseudo-group study: {dataset}, groups found by clustering, without protected labels."
        chosen: Options = {"groups": "pseudo"}
        yield Recipe(f"pseudo-groups/{dataset}.yaml", about, dataset, "dm", 10, distill=chosen, compared=False)
        about = f"ViT study: {dataset}, distilled in a ConvNet, evaluated in vision transformers of 1 to 3 layers."
        yield Recipe(f"vit/{dataset}.yaml", about, dataset, "dm", 10, networks=VITS)
        about = f"ViT study: {dataset}, distilled and evaluated in a vision transformer of 2 layers."
        chosen = {"network": "vit:depth=2"}
        name = f"vit/{dataset}-in-vit.yaml"
        yield Recipe(name, about, dataset, "dm", 10, distill=chosen, networks=VITS[1:2], compared=False)
        for ipc in (1, 10, 50):
            about = f"MTT study: {dataset}, trajectory matching, {ipc} images per class."
            yield Recipe(f"mtt/{dataset}-ipc{ipc}.yaml", about, dataset, "mtt", ipc)
    for ipc in IPCS:
        about = "Imbalanced minorities: the groups of utkface differ in size beyond the majority's, by nature."
        yield Recipe(f"imbalanced-minorities/utkface-ipc{ipc}.yaml", about, "utkface", "dm", ipc)
    for dataset in DATASETS:
        for ipc in IPCS:
            yield from cobra(dataset, ipc)


def cobra(dataset: str, ipc: int) -> Iterator[Recipe]:
    """COBRA's dm, as its public code runs it: its own mode, and the mode in which it runs vanilla and FairDD."""
    chosen: Options = {"batch-real": 600, "iterations": 2600}
    epochs = COBRA_WARMUP[ipc]
    yield Recipe(
        f"cobra/{dataset}-dm-ipc{ipc}.yaml",
        f"COBRA's dm (2026), its own mode: {dataset}, L1, {epochs} epochs of warm-up on the synthetic set.",
        dataset,
        "dm",
        ipc,
        distill={**chosen, "option": {"distance": "l1", "warmup_epochs": epochs}},
        evaluate=COBRA_EVALUATION,
        fairness="--fairness barycenter",
        figures=("barycenter",),
    )
    yield Recipe(
        f"cobra/{dataset}-dm-baselines-ipc{ipc}.yaml",
        f"COBRA's dm (2026), the mode of its vanilla and FairDD rows: {dataset}, squared L2, no warm-up.",
        dataset,
        "dm",
        ipc,
        distill=chosen,
        evaluate=COBRA_EVALUATION,
        figures=("vanilla", "fairdd"),
    )


def main() -> int:
    """Writes every recipe, or names those that differ from what would be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="name the files that differ, and change nothing")
    check = parser.parse_args().check
    written = {FOLDER / recipe.name: recipe.text() for recipe in recipes()}
    there = {
        path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*/*.yaml") if path.parent.name != "profiles"
    }
    if check:
        differing = sorted(path for path in {*written, *there} if written.get(path) != there.get(path))
        sys.stdout.write("".join(f"{path.relative_to(FOLDER)}\n" for path in differing))
        return int(bool(differing))
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
