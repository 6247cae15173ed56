#!/bin/sh
# From nothing to a fairness-versus-accuracy table on real images: installs fairdd, then distils the embedded sample
# of Fashion-MNIST without and with FairDD, compares what networks learn from the two sets, and draws these.
# About 3 minutes on 2 cores after the installation. Everything is written to runs/quickstart.
EXTRAS="[plot]"
. "$(dirname "$0")/_environment.sh"
out=runs/quickstart
mkdir -p "$out"
set -x
fairdd make-dataset c-fmnist-fg --embedded -o $out/data.h5 --force
fairdd distill --method dm --ipc 10 --iterations 100 --network convnet:width=32 --force $out/data.h5
fairdd distill --method dm --ipc 10 --iterations 100 --network convnet:width=32 --force --fair $out/data.h5
fairdd evaluate $out/data.dm-vanilla-ipc10.h5 --epochs 200 --seeds 2 -o $out/vanilla.json --force
fairdd evaluate $out/data.dm-fairdd-ipc10.h5 --epochs 200 --seeds 2 -o $out/fair.json --force
fairdd report $out/vanilla.json $out/fair.json --plot $out/images.png --picture images \
    --synthetic $out/data.dm-vanilla-ipc10.h5 --synthetic $out/data.dm-fairdd-ipc10.h5 --force
