// SPDX-License-Identifier: Apache-2.0

// Command bench is an application of a messaging system under measurement: `pub` sends checked messages as fast as it may, `sub` checks and
// counts them in a window of time, `nats-server` is the peer's server. The same payload, checks and window for both systems.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type settings struct {
	system   string        // outrigger or nats
	address  string        // unix:/path or host:port
	topic    string        // topic, or subject
	size     int           // bytes of a message
	batch    int           // messages a call, outrigger only
	inFlight int           // batches not yet answered, outrigger only
	credit   int           // messages of credit kept granted, outrigger only
	warmup   time.Duration // after the first message
	measure  time.Duration
	cpu      string // name=pid,... whose CPU time is read at both ends of the window
}

func main() {
	if len(os.Args) < 2 {
		fail("usage: bench pub|sub|nats-server -system outrigger|nats -address A ...")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	var s settings
	flags.StringVar(&s.system, "system", "outrigger", "outrigger or nats")
	flags.StringVar(&s.address, "address", "", "unix:/path or host:port of the sidecar or server")
	flags.StringVar(&s.topic, "topic", "bench", "topic or subject")
	flags.IntVar(&s.size, "size", 288, "bytes of a message, at least 32")
	flags.IntVar(&s.batch, "batch", 200, "messages a call")
	flags.IntVar(&s.inFlight, "in-flight", 32, "batches sent and not answered")
	flags.IntVar(&s.credit, "credit", 1<<20, "messages of credit")
	flags.DurationVar(&s.warmup, "warmup", time.Second, "time after the first message that is not counted")
	flags.DurationVar(&s.measure, "measure", 2*time.Second, "time that is counted")
	flags.StringVar(&s.cpu, "cpu", "", "name=pid,... to read CPU time of")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(err.Error())
	}
	if s.size < minSize || s.size > maxSize {
		fail(fmt.Sprintf("-size %d is not in %d..%d", s.size, minSize, maxSize))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var err error
	switch os.Args[1] + " " + s.system {
	case "pub outrigger":
		err = publishOutrigger(ctx, s)
	case "sub outrigger":
		err = subscribeOutrigger(ctx, s)
	case "pub nats":
		err = publishNats(ctx, s)
	case "sub nats":
		err = subscribeNats(ctx, s)
	case "nats-server outrigger", "nats-server nats":
		err = serveNats(ctx, s)
	default:
		err = fmt.Errorf("unknown command %q with -system %q", os.Args[1], s.system)
	}
	if err != nil {
		fail(err.Error())
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
