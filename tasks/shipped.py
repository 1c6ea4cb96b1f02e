"""The files of `config/` that come with IterSeg, for a home that has none."""

from __future__ import annotations

from pathlib import Path

from tasks.ledger.files import write_text

SHIPPED = ("deidentification.yaml", "clusters/local.yaml", "clusters/workstation.yaml", "clusters/slurm.yaml")


def shipped_config() -> Path:
    """Inside the package where it was installed from a wheel, beside it in a checkout."""
    inside = Path(__file__).parent / "shipped_config"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "config"


def write_missing(config_dir: Path) -> list[Path]:
    """Copy what a home lacks of them; what is there stays as it is. Returns what was written."""
    written = []
    for name in SHIPPED:
        target = config_dir / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, (shipped_config() / name).read_text(encoding="utf-8"))
            written.append(target)
    return written
