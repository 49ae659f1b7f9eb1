// SPDX-License-Identifier: MIT

// Logins is one SSH server for tests of the login: it takes a password, by the methods that it is
// told, and writes a line for each try. Every command "runs": it prints ok and exits with 0.
// It ends with its parent, or after -for seconds.
//
//	ready PORT                          once it listens
//	try CONNECTION METHOD ok|refused    method: none, publickey, password, keyboard-interactive
//	answers CONNECTION [LENGTH ...]     of one round of keyboard-interactive
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

var (
	hostKey  = flag.String("host-key", "", "private key of the host")
	password = flag.String("password", "", "what lets in")
	methods  = flag.String("methods", "password", "password, keyboard-interactive, publickey, by comma")
	prompts  = flag.String("prompts", "Password: ", "what keyboard-interactive asks, by |; + before one: it is echoed")
	rounds   = flag.Int("rounds", 1, "how often it asks that, whatever is answered")
	lifetime = flag.Int("for", 600, "end after so many seconds, whatever happens")
	tries    = flag.Int("tries", 6, "failures before it hangs up")

	output      sync.Mutex
	errWrong    = errors.New("wrong")
	connections int64
)

func say(format string, args ...interface{}) {
	output.Lock()
	defer output.Unlock()
	fmt.Printf(format+"\n", args...)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "logins:", err)
		os.Exit(1)
	}
}

// interactive asks as often as it was told; the first answer of the last round counts.
func interactive(number int64, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	var questions []string
	var echos []bool
	for _, text := range strings.Split(*prompts, "|") {
		questions = append(questions, strings.TrimPrefix(text, "+"))
		echos = append(echos, strings.HasPrefix(text, "+"))
	}
	right := false
	for i := 0; i < *rounds; i++ {
		answers, err := challenge("", "", questions, echos)
		if err != nil {
			return nil, err
		}
		lengths := make([]int, len(answers))
		for i, answer := range answers {
			lengths[i] = len(answer)
		}
		say("answers %d %d", number, lengths)
		right = len(answers) > 0 && answers[0] == *password
	}
	if !right {
		return nil, errWrong
	}
	return nil, nil
}

func config(number int64, signer ssh.Signer) *ssh.ServerConfig {
	c := &ssh.ServerConfig{MaxAuthTries: *tries}
	c.AddHostKey(signer)
	c.AuthLogCallback = func(_ ssh.ConnMetadata, method string, err error) {
		result := "ok"
		if err != nil {
			result = "refused"
		}
		say("try %d %s %s", number, method, result)
	}
	for _, method := range strings.Split(*methods, ",") {
		switch method {
		case "password":
			c.PasswordCallback = func(_ ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
				if string(given) != *password {
					return nil, errWrong
				}
				return nil, nil
			}
		case "keyboard-interactive":
			c.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (
				*ssh.Permissions, error) {
				return interactive(number, challenge)
			}
		case "publickey":
			c.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
				return nil, errWrong
			}
		}
	}
	return c
}

func session(channel ssh.Channel, requests <-chan *ssh.Request) {
	for request := range requests {
		exec := request.Type == "exec"
		if request.WantReply {
			_ = request.Reply(exec, nil)
		}
		if !exec {
			continue
		}
		_, _ = io.WriteString(channel, "ok\n")
		_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
		_ = channel.Close()
	}
}

func serve(conn net.Conn, signer ssh.Signer) {
	defer conn.Close()
	number := atomic.AddInt64(&connections, 1)
	_, channels, requests, err := ssh.NewServerConn(conn, config(number, signer))
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for wanted := range channels {
		if wanted.ChannelType() != "session" {
			_ = wanted.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := wanted.Accept()
		if err != nil {
			return
		}
		go session(channel, requests)
	}
}

func main() {
	flag.Parse()
	parent := os.Getppid()
	time.AfterFunc(time.Duration(*lifetime)*time.Second, func() { os.Exit(0) })
	go func() {
		for range time.Tick(300 * time.Millisecond) {
			if os.Getppid() != parent {
				os.Exit(0)
			}
		}
	}()
	text, err := os.ReadFile(*hostKey)
	fail(err)
	signer, err := ssh.ParsePrivateKey(text)
	fail(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	say("ready %d", listener.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := listener.Accept()
		fail(err)
		go serve(conn, signer)
	}
}
