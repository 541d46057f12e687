"""The map of heads of ledger/tlog/src/sparse_map, written a second time from its specification with hashlib and nothing else.

    sparse_map.py                     prints the test vectors of ledger/tlog/tests/vectors/sparse_map.txt
    sparse_map.py <secret hex>        reads "<origin> <size> <root hex>" a line, and prints root, salts and paths of that map

It knows no tree: a subtree is hashed from the leaves below it, and a path is the 256 subtrees beside the way to the root. So it is slow,
and shares no idea with the other one but the specification.
"""

import hashlib
import sys

EMPTY = bytes(32)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def bits(key):
    return "".join(f"{byte:08b}" for byte in key)


def node(left, right):
    if left == right == EMPTY:
        return EMPTY
    return sha256(b"counterfoil-map-node/v1\0", left, right)


def salt_of(secret, key):
    return sha256(b"counterfoil-map-salt/v1\0", secret, key)


def leaf(key, size, root, salt):
    return sha256(b"counterfoil-map-leaf/v1\0", key, size.to_bytes(8, "big"), root, salt)


def subtree(leaves, prefix):
    """The hash of the subtree in which all keys begin with `prefix`, out of {bits of the key: hash}."""
    below = {key: value for key, value in leaves.items() if key.startswith(prefix)}
    if not below:
        return EMPTY
    if len(prefix) == 256:
        return below[prefix]
    return node(subtree(below, prefix + "0"), subtree(below, prefix + "1"))


def path(leaves, key):
    way, bitmap, beside = bits(key), "", []
    for depth in range(256):
        other = subtree(leaves, way[:depth] + ("1" if way[depth] == "0" else "0"))
        bitmap += "0" if other == EMPTY else "1"
        if other != EMPTY:
            beside.append(other)
    return int(bitmap, 2).to_bytes(32, "big") + b"".join(reversed(beside))


def describe(secret, heads, absent):
    leaves = {}
    for origin, size, root in heads:
        key = sha256(origin.encode())
        leaves[bits(key)] = leaf(key, size, root, salt_of(secret, key))
    yield f"secret {secret.hex()}"
    yield f"root {subtree(leaves, '').hex()}"
    for origin, size, root in heads:
        key = sha256(origin.encode())
        yield f"log {origin} {size} {root.hex()} {salt_of(secret, key).hex()} {path(leaves, key).hex()}"
    for origin in absent:
        yield f"absent {origin} {path(leaves, sha256(origin.encode())).hex()}"


def vectors():
    for number, count in enumerate([0, 1, 2, 3, 9]):
        secret = bytes([number + 1]) * 32
        origins = [f"ledger.example/t/tenant-{at}" for at in range(count)]
        heads = [(origin, at * 1000, sha256(b"root", bytes([at]))) for at, origin in enumerate(origins)]
        yield from describe(secret, heads, ["ledger.example/t/nobody"])


def main():
    if len(sys.argv) == 1:
        lines = vectors()
    else:
        heads = [line.split() for line in sys.stdin]
        heads = [(origin, int(size), bytes.fromhex(root)) for origin, size, root in heads]
        lines = describe(bytes.fromhex(sys.argv[1]), heads, ["ledger.example/t/nobody"])
    for line in lines:
        print(line)


if __name__ == "__main__":
    main()
