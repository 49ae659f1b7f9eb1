// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"net"
	"strings"
	"time"
)

// The hosts that mean harm. Each does one thing that no server does, for as long as the client lets it.

func init() {
	for name, what := range map[string]string{
		"drip":        "sends its banner a byte at a time, every N seconds (0.5)",
		"ssh1":        "speaks SSH-1 only",
		"nobanner":    "speaks another protocol and stays",
		"longbanner":  "begins a banner and never ends its line",
		"bigpacket":   "a first packet of 4 GB",
		"smallpacket": "a first packet of no length",
		"garbage":     "bytes that are no key exchange offer",
		"silentkex":   "silent behind its banner",
		"ignores":     "endless messages to be ignored in place of the key exchange",
		"closekex":    "closes in the middle of the key exchange",
		"badpoint":    "a public key in the key exchange that is no point of the curve",
		"banners":     "endless banners in place of an answer to the login",
		"morelogin":   "every login is a part of what it wants",
		"goodbye":     "disconnects at the login, with a text for terminals",
		"refuseall":   "opens no channel, and says why in a text for terminals",
		"window0":     "takes no byte of input",
		"globals":     "endless requests that want an answer, and reads none",
		"opens":       "opens channel after channel on us",
		"hangopen":    "never says whether it opens a channel",
		"unasked":     "endless messages of N bytes (1000) that nobody asked for",
		"rekeys":      "begins a new key exchange as soon as one has ended",
		"never":       "runs the command and answers nothing more, to a kill neither",
		"huge":        "endless output",
		"hugeerr":     "endless output on stderr",
		"overflow":    "endless output that does not heed our window",
		"tiny":        "endless output, a byte a message",
		"statuses":    "endless exit statuses",
		"afterclose":  "closes the channel and sends on",
		"hurries":     "output, exit status, close and the end of the connection at once",
		"farewell":    "N times the output (1), exit status, close and a message of its leaving at once",
		"leaves":      "output, what N is the sum of and a message of its leaving: 1 end of output, 2 exit status, 4 signal, 8 close",
		"together":    "as farewell, when N commands (2) run, for all of them but the first",
	} {
		behaviours[name] = what
	}
}

// greetBadly is the part of greet for these hosts.
func (f *fleet) greetBadly(conn net.Conn, b behaviour) bool {
	version := f.settings.version + "\r\n"
	switch b.name {
	case "drip":
		for _, c := range []byte(strings.Repeat(version, 100)) {
			if _, err := conn.Write([]byte{c}); err != nil {
				return false
			}
			time.Sleep(time.Duration(b.numberOr(0.5) * float64(time.Second)))
		}
	case "ssh1":
		sendOnce(conn, "SSH-1.5-old\n")
	case "nobanner":
		sendOnce(conn, "220 mail.example ESMTP \x1b[2J\r\n")
	case "longbanner":
		sendOnce(conn, "SSH-2.0-")
		sendForever(conn, strings.Repeat("x", 4096))
	case "bigpacket":
		sendOnce(conn, version+"\xff\xff\xff\xff\x04\x14")
		sendForever(conn, strings.Repeat("\x00", 65536))
	case "smallpacket":
		sendOnce(conn, version+"\x00\x00\x00\x00\x04\x14")
		sendForever(conn, strings.Repeat("\x00", 65536))
	case "garbage":
		// The length and type of an offer, and lists that are longer than it.
		sendOnce(conn, version+"\x00\x00\x01\x0c\x04\x14"+strings.Repeat("\xff", 0x10a))
		waitClosed(conn)
	case "silentkex":
		sendOnce(conn, version)
		waitClosed(conn)
	default:
		return true
	}
	return false
}

func sendOnce(conn net.Conn, text string) {
	_, _ = conn.Write([]byte(text))
	if strings.HasSuffix(text, "\n") && !strings.HasPrefix(text, "SSH-2") {
		waitClosed(conn)
	}
}

// flood sends a message again and again until the client has left. It holds the lock, so the client's
// own messages are not handled any more, and nothing of it is read.
func (c *client) flood(payload []byte) error {
	for !c.dead {
		for len(c.out) < 60000 {
			c.send(payload)
		}
		c.flush()
	}
	return errEnded
}

// playBadly does what these hosts do at a message of the client's. The lock is held. False: the
// message is handled as usual.
func (c *client) playBadly(kind byte) (bool, error) {
	switch {
	case kind == msgAuthRequest && c.behaviour.name == "banners":
		text := strings.Repeat("all work and no play ", 50)
		return true, c.flood(message{msgAuthBanner}.string(text).string("en"))
	case kind == msgAuthRequest && c.behaviour.name == "morelogin":
		c.send(message{msgAuthFailure}.string("publickey,password").bool(true))
		return true, nil
	case kind == msgAuthRequest && c.behaviour.name == "goodbye":
		c.send(message{msgDisconnect}.uint32(11).string("\x1b]0;gotcha\x07\x1b[2Jbye\n").string(""))
		return true, errRefused
	case kind != msgChannelOpen:
		return false, nil
	}
	switch c.behaviour.name {
	case "hangopen":
		return true, nil
	case "globals":
		return true, c.flood(message{msgGlobalRequest}.string("are-you-there@example.com").bool(true))
	case "opens":
		return true, c.flood(message{msgChannelOpen}.string("forwarded-tcpip").uint32(7).
			uint32(receiveWindow).uint32(maxData).string("a").uint32(1).string("b").uint32(2))
	case "unasked":
		return true, c.flood(message{msgAuthKeyOK}.string(strings.Repeat("x", int(c.behaviour.numberOr(1000)))))
	}
	return false, nil
}

// execBadly does what these hosts do in place of the command; false: the command runs.
func (s *session) execBadly() bool {
	c, ch := s.client, s.ch
	switch c.behaviour.name {
	case "never", "window0", "rekeys", "huge", "hugeerr", "overflow", "tiny", "statuses", "afterclose",
		"hurries", "farewell", "leaves", "together":
	default:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ch.reply(s.wantReply, true)
	c.flush()
	text := bytes.Repeat([]byte("all work and no play\n"), 1500)
	switch c.behaviour.name {
	case "huge":
		for ch.write(1, text) {
		}
	case "hugeerr":
		for ch.write(2, text) {
		}
	case "tiny":
		for ch.write(1, text[:1]) {
		}
	case "overflow":
		_ = c.flood(message{msgChannelData}.uint32(ch.remote).bytes(text))
	case "statuses":
		_ = c.flood(message{msgChannelRequest}.uint32(ch.remote).string("exit-status").bool(false).uint32(7))
	case "afterclose":
		ch.write(1, []byte("before\n"))
		ch.sendEOF()
		ch.sendRequest("exit-status", message(nil).uint32(0))
		ch.close()
		_ = c.flood(message{msgChannelData}.uint32(ch.remote).string("after\n"))
	case "hurries":
		ch.finishAtOnce(text)
		c.flush()
		c.dead = true
		_ = c.conn.Close()
	case "farewell":
		ch.finishAtOnce(bytes.Repeat(text, int(c.behaviour.numberOr(1))))
		c.leave()
	case "leaves":
		ch.leaveWith(text, int(c.behaviour.numberOr(0)))
	case "together":
		s.waitForOthers(text)
	default:
		for !ch.ended && !c.dead {
			ch.changed.Wait()
		}
	}
	return true
}

// finishAtOnce gives a command's output and all of its end. The lock is held.
func (ch *channel) finishAtOnce(text []byte) {
	ch.write(1, text)
	ch.write(2, []byte("error\n"))
	ch.sendEOF()
	ch.sendRequest("exit-status", message(nil).uint32(0))
	ch.close()
}

// leave says goodbye behind all that is to be sent, in one segment with it when that is short. The
// socket stays open until the client closes it. The lock is held.
func (c *client) leave() {
	c.send(message{msgDisconnect}.uint32(11).string("bye").string(""))
	c.flush()
	c.dead = true
}

func (ch *channel) leaveWith(text []byte, parts int) {
	ch.write(1, text)
	if parts&1 != 0 {
		ch.sendEOF()
	}
	if parts&2 != 0 {
		ch.sendRequest("exit-status", message(nil).uint32(7))
	}
	if parts&4 != 0 {
		ch.sendRequest("exit-signal", message(nil).string("TERM").bool(false).string("").string(""))
	}
	if parts&8 != 0 {
		ch.close()
	}
	ch.client.leave()
}

// waitForOthers lets the last of N commands on the connection end all but the first, the last one first.
func (s *session) waitForOthers(text []byte) {
	c, n := s.client, int(s.client.behaviour.numberOr(2))
	c.together = append(c.together, s.ch)
	if len(c.together) == n {
		for i := n - 1; i > 0; i-- {
			c.together[i].finishAtOnce(text)
		}
		c.leave()
	}
	for !s.ch.ended && !c.dead {
		s.ch.changed.Wait()
	}
}
