"""Images are written whole or not at all, also where SimpleITK says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from small_disk import small_disk

from tasks.ledger.images import write_image


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    kind=st.sampled_from([np.uint8, np.int16, np.float32]),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], kind: type[np.generic], seed: int
) -> None:
    voxels = np.random.default_rng(seed).integers(0, 200, shape).astype(kind)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.5, 0.75, 3.0))
    file = tmp_path_factory.mktemp("out") / "i.nii.gz"
    write_image(image, file)
    found = sitk.ReadImage(str(file))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), voxels)
    assert found.GetSpacing() == image.GetSpacing()
    assert [path.name for path in file.parent.iterdir()] == ["i.nii.gz"]


@pytest.mark.parametrize("megabytes", [1, 3])
def test_on_a_full_disk_nothing_is_left(tmp_path: Path, megabytes: int) -> None:
    """4 MB as they are, 3.6 MB compressed: SimpleITK alone leaves a file that is too short, in silence."""
    noise = np.random.default_rng(0).integers(-1000, 1000, (128, 128, 128)).astype(np.int16)
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, megabytes=megabytes):
        with pytest.raises(OSError, match="No space left on device"):
            write_image(sitk.GetImageFromArray(noise), folder / "i.nii.gz")
        assert list(folder.iterdir()) == []


def test_a_disk_that_is_full_for_a_moment_is_seen_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody frees room while the file is compressed, which alone would then go well."""
    write = sitk.WriteImage

    def cut_short(image: sitk.Image, path: str) -> None:
        write(image, path)
        Path(path).write_bytes(Path(path).read_bytes()[:-1])

    monkeypatch.setattr(sitk, "WriteImage", cut_short)
    with pytest.raises(OSError, match="No space left on device"):
        write_image(sitk.GetImageFromArray(np.ones((3, 4, 5), np.uint8)), tmp_path / "i.nii.gz")
    assert list(tmp_path.iterdir()) == []
