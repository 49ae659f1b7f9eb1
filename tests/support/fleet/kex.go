// SPDX-License-Identifier: MIT

package main

import (
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/ssh"
)

// An ephemeral is our half of a key exchange. One serves all connections: making one costs as much as
// a tenth of a connection, and nothing here is secret.
type ephemeral struct {
	public []byte
	shared func(theirs []byte) ([]byte, error)
}

// newP256 has 1 as its private number: the public point is the curve's base point, and what both share is
// the client's own point, for which nothing needs to be multiplied.
func newP256() *ephemeral {
	curve := elliptic.P256()
	shared := func(theirs []byte) ([]byte, error) {
		x, _ := elliptic.Unmarshal(curve, theirs)
		if x == nil {
			return nil, errors.New("not a point")
		}
		return x.Bytes(), nil
	}
	return &ephemeral{elliptic.Marshal(curve, curve.Params().Gx, curve.Params().Gy), shared}
}

func newX25519(random io.Reader) (*ephemeral, error) {
	private := make([]byte, curve25519.ScalarSize)
	if _, err := io.ReadFull(random, private); err != nil {
		return nil, err
	}
	public, err := curve25519.X25519(private, curve25519.Basepoint)
	if err != nil {
		return nil, err
	}
	shared := func(theirs []byte) ([]byte, error) { return curve25519.X25519(private, theirs) }
	return &ephemeral{public, shared}, nil
}

// An offer is what the fleet proposes in its KEXINIT, the same for all connections.
type offer struct {
	kex, hostKeys, ciphers, macs []string
	ephemerals                   map[string]*ephemeral
	kexInit                      []byte
}

func newOffer(s *settings, random io.Reader) (*offer, error) {
	o := &offer{ephemerals: make(map[string]*ephemeral), ciphers: strings.Split(s.ciphers, ","),
		macs: strings.Split(s.macs, ",")}
	p256 := newP256()
	x25519, err := newX25519(random)
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Split(s.kex, ",") {
		switch name {
		case "ecdh-sha2-nistp256":
			o.ephemerals[name] = p256
		case "curve25519-sha256", "curve25519-sha256@libssh.org":
			o.ephemerals[name] = x25519
		default:
			return nil, fmt.Errorf("-kex: unknown %q", name)
		}
		o.kex = append(o.kex, name)
	}
	for _, kind := range strings.Split(s.hostKeys, ",") {
		o.hostKeys = append(o.hostKeys, hostAlgorithms[kind]...)
	}
	for _, name := range o.ciphers {
		if _, known := ciphers[name]; !known {
			return nil, fmt.Errorf("-ciphers: unknown %q", name)
		}
	}
	for _, name := range o.macs {
		if _, known := macs[name]; !known {
			return nil, fmt.Errorf("-macs: unknown %q", name)
		}
	}
	o.kexInit = o.message(random)
	return o, nil
}

var hostAlgorithms = map[string][]string{
	"ecdsa":   {ssh.KeyAlgoECDSA256},
	"ed25519": {ssh.KeyAlgoED25519},
	"rsa":     {ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
}

func (o *offer) message(random io.Reader) []byte {
	var cookie [16]byte
	_, _ = io.ReadFull(random, cookie[:])
	m := append(message{msgKexInit}, cookie[:]...)
	for _, list := range [][]string{o.kex, o.hostKeys, o.ciphers, o.ciphers, o.macs, o.macs,
		{"none"}, {"none"}, nil, nil} {
		m = m.string(strings.Join(list, ","))
	}
	return m.bool(false).uint32(0)
}

// choose gives the first of the client's names (a comma list) that we have.
func choose(theirs string, ours []string) string {
	for _, name := range strings.Split(theirs, ",") {
		for _, own := range ours {
			if name == own {
				return name
			}
		}
	}
	return ""
}

// An agreement is what both sides have chosen.
type agreement struct {
	kex, hostKey       string
	cipherIn, cipherUp string // from the client, to the client
	macIn, macUp       string
	extInfo            bool
	skipGuess          bool
}

func (o *offer) agree(clientInit []byte) (*agreement, error) {
	r := reader{rest: clientInit}
	r.take(17)
	var lists [10]string
	for i := range lists {
		lists[i] = r.string()
	}
	follows := r.bool()
	if r.err != nil {
		return nil, r.err
	}
	a := &agreement{kex: choose(lists[0], o.kex), hostKey: choose(lists[1], o.hostKeys),
		cipherIn: choose(lists[2], o.ciphers), cipherUp: choose(lists[3], o.ciphers),
		macIn: choose(lists[4], o.macs), macUp: choose(lists[5], o.macs),
		extInfo: strings.Contains(","+lists[0]+",", ",ext-info-c,")}
	firstKex, _, _ := strings.Cut(lists[0], ",")
	firstKey, _, _ := strings.Cut(lists[1], ",")
	a.skipGuess = follows && (firstKex != o.kex[0] || firstKey != o.hostKeys[0])
	if a.kex == "" || a.hostKey == "" || a.cipherIn == "" || a.cipherUp == "" ||
		a.macIn == "" && !ciphers[a.cipherIn].aead || a.macUp == "" && !ciphers[a.cipherUp].aead {
		return nil, errors.New("no common algorithm")
	}
	return a, nil
}

// exchange answers a client's KEXINIT: it does the whole key exchange. The write lock is held.
func (c *client) exchange(clientInit []byte) error {
	o := c.fleet.offer
	clientInit = append([]byte(nil), clientInit...)
	if c.sessionID != nil && !c.asked {
		c.send(o.kexInit)
		c.flush()
	}
	c.asked = false
	a, err := o.agree(clientInit)
	if err != nil {
		return err
	}
	if c.behaviour.name == "closekex" {
		return errPacket
	}
	if c.behaviour.name == "ignores" {
		return c.flood(message{msgIgnore}.string(strings.Repeat("x", 1000)))
	}
	payload, err := c.expect(msgKexECDHInit)
	if err == nil && a.skipGuess {
		payload, err = c.expect(msgKexECDHInit)
	}
	if err != nil {
		return err
	}
	r := reader{rest: payload[1:]}
	theirs := r.bytes()
	ours := o.ephemerals[a.kex]
	secret, err := ours.shared(theirs)
	if err != nil || r.err != nil {
		return errPacket
	}
	hostKey := c.hostKey(a.hostKey)
	blob := hostKey.PublicKey().Marshal()
	k := message(nil).mpint(secret)
	hashed := message(make([]byte, 0, 2048)).bytes(c.version).string(c.fleet.settings.version).
		bytes(clientInit).bytes(o.kexInit).bytes(blob).bytes(theirs).bytes(ours.public)
	digest := sha256.Sum256(append(hashed, k...))
	h := digest[:]
	signature, err := sign(hostKey, c.fleet.random, h, a.hostKey)
	if err != nil {
		return err
	}
	public := ours.public
	if c.behaviour.name == "badpoint" {
		public = append([]byte(nil), public...)
		public[len(public)-1] ^= 1
	}
	c.send(message{msgKexECDHReply}.bytes(blob).bytes(public).
		bytes(message(nil).string(signature.Format).bytes(signature.Blob)))
	c.send([]byte{msgNewKeys})
	first := c.sessionID == nil
	if first {
		c.sessionID = h
	}
	derive := func(kind byte, n int) []byte { return deriveKey(k, h, c.sessionID, kind, n) }
	if err := c.up.newKeys(a.cipherUp, a.macUp, derive, [3]byte{'B', 'D', 'F'}); err != nil {
		return err
	}
	if first && a.extInfo {
		c.send(c.fleet.extInfo)
	}
	c.flush()
	if _, err := c.expect(msgNewKeys); err != nil {
		return err
	}
	err = c.in.newKeys(a.cipherIn, a.macIn, derive, [3]byte{'A', 'C', 'E'})
	if err == nil && c.behaviour.name == "rekeys" && c.loggedIn {
		c.askForKeys()
	}
	return err
}

// askForKeys begins a key exchange, which goes on when the client's offer has come.
func (c *client) askForKeys() {
	c.asked = true
	c.send(c.fleet.offer.kexInit)
	c.flush()
	c.fleet.counters.asked()
}

func sign(key ssh.Signer, random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if with, ok := key.(ssh.AlgorithmSigner); ok {
		return with.SignWithAlgorithm(random, data, algorithm)
	}
	return key.Sign(random, data)
}

// deriveKey is RFC 4253, 7.2.
func deriveKey(k, h, sessionID []byte, kind byte, n int) []byte {
	var out []byte
	for len(out) < n {
		d := sha256.New()
		d.Write(k)
		d.Write(h)
		if out == nil {
			d.Write([]byte{kind})
			d.Write(sessionID)
		} else {
			d.Write(out)
		}
		out = d.Sum(out)
	}
	return out[:n]
}

func (c *client) hostKey(algorithm string) ssh.Signer {
	keys := c.fleet.keys.known
	if c.behaviour.name == "wrongkey" {
		keys = c.fleet.keys.wrong
	}
	for _, key := range keys {
		kind := key.PublicKey().Type()
		if kind == algorithm || kind == ssh.KeyAlgoRSA && strings.HasPrefix(algorithm, "rsa-") {
			return key
		}
	}
	return keys[0]
}
