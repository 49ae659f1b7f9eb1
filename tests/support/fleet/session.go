// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A session is the command of one channel. One goroutine owns it.
type session struct {
	client    *client
	ch        *channel
	wantReply bool
	stdin     *bufio.Reader
	env       map[string]string
	op        string        // EXED_OP, once a command has seen it
	kill      chan struct{} // closed by a kill script
	once      sync.Once
	exited    bool   // the shell that runs has ended
	signal    string // ended by this signal
	gone      bool   // the client has closed the channel
}

func (s *session) exec(command string) {
	c := s.client
	c.fleet.counters.execBegin(c.addr)
	defer c.fleet.counters.execEnd()
	s.kill = make(chan struct{})
	if s.execBadly() {
		return
	}
	switch c.behaviour.name {
	case "hangexec":
		s.wait(-1)
		return
	case "closeexec":
		_ = c.tcp.Close()
		return
	case "slowexec":
		if !s.wait(time.Duration(c.behaviour.numberOr(2) * float64(time.Second))) {
			return
		}
	}
	// The answer, short output, the exit status and the close leave as one packet.
	c.mu.Lock()
	s.ch.reply(s.wantReply, true)
	c.mu.Unlock()
	s.env = make(map[string]string)
	status := 0
	if !s.isKillScript(command) {
		status = s.eval(command, 0)
	}
	s.finish(status)
}

func (s *session) finish(status int) {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.behaviour.name == "cut":
		c.flush()
		_ = c.conn.Close()
		return
	case c.behaviour.name == "noexit":
	case s.signal != "":
		s.ch.sendEOF()
		s.ch.sendRequest("exit-signal", message(nil).string(s.signal).bool(false).string("").string(""))
	default:
		s.ch.sendEOF()
		s.ch.sendRequest("exit-status", message(nil).uint32(uint32(status&255)))
	}
	s.ch.close()
	c.flush()
}

// wait lets time pass, for ever when d is negative. It returns false when the command was ended
// meanwhile: by a signal, by a kill script or because the client left.
func (s *session) wait(d time.Duration) bool {
	s.flush()
	var over <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	s.client.fleet.running.enter(s)
	defer s.client.fleet.running.leave(s)
	select {
	case <-over:
		return true
	case <-s.kill:
		s.signal = "KILL"
	case name := <-s.ch.signals:
		s.client.fleet.counters.signalled()
		s.signal = name
	case <-s.ch.done:
		s.gone = true
	}
	s.exited = true
	return false
}

func (s *session) flush() {
	s.client.mu.Lock()
	s.client.flush()
	s.client.mu.Unlock()
}

func (s *session) input() *bufio.Reader {
	if s.stdin == nil {
		s.stdin = bufio.NewReaderSize(s.ch, 32768)
	}
	return s.stdin
}

// write sends to stdout (1) or stderr (2); 0 throws the text away.
func (s *session) write(stream int, text []byte) {
	if stream == 0 || len(text) == 0 {
		return
	}
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	if !s.ch.write(stream, text) {
		s.gone, s.exited = true, true
	}
	if len(text) > 1024 {
		s.client.flush()
	}
}

// A registry knows which op ids run, so that a kill script can end them.
type registry struct {
	mu  sync.Mutex
	ops map[string]map[*session]bool
}

func (r *registry) init() { r.ops = make(map[string]map[*session]bool) }

func (r *registry) enter(s *session) {
	if s.op == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ops[s.op] == nil {
		r.ops[s.op] = make(map[*session]bool)
	}
	r.ops[s.op][s] = true
}

func (r *registry) leave(s *session) {
	if s.op == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ops[s.op], s)
	if len(r.ops[s.op]) == 0 {
		delete(r.ops, s.op)
	}
}

// count says how many commands run under an op id at an address.
func (r *registry) count(op string, addr uint32) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for s := range r.ops[op] {
		if s.client.addr == addr {
			n++
		}
	}
	return n
}

// end ends what runs under an op id at an address and returns how many there were.
func (r *registry) end(op string, addr uint32) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for s := range r.ops[op] {
		if s.client.addr == addr {
			s.once.Do(func() { close(s.kill) })
			n++
		}
	}
	return n
}

var opID = regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}(\.[0-9]+){3}`)

// isKillScript says whether a text is a script that looks for an op's processes and kills them, and
// ends those ops. Such a script looks into /proc and answers exed-kill; no command of a test does. One with
// m=look only counts them.
func (s *session) isKillScript(text string) bool {
	if !strings.Contains(text, "/proc") || !strings.Contains(text, "exed-kill") {
		return false
	}
	if strings.Contains(text, "m=look;") {
		n := 0
		for _, op := range opID.FindAllString(text, 1) {
			n += s.client.fleet.running.count(op, s.client.addr)
		}
		s.write(1, []byte("exed-kill "+itoa(n)+" "+itoa(n)+" -1\n"))
		return true
	}
	f := s.client.fleet
	f.counters.killScript()
	ended := 0
	for _, op := range opID.FindAllString(text, 1) {
		ended += f.running.end(op, s.client.addr)
	}
	answer := strings.NewReplacer("%n", itoa(ended), `\n`, "\n").Replace(f.settings.killAnswer)
	s.write(1, []byte(answer))
	return true
}
