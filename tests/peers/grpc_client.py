"""A gRPC client that knows the broker by its contract only: grpcio and the descriptors that the repository holds.

    grpc_client.py ADDRESS DESCRIPTORS CONTEXT METHOD [anonymous]
    grpc_client.py ADDRESS DESCRIPTORS CONTEXT SERVICE/METHOD REQUEST

Prints the status code, and the answer as JSON. CONTEXT is an administrator's folder, or one with a device's certificate
by the same names. METHOD without a service is one for administrators; REQUEST is JSON, without it nothing is asked for.
"""
import pathlib
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

address, descriptors, context, method = sys.argv[1:5]
more = sys.argv[5:]
folder = pathlib.Path(context)
pool = descriptor_pool.DescriptorPool()
files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(descriptors).read_bytes()).file
for file in files:
    pool.Add(file)


def message(descriptor):
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


root = (folder / "plant-root.pem").read_bytes()
if more == ["anonymous"]:
    credentials = grpc.ssl_channel_credentials(root)
else:
    key, chain = (folder / "admin.key").read_bytes(), (folder / "admin.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(root, key, chain)
name = ("grpc.ssl_target_name_override", "broker.control.plant.example")
with grpc.secure_channel(address, credentials, options=[name]) as channel:
    if method == "Check":
        # grpc.health.v1 by hand: one field, an enumeration.
        path, request, parse = "/grpc.health.v1.Health/Check", b"", lambda answer: {"status": answer[1]}
    else:
        service, _, method = method.rpartition("/")
        service = "touchstone.v1." + (service or "Admin")
        rpc = pool.FindServiceByName(service).FindMethodByName(method)
        asked = json_format.Parse(more[0] if service != "touchstone.v1.Admin" else "{}", message(rpc.input_type)())
        path, request = f"/{service}/{method}", asked.SerializeToString()
        kind = message(rpc.output_type)
        parse = lambda answer: json_format.MessageToDict(kind.FromString(answer), preserving_proto_field_name=True)
    call = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
    try:
        answer = call(request, timeout=30)
        print("OK", parse(answer))
    except grpc.RpcError as error:
        print(error.code().name, error.details())
