// Command peer is a server or a client of go-spiffe as its examples have them, for tests/suites/workload.
//
//	peer serve ADDRESS SOCKET PEER-ID    says "listening", then answers for ever, and complains of whom it refuses
//	peer ahead ADDRESS SOCKET PEER-ID    the same, by a clock that is two days ahead
//	peer ask   ADDRESS SOCKET PEER-ID    prints what the server said
//	peer load  ADDRESS SOCKET PEER-ID    asks until its input ends, with one source; a line for each change of the
//	                                     certificates that it and the server show, and one with how often it was served
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// run is one of the commands: where, whom, and the Workload API.
type run func(string, tlsconfig.Authorizer, workloadapi.X509SourceOption) error

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: peer serve|ahead|ask|load ADDRESS SOCKET PEER-ID")
		os.Exit(64)
	}
	run, ok := map[string]run{"serve": serve, "ahead": ahead, "ask": ask, "load": load}[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such command: "+os.Args[1])
		os.Exit(64)
	}
	id := spiffeid.RequireFromString(os.Args[4])
	socket := workloadapi.WithClientOptions(workloadapi.WithAddr("unix://" + os.Args[3]))
	if err := run(os.Args[2], tlsconfig.AuthorizeID(id), socket); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(address string, who tlsconfig.Authorizer, socket workloadapi.X509SourceOption) error {
	ctx := context.Background()
	listener, err := spiffetls.ListenWithMode(ctx, "tcp", address, spiffetls.MTLSServerWithSourceOptions(who, socket))
	if err != nil {
		return err
	}
	return answerAll(listener)
}

// ahead verifies as go-spiffe's own configuration does, but for the time.
func ahead(address string, who tlsconfig.Authorizer, socket workloadapi.X509SourceOption) error {
	source, err := workloadapi.NewX509Source(context.Background(), socket)
	if err != nil {
		return err
	}
	defer source.Close()
	config := tlsconfig.MTLSServerConfig(source, source, who)
	config.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
		id, chains, err := x509svid.ParseAndVerify(raw, source, x509svid.WithTime(time.Now().Add(48*time.Hour)))
		if err != nil {
			return err
		}
		return who(id, chains)
	}
	listener, err := tls.Listen("tcp", address, config)
	if err != nil {
		return err
	}
	return answerAll(listener)
}

func answerAll(listener net.Listener) error {
	fmt.Println("listening")
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go answer(connection)
	}
}

func answer(connection net.Conn) {
	defer connection.Close()
	if _, err := bufio.NewReader(connection).ReadString('\n'); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Fprintln(connection, "the press is running")
}

// patience is how long one connection may take.
const patience = 10 * time.Second

func ask(address string, who tlsconfig.Authorizer, socket workloadapi.X509SourceOption) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	said, _, err := open(ctx, address, spiffetls.MTLSClientWithSourceOptions(who, socket))
	fmt.Print(said)
	return err
}

// open says what the server said, and which certificate it showed.
func open(ctx context.Context, address string, mode spiffetls.DialMode) (string, string, error) {
	connection, err := spiffetls.DialWithMode(ctx, "tcp", address, mode)
	if err != nil {
		return "", "", err
	}
	defer connection.Close()
	shown := ""
	if secured, ok := connection.(interface{ ConnectionState() tls.ConnectionState }); ok {
		shown = secured.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
	}
	connection.SetDeadline(time.Now().Add(patience))
	fmt.Fprintln(connection, "state")
	said, err := bufio.NewReader(connection).ReadString('\n')
	return said, shown, err
}

func load(address string, who tlsconfig.Authorizer, socket workloadapi.X509SourceOption) error {
	source, err := workloadapi.NewX509Source(context.Background(), socket)
	if err != nil {
		return err
	}
	defer source.Close()
	over := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	mode, last, served := spiffetls.MTLSClientWithSource(who, source), "", 0
	for {
		select {
		case <-over:
			fmt.Println("served", served)
			return nil
		default:
		}
		own, err := source.GetX509SVID()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, shown, err := open(ctx, address, mode)
		cancel()
		if err != nil {
			return fmt.Errorf("after %d: %w", served, err)
		}
		served++
		if now := own.Certificates[0].SerialNumber.Text(16) + " " + shown; now != last {
			fmt.Println("shown", now)
			last = now
		}
	}
}
