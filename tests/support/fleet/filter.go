// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"net"
	"syscall"
)

// dropBlackholes gives the listening socket a packet filter that drops the SYNs to the addresses of
// blackhole rules, so that connecting to them takes until the client's own limit.
func dropBlackholes(ln *net.TCPListener, r *rules) error {
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	program := r.filter()
	var attachErr error
	err = raw.Control(func(fd uintptr) {
		if program == nil {
			_ = syscall.DetachLsf(int(fd))
			return
		}
		attachErr = syscall.AttachLsf(int(fd), program)
	})
	if err != nil {
		return err
	}
	if attachErr != nil {
		return fmt.Errorf("blackhole needs a packet filter, and the kernel says: %v", attachErr)
	}
	return nil
}

// filter compares the destination address with each rule, the narrowest first. It is nil when no
// rule is a blackhole.
func (r *rules) filter() []syscall.SockFilter {
	r.mu.RLock()
	defer r.mu.RUnlock()
	const netOffset, destination = 0xfff00000, 16
	var program []syscall.SockFilter
	drops := false
	for bits := 32; bits >= 0; bits-- {
		for addr, b := range r.byLen[bits] {
			keep := 0xffff
			if b.name == "blackhole" {
				keep, drops = 0, true
			}
			program = append(program,
				*syscall.LsfStmt(syscall.BPF_LD|syscall.BPF_W|syscall.BPF_ABS,
					netOffset+destination),
				*syscall.LsfStmt(syscall.BPF_ALU|syscall.BPF_AND|syscall.BPF_K, int(maskOf(bits))),
				*syscall.LsfJump(syscall.BPF_JMP|syscall.BPF_JEQ|syscall.BPF_K, int(addr), 0, 1),
				*syscall.LsfStmt(syscall.BPF_RET|syscall.BPF_K, keep))
		}
	}
	if !drops {
		return nil
	}
	return append(program, *syscall.LsfStmt(syscall.BPF_RET|syscall.BPF_K, 0xffff))
}
