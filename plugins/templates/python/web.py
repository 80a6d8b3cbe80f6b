"""HTTP over wasi:http: the sandbox has no sockets that Python's own clients could use."""

from urllib.parse import urlsplit

from componentize_py_types import Err, Ok
from wit_world.imports import outgoing_handler
from wit_world.imports.types import (
    ErrorCode_DestinationIpProhibited,
    ErrorCode_HttpRequestDenied,
    Fields,
    IncomingResponse,
    Method_Post,
    OutgoingBody,
    OutgoingRequest,
    Scheme_Http,
    Scheme_Https,
)


class NoAnswer(Exception):
    """Nobody answered."""


class Denied(Exception):
    """The operator has not granted it."""


def post(url, headers, body):
    """Posts `body`, and gives the status and the headers of the answer."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = Fields()
    for name, value in headers.items():
        fields.append(name, value.encode())
    try:
        request = OutgoingRequest(fields)
        request.set_method(Method_Post())
        request.set_scheme(Scheme_Https() if parts.scheme == "https" else Scheme_Http())
        request.set_authority(parts.netloc)
        request.set_path_with_query(path)
        outgoing = request.body()
        answer = outgoing_handler.handle(request, None)
        failed = write(outgoing, body)
        with answer:
            with answer.subscribe() as ready:
                ready.block()
            match answer.get():
                case Ok(Ok(IncomingResponse() as response)):
                    with response, response.headers() as entries:
                        found = {name.lower(): value.decode(errors="replace") for name, value in entries.entries()}
                        return response.status(), found
                case Ok(Err(code)):
                    raise Err(code)
                case _:
                    raise failed or NoAnswer("it gave none")
    except Err as refused:
        code = refused.value
        is_denied = isinstance(code, ErrorCode_HttpRequestDenied | ErrorCode_DestinationIpProhibited)
        raise (Denied if is_denied else NoAnswer)(said(code)) from None


def write(outgoing: OutgoingBody, body):
    """Why a body could not be written is told by the answer, if at all."""
    try:
        with outgoing.write() as stream:
            at = 0
            while at < len(body):
                with stream.subscribe() as ready:
                    ready.block()
                room = stream.check_write()
                stream.write(body[at : at + room])
                at += room
            stream.blocking_flush()
        OutgoingBody.finish(outgoing, None)
    except Err as failed:
        return failed
    return None


def said(code):
    """An error code of wasi:http in words."""
    words = type(code).__name__.removeprefix("ErrorCode_").removeprefix("StreamError_")
    detail = getattr(code, "value", None)
    return words if detail is None else f"{words}: {detail}"
