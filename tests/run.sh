#!/bin/sh
# Installs fairdd with the extras that its tests use (in a virtual environment, if none is active), lints, type-checks
# and tests.
EXTRAS="[test,plot,grid]"
. "$(dirname "$0")/../recipes/_environment.sh"
set -x
ruff check .
ruff format --check .
mypy
# One thread for each test: the matrices are small, and waiting threads would only take the cores from each other.
OMP_NUM_THREADS=1 python -m pytest --numprocesses auto --maxschedchunk 1 "$@"
