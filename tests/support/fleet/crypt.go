// SPDX-License-Identifier: MIT

package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
)

const (
	maxPacket   = 1 << 18
	tagSize     = 16
	lengthBytes = 4
)

var errPacket = errors.New("bad packet")

// A direction encrypts or decrypts the packets of one direction of a connection. With neither AEAD nor
// stream it is the clear text before the first key exchange.
type direction struct {
	seq    uint32
	aead   cipher.AEAD
	nonce  [12]byte
	stream cipher.Stream
	mac    hash.Hash
	etm    bool
	peeked bool // the length of the packet at hand has been decrypted
}

// macs and their key sizes; the name tells whether the MAC is over the encrypted packet.
var macs = map[string]struct {
	make func() hash.Hash
	size int
	etm  bool
}{
	"hmac-sha2-256":                 {sha256.New, 32, false},
	"hmac-sha2-512":                 {sha512.New, 64, false},
	"hmac-sha2-256-etm@openssh.com": {sha256.New, 32, true},
	"hmac-sha2-512-etm@openssh.com": {sha512.New, 64, true},
}

var ciphers = map[string]struct {
	keySize int
	aead    bool
}{
	"aes128-gcm@openssh.com": {16, true},
	"aes256-gcm@openssh.com": {32, true},
	"aes128-ctr":             {16, false},
	"aes192-ctr":             {24, false},
	"aes256-ctr":             {32, false},
}

// newKeys replaces the keys; the packet count goes on. derive gives n bytes of one kind of key.
func (d *direction) newKeys(name, mac string, derive func(kind byte, n int) []byte, kinds [3]byte) error {
	kind := ciphers[name]
	block, err := aes.NewCipher(derive(kinds[1], kind.keySize))
	if err != nil {
		return err
	}
	d.aead, d.stream, d.mac, d.etm = nil, nil, nil, false
	if kind.aead {
		copy(d.nonce[:], derive(kinds[0], 12))
		d.aead, err = cipher.NewGCM(block)
		return err
	}
	d.stream = cipher.NewCTR(block, derive(kinds[0], 16))
	d.mac = hmac.New(macs[mac].make, derive(kinds[2], macs[mac].size))
	d.etm = macs[mac].etm
	return nil
}

func (d *direction) nextNonce() []byte {
	nonce := d.nonce
	counter := binary.BigEndian.Uint64(d.nonce[4:])
	binary.BigEndian.PutUint64(d.nonce[4:], counter+1)
	return nonce[:]
}

func (d *direction) sum(packet []byte) []byte {
	var seq [4]byte
	binary.BigEndian.PutUint32(seq[:], d.seq)
	d.mac.Reset()
	d.mac.Write(seq[:])
	d.mac.Write(packet)
	return d.mac.Sum(nil)
}

// seal appends the packet of a payload to out. The padding is zeros: nothing here is secret.
func (d *direction) seal(out, payload []byte) []byte {
	align, inLength := 8, lengthBytes
	if d.aead != nil || d.stream != nil {
		align = aes.BlockSize
	}
	if d.aead != nil || d.etm {
		inLength = 0 // the length stands apart
	}
	padding := align - (inLength+1+len(payload))%align
	if padding < 4 {
		padding += align
	}
	start := len(out)
	out = message(out).uint32(uint32(1 + len(payload) + padding))
	out = append(out, byte(padding))
	out = append(out, payload...)
	var zeros [32]byte
	out = append(out, zeros[:padding]...)
	packet := out[start:]
	switch {
	case d.aead != nil:
		body := packet[lengthBytes:]
		sealed := d.aead.Seal(body[:0], d.nextNonce(), body, packet[:lengthBytes])
		out = append(out[:start+lengthBytes], sealed...)
	case d.etm:
		d.stream.XORKeyStream(packet[lengthBytes:], packet[lengthBytes:])
		out = append(out, d.sum(packet)...)
	case d.stream != nil:
		mac := d.sum(packet)
		d.stream.XORKeyStream(packet, packet)
		out = append(out, mac...)
	}
	d.seq++
	return out
}

// open takes one packet off the front of in. It returns the payload (a part of in), what stands behind
// the packet, and nil for both when the packet is not complete yet.
func (d *direction) open(in []byte) (payload, rest []byte, err error) {
	first := lengthBytes
	split := d.stream != nil && !d.etm // the length is encrypted
	if split {
		first = aes.BlockSize
	}
	if len(in) < first {
		return nil, nil, nil
	}
	if split && !d.peeked {
		d.stream.XORKeyStream(in[:first], in[:first])
		d.peeked = true
	}
	length := int(binary.BigEndian.Uint32(in))
	if length < 8 || length > maxPacket {
		return nil, nil, errPacket
	}
	macSize := 0
	if d.aead != nil {
		macSize = tagSize
	} else if d.mac != nil {
		macSize = d.mac.Size()
	}
	end := lengthBytes + length
	if len(in) < end+macSize {
		return nil, nil, nil
	}
	packet, mac := in[:end], in[end:end+macSize]
	body := packet[lengthBytes:]
	switch {
	case d.aead != nil:
		_, err = d.aead.Open(body[:0], d.nextNonce(), in[lengthBytes:end+macSize], packet[:lengthBytes])
	case d.etm:
		err = d.verify(packet, mac)
		d.stream.XORKeyStream(body, body)
	case d.stream != nil:
		d.stream.XORKeyStream(packet[first:], packet[first:])
		err = d.verify(packet, mac)
	}
	padding := int(body[0])
	if err != nil || padding+1 > length {
		return nil, nil, errPacket
	}
	d.seq++
	d.peeked = false
	return body[1 : length-padding], in[end+macSize:], nil
}

func (d *direction) verify(packet, mac []byte) error {
	if subtle.ConstantTimeCompare(d.sum(packet), mac) != 1 {
		return errPacket
	}
	return nil
}
