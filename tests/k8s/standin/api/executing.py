"""The streams of `kubectl exec` over a websocket: the first byte of a message is its channel.

The protocol is that of k8s.io/apimachinery/pkg/util/remotecommand: 0 to 2 are the command's stdin, stdout and stderr, 3
says at the end how it ended, 4 is the terminal's size; v5 has 255 for "this channel is closed".
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from aiohttp import WSMsgType, web

from tests.k8s.standin.node.entering import Entered
from tests.k8s.standin.objects.resources import Obj

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, ERROR, RESIZE, CLOSE = 0, 3, 4, 255


async def serve(http: web.BaseRequest, command: Entered) -> web.StreamResponse:
    """Pass the streams of a command on until it ends, and how it ended."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS)
    await socket.prepare(http)
    reading = asyncio.create_task(_read(socket, command))
    try:
        await asyncio.gather(*(_write(socket, command, stream) for stream in command.outputs))
        end = _end(await asyncio.to_thread(command.wait))
        await socket.send_bytes(bytes([ERROR]) + json.dumps(end).encode())
        await socket.close()
    except ConnectionResetError:
        pass  # the client went away
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        command.close()
    return socket


async def _read(socket: web.WebSocketResponse, command: Entered) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN:
            await asyncio.to_thread(command.write, data)
        elif channel == RESIZE:
            size = json.loads(data)
            command.resize(size["Width"], size["Height"])
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            command.close_stdin()


async def _write(socket: web.WebSocketResponse, command: Entered, stream: int) -> None:
    while data := await asyncio.to_thread(command.read, stream):
        await socket.send_bytes(bytes([stream]) + data)


def _end(code: int) -> Obj:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    said = f"command terminated with non-zero exit code: exit status {code}"
    failure = {"metadata": {}, "status": "Failure", "message": said}
    return failure | {"reason": "NonZeroExitCode", "details": {"causes": causes}}
