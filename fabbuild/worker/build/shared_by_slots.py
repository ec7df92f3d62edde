"""Hold what the slots of a machine share while boards are built."""

from __future__ import annotations

from typing import Optional

from fabbuild.worker.build.cold_builds import ColdBuilds
from fabbuild.worker.build.kept_outputs import KeptOutputs
from fabbuild.worker.build.retry_policy import KnownFailures
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.deps.source_files import SourceFiles


class SharedBySlots:
    """What the slots of a machine share.

    Attributes:
        kept: the output directories of boards.
        cold: the boards that are built from nothing, and so will have such a directory.
        identities: those of compilers, by which it is known whether their objects can be built upon; None: this is
            done by their versions, and only with what this process built.
        sources: what is known of files of the source.
        failures: what is known of failures.
    """

    def __init__(self, kept: KeptOutputs, identities: Optional[Identities] = None) -> None:
        """Begin with nothing known of the source and of failures."""
        self.kept = kept
        self.cold = ColdBuilds()
        self.identities = identities
        self.sources = SourceFiles()
        self.failures = KnownFailures()
