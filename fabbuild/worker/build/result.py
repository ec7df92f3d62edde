"""The result of building one board at one commit."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Sequence

from fabbuild.worker.build.result_files import ResultFile


class Built(NamedTuple):
    """The result of building one board at one commit; `fields` has the names of the wire.

    Attributes:
        fault: why the failure is not the board's (see `fabbuild.protocol.wire.FEATURES`); empty if it may be.
        files: the files to send with it.
    """

    return_code: int
    stdout: str = ""
    stderr: str = ""
    sizes: str = ""
    config: Mapping[str, str] = {}
    details: Mapping[str, Any] = {}
    fault: str = ""
    files: Sequence[ResultFile] = ()

    def fields(self) -> Dict[str, Any]:
        """Return the fields of a ``build_result``; sizes and config only if there are some."""
        fields: Dict[str, Any] = {
            "return_code": self.return_code,
            "stderr": self.stderr,
            "stdout": self.stdout,
        }
        if self.sizes:
            fields["sizes"] = {"raw": self.sizes}
        if self.config:
            fields["config"] = dict(self.config)
        return fields


def failed(message: str, fault: str = "") -> Built:
    """Return the result of a board whose build could not begin."""
    return Built(1, stderr=message.rstrip("\n") + "\n", fault=fault)
