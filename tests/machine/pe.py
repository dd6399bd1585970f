#!/usr/bin/env python3
"""pe.py next IMAGE: where the next section of a PE image may be loaded.
pe.py settle IMAGE: makes it the same file each time. objcopy stamps the time into the header; and without padding
the Authenticode digest (PCR 4) of the signed and the unsigned image would differ."""
import struct
import sys

verb, path = sys.argv[1:]
image = bytearray(open(path, "rb").read())
pe = struct.unpack_from("<I", image, 0x3C)[0]
if verb == "next":
    count, optional = struct.unpack_from("<H12xH", image, pe + 6)
    table = pe + 24 + optional
    sections = [struct.unpack_from("<8sII", image, table + 40 * i) for i in range(count)]
    end = max(address + size for _, size, address in sections)
    print(hex(end + 4095 & ~4095))
else:
    image[pe + 8 : pe + 12] = bytes(4)  # TimeDateStamp
    image[pe + 88 : pe + 92] = bytes(4)  # CheckSum
    image.extend(bytes(-len(image) % 8))
    open(path, "wb").write(image)
