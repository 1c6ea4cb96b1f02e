#!/usr/bin/env bash
# Make the environment from the locks: names, versions and hashes, nothing else.
# TORCH=cpu|cuda|auto. auto: the CPU build, unless an NVIDIA GPU is seen or no CPU build is offered.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv}
torch=${TORCH:-auto}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "IterSeg needs Python 3.11 or newer; PYTHON=python3.12 make install takes another one" >&2
    exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
locked() { pip install --quiet --no-deps --require-hashes -r "$1"; }

if [ "$torch" = auto ]; then
    torch=cpu
    [ -e /dev/nvidia0 ] && torch=cuda
    # Where no index offers the CPU build, the CUDA build serves; it runs without a GPU too.
    [ "$torch" = cpu ] && ! locked requirements-torch-cpu.lock 2>/dev/null && torch=cuda
fi
echo "installing the locked packages ($torch build of torch)"
locked "requirements-torch-$torch.lock"
locked requirements.lock
locked requirements-dev.lock
pip install --quiet --no-deps --no-build-isolation --editable .
"$venv/bin/python" -m compileall -q "$venv/lib" >/dev/null 2>&1 || true
