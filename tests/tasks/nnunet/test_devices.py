"""A GPU that was given is used, or the program says so: it would compute on the CPU beside it for weeks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tasks.errors import ConfigError
from tasks.ledger.files import write_json
from tasks.nnunet.devices import device_to_train_on, torch_device
from tasks.nnunet.fold import FoldJob, _trainer


@pytest.mark.parametrize(
    ("chosen", "given", "available", "device"),
    [
        ("auto", None, False, "cpu"),
        ("auto", "", False, "cpu"),
        ("auto", "-1", False, "cpu"),
        ("auto", "0", True, "cuda"),
        ("auto", None, True, "cuda"),
        ("cpu", "0", True, "cpu"),
        ("cpu", "0", False, "cpu"),
        ("cuda", "0", True, "cuda"),
    ],
)
def test_what_computes(
    monkeypatch: pytest.MonkeyPatch, chosen: str, given: str | None, available: bool, device: str
) -> None:
    setting(monkeypatch, given, available)
    assert torch_device(chosen) == device


@pytest.mark.parametrize(
    ("chosen", "given", "words"),
    [
        ("auto", "GPU-7", "GPU GPU-7 was given to this program"),
        ("cuda", None, "torch sees no GPU here"),
        ("cuda:1", None, "CUDA_VISIBLE_DEVICES says which GPU"),
        ("mps", None, "auto, cpu or cuda"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_no_cpu(
    monkeypatch: pytest.MonkeyPatch, chosen: str, given: str | None, words: str
) -> None:
    setting(monkeypatch, given, available=False)
    with pytest.raises(ConfigError, match=words):
        torch_device(chosen)


@pytest.mark.parametrize("available", [True, False])
def test_a_gpu_trains_as_fast_as_with_nnunets_own_command(
    monkeypatch: pytest.MonkeyPatch, available: bool
) -> None:
    """Its command sets up torch, not its trainer, which is all that a fold's program takes of it."""
    setting(monkeypatch, None, available)
    threads: list[str] = []
    monkeypatch.setattr(torch, "set_num_threads", lambda n: threads.append(f"{n} for an operation"))
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda n: threads.append(f"{n} for operations"))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    assert device_to_train_on("auto") == ("cuda" if available else "cpu")
    assert torch.backends.cudnn.benchmark is available
    assert threads == (["1 for an operation", "1 for operations"] if available else [])


def test_a_folds_program_asks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def asked(chosen: str) -> str:
        raise ConfigError(f"asked for {chosen}")

    monkeypatch.setattr("tasks.nnunet.devices.device_to_train_on", asked)
    monkeypatch.setattr("nnunetv2.paths.nnUNet_preprocessed", str(tmp_path))
    for name in ("plans.json", "dataset.json"):
        write_json(tmp_path / "D" / name, {})
    with pytest.raises(ConfigError, match="asked for cuda"):
        _trainer(FoldJob("D", "plans", "3d_fullres", 0, "cuda", {}, ""))


def setting(monkeypatch: pytest.MonkeyPatch, given: str | None, available: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
