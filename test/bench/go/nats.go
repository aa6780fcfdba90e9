// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	connectTimeout = 10 * time.Second
	// Messages between two looks at the clock.
	tickInterval = 256
)

func serveNats(ctx context.Context, s settings) error {
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	instance, err := server.NewServer(&server.Options{Host: host, Port: number, NoSigs: true})
	if err != nil {
		return err
	}
	go instance.Start()
	if !instance.ReadyForConnections(connectTimeout) {
		return fmt.Errorf("the server at %s did not get ready within %v", s.address, connectTimeout)
	}
	say(map[string]any{"event": "ready"})
	<-ctx.Done()
	instance.Shutdown()
	return nil
}

func publishNats(ctx context.Context, s settings) error {
	connection, err := nats.Connect("nats://"+s.address, nats.Timeout(connectTimeout))
	if err != nil {
		return err
	}
	defer connection.Close()
	p := newPayload()
	message := make([]byte, s.size) // Publish copies
	say(map[string]any{"event": "ready"})
	awaitGo()
	var sequence uint64
	for ; ctx.Err() == nil; sequence++ {
		p.fill(message, sequence)
		if err := connection.Publish(s.topic, message); err != nil {
			return err
		}
	}
	say(map[string]any{"sent": sequence})
	return nil
}

func subscribeNats(ctx context.Context, s settings) error {
	m := newMeter(s)
	problems := make(chan error, 1)
	connection, err := nats.Connect("nats://"+s.address, nats.Timeout(connectTimeout),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case problems <- err:
			default:
			}
		}))
	if err != nil {
		return err
	}
	defer connection.Close()
	count := 0
	subscription, err := connection.Subscribe(s.topic, func(message *nats.Msg) {
		m.onMessage(message.Data)
		if count++; count%tickInterval == 0 {
			m.tick()
		}
	})
	if err != nil {
		return err
	}
	// The client's own limit would drop messages silently; its best setting for this test is none.
	if err := subscription.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	if err := connection.Flush(); err != nil {
		return err
	}
	say(map[string]any{"event": "ready"})
	select {
	case <-m.done:
		return nil
	case err := <-problems:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
