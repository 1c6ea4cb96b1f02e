"""Cases are converted in threads of one process, which SimpleITK bears once it has been used alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import SimpleITK as sitk

from tasks import convert
from tasks.settings.dataset import DatasetSettings, RoiPatterns


@pytest.mark.parametrize("function", ["ReadImage", "WriteImage", "Cast"])
def test_simpleitk_is_used_alone_before_threads_use_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Two first readers at once ended one process in 1,700 by a signal: too rare to be seen in a test."""
    happened: list[Any] = []
    plain: Callable[..., Any] = getattr(sitk, function)

    def used(*arguments: Any) -> Any:
        happened.append(threading.current_thread())
        return plain(*arguments)

    monkeypatch.setattr(sitk, function, used)
    monkeypatch.setattr(convert, "_fate", lambda case, *_: happened.append(case.case_id))
    cases: Any = [SimpleNamespace(case_id=f"c{number}") for number in range(3)]
    rois = RoiPatterns.model_validate({"GTV": ["GTV.*"]})
    convert.convert_cases.fn("D", 1, cases, DatasetSettings(), rois, threads=3)
    assert happened[0] is threading.current_thread()
    assert sorted(happened[1:]) == ["c0", "c1", "c2"]
