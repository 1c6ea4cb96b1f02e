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
# An environment without pip is what is left where Debian's python3-venv was missing at the first try.
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv "$venv" || {
    echo "no environment could be made; on Debian and Ubuntu it needs the package python3-venv" >&2
    exit 1
}
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
locked() { pip install --quiet --no-deps --require-hashes -r "$1"; }

if [ "$torch" = auto ]; then
    torch=cpu
    # As `gpus` in tasks/cluster/placement.py has it: a container may have any one, and WSL 2 has no such file.
    if ls /dev/nvidia[0-9]* >/dev/null 2>&1 || { [ -e /dev/dxg ] && [ -e /usr/lib/wsl/lib/libcuda.so.1 ]; }; then
        torch=cuda
    fi
    # Where no index offers the CPU build, the CUDA build serves; it runs without a GPU too.
    if [ "$torch" = cpu ] && ! why=$(locked requirements-torch-cpu.lock 2>&1); then
        echo "the CPU build of torch cannot be had: ${why##*$'\n'}"
        torch=cuda
    fi
fi
echo "installing the locked packages ($torch build of torch)"
locked "requirements-torch-$torch.lock"
locked requirements.lock
locked requirements-dev.lock
pip install --quiet --no-deps --no-build-isolation --editable .
# Which build it is now: an upgrade on a machine without a GPU brings no other one.
rm -f "$venv"/.installed-*
touch "$venv/.installed-$torch"
"$venv/bin/python" -m compileall -q "$venv/lib" >/dev/null 2>&1 || true
