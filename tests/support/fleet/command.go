// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

const shellPid = "4242" // what $$ says

// simple runs one simple command and returns its status.
func (s *session) simple(c *simple, last int, depth int) int {
	var before map[string]*string
	if len(c.assigns) > 0 {
		before = make(map[string]*string)
	}
	for _, assign := range c.assigns {
		name, value, _ := strings.Cut(assign, "=")
		if old, found := s.env[name]; found {
			before[name] = &old
		} else {
			before[name] = nil
		}
		s.env[name] = value
	}
	if len(c.words) == 0 {
		if len(c.assigns) > 0 {
			return 0
		}
		return last
	}
	status := s.command(c, c.words, last, depth)
	for name, old := range before { // NAME=value COMMAND is for that command only
		if old == nil {
			delete(s.env, name)
		} else {
			s.env[name] = *old
		}
	}
	return status
}

// command runs words: first the wrappers and builtins that change the shell, then leaf commands.
func (s *session) command(c *simple, words []string, last int, depth int) int {
	name, args := words[0], words[1:]
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	switch name {
	case "exec":
		if len(args) == 0 {
			return 0
		}
		status := s.command(c, args, last, depth)
		s.exited = true
		return status
	case "env":
		for len(args) > 0 && strings.Contains(args[0], "=") {
			key, value, _ := strings.Cut(args[0], "=")
			s.env[key] = value
			args = args[1:]
		}
		if len(args) > 0 {
			return s.command(c, args, last, depth)
		}
	case "sh", "bash", "dash":
		return s.subshell(args, depth)
	case "eval":
		text := strings.Join(args, " ")
		if s.isKillScript(text) {
			return 0
		}
		return s.eval(text, depth+1)
	case "read":
		return s.read(args)
	case "export", "cd", "umask", "trap", "set", "unset":
		for _, arg := range args {
			if key, value, found := strings.Cut(arg, "="); found && name == "export" {
				s.env[key] = value
			}
		}
		return 0
	}
	return s.leaf(c, name, args, last)
}

// splitFence takes exed's fence (runtime/fence.c) apart: the assignment of its command, and its op id.
func splitFence(text string) (head, op string, found bool) {
	end := strings.Index(text, ";x_d=$x_b/$x_o;")
	if end < 0 || !strings.HasPrefix(strings.TrimPrefix(text, "unset x_nl;"), "x_c=") {
		return "", "", false // it may be in the quotes of what wraps it
	}
	at := strings.LastIndex(text[:end], ";x_o=")
	if at < 0 {
		return "", "", false
	}
	op, _, _ = strings.Cut(text[at+len(";x_o="):], ";")
	return text[:at], op, true
}

// fenced plays a host where the op has never been started: nothing is kept here.
func (s *session) fenced(head, op string, depth int) int {
	s.eval(head, depth+1)
	s.write(1, []byte("exed "+op+" new\n"))
	return s.eval(s.env["x_c"], depth+1)
}

func (s *session) subshell(args []string, depth int) int {
	if len(args) < 2 || args[0] != "-c" {
		return 127
	}
	if s.isKillScript(args[1]) {
		return 0
	}
	status := s.eval(args[1], depth+1)
	s.exited = s.signal != "" || s.gone
	return status
}

func (s *session) read(args []string) int {
	line, err := s.input().ReadString('\n')
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		args = args[1:]
	}
	if len(args) > 0 {
		s.env[args[0]] = strings.TrimSuffix(line, "\n")
	}
	if err != nil {
		return 1
	}
	return 0
}

// leaf runs a command that is no wrapper: this is what the counters count.
func (s *session) leaf(c *simple, name string, args []string, last int) int {
	first := ""
	if len(args) > 0 {
		first = args[0]
	}
	if s.op == "" && s.env["EXED_OP"] != "" {
		s.op = s.env["EXED_OP"]
		s.client.fleet.counters.opSeen(s.op)
	}
	s.client.fleet.counters.command(name)
	switch name {
	case "true", ":":
	case "false":
		return 1
	case "exit":
		s.exited = true
		if first == "" {
			return last
		}
		n, _ := strconv.Atoi(first)
		return n
	case "echo":
		s.write(c.out, []byte(strings.Join(args, " ")+"\n"))
	case "sleep":
		s.sleep(first)
	case "cat":
		s.cat(c)
	case "output":
		s.lines(c.out, first)
	case "stderr":
		s.lines(c.err, first)
	case "kill":
		return s.killSelf(args)
	case "hostname":
		s.write(c.out, []byte(addrText(s.client.addr)+"\n"))
	case "uname":
		s.write(c.out, []byte("Linux\n"))
	case "env", "printenv":
		return s.printEnv(c, first)
	default:
		s.client.fleet.counters.unknown(name + " " + strings.Join(args, " "))
		s.write(c.err, []byte("fleet: "+name+": command not found\n"))
		return 127
	}
	return 0
}

func (s *session) sleep(text string) {
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(seconds, 1) {
		s.wait(-1)
		return
	}
	s.wait(time.Duration(seconds * float64(time.Second)))
}

func (s *session) cat(c *simple) {
	in, data := s.input(), make([]byte, 32768)
	for !s.gone {
		n, err := in.Read(data)
		s.write(c.out, data[:n])
		if err != nil {
			if err != io.EOF {
				s.gone, s.exited = true, true
			}
			return
		}
	}
}

// lines writes exactly so many bytes, as numbered lines of 64 bytes.
func (s *session) lines(stream int, text string) {
	left, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return
	}
	line := bytes.Repeat([]byte("."), 64)
	line[63] = '\n'
	block := make([]byte, 0, 32768)
	for number := int64(0); left > 0 && !s.gone; {
		block = block[:0]
		for int64(len(block)) < left && len(block) < 32768 {
			copy(line, "0000000000000000")
			digits := strconv.FormatInt(number, 10)
			copy(line[16-len(digits):], digits)
			block = append(block, line...)
			number++
		}
		if int64(len(block)) > left {
			block = block[:left]
		}
		left -= int64(len(block))
		s.write(stream, block)
	}
}

var signals = map[string]string{"1": "HUP", "2": "INT", "3": "QUIT", "6": "ABRT", "9": "KILL",
	"11": "SEGV", "15": "TERM"}

// killSelf is the kill command: it can only end the command's own shell.
func (s *session) killSelf(args []string) int {
	name := "TERM"
	if len(args) > 1 && strings.HasPrefix(args[0], "-") {
		name = strings.TrimPrefix(strings.TrimPrefix(args[0], "-"), "SIG")
		args = args[1:]
	}
	if known, found := signals[name]; found {
		name = known
	}
	if len(args) != 1 || args[0] != shellPid {
		return 1
	}
	s.signal, s.exited = name, true
	return 0
}

func (s *session) printEnv(c *simple, name string) int {
	if name != "" {
		value, found := s.env[name]
		if !found {
			return 1
		}
		s.write(c.out, []byte(value+"\n"))
		return 0
	}
	names := make([]string, 0, len(s.env))
	for key := range s.env {
		names = append(names, key)
	}
	sort.Strings(names)
	for _, key := range names {
		s.write(c.out, []byte(key+"="+s.env[key]+"\n"))
	}
	return 0
}
