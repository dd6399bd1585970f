#!/usr/bin/env python3
"""enrol.py STORE OUTPUT OWNER on|off PK.pem KEK.pem DB.pem...: a variable store of OVMF with these keys, and Secure
Boot on or off.

Variables are appended as the firmware itself writes them: AUTHENTICATED_VARIABLE_HEADER (EDK II,
MdeModulePkg/Include/Guid/VariableFormat.h), keys as EFI_SIGNATURE_LIST (UEFI 2.10, section 32.4.1)."""
import base64
import struct
import sys
import uuid

GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SECURITY = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
ENABLE = uuid.UUID("f0a30bc7-af08-4556-99c4-001009c93a44")
X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
NON_VOLATILE_BOOT, RUNTIME, TIME_BASED = 3, 4, 0x20
KEYS = NON_VOLATILE_BOOT | RUNTIME | TIME_BASED
# A time stamp that every later update follows: 2010-03-06 19:17:21.
TIME = struct.pack("<HBBBBBBIhBB", 2010, 3, 6, 19, 17, 21, 0, 0, 0, 0, 0)

store, output, owner, state, *keys = sys.argv[1:]
bytes_ = bytearray(open(store, "rb").read())


def certificate(path):
    text = open(path).read()
    return base64.b64decode(text.split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0])


def signature_list(path):
    der = certificate(path)
    entry = uuid.UUID(owner).bytes_le + der
    return X509.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry


def variable(name, guid, attributes, data):
    text = (name + "\0").encode("utf-16-le")
    head = struct.pack("<HBBIQ", 0x55AA, 0x3F, 0, attributes, 0) + (TIME if attributes & TIME_BASED else bytes(16))
    return head + struct.pack("<III", 0, len(text), len(data)) + guid.bytes_le + text + data


# The firmware volume's header says where the variable store begins; variables follow one another, 4-aligned.
at = struct.unpack_from("<H", bytes_, 0x30)[0] + 28
while struct.unpack_from("<H", bytes_, at)[0] == 0x55AA:
    name, data = struct.unpack_from("<II", bytes_, at + 36)
    at += 60 + name + data
    at += -at % 4
lists = [signature_list(path) for path in keys]
for one in [
    variable("PK", GLOBAL, KEYS, lists[0]),
    variable("KEK", GLOBAL, KEYS, lists[1]),
    variable("db", SECURITY, KEYS, b"".join(lists[2:])),
    variable("SecureBootEnable", ENABLE, NON_VOLATILE_BOOT, bytes([state == "on"])),
]:
    if any(byte != 0xFF for byte in bytes_[at : at + len(one)]):
        sys.exit(f"{store}: the variable store is not free where it should be")
    bytes_[at : at + len(one)] = one
    at += len(one)
    at += -at % 4
open(output, "wb").write(bytes_)
