"""A file whose elements were changed, written as it was: the same input gives the same bytes."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from tasks.dicom.headers import read_dataset

IMPLEMENTATION_UID = UID("2.25.208190843203290193219018283920182911532")
IMPLEMENTATION_VERSION = "ITERSEG"


def as_bytes(target: Dataset, source: Dataset) -> bytes:
    """The file of ``target``, in the transfer syntax of ``source``, from which it was made."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = target.SOPClassUID
    meta.MediaStorageSOPInstanceUID = target.SOPInstanceUID
    old = getattr(source, "file_meta", None)
    meta.TransferSyntaxUID = getattr(old, "TransferSyntaxUID", ExplicitVRLittleEndian)
    # Constant: another version of pydicom must not give other bytes.
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
    target.file_meta = meta
    stream = io.BytesIO()
    encoding = source.original_encoding
    pydicom.dcmwrite(
        stream,
        target,
        implicit_vr=None if old is not None and "TransferSyntaxUID" in old else encoding[0],
        little_endian=None if old is not None and "TransferSyntaxUID" in old else encoding[1],
        enforce_file_format=True,
    )
    return stream.getvalue()


def read_to_send(path: Path) -> Dataset:
    """A whole file as others read it: one of an old export, without a preamble or the like, gets it."""
    dataset = read_dataset(path, pixels=True)
    if dataset.preamble is not None and says_what_it_is(dataset.file_meta):
        return dataset
    return pydicom.dcmread(io.BytesIO(as_bytes(dataset, dataset)))


def says_what_it_is(meta: Dataset) -> bool:
    """Whether a file's meta information names its class and its transfer syntax, as it must (PS3.10 7.1)."""
    return bool(meta.get("MediaStorageSOPClassUID") and meta.get("TransferSyntaxUID"))


def under_another_uid(content: bytes, sop_instance_uid: str) -> bytes:
    """The same object as another instance."""
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    dataset.SOPInstanceUID = sop_instance_uid
    return as_bytes(dataset, dataset)
