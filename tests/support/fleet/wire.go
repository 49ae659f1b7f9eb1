// SPDX-License-Identifier: MIT

package main

import (
	"encoding/binary"
	"errors"
)

// The message numbers that are used (RFC 4253, 4252, 4254, 8308).
const (
	msgDisconnect      = 1
	msgIgnore          = 2
	msgUnimplemented   = 3
	msgDebug           = 4
	msgServiceRequest  = 5
	msgServiceAccept   = 6
	msgExtInfo         = 7
	msgKexInit         = 20
	msgNewKeys         = 21
	msgKexECDHInit     = 30
	msgKexECDHReply    = 31
	msgAuthRequest     = 50
	msgAuthFailure     = 51
	msgAuthSuccess     = 52
	msgAuthBanner      = 53
	msgAuthKeyOK       = 60
	msgGlobalRequest   = 80
	msgRequestFailure  = 82
	msgChannelOpen     = 90
	msgChannelConfirm  = 91
	msgChannelOpenFail = 92
	msgWindowAdjust    = 93
	msgChannelData     = 94
	msgChannelExtData  = 95
	msgChannelEOF      = 96
	msgChannelClose    = 97
	msgChannelRequest  = 98
	msgChannelSuccess  = 99
	msgChannelFailure  = 100
)

var errShort = errors.New("message too short")

// A message is a payload being built: each method appends one field.
type message []byte

func (m message) byte(b byte) message { return append(m, b) }

func (m message) bool(b bool) message {
	if b {
		return append(m, 1)
	}
	return append(m, 0)
}

func (m message) uint32(n uint32) message {
	return append(m, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func (m message) string(s string) message { return append(m.uint32(uint32(len(s))), s...) }
func (m message) bytes(b []byte) message  { return append(m.uint32(uint32(len(b))), b...) }

// mpint appends a positive number given big end first.
func (m message) mpint(b []byte) message {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	if len(b) > 0 && b[0]&0x80 != 0 {
		return append(m.uint32(uint32(len(b)+1)).byte(0), b...)
	}
	return m.bytes(b)
}

// A reader takes fields off a payload; err tells whether one was missing.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.rest, r.err = nil, errShort
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) bool() bool { return r.byte() != 0 }

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) bytes() []byte  { return r.take(int(r.uint32())) }
func (r *reader) string() string { return string(r.bytes()) }
