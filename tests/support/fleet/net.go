// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// listenLoopback listens on every address of the loopback device and of no other. The socket is tied
// to the device where the kernel lets an ordinary user do so (5.7 and newer); acceptAll besides drops
// whatever did not come to an address of 127.0.0.0/8.
func listenLoopback(port int) (*net.TCPListener, error) {
	config := net.ListenConfig{
		KeepAlive: -1,
		Control: func(network, address string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				_ = syscall.BindToDevice(int(fd), "lo")
			})
		},
	}
	ln, err := config.Listen(context.Background(), "tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// reset closes with RST: what is still on its way is lost.
func reset(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// A quick connection reads and writes without telling Go's scheduler, which takes a thread that is in a system
// call for one that may block, and wakes another in its place: a send over the loopback device takes long enough
// for that, as the receiver's side of it is done within. The socket never blocks.
type quick struct {
	*net.TCPConn
	in, out half
}

// A half does the system calls of one direction. They are done within try, made once.
type half struct {
	raw   syscall.RawConn
	call  uintptr
	data  []byte
	n     int
	errno syscall.Errno
	try   func(fd uintptr) bool
}

func (h *half) init(raw syscall.RawConn, call uintptr) {
	h.raw, h.call = raw, call
	h.try = func(fd uintptr) bool {
		for {
			n, _, errno := syscall.RawSyscall(h.call, fd, uintptr(unsafe.Pointer(&h.data[0])), uintptr(len(h.data)))
			if errno != syscall.EINTR {
				h.n, h.errno = int(n), errno
				return errno != syscall.EAGAIN
			}
		}
	}
}

// quickly gives conn back as it is when it has no socket to be quick with.
func quickly(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	q := &quick{TCPConn: tcp}
	q.in.init(raw, syscall.SYS_READ)
	q.out.init(raw, syscall.SYS_WRITE)
	return q
}

func (q *quick) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q.in.data = p
	err := q.in.raw.Read(q.in.try)
	q.in.data = nil
	if err == nil && q.in.errno != 0 {
		err = q.in.errno
	}
	if err != nil {
		return 0, err
	}
	if q.in.n == 0 {
		return 0, io.EOF
	}
	return q.in.n, nil
}

func (q *quick) Write(p []byte) (int, error) {
	for done := 0; done < len(p); done += q.out.n {
		q.out.data = p[done:]
		err := q.out.raw.Write(q.out.try)
		q.out.data = nil
		if err == nil && q.out.errno != 0 {
			err = q.out.errno
		}
		if err != nil {
			return done, err
		}
	}
	return len(p), nil
}

type packet struct {
	due  time.Time
	data []byte
}

// A delayLine makes every byte arrive half a round trip after it was sent, each way, in order and
// without holding up the bytes behind it.
type delayLine struct {
	net.Conn
	half time.Duration
	in   chan packet
	out  chan packet
	rest []byte
	done chan struct{}
	once sync.Once
}

// delayed gives conn a round trip time. The kernel has made the TCP connection at once, so the
// greeting is held back by what the three-way handshake would have taken.
func delayed(conn net.Conn, rtt time.Duration) net.Conn {
	d := &delayLine{Conn: conn, half: rtt / 2, in: make(chan packet, 1024),
		out: make(chan packet, 1024), done: make(chan struct{})}
	go d.receive()
	go d.send()
	time.Sleep(rtt + rtt/2)
	return d
}

func (d *delayLine) receive() {
	defer close(d.in)
	for {
		data := make([]byte, 4096)
		n, err := d.Conn.Read(data)
		if n > 0 {
			select {
			case d.in <- packet{time.Now().Add(d.half), data[:n]}:
			case <-d.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (d *delayLine) send() {
	defer d.Conn.Close()
	for {
		select {
		case p := <-d.out:
			if p.data == nil {
				return
			}
			time.Sleep(time.Until(p.due))
			if _, err := d.Conn.Write(p.data); err != nil {
				return
			}
		case <-d.done:
			// What was sent before the close still arrives.
			for len(d.out) > 0 {
				p := <-d.out
				time.Sleep(time.Until(p.due))
				if _, err := d.Conn.Write(p.data); err != nil {
					return
				}
			}
			return
		}
	}
}

func (d *delayLine) Read(p []byte) (int, error) {
	if len(d.rest) == 0 {
		next, ok := <-d.in
		if !ok {
			return 0, net.ErrClosed
		}
		time.Sleep(time.Until(next.due))
		d.rest = next.data
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *delayLine) Write(p []byte) (int, error) {
	select {
	case <-d.done:
		return 0, net.ErrClosed
	case d.out <- packet{time.Now().Add(d.half), append([]byte(nil), p...)}:
		return len(p), nil
	}
}

func (d *delayLine) Close() error {
	d.once.Do(func() { close(d.done) })
	return nil
}
