"""What a result was made with: the code and the libraries that decide it."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tasks.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[1]
GIT_S = 60
"""The status of a large checkout on a slow network file system takes that long."""
LIBRARIES = ("iterseg", "nnunetv2", "torch", "numpy", "SimpleITK", "pydicom", "highdicom", "blosc2")


def versions() -> dict[str, str]:
    """Name → version; ``commit`` where the code runs from a checkout, with ``+`` where it was changed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    code = code_version()
    if code != found.get("iterseg"):
        found["commit"] = code
    return found


def code_version() -> str:
    """The commit of the checkout, with ``+`` where it was changed; else the installed version."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return version("iterseg")
    return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def require_release() -> None:
    """Refuse a checkout that was changed since its commit: nobody could say later what ran.

    Raises
    ------
    ConfigError
        Naming the commit and how many files differ.
    """
    if (CHECKOUT / ".git").exists() and not _git("rev-parse", "HEAD"):
        raise ConfigError(
            f"git does not tell the commit of {CHECKOUT}, and `released_code_only` is set: is it "
            "installed, and may this user read the checkout?"
        )
    changed = _git("status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        raise ConfigError(
            f"{len(changed)} files of the checkout differ from commit {code_version()}: "
            "commit or restore them, or take `released_code_only` out of the dataset's YAML"
        )


def _git(*arguments: str) -> str:
    if not (CHECKOUT / ".git").exists():
        return ""
    # The services' user need not own the checkout.
    git = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT)]
    try:
        done = subprocess.run([*git, *arguments], capture_output=True, text=True, check=True, timeout=GIT_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
