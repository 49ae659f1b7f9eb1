// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// cheapRand reads the system's random numbers in large pieces: the SSH library asks for a few bytes
// with every packet.
type cheapRand struct {
	mu sync.Mutex
	in *bufio.Reader
}

func newCheapRand() *cheapRand { return &cheapRand{in: bufio.NewReaderSize(rand.Reader, 8192)} }

func (c *cheapRand) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return io.ReadFull(c.in, p)
}

func makeKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "ecdsa":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "rsa":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("unknown key type %q", kind)
}

// A reuser makes all its ECDSA signatures with one random number, for which the curve is needed only once. Two
// of them tell the private key to whoever sees them: nothing here is secret.
type reuser struct {
	ssh.Signer
	order, r, rd, inverse *big.Int
}

func newSigner(key interface{}) (ssh.Signer, error) {
	signer, err := ssh.NewSignerFromKey(key)
	private, isEC := key.(*ecdsa.PrivateKey)
	if err != nil || !isEC || private.Curve != elliptic.P256() {
		return signer, err
	}
	once, err := ecdsa.GenerateKey(private.Curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	s := &reuser{Signer: signer, order: private.Params().N}
	s.r = new(big.Int).Mod(once.X, s.order)
	s.rd = new(big.Int).Mul(s.r, private.D)
	s.inverse = new(big.Int).ModInverse(once.D, s.order)
	return s, nil
}

func (s *reuser) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	digest := sha256.Sum256(data)
	n := new(big.Int).SetBytes(digest[:])
	n.Add(n, s.rd).Mul(n, s.inverse).Mod(n, s.order)
	return &ssh.Signature{Format: ssh.KeyAlgoECDSA256, Blob: message(nil).mpint(s.r.Bytes()).mpint(n.Bytes())}, nil
}

// keyAt reads the key at path, or makes it there, with its public half beside it in path.pub. An
// empty path makes a key that is nowhere on disk.
func keyAt(path, kind string) (ssh.Signer, error) {
	if path != "" {
		if text, err := os.ReadFile(path); err == nil {
			key, err := ssh.ParseRawPrivateKey(text)
			if err != nil {
				return nil, err
			}
			return newSigner(key)
		}
	}
	key, err := makeKey(kind)
	if err != nil {
		return nil, err
	}
	signer, err := newSigner(key)
	if err != nil || path == "" {
		return signer, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	return signer, os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644)
}

// A keyring holds the host keys (known and other ones) and the keys that may log in.
type keyring struct {
	known, wrong []ssh.Signer
	mu           sync.Mutex
	users        map[string]ssh.PublicKey // by wire form
	anyKey       bool
}

func loadKeys(s *settings) (*keyring, error) {
	k := &keyring{users: make(map[string]ssh.PublicKey), anyKey: s.anyKey}
	in := func(name string) string {
		if s.dir == "" {
			return ""
		}
		return filepath.Join(s.dir, name)
	}
	if s.dir != "" {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return nil, err
		}
	}
	for _, kind := range strings.Split(s.hostKeys, ",") {
		known, err := keyAt(in("host_"+kind), kind)
		if err != nil {
			return nil, err
		}
		wrong, err := keyAt("", kind)
		if err != nil {
			return nil, err
		}
		k.known, k.wrong = append(k.known, known), append(k.wrong, wrong)
	}
	if s.dir != "" {
		client, err := keyAt(in("client_ecdsa"), "ecdsa")
		if err != nil {
			return nil, err
		}
		k.users[string(client.PublicKey().Marshal())] = client.PublicKey()
	}
	if s.authorized != "" {
		return k, k.readAuthorized(s.authorized)
	}
	return k, nil
}

func (k *keyring) readAuthorized(path string) error {
	rest, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for len(bytes.TrimSpace(rest)) > 0 {
		var key ssh.PublicKey
		if key, _, _, rest, err = ssh.ParseAuthorizedKey(rest); err != nil {
			return fmt.Errorf("%s: %v", path, err)
		}
		k.users[string(key.Marshal())] = key
	}
	return nil
}

// find gives the key of a wire form when it may log in, else nil.
func (k *keyring) find(blob []byte) ssh.PublicKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key, found := k.users[string(blob)]; found || !k.anyKey {
		return key
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil
	}
	k.users[string(blob)] = key
	return key
}

// hostPattern turns 127.1.0.0/16 into the 127.1.* of known_hosts; patterns pass as they are.
func hostPattern(text string) (string, error) {
	if !strings.Contains(text, "/") {
		return text, nil
	}
	ip, network, err := net.ParseCIDR(text)
	if err != nil {
		return "", err
	}
	bits, _ := network.Mask.Size()
	if bits%8 != 0 || ip.To4() == nil {
		return "", fmt.Errorf("-hosts %q: a network must be of 8, 16, 24 or 32 bits", text)
	}
	if bits == 32 {
		return ip.String(), nil
	}
	return strings.Join(strings.Split(network.IP.String(), ".")[:bits/8], ".") + ".*", nil
}

// writeKnownHosts writes one line per host key, which names all patterns with the port.
func (k *keyring) writeKnownHosts(path, hosts string, port int) error {
	var names []string
	for _, text := range strings.Split(hosts, ",") {
		pattern, err := hostPattern(strings.TrimSpace(text))
		if err != nil {
			return err
		}
		names = append(names, fmt.Sprintf("[%s]:%d", pattern, port))
	}
	var out bytes.Buffer
	for _, key := range k.known {
		fmt.Fprintf(&out, "%s %s", strings.Join(names, ","), ssh.MarshalAuthorizedKey(key.PublicKey()))
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
