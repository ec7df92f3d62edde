"""The places where machines.yaml may be; loads little, for shell completion asks at each TAB."""

from __future__ import annotations

import os
from pathlib import Path

#: The name of the file.
FILE_NAME = "machines.yaml"


def places(cwd: Path) -> list[Path]:
    """Return where machines.yaml may be: in ``cwd``, at the top of the git tree around it, or in the user's place.

    The tree does not depend on ``--source``: all tasks that are called in one directory use the same machines.
    """
    import platformdirs

    tops = [folder for folder in (cwd, *cwd.parents) if os.path.lexists(folder / ".git")]
    user = Path(platformdirs.user_config_dir("fabbuild", appauthor=False))
    return [folder / FILE_NAME for folder in dict.fromkeys([cwd, *tops[:1], user])]
