"""Lets a server of Python's grpcio, which takes no CRL, ask the attestor about every call before the handler runs.

Needs `[authorize]` in attestor.toml. For the service `state` of zone cell-3, in the program of the server:

    from grpcio_authorize import Authorize

    asking = Authorize("state", zone="cell-3", socket="/run/touchstone/authorize.sock")
    server = grpc.server(futures.ThreadPoolExecutor(16), interceptors=[asking])

TLS proves whose certificate it is: let the server demand one, under the trust file of the service (inbound.pem). Who may
not call hears PERMISSION_DENIED with the reason in one word, and so does everybody while the attestor does not answer; the
log has the sentence and what to do. A call that streams is asked about when it begins, and not again: end it after a while,
or put the gate before the server. Servers of grpc.aio take interceptors of another kind.
"""
import http.client
import logging
import socket as sockets
import urllib.parse

import grpc

LOG = logging.getLogger(__name__)
PATIENCE = 5  # seconds; an answer takes a few milliseconds
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Local(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = sockets.socket(sockets.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Authorize(grpc.ServerInterceptor):
    def __init__(self, service, zone, socket="/run/touchstone/authorize.sock"):
        self.socket = socket
        self.question = "/authorize?" + urllib.parse.urlencode({"service": service, "zone": zone})

    def why_not(self, certificate):
        """None if the peer may call; else why not, in one word and in a sentence."""
        attestor = Local(self.socket)
        try:
            attestor.request("GET", self.question, headers={"X-Client-Cert": urllib.parse.quote(certificate)})
            answer = attestor.getresponse()
            if answer.status == 204:
                return None
            sentence = " ".join(answer.read().decode(errors="replace").split())
            return answer.getheader("X-Touchstone-Reason", "no-answer"), sentence
        except (OSError, http.client.HTTPException) as error:
            return "no-answer", f"the attestor does not answer at {self.socket}: {error!r}"
        finally:
            attestor.close()

    def intercept_service(self, continuation, call):
        handler = continuation(call)
        if handler is None:  # there is no such method, and grpcio says so
            return None
        kind = next(kind for kind in KINDS if getattr(handler, kind))
        handle = getattr(handler, kind)

        def ask_first(request, context):
            shown = context.auth_context().get("x509_pem_cert", [b""])
            refused = self.why_not(shown[0])
            if refused:
                LOG.warning("%s is refused to %s: %s: %s", call.method, context.peer(), *refused)
                context.abort(grpc.StatusCode.PERMISSION_DENIED, refused[0])  # raises
            return handle(request, context)

        make = getattr(grpc, kind + "_rpc_method_handler")
        return make(ask_first, handler.request_deserializer, handler.response_serializer)
