// SPDX-License-Identifier: MIT

// Fleet answers SSH for every address of 127.0.0.0/8 on one port, in one process, at a small cost of
// CPU, so that tests and measurements have thousands of hosts. It runs no real command: it knows a
// few words (true, echo, sleep, ...) and plays hosts that are slow, silent or broken.
// See ../README.md for its flags, its rules and its counters.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

type ruleFlags []string

func (r *ruleFlags) String() string     { return strings.Join(*r, " ") }
func (r *ruleFlags) Set(s string) error { *r = append(*r, s); return nil }

type settings struct {
	port       int
	stats      string
	dir        string
	knownHosts string
	hosts      string
	authorized string
	anyKey     bool
	kex        string
	ciphers    string
	macs       string
	hostKeys   string
	version    string
	rttMS      float64
	lifetime   int
	orphan     bool
	procs      int
	gc         int
	rules      ruleFlags
	killAnswer string
}

func parseFlags() *settings {
	s := &settings{}
	flag.IntVar(&s.port, "port", 0, "port to listen on; 0 picks a free one")
	flag.StringVar(&s.stats, "stats", "", "serve counters at this address (127.0.0.1:0 or unix:PATH)")
	flag.StringVar(&s.dir, "dir", "", "directory of the host keys and of client_ecdsa; made if absent")
	flag.StringVar(&s.knownHosts, "known-hosts", "", "write a known_hosts file here")
	flag.StringVar(&s.hosts, "hosts", "127.*", "patterns in it, by comma: 127.1.* or 127.1.0.0/16")
	flag.StringVar(&s.authorized, "authorized-keys", "", "keys that may log in, besides client_ecdsa")
	flag.BoolVar(&s.anyKey, "any-key", false, "let every key log in")
	flag.StringVar(&s.kex, "kex", "ecdh-sha2-nistp256,curve25519-sha256,curve25519-sha256@libssh.org",
		"key exchanges offered")
	flag.StringVar(&s.ciphers, "ciphers", "aes128-gcm@openssh.com,aes128-ctr", "ciphers offered; also aes256-gcm@openssh.com, aes192-ctr, aes256-ctr")
	flag.StringVar(&s.macs, "macs", "hmac-sha2-256", "MACs offered; also hmac-sha2-512 and their -etm@openssh.com forms")
	flag.StringVar(&s.hostKeys, "host-keys", "ecdsa,ed25519", "host key types offered; also rsa")
	flag.StringVar(&s.version, "version", "SSH-2.0-exed_fleet", "version line")
	flag.Float64Var(&s.rttMS, "rtt", 0, "emulated round trip in milliseconds")
	flag.IntVar(&s.lifetime, "for", 600, "end after so many seconds, whatever happens")
	flag.BoolVar(&s.orphan, "orphan", false, "go on when the parent process has ended")
	flag.IntVar(&s.procs, "procs", 1, "threads that run Go code at once; 1 costs the least CPU")
	flag.IntVar(&s.gc, "gc", 400, "garbage collector's target percentage")
	flag.Var(&s.rules, "rule", "NET=BEHAVIOUR[:N], as often as wanted")
	flag.StringVar(&s.killAnswer, "kill-answer", `exed-kill %n 0 0\n`,
		"what a script that kills an op's processes answers; %n is how many there were")
	flag.Parse()
	if flag.NArg() > 0 {
		fail("unexpected argument %q", flag.Arg(0))
	}
	return s
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "fleet: "+format+"\n", args...)
	os.Exit(1)
}

// raiseFiles takes all descriptors that the hard limit allows, and more when it may.
func raiseFiles() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	const wanted = 65536
	if limit.Max < wanted {
		more := syscall.Rlimit{Cur: wanted, Max: wanted}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
			return
		}
	}
	limit.Cur = limit.Max
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// watchParent ends the process soon after its parent has ended. The parent's death signal is not
// used: it follows the thread that started us, which may end long before the process does.
func watchParent(parent int) {
	for range time.Tick(300 * time.Millisecond) {
		if os.Getppid() != parent {
			os.Exit(0)
		}
	}
}

func main() {
	parent := os.Getppid()
	s := parseFlags()
	time.AfterFunc(time.Duration(s.lifetime)*time.Second, func() { os.Exit(0) })
	if !s.orphan {
		go watchParent(parent)
	}
	runtime.GOMAXPROCS(s.procs)
	debug.SetGCPercent(s.gc)
	raiseFiles()

	f, err := newFleet(s)
	if err != nil {
		fail("%v", err)
	}
	for _, text := range s.rules {
		if err := f.rules.add(text); err != nil {
			fail("%v", err)
		}
	}
	ln, err := listenLoopback(s.port)
	if err != nil {
		fail("%v", err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := f.openSockets(ln, port); err != nil {
		fail("%v", err)
	}
	statsAddr := ""
	if s.stats != "" {
		if statsAddr, err = f.serveStats(s.stats); err != nil {
			fail("%v", err)
		}
		statsAddr = " stats=" + statsAddr
	}
	fmt.Printf("ready port=%d%s\n", port, statsAddr)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	go f.acceptAll(ln)
	for sig := range stop {
		if sig != syscall.SIGUSR1 {
			os.Exit(0)
		}
		f.printStats(os.Stdout)
	}
}
