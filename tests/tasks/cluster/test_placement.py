"""What a process may use of its machine, told without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cluster import placement


@pytest.mark.parametrize(
    ("driver", "devices", "visible", "found"),
    [
        (["0000:01:00.0", "0000:02:00.0"], ["nvidia0", "nvidia1", "nvidiactl"], None, ["0", "1"]),
        (
            [],
            ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps"],
            None,
            ["0", "1"],
        ),  # a container
        ([], ["dxg", "null", "libcuda.so.1"], None, ["0"]),  # Linux under Windows
        ([], ["dxg", "null"], None, []),  # the same, with a GPU of another maker
        ([], ["null"], None, []),
        (["0000:01:00.0"], ["nvidia0"], "", []),
        ([], ["null"], "GPU-a,GPU-b", ["GPU-a", "GPU-b"]),
    ],
)
def test_gpus_are_known_wherever_their_driver_shows_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    driver: list[str],
    devices: list[str],
    visible: str | None,
    found: list[str],
) -> None:
    """Where none is seen there is a worker for each core, and all of them on one GPU."""
    for name, files in (("DRIVER", driver), ("DEVICES", devices)):
        for file in files:
            (tmp_path / name / file).mkdir(parents=True)
        monkeypatch.setattr(placement, name, tmp_path / name)
    monkeypatch.setattr(placement, "WINDOWS_CUDA", tmp_path / "DEVICES" / "libcuda.so.1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert placement.gpus() == found
