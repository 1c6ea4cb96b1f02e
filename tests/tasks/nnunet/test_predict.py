"""A batch: one case that fails leaves the others alone, and a full disk is nobody's case."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from small_disk import small_disk
from untrained_model import untrained_model

from tasks.labels import Labels
from tasks.ledger.images import write_image
from tasks.nnunet.predict import _work, predict_batch

SHAPE = (14, 40, 30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_model(tmp_path_factory.mktemp("model") / "m", Labels(["A"], "label_image"), folds=2)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    files = []
    for number in range(3):
        values = np.random.default_rng(number).normal(100, 20, SHAPE).astype(np.float32)
        files.append(tmp_path / f"{number}.nii.gz")
        write_image(sitk.GetImageFromArray(values), files[-1])
    return files


def predict(
    model: Path, images: list[Path], out: Path, log: Path, told: Any = lambda _: None
) -> dict[str, str]:
    cases = [{"case_id": i.name[0], "image": str(i), "output": str(out / i.name)} for i in images]
    return predict_batch(
        cases,
        model_folder=model,
        folds=None,
        device="cpu",
        mirroring=False,
        log=log,
        threads=1,
        on_message=told,
    )


def test_a_case_that_cannot_be_read_leaves_the_others_alone(
    model: Path, images: list[Path], tmp_path: Path
) -> None:
    images[1].write_bytes(images[1].read_bytes()[:500])
    told: list[dict[str, Any]] = []
    failures = predict(model, images, tmp_path / "out", tmp_path / "log", told.append)
    assert set(failures) == {"1"}
    assert {one["written"]: set(one["doubt"]) >= {"entropy"} for one in told if "written" in one} == {
        "0": True,
        "2": True,
    }
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.nii.gz", "2.nii.gz"]


def test_on_a_full_disk_no_prediction_is_half_there(model: Path, images: list[Path], tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    out.mkdir()
    predict(model, images, whole, tmp_path / "log")
    with small_disk(out, megabytes=1) as filler:
        filler.write()
        with pytest.raises(OSError, match="No space left on device"):
            predict(model, images, out, tmp_path / "log")
        assert [p.name for p in out.iterdir()] == ["filler"]
        filler.file.unlink()
        assert predict(model, images, out, tmp_path / "log") == {}
        for file in whole.iterdir():
            assert file.read_bytes() == (out / file.name).read_bytes()


def test_each_case_is_told_while_the_next_is_predicted(
    model: Path, images: list[Path], tmp_path: Path
) -> None:
    """Whoever hands them out loses no more than the cases that a killed program was at."""
    cases = [{"case_id": i.name[0], "image": str(i), "output": str(tmp_path / i.name)} for i in images]
    told: list[str] = []

    def listen(message: dict[str, Any]) -> None:
        if "written" in message:
            told.append(message["written"])
            assert Path(cases[0]["output"]).is_file()
            raise KeyboardInterrupt  # as one who is killed at the first

    with pytest.raises(KeyboardInterrupt):
        predict_batch(
            cases,
            model_folder=model,
            folds=None,
            device="cpu",
            mirroring=False,
            log=tmp_path / "log",
            threads=1,
            on_message=listen,
        )
    assert told == ["0"]


@pytest.mark.parametrize(("most_bytes", "order"), [(10**9, "PPwPww"), (0, "PwPwPw")])
def test_large_images_are_written_before_the_next_is_predicted(
    model: Path,
    images: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most_bytes: int,
    order: str,
) -> None:
    """Else two images' logits of all folds lie in memory, and what needs more than there is never ends."""
    from tasks.nnunet.ensemble import Ensemble

    happened: list[str] = []
    predicts = Ensemble.fold_logits

    def fold_logits(self: Ensemble, image: Any) -> Any:
        happened.append("P")
        return predicts(self, image)

    monkeypatch.setattr(Ensemble, "fold_logits", fold_logits)
    monkeypatch.setattr("tasks.nnunet.predict.MOST_HELD_BYTES", most_bytes)
    monkeypatch.setattr(
        "tasks.nnunet.predict.tell", lambda **said: happened.extend("w" * ("written" in said))
    )
    cases = [{"case_id": i.name[0], "image": str(i), "output": str(tmp_path / i.name)} for i in images]
    _work({"cases": cases, "model_folder": str(model), "folds": None, "device": "cpu", "mirroring": False})
    assert "".join(happened) == order


@pytest.mark.parametrize("lost", [True, False])
def test_a_gpu_that_is_lost_is_no_fault_of_the_cases(
    model: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Else it fails hundreds of them in a second, and the run ends as if each were at fault."""
    from tasks.nnunet.ensemble import Ensemble

    said: list[dict[str, Any]] = []
    predicts = Ensemble.fold_logits

    def fold_logits(self: Ensemble, image: Any) -> Any:
        if said:  # from the second on
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return predicts(self, image)

    def require_device(self: Ensemble) -> None:
        if lost:
            raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(Ensemble, "fold_logits", fold_logits)
    monkeypatch.setattr(Ensemble, "require_device", require_device)
    monkeypatch.setattr("tasks.nnunet.predict.tell", lambda **message: said.append(message))
    cases = [{"case_id": i.name[0], "image": str(i), "output": str(tmp_path / i.name)} for i in images]
    job = {"cases": cases, "model_folder": str(model), "folds": None, "device": "cpu", "mirroring": False}
    with pytest.raises(RuntimeError, match="launch failure") if lost else nullcontext():
        _work(job)
    assert [message["written"] for message in said if "written" in message] == [cases[0]["case_id"]]
    assert len([message for message in said if "failed" in message]) == (0 if lost else len(cases) - 1)


def test_a_device_that_works_is_no_matter(model: Path) -> None:
    from tasks.nnunet.predictor import Predictor

    Predictor(model, device="cpu", mirroring=False).ensemble.require_device()
