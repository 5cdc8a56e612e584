"""`apr completion`: the shell's completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from apr.cli._options import json_option

# Instead of click's: bash splits words at ":", which is part of a model's name (qwen2.5-coder:0.5b). The words are joined
# again for the program, and what bash already has of the name is taken off its answers.
_BASH = r"""_apr_completion() {
    local IFS=$'\n' words=() word glue= prefix= response completion type value
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ ( $word == : || -n $glue ) && ${#words[@]} -gt 0 ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        if [[ $word == : ]]; then glue=1; else glue=; fi
    done
    word=${words[${#words[@]}-1]}
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then prefix=${word%"${word##*:}"}; fi
    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) _APR_COMPLETE=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$prefix"}") ;;
        esac
    done
}
complete -o nosort -F _apr_completion apr"""


@click.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
def command(shell: str, as_json: bool) -> None:
    """Print the completion script for SHELL.

    \b
    eval "$(apr completion bash)"                      # in ~/.bashrc
    eval "$(apr completion zsh)"                       # in ~/.zshrc
    apr completion fish > ~/.config/fish/completions/apr.fish
    """
    from apr.cli import group
    from apr.cli._results import Completion
    from apr.reports import json

    kind = get_completion_class(shell)
    assert kind is not None
    script = _BASH if shell == "bash" else kind(group, {}, "apr", "_APR_COMPLETE").source().strip()
    click.echo(json.dumps(Completion(shell, script)) if as_json else script)
