// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// A client is one connection after its greeting. One goroutine (run) reads it and owns what stands
// above mu; commands run on goroutines of their own and write under mu. What is written is collected
// in out and leaves with flush, so that packets which belong together leave as one.
type client struct {
	fleet     *fleet
	addr      uint32
	behaviour behaviour
	tcp       net.Conn // the TCP connection
	conn      net.Conn // it, or a delay line over it

	version   []byte // the client's version line
	sessionID []byte
	in        direction
	buffer    []byte // received, from unread on not yet looked at
	unread    int
	failures  int
	loggedIn  bool
	asked     bool // our offer for new keys has been sent

	mu       sync.Mutex
	up       direction
	out      []byte
	dead     bool // the connection is closed: nothing more is sent
	channels map[uint32]*channel
	nextID   uint32
	together []*channel // of the behaviour of this name
}

var (
	errEnded   = errors.New("the client has left")
	errRefused = errors.New("login refused")
)

func (c *client) run() {
	c.buffer = make([]byte, 0, 2048)
	err := c.handshake()
	if err == nil {
		err = c.serveMessages()
	}
	if !c.loggedIn {
		c.fleet.counters.loginFailed()
	}
	c.mu.Lock()
	if err != errEnded {
		c.flush()
	}
	c.dead = true
	for _, ch := range c.channels {
		ch.end()
	}
	c.fleet.counters.channels(-len(c.channels))
	c.mu.Unlock()
	_ = c.conn.Close()
}

// fill reads more bytes into the buffer.
func (c *client) fill() error {
	if c.unread > 0 {
		c.buffer = c.buffer[:copy(c.buffer, c.buffer[c.unread:])]
		c.unread = 0
	}
	if len(c.buffer) == cap(c.buffer) {
		c.buffer = append(make([]byte, 0, 4*cap(c.buffer)), c.buffer...)
	}
	n, err := c.conn.Read(c.buffer[len(c.buffer):cap(c.buffer)])
	c.buffer = c.buffer[:len(c.buffer)+n]
	if n > 0 {
		return nil
	}
	if err != nil {
		return errEnded
	}
	return nil
}

func (c *client) handshake() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, c.fleet.settings.version+"\r\n"...)
	c.send(c.fleet.offer.kexInit)
	c.flush()
	for {
		if end := bytes.IndexByte(c.buffer, '\n'); end >= 0 {
			c.version = append([]byte(nil), bytes.TrimRight(c.buffer[:end], "\r")...)
			c.unread = end + 1
			break
		}
		if len(c.buffer) > 255 {
			return errPacket
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	if !bytes.HasPrefix(c.version, []byte("SSH-2.0-")) {
		return errPacket
	}
	init, err := c.expect(msgKexInit)
	if err != nil {
		return err
	}
	return c.exchange(init)
}

// receive gives the next payload, valid until the next call. It flushes before it waits, unless the
// lock is held by this goroutine (in a key exchange, which flushes by itself).
func (c *client) receive(locked bool) ([]byte, error) {
	for {
		payload, rest, err := c.in.open(c.buffer[c.unread:])
		if err != nil {
			return nil, err
		}
		if rest != nil {
			c.unread = len(c.buffer) - len(rest)
			if len(payload) == 0 {
				return nil, errPacket
			}
			return payload, nil
		}
		if !locked {
			c.mu.Lock()
			c.flush()
			c.mu.Unlock()
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// expect waits for a message of one kind, in a key exchange.
func (c *client) expect(kind byte) ([]byte, error) {
	for {
		payload, err := c.receive(true)
		if err != nil {
			return nil, err
		}
		switch payload[0] {
		case kind:
			return payload, nil
		case msgIgnore, msgDebug:
		default:
			return nil, errPacket
		}
	}
}

// send adds a packet to what is to be written. The lock is held.
func (c *client) send(payload []byte) { c.out = c.up.seal(c.out, payload) }

// flush writes what was collected. The lock is held.
func (c *client) flush() {
	if len(c.out) > 0 && !c.dead {
		if _, err := c.conn.Write(c.out); err != nil {
			c.dead = true
		}
	}
	if cap(c.out) > 8192 {
		c.out = nil
	}
	c.out = c.out[:0]
}

func (c *client) serveMessages() error {
	for {
		payload, err := c.receive(false)
		if err != nil {
			return err
		}
		c.mu.Lock()
		err = c.handle(payload)
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// handle does one message. The lock is held.
func (c *client) handle(payload []byte) error {
	if payload[0] == msgAuthRequest { // a service request says nothing of who asks
		c.fleet.counters.loginAsked(c.addr)
	}
	if done, err := c.playBadly(payload[0]); done {
		return err
	}
	r := &reader{rest: payload[1:]}
	switch kind := payload[0]; {
	case kind == msgIgnore || kind == msgDebug || kind == msgUnimplemented:
		return nil
	case kind == msgDisconnect:
		return errEnded
	case kind == msgKexInit:
		return c.exchange(payload)
	case kind == msgServiceRequest:
		c.send(message{msgServiceAccept}.bytes(r.bytes()))
	case kind == msgAuthRequest && !c.loggedIn:
		return c.login(r)
	case !c.loggedIn:
		return errPacket
	case kind == msgGlobalRequest:
		r.bytes()
		if r.bool() {
			c.send([]byte{msgRequestFailure})
		}
	case kind >= msgChannelOpen && kind <= msgChannelFailure:
		return c.handleChannel(kind, r)
	default:
		c.send(message{msgUnimplemented}.uint32(c.in.seq - 1))
	}
	return r.err
}

// login does one request to log in (RFC 4252, 7).
func (c *client) login(r *reader) error {
	user, service, method := r.string(), r.string(), r.string()
	if r.err != nil {
		return r.err
	}
	if method != "publickey" {
		return c.refuse()
	}
	signed, algorithm, blob := r.bool(), r.string(), r.bytes()
	if r.err != nil {
		return r.err
	}
	if c.playLogin() {
		return errEnded
	}
	key := c.fleet.keys.find(blob)
	if key == nil || c.behaviour.name == "denykey" {
		return c.refuse()
	}
	if !signed {
		c.send(message{msgAuthKeyOK}.string(algorithm).bytes(blob))
		return nil
	}
	s := reader{rest: r.bytes()}
	signature := ssh.Signature{Format: s.string(), Blob: s.bytes()}
	data := message(nil).bytes(c.sessionID).byte(msgAuthRequest).string(user).string(service).
		string(method).bool(true).string(algorithm).bytes(blob)
	if s.err != nil || signature.Format != algorithm || key.Verify(data, &signature) != nil {
		return c.refuse()
	}
	c.loggedIn = true
	c.fleet.counters.loggedIn()
	c.send([]byte{msgAuthSuccess})
	if c.behaviour.name == "rekeys" {
		c.askForKeys()
	}
	return nil
}

// playLogin does what a behaviour does in the login; true ends the connection.
func (c *client) playLogin() bool {
	switch c.behaviour.name {
	case "hangauth":
		c.flush()
		waitClosed(c.conn)
		return true
	case "closeauth":
		return true
	}
	return false
}

// refuse answers that the login failed; the seventh time is one too many.
func (c *client) refuse() error {
	if c.failures++; c.failures > 6 {
		c.send(message{msgDisconnect}.uint32(2).string("Too many authentication failures").string(""))
		return errRefused
	}
	c.send(message{msgAuthFailure}.string("publickey").bool(false))
	return nil
}

// extInfo says which signatures are understood (RFC 8308), so that RSA keys are used with SHA-2.
func extInfo() []byte {
	algorithms := []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384,
		ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	return message{msgExtInfo}.uint32(1).string("server-sig-algs").string(strings.Join(algorithms, ","))
}
