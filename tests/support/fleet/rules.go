// SPDX-License-Identifier: MIT

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// A behaviour is how a host plays; the zero value is a good host.
type behaviour struct {
	name string
	n    float64 // its number, or 0 when none was given
}

// behaviours names each one and says what it does.
var behaviours = map[string]string{
	"ok":         "a good host (undoes a wider rule)",
	"blackhole":  "never answers a SYN, as a host that is off",
	"hang":       "accepts and stays silent before its banner",
	"reset":      "accepts, then resets the connection",
	"close":      "accepts, then closes the connection",
	"slowbanner": "waits N seconds (2) before its banner",
	"flood":      "sends endless lines before its banner",
	"floodline":  "sends an endless line before its banner",
	"wrongkey":   "shows another host key than the known one",
	"hangauth":   "never answers the login",
	"closeauth":  "closes in the middle of the login",
	"denykey":    "refuses every key",
	"sessions":   "refuses more than N (1) channels at once on a connection",
	"hangexec":   "never answers the exec request",
	"closeexec":  "closes the connection at the exec request",
	"slowexec":   "waits N seconds (2) before it runs the command",
	"cut":        "runs the command and cuts the connection before the exit status",
	"noexit":     "closes the channel without an exit status",
}

// rules maps networks to behaviours; the narrowest network wins, then the newest.
type rules struct {
	mu    sync.RWMutex
	byLen [33]map[uint32]behaviour
}

func parseNet(text string) (addr uint32, bits int, err error) {
	if !strings.Contains(text, "/") {
		text += "/32"
	}
	_, network, err := net.ParseCIDR(text)
	if err != nil || network.IP.To4() == nil {
		return 0, 0, fmt.Errorf("%q is no IPv4 address or network", text)
	}
	bits, _ = network.Mask.Size()
	return binary.BigEndian.Uint32(network.IP.To4()), bits, nil
}

// add takes one rule NET=BEHAVIOUR[:N].
func (r *rules) add(text string) error {
	where, what, found := strings.Cut(strings.TrimSpace(text), "=")
	if !found {
		return fmt.Errorf("rule %q: want NET=BEHAVIOUR[:N]", text)
	}
	addr, bits, err := parseNet(where)
	if err != nil {
		return err
	}
	var b behaviour
	name, number, hasNumber := strings.Cut(what, ":")
	b.name = name
	if _, known := behaviours[name]; !known {
		return fmt.Errorf("rule %q: unknown behaviour %q", text, name)
	}
	if hasNumber {
		if b.n, err = strconv.ParseFloat(number, 64); err != nil {
			return fmt.Errorf("rule %q: %q is no number", text, number)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byLen[bits] == nil {
		r.byLen[bits] = make(map[uint32]behaviour)
	}
	r.byLen[bits][addr] = b
	return nil
}

func (r *rules) clear() {
	r.mu.Lock()
	r.byLen = [33]map[uint32]behaviour{}
	r.mu.Unlock()
}

func maskOf(bits int) uint32 { return uint32(uint64(0xffffffff00000000) >> uint(bits)) }

func (r *rules) find(addr uint32) behaviour {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for bits := 32; bits >= 0; bits-- {
		if m := r.byLen[bits]; m != nil {
			if b, found := m[addr&maskOf(bits)]; found {
				return b
			}
		}
	}
	return behaviour{}
}

func (b behaviour) numberOr(otherwise float64) float64 {
	if b.n == 0 {
		return otherwise
	}
	return b.n
}
