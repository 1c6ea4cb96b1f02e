"""Three ways in, as a newcomer goes them: `make walks`.

Clones what is committed into an empty folder, installs it by the README's command, and runs every block of
the tutorial, of the page on a Slurm cluster, and of the page on changing something, as they stand. Where it
may, it does so as another user with an empty home, and after the install without a network.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from with_loopback import alone, may_be_alone

CHECKOUT = Path(__file__).parents[2]
PAGES = ("tutorial", "changing", "cluster")
NOBODY = 65534
AS_NOBODY = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
PORT_OF_THE_PAGE = "4217"
STAYS = re.compile(r"PIP_|SSL_|REQUESTS_|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY|LANG|LC_")
"""How to reach an index, and nothing else of whoever runs this."""
LIMIT_S = 1800


def blocks(page: Path) -> list[str]:
    """The commands of a page."""
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


class Newcomer:
    """Somebody with an empty home, a fresh clone and a narrow terminal."""

    def __init__(self, root: Path) -> None:
        self.root, self.clone = root, root / "iterseg"
        (root / "home").mkdir()
        self.environment = {key: value for key, value in os.environ.items() if STAYS.match(key)}
        self.environment |= {
            "HOME": str(root / "home"),
            "PATH": _plain_path(),
            "COLUMNS": "60",
            "TERM": "dumb",
        }
        settings = Path.home() / ".config" / "pip" / "pip.conf"
        if settings.is_file():  # this machine's way to an index, which a newcomer has of their own
            self.environment["PIP_CONFIG_FILE"] = str(shutil.copy(settings, root))
        self.other = os.geteuid() == 0 and self._another_may_run_python()
        if not self.other:
            print("walked as whoever started it: another user could not run this Python")

    def _another_may_run_python(self) -> bool:
        """Whether `nobody` may: a Python in somebody's own home is theirs alone."""
        if shutil.which("setpriv") is None:
            return False
        command = [*AS_NOBODY, "python3", "-c", "import ensurepip, venv"]
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode == 0

    def arrive(self) -> None:
        """Clone what is committed."""
        source = f"file://{CHECKOUT}"
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", source, str(self.clone)], check=True)
        if self.other:
            self.root.chmod(0o755)
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(self.root)], check=True)

    def do(
        self,
        script: str,
        *,
        network: bool = True,
        themselves: bool = True,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Run a script in the clone; what it has started is gone afterwards."""
        command = ["bash", "-euo", "pipefail", "-c", script]
        if self.other and themselves:
            command = [*AS_NOBODY, "--pdeathsig", "KILL", *command]
        if not network and may_be_alone():
            command = alone(*command)
        elif not network:
            print("with the network: it may not be taken away here", flush=True)
        environment = {**self.environment, **(more or {})}
        started = subprocess.Popen(command, cwd=self.clone, env=environment, start_new_session=True)
        try:
            if started.wait(timeout=LIMIT_S):
                sys.exit(f"it stopped with {started.returncode}; everything is in {self.keep()}")
        except subprocess.TimeoutExpired:
            sys.exit(f"it took more than {LIMIT_S} s; everything is in {self.keep()}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGTERM)
                time.sleep(2)
                os.killpg(started.pid, signal.SIGKILL)

    def keep(self) -> Path:
        """Where everything will lie that is else removed."""
        return self.root.rename(self.root.with_name(f"{self.root.name}-stopped"))

    def read(self, page: str, **how: bool) -> None:
        """Do what a page says, block by block, in one shell."""
        print(f"\n===== docs/{page}.md", flush=True)
        said = [
            f"cat <<'SAID'\n\n{block.rstrip()}\nSAID\n{block}"
            for block in blocks(self.clone / f"docs/{page}.md")
        ]
        # Somebody else's server may have the page's port.
        self.do("\n".join(said).replace(PORT_OF_THE_PAGE, str(_free_port())), **how)  # type: ignore[arg-type]


def _plain_path() -> str:
    """The system's programs, and those of the Python that the README asks for."""
    python = Path(shutil.which("python3", path=os.defpath) or sys.executable)
    base = Path(sys.base_prefix) / "bin"
    return ":".join(
        dict.fromkeys([str(base), str(python.parent), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"])
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _on_the_cluster(newcomer: Newcomer, stack: ExitStack) -> bool:
    """With a Slurm of two nodes around it, where Debian's packages can be had; whether they can."""
    import pytest
    from private_slurm import PrivateSlurm, require_slurm

    try:
        require_slurm()
    except pytest.skip.Exception as reason:
        print(f"docs/cluster.md: not walked, {reason}")
        return False
    slurm = stack.enter_context(PrivateSlurm())
    newcomer.environment |= slurm.environment
    newcomer.read("cluster", themselves=False)  # its jobs run as whoever started it
    return True


def main() -> None:
    """Walk the pages that are asked for, or all."""
    # Told to end, it ends what it has started: the pages leave a server and a worker in the background.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="*", choices=[*PAGES, []], help="default: all")
    chosen = parser.parse_args().page or list(PAGES)
    began = time.monotonic()
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="iterseg-walk-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(subprocess.run, ["chmod", "-Rf", "u+w", str(root)], check=False)
        newcomer = Newcomer(root)
        newcomer.arrive()
        newcomer.do("make install")
        print(f"installed after {time.monotonic() - began:.0f} s", flush=True)
        if "tutorial" in chosen or "cluster" in chosen:  # which goes on from it
            newcomer.read("tutorial", network=False)
        if "cluster" in chosen and not _on_the_cluster(newcomer, stack):
            chosen = [page for page in chosen if page != "cluster"]
        if "changing" in chosen:
            newcomer.read("changing", network=False)
    print(f"\nwalked {', '.join(chosen)} in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
