"""Images as NIfTI: whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import SimpleITK as sitk
from isal import igzip

from tasks.ledger.files import whole_file, write_text

COMPRESSION_LEVEL = 1
"""Of ISA-L, the next after none: more of it takes longer and saves little of a CT."""
COPY_BLOCK_BYTES = 1 << 20
HEADER_BYTES = 352
"""Of a NIfTI-1 file: the header and the four bytes that say that no extension follows."""


def write_image(image: sitk.Image, path: Path) -> None:
    """Write ``.nii.gz``, compressed by ISA-L: with zlib it took longer than all the rest of a conversion.

    Raises
    ------
    OSError
        Where the disk is full. SimpleITK says nothing then, and leaves a file that is too short.
    """
    with whole_file(path) as temporary:
        plain = temporary.with_name(f"{temporary.name.removesuffix('.nii.gz')}.nii")
        try:
            sitk.WriteImage(image, os.fspath(plain))
            if plain.stat().st_size < HEADER_BYTES + _content_bytes(image):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with (
                plain.open("rb") as source,
                temporary.open("wb") as target,
                igzip.IGzipFile("", "wb", COMPRESSION_LEVEL, target, mtime=0) as compressed,  # type: ignore[no-untyped-call]
            ):
                shutil.copyfileobj(source, compressed, COPY_BLOCK_BYTES)
        finally:
            plain.unlink(missing_ok=True)


def ready_for_threads() -> None:
    """Let SimpleITK make what it makes at the first use of a process, alone.

    Where two threads read the first time at once, both enter what they make into one map of ITK's that
    nothing guards: 3 of 5,869 processes were ended by it (SIGSEGV).
    Files and filters enter four things each, five together.
    """
    with TemporaryDirectory(prefix="iterseg-") as folder:
        file = Path(folder) / "one.nii"
        sitk.WriteImage(sitk.Image(1, 1, 1, sitk.sitkUInt8), os.fspath(file))
        sitk.Cast(sitk.ReadImage(os.fspath(file)), sitk.sitkInt16)


def voxel_bytes(path: Path) -> int:
    """How many bytes the voxels of a ``.nii.gz`` are, modulo 2³², from the last of the file (RFC 1952)."""
    with path.open("rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return (int.from_bytes(stream.read(4), "little") - HEADER_BYTES) % (1 << 32)


def fingerprint(path: Path) -> str:
    """How many bytes the voxels of a ``.nii.gz`` are, and their digest; kept beside it once computed."""
    known = _fingerprint_file(path)
    try:
        return known.read_text(encoding="utf-8")
    except FileNotFoundError:
        write_text(known, found := f"{voxel_bytes(path)}:{_voxel_digest(path)}")
        return found


def note_fingerprint(image: sitk.Image, path: Path) -> None:
    """Keep the fingerprint of an image that was just written: to read it back takes ten times as long."""
    write_text(_fingerprint_file(path), fingerprint_of(image))


def fingerprint_of(image: sitk.Image) -> str:
    """As :func:`fingerprint`, of an image that is in memory."""
    voxels = memoryview(sitk.GetArrayViewFromImage(image)).cast("B")
    return f"{len(voxels) % (1 << 32)}:{sha256(voxels).hexdigest()}"


def _fingerprint_file(path: Path) -> Path:
    return path.with_name(path.name.replace(".nii.gz", ".voxels"))


def _voxel_digest(path: Path) -> str:
    """A sha256 of the voxels of a ``.nii.gz``, whatever compressed them, and without its header."""
    digest = sha256()
    with igzip.IGzipFile(os.fspath(path), "rb") as plain:  # type: ignore[no-untyped-call]
        plain.read(HEADER_BYTES)
        while block := plain.read(COPY_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _content_bytes(image: sitk.Image) -> int:
    values = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
    return int(values * image.GetSizeOfPixelComponent())
