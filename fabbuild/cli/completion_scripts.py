"""Completion scripts for shells: tasks and options come from Invoke, values of options from `fabbuild.complete`."""

from __future__ import annotations

import shlex
import sys

from fabbuild.errors import UsageError
from fabbuild.text import visible

_BASH = r"""
# Completion of inv, invoke, fab and fabbuild: eval "$(inv completion --shell bash)" in ~/.bashrc
_fabbuild_complete() {
    local said line
    COMPREPLY=()
    if said=$(PYTHON -m fabbuild.complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); then
        while IFS= read -r line; do
            [ -n "$line" ] && COMPREPLY+=("$line")
        done <<<"$said"
    else
        said=$("$1" --complete -- "${1##*/}" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
        COMPREPLY=($(compgen -W "$said" -- "$2"))
    fi
}
complete -F _fabbuild_complete -o default inv invoke fab fabbuild
"""

_ZSH = r"""
# Completion of inv, invoke, fab and fabbuild: eval "$(inv completion --shell zsh)" in ~/.zshrc
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -D }
_fabbuild_complete() {
    local said program=${(Q)words[1]}
    local -a found
    if said=$(PYTHON -m fabbuild.complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null); then
        found=("${(@f)said}")
    else
        said=$("$program" --complete -- "${program:t}" "${(@)words[2,CURRENT]}" 2>/dev/null)
        found=("${(@f)said}")
    fi
    [[ -n $said ]] && compadd -a found && return
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    _files
}
compdef _fabbuild_complete inv invoke fab fabbuild
"""

_FISH = r"""
# Completion of inv, invoke, fab and fabbuild: inv completion --shell fish > ~/.config/fish/completions/inv.fish
function __fabbuild_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l now (commandline --current-token --cut-at-cursor)
    set -l program $words[1]
    set -e words[1]
    set -l found (PYTHON -m fabbuild.complete fish $words "$now" 2>/dev/null)
    if test $status -ne 0
        set found ($program --complete -- (basename $program) $words $now 2>/dev/null)
    end
    if test (count $found) -eq 0
        __fish_complete_path "$now"
    else
        printf '%s\n' $found
    end
end
for program in inv invoke fab fabbuild
    complete --command $program --no-files --arguments '(__fabbuild_complete)'
end
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """Return the completion script for a shell.

    Raises:
        UsageError: there is none for this shell.
    """
    if shell not in SCRIPTS:
        raise UsageError(
            f"--shell is {visible(shell) or 'missing'}; it must be one of: {', '.join(sorted(SCRIPTS))}"
        )
    return SCRIPTS[shell].lstrip("\n").replace("PYTHON", shlex.quote(sys.executable))
