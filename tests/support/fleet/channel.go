// SPDX-License-Identifier: MIT

package main

import (
	"io"
	"sync"
)

const (
	receiveWindow = 2 << 20
	maxData       = 32768
)

// A channel is one session channel. All of it is guarded by the client's lock.
type channel struct {
	client   *client
	local    uint32
	remote   uint32
	window   uint32 // bytes that may be sent
	packet   uint32 // bytes that one message may have
	changed  sync.Cond
	input    []byte // received and not yet read
	eof      bool
	ended    bool // no more comes and no more can be sent
	sentEnd  bool // CLOSE was sent
	started  bool // an exec request was seen
	done     chan struct{}
	signals  chan string
	consumed uint32 // read, and not yet given back to the client's window
}

func (c *client) handleChannel(kind byte, r *reader) error {
	if kind == msgChannelOpen {
		return c.openChannel(r)
	}
	ch := c.channels[r.uint32()]
	if r.err != nil {
		return r.err
	}
	if ch == nil {
		return nil // of a channel that is closed already
	}
	switch kind {
	case msgWindowAdjust:
		ch.window += r.uint32()
		ch.changed.Broadcast()
	case msgChannelData:
		data := r.bytes()
		if len(ch.input)+len(data) > receiveWindow {
			return errPacket
		}
		ch.input = append(ch.input, data...)
		ch.changed.Broadcast()
	case msgChannelEOF:
		ch.eof = true
		ch.changed.Broadcast()
	case msgChannelClose:
		ch.close()
		ch.end()
		delete(c.channels, ch.local)
		c.fleet.counters.channels(-1)
	case msgChannelRequest:
		ch.request(r)
	}
	return r.err
}

func (c *client) openChannel(r *reader) error {
	kind, remote, window, packet := r.string(), r.uint32(), r.uint32(), r.uint32()
	if r.err != nil {
		return r.err
	}
	limit := 10 // as sshd's MaxSessions
	if c.behaviour.name == "sessions" {
		limit = int(c.behaviour.numberOr(1))
	}
	if c.behaviour.name == "refuseall" {
		c.send(message{msgChannelOpenFail}.uint32(remote).uint32(1).string("\x1b[2Jno\n").string(""))
		return nil
	}
	if kind != "session" || len(c.channels) >= limit {
		c.fleet.counters.refusedChannel()
		c.send(message{msgChannelOpenFail}.uint32(remote).uint32(2).string("open failed").string(""))
		return nil
	}
	if packet > maxData {
		packet = maxData
	}
	ch := &channel{client: c, local: c.nextID, remote: remote, window: window, packet: packet,
		done: make(chan struct{}), signals: make(chan string, 4)}
	ch.changed.L = &c.mu
	c.nextID++
	if c.channels == nil {
		c.channels = make(map[uint32]*channel)
	}
	c.channels[ch.local] = ch
	c.fleet.counters.channels(1)
	window = receiveWindow
	if c.behaviour.name == "window0" {
		window = 0
	}
	c.send(message{msgChannelConfirm}.uint32(remote).uint32(ch.local).uint32(window).uint32(maxData))
	return nil
}

// end wakes whoever waits for the channel: nothing more will happen on it.
func (ch *channel) end() {
	if !ch.ended {
		ch.ended = true
		close(ch.done)
		ch.changed.Broadcast()
	}
}

func (ch *channel) reply(want, ok bool) {
	if want && ok {
		ch.client.send(message{msgChannelSuccess}.uint32(ch.remote))
	} else if want {
		ch.client.send(message{msgChannelFailure}.uint32(ch.remote))
	}
}

func (ch *channel) request(r *reader) {
	name, want := r.string(), r.bool()
	switch name {
	case "exec":
		command := r.string()
		if ch.started || r.err != nil {
			ch.reply(want, false)
			return
		}
		ch.started = true
		s := &session{client: ch.client, ch: ch, wantReply: want}
		ch.client.fleet.work(func() { s.exec(command) })
	case "signal":
		select {
		case ch.signals <- r.string():
		default:
		}
		ch.reply(want, true)
	default:
		ch.reply(want, false)
	}
}

// write sends data as stdout (1) or stderr (2), as the client's window allows. It returns false when
// the channel has ended. The lock is held.
func (ch *channel) write(stream int, data []byte) bool {
	c := ch.client
	for len(data) > 0 {
		for ch.window == 0 && !ch.ended && !c.dead {
			c.flush()
			ch.changed.Wait()
		}
		if ch.ended || ch.sentEnd || c.dead {
			return false
		}
		n := uint32(len(data))
		if n > ch.window {
			n = ch.window
		}
		if n > ch.packet {
			n = ch.packet
		}
		m := message(make([]byte, 0, n+16))
		if stream == 2 {
			m = m.byte(msgChannelExtData).uint32(ch.remote).uint32(1)
		} else {
			m = m.byte(msgChannelData).uint32(ch.remote)
		}
		c.send(m.bytes(data[:n]))
		ch.window -= n
		data = data[n:]
		if len(c.out) > 65536 {
			c.flush()
		}
	}
	return true
}

// Read reads stdin; it waits for data. It takes the lock itself.
func (ch *channel) Read(p []byte) (int, error) {
	c := ch.client
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
	for len(ch.input) == 0 {
		if ch.ended {
			return 0, io.ErrUnexpectedEOF
		}
		if ch.eof {
			return 0, io.EOF
		}
		ch.changed.Wait()
	}
	n := copy(p, ch.input)
	ch.input = ch.input[n:]
	ch.consumed += uint32(n)
	if ch.consumed > receiveWindow/4 && !ch.eof {
		c.send(message{msgWindowAdjust}.uint32(ch.remote).uint32(ch.consumed))
		ch.consumed = 0
		c.flush()
	}
	return n, nil
}

// sendRequest sends a request that wants no answer. The lock is held.
func (ch *channel) sendRequest(name string, body message) {
	if !ch.sentEnd {
		m := message{msgChannelRequest}.uint32(ch.remote).string(name).bool(false)
		ch.client.send(append(m, body...))
	}
}

func (ch *channel) sendEOF() {
	if !ch.sentEnd {
		ch.client.send(message{msgChannelEOF}.uint32(ch.remote))
	}
}

func (ch *channel) close() {
	if !ch.sentEnd {
		ch.sentEnd = true
		ch.client.send(message{msgChannelClose}.uint32(ch.remote))
	}
}
