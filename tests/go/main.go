// Command peer is a server or a client of go-spiffe as its examples have them, for tests/suites/workload.
//
//	peer serve ADDRESS SOCKET PEER-ID    says "listening", then answers for ever
//	peer ask   ADDRESS SOCKET PEER-ID    prints what the server said
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: peer serve|ask ADDRESS SOCKET PEER-ID")
		os.Exit(64)
	}
	run := ask
	if os.Args[1] == "serve" {
		run = serve
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
	if _, err := bufio.NewReader(connection).ReadString('\n'); err == nil {
		fmt.Fprintln(connection, "the press is running")
	}
}

func ask(address string, who tlsconfig.Authorizer, socket workloadapi.X509SourceOption) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	mode := spiffetls.MTLSClientWithSourceOptions(who, socket)
	connection, err := spiffetls.DialWithMode(ctx, "tcp", address, mode)
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintln(connection, "state")
	said, err := bufio.NewReader(connection).ReadString('\n')
	fmt.Print(said)
	return err
}
