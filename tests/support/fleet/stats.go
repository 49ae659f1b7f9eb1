// SPDX-License-Identifier: MIT

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stats is what the counters say, as JSON. Only the fields that end in _now outlive a reset.
type stats struct {
	Connections     int            `json:"connections"`
	Logins          int            `json:"logins"`
	LoginFailures   int            `json:"login_failures"`
	Execs           int            `json:"execs"`
	ConnectionsNow  int            `json:"connections_now"`
	ConnectionsPeak int            `json:"connections_peak"`
	ExecsNow        int            `json:"execs_now"`
	ExecsPeak       int            `json:"execs_peak"`
	ChannelsNow     int            `json:"channels_now"`
	ChannelsRefused int            `json:"channels_refused"`
	Signals         int            `json:"signals"`
	KillScripts     int            `json:"kill_scripts"`
	Commands        map[string]int `json:"commands"`
	Played          map[string]int `json:"played"`
	Unknown         []string       `json:"unknown"`
	AddressConns    map[string]int `json:"address_connections"`
	AddressExecs    map[string]int `json:"address_execs"`
	AddressLogins   map[string]int `json:"address_logins"`
	Rekeys          int            `json:"rekeys"`
	Ops             map[string]int `json:"ops"`
	UptimeS         float64        `json:"uptime_s"`
	CPUS            float64        `json:"cpu_s"`
	RSSKB           int64          `json:"rss_kb"`
}

type counters struct {
	mu    sync.Mutex
	s     stats
	conns map[uint32]int
	execs map[uint32]int
	asks  map[uint32]int
	begun time.Time
}

func (c *counters) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun.IsZero() {
		c.begun = time.Now()
	}
	c.s = stats{
		ConnectionsNow: c.s.ConnectionsNow, ConnectionsPeak: c.s.ConnectionsNow,
		ExecsNow: c.s.ExecsNow, ExecsPeak: c.s.ExecsNow, ChannelsNow: c.s.ChannelsNow,
		Commands: make(map[string]int), Played: make(map[string]int), Ops: make(map[string]int),
		Unknown: []string{},
	}
	c.conns, c.execs, c.asks = make(map[uint32]int), make(map[uint32]int), make(map[uint32]int)
}

func (c *counters) change(fn func(s *stats)) {
	c.mu.Lock()
	fn(&c.s)
	c.mu.Unlock()
}

func (c *counters) connected(addr uint32) {
	c.change(func(s *stats) {
		s.Connections++
		s.ConnectionsNow++
		if s.ConnectionsNow > s.ConnectionsPeak {
			s.ConnectionsPeak = s.ConnectionsNow
		}
		c.conns[addr]++
	})
}

func (c *counters) execBegin(addr uint32) {
	c.change(func(s *stats) {
		s.Execs++
		s.ExecsNow++
		if s.ExecsNow > s.ExecsPeak {
			s.ExecsPeak = s.ExecsNow
		}
		c.execs[addr]++
	})
}

func (c *counters) loginAsked(addr uint32) { c.change(func(*stats) { c.asks[addr]++ }) }
func (c *counters) asked()                 { c.change(func(s *stats) { s.Rekeys++ }) }

func (c *counters) disconnected()       { c.change(func(s *stats) { s.ConnectionsNow-- }) }
func (c *counters) execEnd()            { c.change(func(s *stats) { s.ExecsNow-- }) }
func (c *counters) channels(by int)     { c.change(func(s *stats) { s.ChannelsNow += by }) }
func (c *counters) loggedIn()           { c.change(func(s *stats) { s.Logins++ }) }
func (c *counters) loginFailed()        { c.change(func(s *stats) { s.LoginFailures++ }) }
func (c *counters) refusedChannel()     { c.change(func(s *stats) { s.ChannelsRefused++ }) }
func (c *counters) signalled()          { c.change(func(s *stats) { s.Signals++ }) }
func (c *counters) killScript()         { c.change(func(s *stats) { s.KillScripts++ }) }
func (c *counters) played(name string)  { c.change(func(s *stats) { s.Played[name]++ }) }
func (c *counters) command(name string) { c.change(func(s *stats) { s.Commands[name]++ }) }
func (c *counters) opSeen(op string)    { c.change(func(s *stats) { s.Ops[op]++ }) }

// unknown keeps the first few texts that the fleet did not understand.
func (c *counters) unknown(text string) {
	c.change(func(s *stats) {
		if len(s.Unknown) < 20 {
			s.Unknown = append(s.Unknown, shorten(text))
		}
	})
}

func addrText(addr uint32) string {
	return fmt.Sprintf("%d.%d.%d.%d", addr>>24, addr>>16&255, addr>>8&255, addr&255)
}

func byAddress(m map[uint32]int) map[string]int {
	out := make(map[string]int, len(m))
	for addr, n := range m {
		out[addrText(addr)] = n
	}
	return out
}

// encode writes the counters; brief leaves out the maps by address and by op id.
func (c *counters) encode(w io.Writer, brief bool) {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.s
	out.UptimeS = time.Since(c.begun).Seconds()
	out.CPUS = float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
	out.RSSKB = residentKB()
	if brief {
		out.Ops = nil
	} else {
		out.AddressConns, out.AddressExecs = byAddress(c.conns), byAddress(c.execs)
		out.AddressLogins = byAddress(c.asks)
	}
	_ = json.NewEncoder(w).Encode(&out)
}

func residentKB() int64 {
	var size, resident int64
	text, _ := os.ReadFile("/proc/self/statm")
	_, _ = fmt.Sscan(string(text), &size, &resident)
	return resident * int64(os.Getpagesize()) / 1024
}

func (f *fleet) printStats(w io.Writer) { f.counters.encode(w, false) }

// serveStats answers HTTP at a loopback address or at unix:PATH; it returns where it listens.
func (f *fleet) serveStats(where string) (string, error) {
	network := "tcp4"
	if strings.HasPrefix(where, "unix:") {
		network, where = "unix", strings.TrimPrefix(where, "unix:")
	}
	ln, err := net.Listen(network, where)
	if err != nil {
		return "", err
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		return "", fmt.Errorf("-stats %s: only a loopback address", where)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/stats", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		f.counters.encode(w, r.URL.Query().Get("brief") != "")
	})
	mux.HandleFunc("/reset", onlyPost(func(w http.ResponseWriter, r *http.Request) error {
		f.counters.reset()
		return nil
	}))
	mux.HandleFunc("/rules", onlyPost(f.changeRules))
	mux.HandleFunc("/drop", onlyPost(f.drop))
	go func() { _ = http.Serve(ln, mux) }()
	return ln.Addr().String(), nil
}

func onlyPost(fn func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		}
		if err := fn(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}
}

// changeRules takes rules, one a line; the line "clear" forgets all rules before it.
func (f *fleet) changeRules(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return err
	}
	for _, line := range strings.Fields(string(body)) {
		if line == "clear" {
			f.rules.clear()
		} else if err := f.rules.add(line); err != nil {
			return err
		}
	}
	return dropBlackholes(f.listener, &f.rules)
}

// drop resets the live connections of ?net=NET and answers how many there were.
func (f *fleet) drop(w http.ResponseWriter, r *http.Request) error {
	addr, bits, err := parseNet(r.URL.Query().Get("net"))
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d\n", f.dropConns(addr, maskOf(bits)))
	return nil
}
