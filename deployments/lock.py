"""Resolve the locks from pyproject.toml: names, versions, hashes, and no addresses.

make lock        everything as new as pyproject.toml lets it be
make lock-added  what is locked stays; only what pyproject.toml asks for besides is added

requirements.lock             everything but torch
requirements-dev.lock         what tests and checks need besides
requirements-torch-cuda.lock  torch as the default index has it, with CUDA
requirements-torch-cpu.lock   torch's CPU build, where an index or --find-links offers one
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OF_TORCH = re.compile(r"(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
COMPILE = [
    *("uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-annotate", "--no-header", "--quiet"),
]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-torch-cuda.lock")


def main() -> None:
    """Write the four locks."""
    everything = _resolve("pyproject.toml", "--group", "dev")
    runtime = {_name(block) for block in _resolve("pyproject.toml")}
    torch = [block for block in everything if OF_TORCH.match(block)]
    others = [block for block in everything if not OF_TORCH.match(block)]
    _write("requirements.lock", [b for b in others if _name(b) in runtime])
    _write("requirements-dev.lock", [b for b in others if _name(b) not in runtime])
    _write("requirements-torch-cuda.lock", torch)
    version = next(match[1] for b in torch if (match := re.match(r"torch==([\w.]+)", b)))
    cpu = _cpu_build(version)
    if cpu is None:
        print(f"no CPU build of torch {version} is offered here; that lock stays as it is")
    else:
        _write("requirements-torch-cpu.lock", [cpu])


def _resolve(*arguments: str) -> list[str]:
    """One block of text for each package: its pin and its hashes."""
    keep = [part for lock in LOCKS for part in ("--constraints", lock)] if "--keep" in sys.argv else []
    command = [sys.executable, "-m", *COMPILE, *(keep or ["--upgrade"]), *arguments]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return re.split(r"\n(?=[A-Za-z0-9])", text.strip())


def _name(block: str) -> str:
    return re.split(r"[=\s]", block, maxsplit=1)[0]


def _cpu_build(version: str) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        done = subprocess.run([*command, f"torch=={version}+cpu"], capture_output=True, check=False)
        if done.returncode != 0:
            return None
        hashes = [
            f"    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
            for wheel in sorted(Path(folder).iterdir())
        ]
    return " \\\n".join([f"torch=={version}+cpu", *hashes])


def _write(name: str, blocks: list[str]) -> None:
    (ROOT / name).write_text("\n".join(blocks) + "\n", encoding="utf-8")
    print(f"{name}: {len(blocks)} packages")


if __name__ == "__main__":
    main()
