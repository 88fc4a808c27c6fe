"""The group of commands: turns errors into messages and exit codes."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import LaunchError
from .options import say


class Group(click.Group):
    """Lists commands in the order of their definition. Prints errors without a traceback and exits with their codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LaunchError as error:
            say(f"error: {error}")
            ctx.exit(error.exit_code)
        except BrokenPipeError:  # `alignlaunch logs | head`
            sys.stderr.close()
            ctx.exit(0)
        except OSError as error:  # no rights, no space, a name too long: if no module has a better message
            say(f"error: {error.filename or ''}: {error.strerror}")
            ctx.exit(2)
