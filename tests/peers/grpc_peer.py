"""grpcio as it is, with the files that the attestor delivers.

    grpc_peer.py serve SERVICE_FOLDER PORT ANSWER
    grpc_peer.py ask ZONE_FOLDER SERVICE PORT HOST

The server asks for its files at every handshake, so nobody has to tell it of new ones. grpcio takes no CRL. The client
prints what it was answered, or the status code and why.
"""
import asyncio
import pathlib
import sys

import grpc

METHOD = "/press.Press/State"


def read(folder, *names):
    # One delivery as a whole, while the next one may come.
    folder = pathlib.Path(folder).resolve()
    return [(folder / name).read_bytes() for name in names]


async def serving(folder, port, answer):
    def files():
        key, chain, inbound = read(folder, "server.key", "server.pem", "inbound.pem")
        return grpc.ssl_server_certificate_configuration([(key, chain)], inbound)

    async def state(request, context):
        return answer.encode()

    _, service, method = METHOD.split("/")
    state = grpc.unary_unary_rpc_method_handler(state)
    # The server with threads waits for hours where libfaketime puts its clock ahead.
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: state}),))
    server.add_secure_port(f"127.0.0.1:{port}", grpc.dynamic_ssl_server_credentials(files(), files, True))
    await server.start()
    await server.wait_for_termination()


def serve(folder, port, answer):
    asyncio.run(serving(folder, port, answer))


def ask(zone, service, port, host):
    key, chain, outbound = read(zone, "caller.key", "caller.pem", f"services/{service}/outbound.pem")
    credentials = grpc.ssl_channel_credentials(outbound, key, chain)
    # Nothing resolves the server's name here.
    options = [("grpc.ssl_target_name_override", host), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        try:
            print(channel.unary_unary(METHOD)(b"", timeout=20).decode())
        except grpc.RpcError as error:
            print(error.code().name, error.details())


{"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
