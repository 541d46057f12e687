// Tlogcheck verifies a log directory in the C2SP layout with golang.org/x/mod/sumdb, which nobody of this project wrote.
//
//	tlogcheck <log directory> <file with the log's vkey> [<file> ...]
//
// It opens <directory>/checkpoint with the key, then hashes every entry of every bundle against tiles that the library
// authenticates down from the signed root. Each further file is either a receipt (c2sp.org/tlog-proof@v1) for an entry of
// this log, or an older checkpoint of it, which must be a prefix.
//
// It builds from Debian packages alone, without any module proxy:
//
//	apt-get install golang-go golang-golang-x-mod-dev
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o tlogcheck ./tests/interop/tlogcheck
//
// It prints one line and exits 0 (OK) or 1 (FAIL). Specification: https://c2sp.org/tlog-tiles.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// height is the number of tree levels in a tile; C2SP fixes it, so its paths leave it out.
const height = 8

const proofHeader = "c2sp.org/tlog-proof@v1\n"

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: tlogcheck <log directory> <file with vkey> [<receipt or older checkpoint> ...]")
		os.Exit(2)
	}
	line, err := check(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
	fmt.Println("OK", line)
}

// directory reads tiles of the C2SP layout for the library.
type directory struct{ root string }

func (d directory) Height() int { return height }

func (d directory) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		name := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
		content, err := os.ReadFile(filepath.Join(d.root, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		data[i] = content
	}
	return data, nil
}

func (d directory) SaveTiles([]tlog.Tile, [][]byte) {}

func check(root, keyFile string, others []string) (string, error) {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return "", err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(text)))
	if err != nil {
		return "", err
	}
	signed, err := os.ReadFile(filepath.Join(root, "checkpoint"))
	if err != nil {
		return "", err
	}
	tree, unverified, err := openCheckpoint(signed, verifier)
	if err != nil {
		return "", err
	}
	hashes := tlog.TileHashReader(tree, directory{root})
	for bundle := int64(0); bundle*256 < tree.N; bundle++ {
		if err := checkBundle(root, bundle, tree, hashes); err != nil {
			return "", err
		}
	}
	if err := proveEnds(tree, hashes); err != nil {
		return "", err
	}
	for _, name := range others {
		if err := checkOther(name, tree, verifier, hashes); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return fmt.Sprintf("size %d root %v other files: %d unverified sigs: %d", tree.N, tree.Hash, len(others), unverified), nil
}

// openCheckpoint verifies the note and reads its three lines, accepting no second spelling of a size.
func openCheckpoint(signed []byte, verifier note.Verifier) (tlog.Tree, int, error) {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, 0, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return tlog.Tree{}, 0, errors.New("a checkpoint has three lines")
	}
	if lines[0] != verifier.Name() {
		return tlog.Tree{}, 0, fmt.Errorf("origin %q is not the key's name", lines[0])
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, 0, fmt.Errorf("malformed size %q", lines[1])
	}
	hash, err := tlog.ParseHash(lines[2])
	if err != nil {
		return tlog.Tree{}, 0, err
	}
	return tlog.Tree{N: size, Hash: hash}, len(opened.UnverifiedSigs), nil
}

// checkBundle compares every entry of a bundle with the authenticated leaf hash.
func checkBundle(root string, bundle int64, tree tlog.Tree, hashes tlog.HashReader) error {
	first := bundle * 256
	count := tree.N - first
	if count > 256 {
		count = 256
	}
	// The library spells paths of hash tiles only; a bundle's path differs in one word.
	name := (tlog.Tile{H: height, L: 0, N: bundle, W: int(count)}).Path()
	name = strings.Replace(name, fmt.Sprintf("tile/%d/0/", height), "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	indexes := make([]int64, count)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
	}
	leaves, err := hashes.ReadHashes(indexes)
	if err != nil {
		return err
	}
	for i, leaf := range leaves {
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			return fmt.Errorf("bundle %d is short", bundle)
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		if tlog.RecordHash(data[2:end]) != leaf {
			return fmt.Errorf("entry %d hash mismatch", first+int64(i))
		}
		data = data[end:]
	}
	if len(data) != 0 {
		return fmt.Errorf("trailing bytes in bundle %d", bundle)
	}
	return nil
}

// proveEnds makes and checks inclusion proofs for the first, middle and last entry.
func proveEnds(tree tlog.Tree, hashes tlog.HashReader) error {
	if tree.N == 0 {
		return nil
	}
	for _, index := range []int64{0, tree.N / 2, tree.N - 1} {
		proof, err := tlog.ProveRecord(tree.N, index, hashes)
		if err != nil {
			return err
		}
		leaf, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, leaf[0]); err != nil {
			return err
		}
	}
	return nil
}

// checkOther verifies a receipt against the log's own leaf, and an older checkpoint as a prefix of the log.
func checkOther(name string, tree tlog.Tree, verifier note.Verifier, hashes tlog.HashReader) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(content, []byte(proofHeader)) {
		older, _, err := openCheckpoint(content, verifier)
		if err != nil {
			return err
		}
		return checkPrefix(older, tree, hashes)
	}
	parts := bytes.SplitN(content, []byte("\n\n"), 2)
	if len(parts) != 2 {
		return errors.New("a receipt without a checkpoint")
	}
	lines := strings.Split(string(parts[0]), "\n")[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return errors.New("a receipt without an index")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	under, _, err := openCheckpoint(parts[1], verifier)
	if err != nil {
		return err
	}
	if index < 0 || index >= tree.N {
		return fmt.Errorf("index %d is not in the log", index)
	}
	leaf, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, under.N, under.Hash, index, leaf[0]); err != nil {
		return err
	}
	return checkPrefix(under, tree, hashes)
}

func checkPrefix(older, tree tlog.Tree, hashes tlog.HashReader) error {
	if older.N == tree.N {
		if older.Hash != tree.Hash {
			return errors.New("another root at the same size")
		}
		return nil
	}
	if older.N == 0 || older.N > tree.N {
		return fmt.Errorf("size %d is not a prefix of size %d", older.N, tree.N)
	}
	proof, err := tlog.ProveTree(tree.N, older.N, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, older.N, older.Hash)
}
