# Sourced by the scripts beside it and by tests/run.sh: a virtual environment, if none is active, with fairdd in it.
# EXTRAS, if set, names extras to install, such as [test,plot].
set -eu
cd "$(dirname "$0")/.."
if [ -z "${VIRTUAL_ENV:-}" ]; then
    [ -x .venv/bin/python ] || python3 -m venv .venv
    . .venv/bin/activate
fi
python -m pip install --quiet --disable-pip-version-check --editable ".${EXTRAS:-}"
