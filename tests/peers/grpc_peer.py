"""grpcio as it is, with the files that the attestor delivers.

    grpc_peer.py serve SERVICE_FOLDER PORT ANSWER
    grpc_peer.py serve-asking SERVICE_FOLDER PORT ANSWER SOCKET ZONE SERVICE
    grpc_peer.py ask ZONE_FOLDER SERVICE PORT HOST
    grpc_peer.py stay ZONE_FOLDER SERVICE PORT HOST

A server asks for its files at every handshake, so nobody has to tell it of new ones. grpcio takes no CRL: serve-asking has
the interceptor of deploy/grpcio_authorize.py. `ask` prints what it was answered, or the status code and why. `stay` does so
on one connection, a line for each word that it reads: `call`, `stream` on the stream that it opened, or `open` for
another.
"""
import asyncio
import logging
import pathlib
import queue
import sys
from concurrent import futures

import grpc

METHOD = "/press.Press/State"
STREAM = "/press.Press/Follow"


def read(folder, *names):
    # One delivery as a whole, while the next one may come.
    folder = pathlib.Path(folder).resolve()
    return [(folder / name).read_bytes() for name in names]


def credentials(folder):
    def files():
        key, chain, inbound = read(folder, "server.key", "server.pem", "inbound.pem")
        return grpc.ssl_server_certificate_configuration([(key, chain)], inbound)

    return grpc.dynamic_ssl_server_credentials(files(), files, True)


def handlers(**handlers):
    return (grpc.method_handlers_generic_handler("press.Press", handlers),)


async def serving(folder, port, answer):
    async def state(request, context):
        return answer.encode()

    # The server with threads waits for hours where libfaketime puts its clock ahead.
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(handlers(State=grpc.unary_unary_rpc_method_handler(state)))
    server.add_secure_port(f"127.0.0.1:{port}", credentials(folder))
    await server.start()
    await server.wait_for_termination()


def serve(folder, port, answer):
    asyncio.run(serving(folder, port, answer))


def serve_asking(folder, port, answer, socket, zone, service):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy"))
    from grpcio_authorize import Authorize

    def state(request, context):
        print("the handler runs", flush=True)
        return answer.encode()

    def follow(requests, context):
        print("the handler runs", flush=True)
        for _ in requests:
            yield answer.encode()

    logging.basicConfig()
    asking = Authorize(service, zone=zone, socket=socket)
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[asking])
    state, follow = grpc.unary_unary_rpc_method_handler(state), grpc.stream_stream_rpc_method_handler(follow)
    server.add_generic_rpc_handlers(handlers(State=state, Follow=follow))
    server.add_secure_port(f"127.0.0.1:{port}", credentials(folder))
    server.start()
    server.wait_for_termination()


def connect(zone, service, port, host):
    key, chain, outbound = read(zone, "caller.key", "caller.pem", f"services/{service}/outbound.pem")
    # Nothing resolves the server's name here.
    options = [("grpc.ssl_target_name_override", host), ("grpc.enable_http_proxy", 0)]
    return grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(outbound, key, chain), options)


def said(call):
    try:
        print(call().decode(), flush=True)
    except grpc.RpcError as error:
        print(error.code().name, error.details(), flush=True)


def call(channel):
    return lambda: channel.unary_unary(METHOD)(b"", timeout=20)


def ask(zone, service, port, host):
    with connect(zone, service, port, host) as channel:
        said(call(channel))


def stay(zone, service, port, host):
    with connect(zone, service, port, host) as channel:

        def opened():
            sent = queue.SimpleQueue()
            answers = channel.stream_stream(STREAM)(iter(sent.get, None))

            def stream():
                sent.put(b"")
                return next(answers)

            return stream

        stream = opened()
        for word in map(str.strip, sys.stdin):
            said({"call": call(channel), "stream": stream, "open": lambda: opened()()}[word])


{"serve": serve, "serve-asking": serve_asking, "ask": ask, "stay": stay}[sys.argv[1]](*sys.argv[2:])
