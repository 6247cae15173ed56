# %% [markdown]
# # From Python
#
# The commands are functions, too: `make_dataset`, `distill`, `evaluate`, `import_set` and `report`. Their keywords are
# the options of the command line, with the same defaults and checks. No file is needed between them. What they return
# shows itself: a table of cells, a grid of images, a table of scores.
#
# This page is a script with cell markers. VS Code, Spyder and Jupyter (with jupytext) open it as a notebook;
# `python notebook.py` runs it, `help(distill)` lists all options.

# %%
import torch

from fairdd_cli import load
from fairdd_cli.artifacts import read_any
from fairdd_cli.distill import distill
from fairdd_cli.errors import UsageError
from fairdd_cli.evaluate import evaluate
from fairdd_cli.import_set import import_set
from fairdd_cli.make_dataset import make_dataset
from fairdd_cli.reporting import report

# %% [markdown]
# ## A data set
#
# `c-fmnist-fg` colours garments: nine of ten images of a class have the colour of that class. A small real sample is in
# the package. The last line of a cell shows the data set: images of each class and colour, and the first of each.

# %%
data = make_dataset("c-fmnist-fg", embedded=True)
data

# %% [markdown]
# ## Synthetic images
#
# Without and with FairDD, 20 iterations in a narrow network so that this page is quick. The paper's setting takes
# 20,000 in `convnet`: leave `iterations` and `network` out.

# %%
quick = {"ipc": 1, "iterations": 20, "network": "convnet:width=16"}
vanilla = distill(data, method="dm", **quick)
fair = distill(data, method="dm", fairness="fairdd", **quick)
fair

# %% [markdown]
# ## Scores
#
# Networks are trained on the synthetic images and tested on real ones, in which all colours are equally frequent.

# %%
trained = {"seeds": 2, "epochs": 5}
scores = evaluate(fair, data, **trained)
scores

# %% [markdown]
# A report puts several evaluations side by side, with the difference to vanilla.

# %%
table = report([evaluate(vanilla, data, **trained), scores])
table

# %% [markdown]
# The numbers behind a table:

# %%
network, metrics = next(iter(scores.metrics().items()))
print(network, metrics["accuracy"]["per_seed"], scores.confusion[network].shape)

# %% [markdown]
# ## In your own training loop

# %%
images, labels = load(fair).images, load(fair).labels
print(images.shape, labels.shape)

# %% [markdown]
# ## Files
#
# `save` writes the file that the command would write, and the commands go on from there. `read_any` reads it back;
# every function takes a path in place of an object.

# %%
data.save("data.h5", force=True)
fair.save("fair.h5", force=True)
scores.save("fair.json", force=True)
print((read_any("fair.h5").images == fair.images).all())
print(read_any("fair.json").digest == scores.digest)

# %% [markdown]
# A set that another tool saved, here by `torch.save`:

# %%
torch.save((images, labels), "theirs.pt")
theirs = import_set("theirs.pt", data, method="theirs")
print((theirs.images == fair.images).all())

# %% [markdown]
# ## Errors
#
# are one or two lines, as on the command line.

# %%
try:
    distill(data, method="dm", ipc=1, iteration=20)
except UsageError as error:
    print(error)
