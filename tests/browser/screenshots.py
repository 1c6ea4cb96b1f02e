"""Pictures of the UI for the docs, of a real night on a real (small) cluster: `make screenshots`.

PYTHONPATH=.:tests:tests/slurm python tests/browser/screenshots.py docs/images
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from apt_packages import require_packages
from night_lab import Night
from private_slurm import PrivateSlurm, require_slurm
from slurm_lab import new_lab
from tests_support import PrefectServer, wait_until

SIZE = "1500,1000"
EPOCHS = 150
"""Long enough to be looked at while it trains."""


def main(target: Path) -> None:
    """Train on two nodes, and look at it."""
    require_slurm()
    require_packages("Chromium", ("chromium",), program="chromium")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("prefect", "elsewhere"):
            (root / name).mkdir()
        with PrefectServer(root / "prefect") as server, PrivateSlurm(nodes=2) as slurm:
            lab = new_lab(root / "home", slurm, server, epochs=EPOCHS)
            night = Night(lab, root / "elsewhere")
            night.deploy()
            worker = night.start_worker()
            try:
                _look(night, server, target)
            finally:
                worker.terminate()
                worker.wait(30)
                lab.end()


def _look(night: Night, server: PrefectServer, target: Path) -> None:
    ui = server.api_url.removesuffix("/api")
    run = night.ask("iterate/nightly", dataset_id="D", cluster="slurm")
    night.lab.until_it_trains()
    fold = {"flow_runs": {}, "task_runs": {"name": {"any_": ["fold-0"]}}}
    wait_until(lambda: bool(server.post("/task_runs/filter", fold)), 60)
    (task,) = server.post("/task_runs/filter", fold)
    picture(f"{ui}/runs/task-run/{task['id']}?tab=Artifacts", target / "fold.png")
    picture(f"{ui}/artifacts/key/jobs-d", target / "jobs.png")
    picture(f"{ui}/deployments", target / "deployments.png")
    assert night.ended(run)[0] == "COMPLETED", night.state(run)
    picture(f"{ui}/runs/flow-run/{run}", target / "flow-run.png")


def picture(address: str, file: Path) -> None:
    """What a browser shows of a page, once it has loaded."""
    file.parent.mkdir(parents=True, exist_ok=True)
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={SIZE}", "--virtual-time-budget=20000", f"--screenshot={file}", address]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
