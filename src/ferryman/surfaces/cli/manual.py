"""The manual page, written from the commands themselves: `./dev man` puts it into docs/ferryman.1, a test holds it current."""

import re
from collections.abc import Iterator
from typing import Any

import typer

HEAD = """.\\" Written by ./dev man from the commands. Do not edit.
.TH FERRYMAN 1 "" "ferryman" "User Commands"
.SH NAME
ferryman \\- moves guests between KVM hosts: says what will happen, shows it, proves it
.SH SYNOPSIS
.B ferryman
.I COMMAND
.RI [ ARGUMENT " ...] [" OPTION " ...]"
.SH DESCRIPTION
Running guests move live, through the libvirtd of two hosts; shut\\-off ones on shared storage move by their definition.
Sizes are written with K, M, G or T (binary), durations with ms, s, min or h.
.SH COMMANDS
"""
TAIL = """.SH EXIT STATUS
.TP
.B 0
succeeded
.TP
.B 2
wrong arguments
.TP
.B 3
refused, nothing was changed; also: something is missing, a host did not answer
.TP
.B 4
failed or cancelled, everything was put back
.TP
.B 5
needs attention: the report says what to do
.SH ENVIRONMENT
.TP
.B FERRYMAN_SETTINGS
the settings file, instead of /etc/ferryman/ferryman.toml (root) or ~/.config/ferryman/ferryman.toml
.TP
.B FERRYMAN_STATE_DIRECTORY
records and executor slots, instead of /var/lib/ferryman (root) or ~/.local/state/ferryman
.TP
.B FERRYMAN_HOOK_SECRET
signs what webhooks get that have no secret of their own in the settings file
.SH SEE ALSO
.BR virsh (1),
.BR libvirtd (8)
"""


def manual(program: typer.Typer) -> str:
    """The whole page in the language of man."""
    return HEAD + "".join(_command(words, command) for words, command in commands(program)) + TAIL


def commands(program: typer.Typer) -> Iterator[tuple[str, Any]]:
    """Every command with the words that call it."""

    def walk(command: Any, words: str) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", None)
        if not children:
            yield words, command
        for name, child in (children or {}).items():
            yield from walk(child, f"{words} {name}".strip())

    return walk(typer.main.get_command(program), "")


def _command(words: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    called = " ".join(_placed(one) for one in arguments)
    text = f".SS ferryman {_escaped(words)} {called}".rstrip() + f"\n{_escaped(_one_line(command.help))}\n"
    for one in arguments:
        if one.help:
            text += f".TP\n.I {_escaped(_metavar(one))}\n{_escaped(one.help)}\n"
    for one in options:
        value = "" if one.is_flag else f" \\fI{_metavar(one)}\\fR"
        names = ", ".join(f"\\fB{_escaped(name)}\\fR" for name in one.opts)
        text += f".TP\n{names}{value}\n{_escaped(one.help or '')}\n"
    return text


def _placed(one: Any) -> str:
    name = f"\\fI{_metavar(one)}\\fR" + (" ..." if one.nargs == -1 else "")
    return name if one.required else f"[{name}]"


def _metavar(one: Any) -> str:
    return str(one.metavar or one.name or "").upper().replace("_", "\\-")


def _one_line(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


def _escaped(text: str) -> str:
    """Hyphens that stay hyphens when copied, and no line that man would take for an order."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + plain if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    from ferryman.surfaces.cli import program

    print(manual(program), end="")
