"""What became of one board at one commit."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Sequence

from fabbuild.worker.build.artifact_sender import File


class Built(NamedTuple):
    """What became of one board at one commit; `fields` gives the wire's names.

    Attributes:
        fault: what the worker knows to be no doing of the board's (`protocol.FEATURES`); empty for nothing.
        files: what is to be sent of it.
    """

    return_code: int
    stdout: str = ""
    stderr: str = ""
    sizes: str = ""
    config: Mapping[str, str] = {}
    details: Mapping[str, Any] = {}
    fault: str = ""
    files: Sequence[File] = ()

    def fields(self) -> Dict[str, Any]:
        """Give the fields of a ``build_result``; sizes and config only when there are some."""
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
    """Give the result of a board that could not even be tried."""
    return Built(1, stderr=message.rstrip("\n") + "\n", fault=fault)
