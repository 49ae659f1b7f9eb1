// SPDX-License-Identifier: MIT

package main

import (
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"time"
)

type fleet struct {
	settings *settings
	rules    rules
	keys     *keyring
	offer    *offer
	extInfo  []byte
	random   *cheapRand
	tasks    chan func()
	counters counters
	running  registry
	listener *net.TCPListener

	connsMu sync.Mutex
	conns   map[net.Conn]uint32 // live connections and their addresses
}

func newFleet(s *settings) (*fleet, error) {
	f := &fleet{settings: s, conns: make(map[net.Conn]uint32), tasks: make(chan func())}
	f.counters.reset()
	f.running.init()
	var err error
	if f.keys, err = loadKeys(s); err != nil {
		return nil, err
	}
	f.random, f.extInfo = newCheapRand(), extInfo()
	if f.offer, err = newOffer(s, f.random); err != nil {
		return nil, err
	}
	return f, nil
}

// openSockets does what needs the port: known_hosts and the packet filter.
func (f *fleet) openSockets(ln *net.TCPListener, port int) error {
	f.listener = ln
	if f.settings.knownHosts != "" {
		err := f.keys.writeKnownHosts(f.settings.knownHosts, f.settings.hosts, port)
		if err != nil {
			return err
		}
	}
	return dropBlackholes(ln, &f.rules)
}

func (f *fleet) acceptAll(ln *net.TCPListener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			// Out of descriptors: wait until some connection has ended.
			time.Sleep(20 * time.Millisecond)
			continue
		}
		ip := conn.LocalAddr().(*net.TCPAddr).IP.To4()
		if ip == nil || ip[0] != 127 {
			reset(conn)
			continue
		}
		addr := binary.BigEndian.Uint32(ip)
		f.work(func() { f.serve(quickly(conn), addr) })
	}
}

// work runs fn on a goroutine. One that is idle is taken when there is one: its stack has grown
// already, which a new one would have to do again.
func (f *fleet) work(fn func()) {
	select {
	case f.tasks <- fn:
	default:
		go f.worker(fn)
	}
}

func (f *fleet) worker(fn func()) {
	for {
		fn()
		idle := time.NewTimer(2 * time.Second)
		select {
		case fn = <-f.tasks:
			idle.Stop()
		case <-idle.C:
			return
		}
	}
}

// serve plays one host for one connection, until that ends.
func (f *fleet) serve(conn net.Conn, addr uint32) {
	f.connsMu.Lock()
	f.conns[conn] = addr
	f.connsMu.Unlock()
	f.counters.connected(addr)
	defer func() {
		_ = conn.Close()
		f.counters.disconnected()
		f.connsMu.Lock()
		delete(f.conns, conn)
		f.connsMu.Unlock()
	}()
	b := f.rules.find(addr)
	if b.name != "" {
		f.counters.played(b.name)
	}
	if !f.greet(conn, b) {
		return
	}
	over := conn
	if f.settings.rttMS > 0 {
		over = delayed(conn, time.Duration(f.settings.rttMS*float64(time.Millisecond)))
		defer over.Close()
	}
	c := &client{fleet: f, addr: addr, behaviour: b, tcp: conn, conn: over}
	c.run()
}

// greet does what a behaviour does before the banner. It returns false when the connection is done.
func (f *fleet) greet(conn net.Conn, b behaviour) bool {
	switch b.name {
	case "hang":
		waitClosed(conn)
	case "reset":
		reset(conn)
	case "close":
		// Closing with bytes unread would reset the connection.
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
		waitClosed(conn)
	case "flood":
		sendForever(conn, strings.Repeat("no banner here\r\n", 256))
	case "floodline":
		sendForever(conn, strings.Repeat("x", 4096))
	case "slowbanner":
		time.Sleep(time.Duration(b.numberOr(2) * float64(time.Second)))
		return true
	default:
		return f.greetBadly(conn, b)
	}
	return false
}

func waitClosed(conn net.Conn) {
	var data [512]byte
	for {
		if _, err := conn.Read(data[:]); err != nil {
			return
		}
	}
}

func sendForever(conn net.Conn, text string) {
	data := []byte(text)
	for {
		if _, err := conn.Write(data); err != nil {
			return
		}
	}
}

// dropConns resets the live connections of a network and returns how many there were.
func (f *fleet) dropConns(addr, mask uint32) int {
	f.connsMu.Lock()
	defer f.connsMu.Unlock()
	n := 0
	for conn, at := range f.conns {
		if at&mask == addr {
			reset(conn)
			n++
		}
	}
	return n
}
