"""What a user chooses about predictions: how they are made, what they are called, where they go."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tasks.settings.training import Device
from tasks.settings.yaml_model import DATASET_ID, Settings

Output = Literal["SEG", "RTSTRUCT"]
Strategy = Literal[
    "random",
    "foreground_random",
    "entropy",
    "bald",
    "power_bald",
    "fold_disagreement",
    "class_stratified",
]
SNOMED = re.compile(r"[0-9]{6,18} \S.{0,63}")


class PredictionSettings(Settings):
    """How predictions are made."""

    mirroring: bool = True
    """Of what people see: eight passes a fold, averaged."""
    triage_mirroring: bool = False
    """Of what is only ranked (`iterseg predict --triage`)."""
    device: Device = "auto"
    """``auto``: the GPU where there is one."""
    outputs: list[Output] = Field(default=["SEG", "RTSTRUCT"], min_length=1)
    """A label map as NIfTI lies beside them in any case."""


class ReviewSettings(Settings):
    """What a person is to correct next."""

    strategy: Strategy = "fold_disagreement"
    """What orders the worklist; docs/science.md says what each measures."""
    random_share: float = Field(default=0.2, ge=0, le=1)
    """Of places on the worklist that are drawn at random."""
    viewer: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """A link to an image in the viewer; ``{study}`` stands for its StudyInstanceUID."""


class StructureCode(Settings):
    """What a structure is called elsewhere: SNOMED CT, as ``<number> <meaning>``."""

    category: str = "91723000 Anatomical Structure"
    """Of PS3.16 CID 7150: anatomical structure, morphologically abnormal structure, …"""
    type: str = "91723000 Anatomical Structure"
    """What it is, such as ``10200004 Liver``."""

    @field_validator("category", "type")
    @classmethod
    def _coded(cls, value: str) -> str:
        if not SNOMED.fullmatch(value):
            raise ValueError(f"{value!r} is no SNOMED CT code; write it as '10200004 Liver'")
        return value


AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~][ -\[\]-~]{0,15}$")]
"""PS3.5 6.2: 16 characters, no backslash."""


class Destination(Settings):
    """Where people look at predictions: a DICOMweb server, or a C-STORE SCP."""

    name: str = Field(pattern=f"^{DATASET_ID.pattern}$")
    """What messages call it."""
    dicomweb: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """The root of a DICOMweb server; credentials come from the environment (deployments/README.md)."""
    host: str | None = None
    """Of a C-STORE SCP, instead."""
    port: int = Field(default=104, ge=1, le=65535)
    """On which the C-STORE SCP listens."""
    aet: AeTitle | None = None
    """The AE title that it is called by."""
    calling_aet: AeTitle = "ITERSEG"
    """The AE title that calls."""
    images: bool = False
    """Whether the images go there too: a server that has them under other UIDs, as after
    de-identification, could not show a prediction."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        dimse = self.host is not None and self.aet is not None
        if (self.dicomweb is not None) == dimse or (self.host is None) != (self.aet is None):
            raise ValueError("give either `dicomweb` or both `host` and `aet`")
        return self

    @property
    def address(self) -> str:
        """Where it is, whatever it is called, and without what one logs in with."""
        if self.dicomweb is None:
            return f"{self.aet}@{self.host}:{self.port}"
        parts = urlsplit(self.dicomweb)
        return f"{parts.netloc.rpartition('@')[2].lower()}{parts.path.rstrip('/')}"
