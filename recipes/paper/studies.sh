#!/bin/sh
# The paper's studies at the budget of a small machine, a row each: dm on c-fmnist-bg unless it says otherwise, IPC 10.
#
#     sh recipes/paper/studies.sh runs/studies [OPTIONS OF make-dataset, such as --root FOLDER]
#     python recipes/make_results.py --collect studies=runs/studies
#
# What is done stays, and what was interrupted goes on, when the same command is given again. Lists of studies, at the
# published budget, stand beside this file: a folder each.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=$1
shift
budget="--iterations 300 --precision bf16"
networks="--seeds 1 --precision bf16"
mkdir -p "$folder/c-fmnist-bg"

# data NAME OPTIONS...: the data set $folder/NAME.h5
data() {
    file=$folder/$1.h5
    shift
    [ -e "$file" ] || fairdd make-dataset c-fmnist-bg "$@" -o "$file"
}

# row NAME DATA RECIPE OPTIONS...: a distillation and its evaluation, both by the RECIPE with the budget on top
row() {
    made=$folder/c-fmnist-bg/$1 from=$folder/$2.h5 recipe=$here/$3.yaml
    shift 3
    [ -e "$made.h5" ] || fairdd distill "$from" --recipe "$recipe" $budget "$@" -o "$made.h5"
    [ -e "$made.json" ] || fairdd evaluate "$made.h5" --data "$from" --recipe "$recipe" $networks -o "$made.json"
}

data c-fmnist-bg "$@"
for fairness in vanilla fairdd; do
    row "cross-architecture-$fairness" c-fmnist-bg cross-architecture/c-fmnist-bg --fairness "$fairness" --ipc 10
    row "vit-$fairness" c-fmnist-bg vit/c-fmnist-bg --fairness "$fairness"
    row "mtt-$fairness" c-fmnist-bg mtt/c-fmnist-bg-ipc10 --fairness "$fairness" \
        -O num_experts=5 -O train_epochs=10 -O max_start_epoch=5
done
for ratio in 0.85 0.95; do
    data "c-fmnist-bg-$ratio" --bias-ratio "$ratio" "$@"
    row "bias-ratio-$ratio" "c-fmnist-bg-$ratio" "bias-ratio/c-fmnist-bg-$ratio" --fair
done
for init in noise balanced; do
    row "initialisation-$init" c-fmnist-bg "initialisation/c-fmnist-bg-$init" --fair
done
for share in 0.1 0.3 0.5; do
    row "group-noise-$share" c-fmnist-bg "group-noise/c-fmnist-bg-$share" --fair
done
row pseudo-groups c-fmnist-bg pseudo-groups/c-fmnist-bg --fair
