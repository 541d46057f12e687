"""Checks a log directory in the C2SP layout with tlog-scales and pymerkle, which nobody of this project wrote.

    check.py <log directory> <file with the log's vkey> [<receipt or older checkpoint> ...]

tlog-scales reads the checkpoint, its signature and the tiles, and makes and verifies proofs; pymerkle grows a tree of its own
from the entries. Both must come to the signed root. tlog-scales is lax about spelling (it accepts a size of "+7") and about
lengths, so those two are checked here. Prints one line; exits 0 (OK) or 1 (FAIL).
"""

import sys
from pathlib import Path

from pymerkle import InmemoryTree
from tlog_scales import tiles
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import Tile, TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint, InclusionProof
from tlog_scales.utils import b64dec, b64enc

PROOF_HEADER = "c2sp.org/tlog-proof@v1\n"


class Refused(Exception):
    """Something the libraries let pass, or that only the whole shows."""


def open_checkpoint(text, vkey):
    checkpoint = Checkpoint.from_text(text)
    if checkpoint.serialize() != text:
        raise Refused("the checkpoint is not spelled canonically")
    if checkpoint.origin != vkey.name:
        raise Refused(f"origin {checkpoint.origin!r} is not the key's name")
    checkpoint.verify(vkey)
    return checkpoint


def entries_of(backend, bundle, width):
    path = tiles.tile_path(-1, bundle, width % 256)
    data = backend.get(*path)
    if data is None:
        raise Refused(f"bundle {bundle} is missing")
    entries = Tile.from_entries_bytes(data).entries
    if len(entries) != width:
        raise Refused(f"bundle {bundle} has {len(entries)} entries instead of {width}")
    return entries


def check_entries(backend, reader, checkpoint):
    tree = InmemoryTree(algorithm="sha256")
    for first in range(0, checkpoint.size, 256):
        width = min(256, checkpoint.size - first)
        for index, entry in enumerate(entries_of(backend, first // 256, width), start=first):
            if tiles.leaf_hash(entry) != reader.mth(index, index + 1):
                raise Refused(f"entry {index} hash mismatch")
            tree.append_entry(entry)
    if reader.calculate_root_hash() != checkpoint.root_hash:
        raise Refused("the tiles do not lead to the root")
    if tree.get_root() != checkpoint.root_hash:
        raise Refused("the entries do not lead to the root")


def check_receipt(text, reader, checkpoint, vkey):
    header, note = text.split("\n\n", 1)
    lines = header.split("\n")[1:]
    if lines[0].startswith("extra "):
        lines = lines[1:]
    index = int(lines[0].removeprefix("index "))
    under = open_checkpoint(note, vkey)
    if not 0 <= index < checkpoint.size:
        raise Refused(f"index {index} is not in the log")
    proof = InclusionProof(index, under.size, [b64dec(line) for line in lines[1:]])
    proof.check(reader.mth(index, index + 1), under.root_hash)
    check_prefix(under, reader, checkpoint)


def check_prefix(older, reader, checkpoint):
    if older.size > checkpoint.size:
        raise Refused(f"size {older.size} is not a prefix of size {checkpoint.size}")
    proof = reader.get_consistency_proof(older.size, checkpoint.size)
    proof.check(older.root_hash, checkpoint.root_hash)


def main(directory, key_file, others):
    vkey = Vkey.from_string(Path(key_file).read_text().strip())
    backend = LocalBackend(Path(directory))
    reader = TilesReader(backend)
    text = Path(directory, "checkpoint").read_text()
    checkpoint = open_checkpoint(text, vkey)
    reader.set_size(checkpoint.size)
    check_entries(backend, reader, checkpoint)
    for index in {0, checkpoint.size // 2, checkpoint.size - 1} if checkpoint.size else ():
        proof = reader.get_inclusion_proof(index, checkpoint.size)
        proof.check(reader.mth(index, index + 1), checkpoint.root_hash)
    for other in others:
        text = Path(other).read_text()
        if text.startswith(PROOF_HEADER):
            check_receipt(text, reader, checkpoint, vkey)
        else:
            check_prefix(open_checkpoint(text, vkey), reader, checkpoint)
    print(f"OK size {checkpoint.size} root {b64enc(checkpoint.root_hash)} other files: {len(others)}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: check.py <log directory> <file with vkey> [<receipt or older checkpoint> ...]")
    try:
        main(sys.argv[1], sys.argv[2], sys.argv[3:])
    except Exception as error:  # Whatever a library throws at hostile input is a refusal.
        print(f"FAIL: {type(error).__name__}: {error}")
        sys.exit(1)
