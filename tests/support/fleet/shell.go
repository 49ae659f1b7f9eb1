// SPDX-License-Identifier: MIT

package main

import (
	"errors"
	"strconv"
	"strings"
)

// A tiny part of the shell: words, quotes, $NAME, assignments, ; && || and redirections to the other
// stream or to /dev/null. It is what the wrappers around a command are made of.

var errSyntax = errors.New("not understood")

func itoa(n int) string { return strconv.Itoa(n) }

type parser struct {
	session *session
	text    string
	pos     int
	status  int // of the last command, for $?
}

// A simple command: its words, the assignments before them, where its output goes, what follows it.
type simple struct {
	words   []string
	assigns []string
	out     int
	err     int
	next    string // ";", "&&", "||" or "" at the end
}

var reserved = map[string]bool{"if": true, "while": true, "until": true, "for": true, "case": true,
	"{": true, "}": true, "!": true, "do": true, "done": true, "then": true, "fi": true, "esac": true}

func (p *parser) blank() {
	for p.pos < len(p.text) && (p.text[p.pos] == ' ' || p.text[p.pos] == '\t') {
		p.pos++
	}
}

func (p *parser) take(prefix string) bool {
	if strings.HasPrefix(p.text[p.pos:], prefix) {
		p.pos += len(prefix)
		return true
	}
	return false
}

// command reads one simple command and the operator after it.
func (p *parser) command() (*simple, error) {
	c := &simple{out: 1, err: 2}
	for {
		p.blank()
		switch {
		case p.pos >= len(p.text):
			return c, nil
		case p.take("&&"), p.take("||"):
			c.next = p.text[p.pos-2 : p.pos]
			return c, nil
		case p.take(";"), p.take("\n"):
			c.next = ";"
			return c, nil
		case p.redirection(c):
			continue
		}
		start := p.pos
		word, err := p.word()
		if err != nil {
			return nil, err
		}
		name, _, isAssign := strings.Cut(p.text[start:p.pos], "=")
		switch {
		case len(c.words) == 0 && isAssign && isName(name):
			c.assigns = append(c.assigns, word)
		case len(c.words) == 0 && reserved[word]:
			return nil, errSyntax
		default:
			c.words = append(c.words, word)
		}
	}
}

func (p *parser) redirection(c *simple) bool {
	switch {
	case p.take(">&2"), p.take("1>&2"):
		c.out = c.err
	case p.take("2>&1"):
		c.err = c.out
	case p.take(">/dev/null"), p.take("> /dev/null"), p.take("1>/dev/null"):
		c.out = 0
	case p.take("2>/dev/null"), p.take("2> /dev/null"):
		c.err = 0
	case p.take("</dev/null"), p.take("< /dev/null"):
	default:
		return false
	}
	return true
}

func isName(text string) bool {
	for i, r := range text {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return text != ""
}

func (p *parser) word() (string, error) {
	var out strings.Builder
	for p.pos < len(p.text) {
		b := p.text[p.pos]
		switch b {
		case ' ', '\t', '\n', ';':
			return out.String(), nil
		case '&', '|':
			if strings.HasPrefix(p.text[p.pos:], string([]byte{b, b})) {
				return out.String(), nil
			}
			return "", errSyntax
		case '(', ')', '<', '>', '`':
			return "", errSyntax
		}
		p.pos++
		var err error
		switch b {
		case '\'':
			end := strings.IndexByte(p.text[p.pos:], '\'')
			if end < 0 {
				return "", errSyntax
			}
			out.WriteString(p.text[p.pos : p.pos+end])
			p.pos += end + 1
		case '"':
			err = p.double(&out)
		case '\\':
			if p.pos < len(p.text) {
				out.WriteByte(p.text[p.pos])
				p.pos++
			}
		case '$':
			err = p.variable(&out)
		default:
			out.WriteByte(b)
		}
		if err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

func (p *parser) double(out *strings.Builder) error {
	for p.pos < len(p.text) {
		b := p.text[p.pos]
		p.pos++
		switch b {
		case '"':
			return nil
		case '`':
			return errSyntax
		case '$':
			if err := p.variable(out); err != nil {
				return err
			}
		case '\\':
			if p.pos < len(p.text) && strings.IndexByte("$`\"\\\n", p.text[p.pos]) >= 0 {
				out.WriteByte(p.text[p.pos])
				p.pos++
				continue
			}
			out.WriteByte(b)
		default:
			out.WriteByte(b)
		}
	}
	return errSyntax
}

func (p *parser) variable(out *strings.Builder) error {
	switch {
	case p.take("?"):
		out.WriteString(itoa(p.status))
		return nil
	case p.take("$"):
		out.WriteString(shellPid)
		return nil
	}
	braced := p.take("{")
	end := p.pos
	for end < len(p.text) && isName(p.text[p.pos:end+1]) {
		end++
	}
	if end == p.pos {
		if braced || p.pos < len(p.text) && p.text[p.pos] == '(' {
			return errSyntax
		}
		out.WriteByte('$')
		return nil
	}
	value := p.value(p.text[p.pos:end])
	p.pos = end
	if braced && !p.take("}") {
		var err error
		if value, err = p.strip(value); err != nil {
			return err
		}
	}
	out.WriteString(value)
	return nil
}

func (p *parser) value(name string) string {
	value, found := p.session.env[name]
	if !found && name == "IFS" {
		return " \t\n"
	}
	return value
}

// strip does ${NAME#PATTERN} and ${NAME%PATTERN}, where the pattern is question marks or a quoted text.
func (p *parser) strip(value string) (string, error) {
	fromStart := p.take("#")
	if !fromStart && !p.take("%") {
		return "", errSyntax
	}
	var pattern strings.Builder
	any := 0
	for p.take("?") {
		any++
	}
	if p.take("\"") {
		if err := p.double(&pattern); err != nil {
			return "", err
		}
	}
	if !p.take("}") || any > 0 && pattern.Len() > 0 {
		return "", errSyntax
	}
	switch {
	case any > len(value):
		return value, nil
	case fromStart:
		return strings.TrimPrefix(value[any:], pattern.String()), nil
	default:
		return strings.TrimSuffix(value[:len(value)-any], pattern.String()), nil
	}
}

// eval runs a text as sh would and returns the status of its last command.
func (s *session) eval(text string, depth int) int {
	if head, op, found := splitFence(text); found {
		return s.fenced(head, op, depth)
	}
	p := &parser{session: s, text: text}
	skip := false
	for p.pos < len(text) && !s.exited {
		c, err := p.command()
		if err != nil || depth > 8 {
			s.client.fleet.counters.unknown(text)
			s.write(2, []byte("fleet: not understood: "+shorten(text)+"\n"))
			return 127
		}
		if !skip {
			p.status = s.simple(c, p.status, depth)
		}
		skip = c.next == "&&" && p.status != 0 || c.next == "||" && p.status == 0
	}
	return p.status
}

func shorten(text string) string {
	if len(text) > 200 {
		return text[:200] + "..."
	}
	return text
}
